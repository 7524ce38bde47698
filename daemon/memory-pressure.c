/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <linux/capability.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"
#include "memory-pressure.h"

/* Of Linux 5.6; the headers we build with may be older. */
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

static bool locked;

static bool has_capability(unsigned int capability)
{
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

        if (syscall(SYS_capget, &header, data) < 0)
                return false;
        return data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

static bool may_lock_all(void)
{
        struct rlimit limit;

        if (has_capability(CAP_IPC_LOCK))
                return true;
        return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
}

static int lock_all(void)
{
        return mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0 ? -errno : 0;
}

void memory_pressure_prepare(void)
{
        int r;

        if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
                log_debug_errno(-errno, "Not an IO flusher, because that is not permitted: %m");

        r = may_lock_all() ? lock_all() : -EPERM;
        locked = r == 0;
        if (r < 0)
                log_debug_errno(r, "Memory is not locked, because that is not permitted: %m");
}

void memory_pressure_trim(void)
{
        /* Of locked memory nothing can be given back but whole mappings. */
        if (locked)
                (void)munlockall();
        (void)malloc_trim(0);
        if (locked)
                locked = lock_all() == 0;
}
