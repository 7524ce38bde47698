/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <link.h>
#include <linux/capability.h>
#include <malloc.h>
#include <stdatomic.h>
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

/* More than any of our threads has been seen to use. */
#define STACK_TOUCHED ((size_t)64 * 1024)
#define PAGE ((size_t)4096)

static _Atomic(bool) locked;

static int get_capabilities(struct __user_cap_header_struct *header,
                            struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3])
{
        *header = (struct __user_cap_header_struct){ .version = _LINUX_CAPABILITY_VERSION_3 };
        return syscall(SYS_capget, header, data) < 0 ? -errno : 0;
}

static bool has_capability(unsigned int capability)
{
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
        struct __user_cap_header_struct header;

        if (get_capabilities(&header, data) < 0)
                return false;
        return data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

static int drop_capability(unsigned int capability)
{
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
        struct __user_cap_data_struct *word = &data[CAP_TO_INDEX(capability)];
        struct __user_cap_header_struct header;
        int r;

        r = get_capabilities(&header, data);
        if (r < 0)
                return r;
        word->effective &= ~CAP_TO_MASK(capability);
        word->permitted &= ~CAP_TO_MASK(capability);
        word->inheritable &= ~CAP_TO_MASK(capability);
        return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static void become_flusher(void)
{
        int r;

        if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0) {
                log_info_errno(-errno, "Not an IO flusher (%m, it takes CAP_SYS_RESOURCE): when "
                                       "memory is short, it may wait for who waits for it");
                return;
        }
        /* A user who has nothing but that right was given it for this; root has others as good. */
        if (geteuid() == 0 || !has_capability(CAP_SYS_RESOURCE))
                return;
        r = drop_capability(CAP_SYS_RESOURCE);
        if (r < 0)
                log_notice_errno(r, "CAP_SYS_RESOURCE is not needed any more and cannot be given "
                                    "back, because capset(2) is denied: %m");
}

static bool may_lock_all(void)
{
        struct rlimit limit;

        if (has_capability(CAP_IPC_LOCK))
                return true;
        return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
}

/* What has not run yet would be read in when it does. What cannot be had now, cannot. */
static int read_in_object(struct dl_phdr_info *info, size_t size, void *userdata)
{
        for (size_t i = 0; i < info->dlpi_phnum; i++) {
                const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

                if (segment->p_type == PT_LOAD)
                        (void)mlock((const void *)(info->dlpi_addr + segment->p_vaddr),
                                    segment->p_memsz);
        }
        return 0;
}

static int lock_all(void)
{
        if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
                return -errno;
        (void)dl_iterate_phdr(read_in_object, NULL);
        return 0;
}

void memory_pressure_prepare(void)
{
        int r;

        become_flusher();
        r = may_lock_all() ? lock_all() : -EPERM;
        atomic_store(&locked, r == 0);
        if (r < 0)
                log_info_errno(r, "Memory is not locked (%m, it takes CAP_IPC_LOCK or no limit on "
                                  "locked memory): when memory is short, it may wait for its own");
        memory_pressure_prepare_thread();
}

bool memory_pressure_is_prepared_for(void)
{
        return atomic_load(&locked);
}

void memory_pressure_touch(void *memory, size_t size)
{
        volatile char *bytes = memory;

        for (size_t i = 0; i < size; i += PAGE)
                bytes[i] = bytes[i];
        if (size > 0)
                bytes[size - 1] = bytes[size - 1];
}

void memory_pressure_prepare_thread(void)
{
        char stack[STACK_TOUCHED];

        if (!memory_pressure_is_prepared_for())
                return;
        stack[0] = 0;
        memory_pressure_touch(stack, sizeof(stack));
}

void memory_pressure_trim(void)
{
        /* Of locked memory nothing can be given back but whole mappings. */
        if (atomic_load(&locked))
                (void)munlockall();
        (void)malloc_trim(0);
        if (atomic_load(&locked))
                atomic_store(&locked, lock_all() == 0);
}
