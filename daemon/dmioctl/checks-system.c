/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the system offers: kernel, FUSE, io_uring, limits. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "dmioctl/doctor.h"
#include "dmioctl/show.h"
#include "dmioctl/systemctl.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* Since then the kernel sends what is in flight once more to a daemon that comes back. */
#define RESEND_MAJOR 6u
#define RESEND_MINOR 9u

#define FUSE_DEVICE makedev(10, 229)

/* Enough for the buffers of a few clients, and for the descriptors of some hundred. */
#define MEMLOCK_WANTED (UINT64_C(64) << 20)
#define NOFILE_WANTED UINT64_C(4096)

void check_kernel(const struct doctor *doctor, struct finding *finding)
{
        unsigned int major = 0, minor = 0;
        struct utsname name;

        if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2) {
                finding_set(finding, VERDICT_WARN, words("its version is not known"),
                            words("Linux %u.%u or later is best", RESEND_MAJOR, RESEND_MINOR));
                return;
        }
        if (major > RESEND_MAJOR || (major == RESEND_MAJOR && minor >= RESEND_MINOR))
                finding_set(finding, VERDICT_OK,
                            words("Linux %s, has FUSE_NOTIFY_RESEND", name.release), NULL);
        else
                finding_set(finding, VERDICT_WARN,
                            words("Linux %s, has no FUSE_NOTIFY_RESEND: what is in flight when the "
                                  "daemon "
                                  "dies depends on its own notes",
                                  name.release),
                            words("use Linux %u.%u or later", RESEND_MAJOR, RESEND_MINOR));
}

void check_fuse(const struct doctor *doctor, struct finding *finding)
{
        bool own = doctor->invocation->given[OPTION_USER];
        DMIO_CLEANUP(close_fdp) int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        int error = errno;
        struct stat st;

        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_rdev != FUSE_DEVICE)
                finding_set(finding, VERDICT_FAIL, words("/dev/fuse is something else"),
                            words("mknod /dev/fuse c 10 229"));
        else if (fd >= 0)
                finding_set(finding, VERDICT_OK, words("/dev/fuse can be opened"), NULL);
        else if (error == EACCES || error == EPERM)
                /* The system's daemon is somebody else, whom nobody refuses. */
                finding_set(finding, own ? VERDICT_FAIL : VERDICT_WARN,
                            words("/dev/fuse: %s", strerror(error)),
                            words("chmod 666 /dev/fuse, or be root"));
        else
                finding_set(finding, VERDICT_FAIL, words("/dev/fuse: %s", strerror(error)),
                            words("modprobe fuse; in a container, pass the device in"));
}

void check_fusermount(const struct doctor *doctor, struct finding *finding)
{
        const char *path = getenv("PATH");
        DMIO_CLEANUP(freep) char *folders = strdup(path ? path : "/usr/bin:/bin");
        char *rest = folders, *folder;
        struct stat st;

        while (folders && (folder = strsep(&rest, ":"))) {
                DMIO_CLEANUP(freep) char *program = words("%s/fusermount3", folder);

                if (!program || access(program, X_OK) < 0 || stat(program, &st) < 0)
                        continue;
                if (geteuid() == 0 || (st.st_uid == 0 && (st.st_mode & S_ISUID) != 0))
                        finding_set(finding, VERDICT_OK, words("%s", program), NULL);
                else
                        finding_set(finding, VERDICT_FAIL, words("%s is not setuid root", program),
                                    words("chown root %s && chmod u+s %s", program, program));
                return;
        }
        finding_set(finding, VERDICT_FAIL, words("fusermount3 is not in PATH"),
                    words("install fuse3"));
}

static int read_number(const char *path, int *ret)
{
        FILE *file = fopen(path, "re");
        int n;

        if (!file)
                return -errno;
        n = fscanf(file, "%d", ret);
        fclose(file);
        return n == 1 ? 0 : -EIO;
}

void check_uring(const struct doctor *doctor, struct finding *finding)
{
        struct io_uring_params parameters = {};
        DMIO_CLEANUP(close_fdp)
        int fd = (int)syscall(SYS_io_uring_setup, 1, &parameters);
        int error = errno, disabled = 0;

        if (fd >= 0) {
                finding_set(finding, VERDICT_OK, words("a ring can be made"), NULL);
                return;
        }
        (void)read_number("/proc/sys/kernel/io_uring_disabled", &disabled);
        if (disabled > 0)
                finding_set(finding, VERDICT_WARN,
                            words("kernel.io_uring_disabled is %d: the daemon works with threads, "
                                  "slower",
                                  disabled),
                            words("sysctl kernel.io_uring_disabled=0"));
        else if (error == ENOSYS)
                finding_set(finding, VERDICT_WARN,
                            words("this kernel has none: the daemon works with threads, slower"),
                            words("use a kernel with CONFIG_IO_URING"));
        else if (error == ENOMEM)
                finding_set(finding, VERDICT_WARN, words("no ring fits into the locked memory"),
                            words("raise the limit: ulimit -l, or LimitMEMLOCK="));
        else
                finding_set(
                        finding, VERDICT_WARN,
                        words("%s: the daemon works with threads, slower", strerror(error)),
                        words("a container's seccomp profile may forbid io_uring_setup: allow it"));
}

/* --- limits: of the daemon, or of what would start it, or of ourselves */

#define UNLIMITED UINT64_MAX

static bool read_process_limit(pid_t pid, const char *name, uint64_t *ret)
{
        char path[64], line[256], value[32];
        bool found = false;
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
        file = fopen(path, "re");
        while (file && !found && fgets(line, sizeof(line), file)) {
                if (strncmp(line, name, strlen(name)) != 0 ||
                    sscanf(line + strlen(name), " %*s %31s", value) != 1)
                        continue;
                *ret = strcmp(value, "unlimited") == 0 ? UNLIMITED : strtoull(value, NULL, 10);
                found = true;
        }
        if (file)
                fclose(file);
        return found;
}

static bool read_unit_limit(const struct doctor *doctor, const char *property, uint64_t *ret)
{
        DMIO_CLEANUP(freep) char *value = NULL;

        if (doctor->unit)
                value = systemctl_value(doctor->unit, property);
        if (!value || !*value)
                return false;
        *ret = strcmp(value, "infinity") == 0 ? UNLIMITED : strtoull(value, NULL, 10);
        return true;
}

/* Whose limit it is; the hard one, because the daemon raises the other. */
static const char *read_limit(const struct doctor *doctor, const char *name, const char *property,
                              enum __rlimit_resource resource, uint64_t *ret)
{
        struct rlimit limit = {};

        if (doctor->pid > 0 && read_process_limit(doctor->pid, name, ret))
                return "the daemon's";
        if (doctor->pid == 0 && read_unit_limit(doctor, property, ret))
                return "dmiod.service's";
        (void)getrlimit(resource, &limit);
        *ret = limit.rlim_max == RLIM_INFINITY ? UNLIMITED : limit.rlim_max;
        return "your own";
}

/* A number of /proc/PID/status, or 0. */
static unsigned long long read_status(pid_t pid, const char *name, int base)
{
        unsigned long long value = 0;
        size_t length = strlen(name);
        char path[64], line[128];
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        file = fopen(path, "re");
        while (file && fgets(line, sizeof(line), file))
                if (strncmp(line, name, length) == 0 && line[length] == ':') {
                        value = strtoull(line + length + 1, NULL, base);
                        break;
                }
        if (file)
                fclose(file);
        return value;
}

/* Whether its locked memory is not counted at all. */
static bool has_ipc_lock(pid_t pid)
{
        return (read_status(pid, "CapEff", 16) >> CAP_IPC_LOCK & 1) != 0;
}

void check_memlock(const struct doctor *doctor, struct finding *finding)
{
        char size[SHOW_SIZE_MAX], wanted_size[SHOW_SIZE_MAX];
        uint64_t limit, wanted = MEMLOCK_WANTED;
        const char *whose;
        pid_t who;

        /* What the unit starts has the capabilities of the unit. */
        who = doctor->pid == 0 && !doctor->unit ? getpid() : doctor->pid;
        whose = read_limit(doctor, "Max locked memory", "LimitMEMLOCK", RLIMIT_MEMLOCK, &limit);
        wanted = MAX(wanted, show_integer(json_object_get(doctor->status, "pool"), "total") *
                                     DMIO_PAGE_SIZE);
        show_size(limit, size);
        if (limit == UNLIMITED)
                finding_set(finding, VERDICT_OK, words("%s is unlimited", whose), NULL);
        else if (who > 0 && has_ipc_lock(who))
                finding_set(finding, VERDICT_OK,
                            words("%s is %s, and CAP_IPC_LOCK goes beyond it", whose, size), NULL);
        else if (limit >= wanted)
                finding_set(finding, VERDICT_OK, words("%s is %s", whose, size), NULL);
        else
                finding_set(finding, VERDICT_WARN,
                            words("%s is %s: buffers beyond it are not registered, and slower",
                                  whose, size),
                            words("LimitMEMLOCK=infinity in the unit, or ulimit -l, at least %s",
                                  show_size(wanted, wanted_size)));
}

/* The bit of a task's flags that PR_SET_IO_FLUSHER sets and nothing else leaves set. */
#define PF_LOCAL_THROTTLE 0x00100000UL

static int read_task_flags(pid_t pid, unsigned long *ret)
{
        char path[64], line[512];
        const char *rest;
        FILE *file;
        bool found;

        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        file = fopen(path, "re");
        if (!file)
                return -errno;
        rest = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
        found = rest && sscanf(rest, ") %*c %*d %*d %*d %*d %*d %lu", ret) == 1;
        fclose(file);
        return found ? 0 : -EIO;
}

void check_memory_pressure(const struct doctor *doctor, struct finding *finding)
{
        bool is_flusher, is_locked;
        unsigned long flags;

        if (doctor->pid == 0) {
                finding_set(finding, VERDICT_OK, words("can be told when the daemon runs"), NULL);
                return;
        }
        if (read_task_flags(doctor->pid, &flags) < 0) {
                finding_set(finding, VERDICT_WARN, words("the daemon's process cannot be seen"),
                            words("run this as root"));
                return;
        }
        is_flusher = (flags & PF_LOCAL_THROTTLE) != 0;
        is_locked = read_status(doctor->pid, "VmLck", 10) > 0;
        if (is_flusher && is_locked)
                finding_set(finding, VERDICT_OK,
                            words("the daemon is an IO flusher, and its memory is locked"), NULL);
        else
                finding_set(finding, VERDICT_WARN,
                            words("the daemon is %s IO flusher, and its memory is %slocked: when "
                                  "memory is short, it may wait for who waits for it",
                                  is_flusher ? "an" : "no", is_locked ? "" : "not "),
                            words("see 'When memory is short' in dmiod(8)%s",
                                  is_locked    ? ": CAP_SYS_RESOURCE"
                                  : is_flusher ? ": LimitMEMLOCK=infinity"
                                               : ": CAP_SYS_RESOURCE, and LimitMEMLOCK=infinity"));
}

void check_nofile(const struct doctor *doctor, struct finding *finding)
{
        const char *whose;
        uint64_t limit;

        whose = read_limit(doctor, "Max open files", "LimitNOFILE", RLIMIT_NOFILE, &limit);
        if (limit == UNLIMITED)
                finding_set(finding, VERDICT_OK, words("%s is unlimited", whose), NULL);
        else if (limit >= NOFILE_WANTED)
                finding_set(finding, VERDICT_OK, words("%s is %" PRIu64, whose, limit), NULL);
        else
                finding_set(finding, VERDICT_WARN,
                            words("%s is %" PRIu64
                                  ": devices, connections and what peers send are all "
                                  "open files",
                                  whose, limit),
                            words("LimitNOFILE= in the unit, or ulimit -Hn, at least %" PRIu64,
                                  NOFILE_WANTED));
}
