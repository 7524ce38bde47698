/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "mount/fusermount.h"
#include "mount/mount-point.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define FILE_SYSTEM_TYPE "fuse.dmiod"

/* How long a mount is given to answer before it counts as alive but not served. */
#define PROBE_TIMEOUT_MS 100

/* How often it is looked whether one that nobody can serve makes the question wait. */
#define PROBE_INTERVAL_MS 2

/*
 * How long whoever held the descriptor may take to let go of it, the kernel included: what a killed
 * process had given to a ring is taken apart after the process has gone.
 */
#define RELEASE_USEC (UINT64_C(3) * 1000 * 1000)

/* Killed daemons may have left several mounts, one on top of the other. */
#define DEAD_MOUNTS_MAX 64

/* The kernel writes space, tab, newline and backslash as three octal digits. */
static void unescape(char *text)
{
        char *to = text;

        for (char *from = text; *from; to++) {
                unsigned int octal;

                if (from[0] == '\\' && strlen(from) >= 4 && sscanf(from + 1, "%3o", &octal) == 1) {
                        *to = (char)octal;
                        from += 4;
                } else {
                        *to = *from++;
                }
        }
        *to = '\0';
}

/*
 * The topmost mount at @path: its device number in *@ret_device. Returns 1 if it is one of ours, 0
 * if it is not or if there is none (the device number is 0 then), or a negative errno.
 */
static int find_mount(const char *path, dev_t *ret_device)
{
        DMIO_CLEANUP(fclosep) FILE *table = NULL;
        DMIO_CLEANUP(freep) char *line = NULL;
        dev_t device = 0;
        size_t size = 0;
        int ours = 0;

        table = fopen("/proc/self/mountinfo", "re");
        if (!table)
                return -errno;

        /* 36 35 98:0 /root /mount/point options [optional]... - type source options */
        while (getline(&line, &size, table) >= 0) {
                char *fields = strstr(line, " - ");
                unsigned int major_number, minor_number;
                int place = 0;

                if (!fields ||
                    sscanf(line, "%*d %*d %u:%u %*s %n", &major_number, &minor_number, &place) != 2)
                        continue;
                line[place + (int)strcspn(line + place, " ")] = '\0';
                unescape(line + place);
                if (place == 0 || strcmp(line + place, path) != 0)
                        continue;
                ours = strncmp(fields + strlen(" - "), FILE_SYSTEM_TYPE " ",
                               strlen(FILE_SYSTEM_TYPE " ")) == 0;
                device = makedev(major_number, minor_number);
        }
        *ret_device = device;
        return ours;
}

/* Has it gone to sleep? It has nothing to wait for but the answer. */
static bool child_waits(pid_t child)
{
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        char path[32];
        char state;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)child);
        file = fopen(path, "re");
        return file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1 &&
               (state == 'S' || state == 'D');
}

/* Returns true when the child has ended, false when it is not waited for any longer. */
static bool wait_for_probe(pid_t child, int fd, bool patient)
{
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        unsigned int seen = 0;

        if (fd < 0)
                return false;
        if (patient)
                return poll(&poll_fd, 1, PROBE_TIMEOUT_MS) > 0;

        /* Twice: it may have waited for a page of its own. */
        for (int left = PROBE_TIMEOUT_MS; left > 0 && seen < 2; left -= PROBE_INTERVAL_MS) {
                if (poll(&poll_fd, 1, PROBE_INTERVAL_MS) > 0)
                        return true;
                seen = child_waits(child) ? seen + 1 : 0;
        }
        return false;
}

/*
 * Ask a mount whether somebody is there, in a child that can be killed: the question itself may
 * wait for ever. A child that not even SIGKILL gets out of it is left to whoever inherits it.
 */
static enum mount_point_state probe(const char *path, bool patient)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        int status = 0;
        pid_t child;

        child = fork();
        if (child < 0)
                return MOUNT_POINT_UNSERVED;
        if (child == 0) {
                struct statfs ignored;

                _exit(statfs(path, &ignored) < 0 && (errno == ENOTCONN || errno == ECONNABORTED));
        }

        fd = pidfd_open(child, 0);
        if (!wait_for_probe(child, fd, patient)) {
                (void)kill(child, SIGKILL);
                (void)wait_for_probe(child, fd, true);
                (void)waitpid(child, NULL, WNOHANG);
                return MOUNT_POINT_UNSERVED;
        }

        if (waitpid(child, &status, 0) != child)
                return MOUNT_POINT_UNSERVED;
        return WIFEXITED(status) && WEXITSTATUS(status) == 1 ? MOUNT_POINT_DEAD
                                                             : MOUNT_POINT_SERVED;
}

static int detach(const char *path, bool user)
{
        if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
                return 0;
        return user ? fusermount_detach(path) : -errno;
}

int mount_point_look_again(const char *path, dev_t known)
{
        dev_t device;
        int r;

        r = find_mount(path, &device);
        if (r < 0)
                return log_error_errno(r, "Cannot read the table of mounts: %m");
        return r == 0 ? MOUNT_POINT_FREE : (int)probe(path, known == 0 || device != known);
}

int mount_point_look(const char *path)
{
        return mount_point_look_again(path, 0);
}

int mount_point_look_patiently(const char *path)
{
        uint64_t end = now_usec() + RELEASE_USEC;
        int r;

        do
                r = mount_point_look(path);
        while (r == MOUNT_POINT_UNSERVED && now_usec() < end);
        return r;
}

static int detach_dead(const char *path, bool user)
{
        for (int i = 0; i < DEAD_MOUNTS_MAX; i++) {
                int r;

                r = mount_point_look_patiently(path);
                if (r < 0)
                        return r;
                switch ((enum mount_point_state)r) {
                case MOUNT_POINT_FREE:
                        return 0;
                case MOUNT_POINT_SERVED:
                        log_error("Another daemon serves %s", path);
                        return -EBUSY;
                case MOUNT_POINT_UNSERVED:
                        log_error("%s is mounted, and somebody who does not answer keeps it; "
                                  "unmount it first (umount -l %s)",
                                  path, path);
                        return -EBUSY;
                case MOUNT_POINT_DEAD:
                        break;
                }

                r = detach(path, user);
                if (r < 0)
                        return log_error_errno(r, "Cannot detach the dead mount at %s: %m", path);
                log_notice("Detached the mount that a killed daemon left at %s; files that were "
                           "open there are lost (ENOTCONN)",
                           path);
        }
        log_error("More than %d dead mounts at %s", DEAD_MOUNTS_MAX, path);
        return -EBUSY;
}

/* For everybody to pass, whatever our umask is. Returns 1 if it was made, 0 if it was there. */
static int make_folder(const char *path)
{
        if (mkdir(path, 0755) < 0)
                return errno == EEXIST ? 0 : -errno;
        if (chmod(path, 0755) < 0)
                return -errno;
        return 1;
}

/* The last component stays as it is: looking into it would touch what is mounted there. */
static int make_canonical(const char *path, char **ret)
{
        DMIO_CLEANUP(freep) char *copy = NULL;
        DMIO_CLEANUP(freep) char *parent = NULL;
        const char *above = ".";
        const char *name;
        char *slash;
        int r;

        copy = strdup(path);
        if (!copy)
                return -ENOMEM;
        for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
                copy[n - 1] = '\0';

        name = copy;
        slash = strrchr(copy, '/');
        if (slash) {
                name = slash + 1;
                *slash = '\0';
                above = slash == copy ? "/" : copy;
        }
        if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return -EINVAL;

        /* The folders above, each of which may be there already. */
        for (char *p = strchr(copy + 1, '/'); slash && p && p < slash; p = strchr(p + 1, '/')) {
                *p = '\0';
                (void)make_folder(copy);
                *p = '/';
        }
        if (slash && slash != copy) {
                r = make_folder(above);
                if (r < 0)
                        return r;
        }

        parent = realpath(above, NULL);
        if (!parent)
                return -errno;
        if (asprintf(ret, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < 0)
                return -ENOMEM;
        return 0;
}

void mount_point_give_up(const char *path, bool user)
{
        DMIO_CLEANUP(freep) char *canonical = NULL;
        dev_t device;
        int r;

        r = make_canonical(path, &canonical);
        if (r == 0)
                r = find_mount(canonical, &device);
        if (r > 0)
                r = detach(canonical, user);
        if (r < 0)
                log_warning_errno(r, "Cannot detach the mount at %s: %m", path);
}

int mount_point_adopt(struct mount_point *point, const char *path)
{
        DMIO_CLEANUP(freep) char *canonical = NULL;
        int r;

        r = make_canonical(path, &canonical);
        if (r < 0)
                return log_error_errno(r, "Cannot use %s as the mount point: %m", path);

        *point = (struct mount_point){ .path = DMIO_TAKE(canonical) };
        return 0;
}

int mount_point_init(struct mount_point *point, const char *path, bool user)
{
        DMIO_CLEANUP(freep) char *canonical = NULL;
        int r;

        r = make_canonical(path, &canonical);
        if (r < 0)
                return log_error_errno(r, "Cannot use %s as the mount point: %m", path);

        r = detach_dead(canonical, user);
        if (r < 0)
                return r;

        *point = (struct mount_point){ 0 };
        r = make_folder(canonical);
        if (r < 0)
                return log_error_errno(r, "Cannot make the mount point %s: %m", canonical);
        point->made = r > 0;

        point->path = DMIO_TAKE(canonical);
        return 0;
}

void mount_point_detach(struct mount_point *point)
{
        /* EINVAL: somebody else has done it. */
        if (point->attached && umount2(point->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 &&
            errno != EINVAL)
                log_warning_errno(-errno, "Cannot unmount %s, leaving it: %m", point->path);
        point->attached = false;
}

void mount_point_deinit(struct mount_point *point)
{
        mount_point_detach(point);
        if (point->made && rmdir(point->path) < 0 && errno != ENOENT)
                log_debug_errno(-errno, "Cannot remove %s, leaving it: %m", point->path);

        free(point->path);
        *point = (struct mount_point){ 0 };
}

int mount_point_attach(struct mount_point *point)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        char options[160];

        fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return log_error_errno(-errno, "Cannot open /dev/fuse: %m");

        (void)snprintf(options, sizeof(options),
                       "fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,"
                       "default_permissions,max_read=%d",
                       fd, (unsigned int)getuid(), (unsigned int)getgid(), MOUNT_MAX_READ);
        if (mount("dmiod", point->path, FILE_SYSTEM_TYPE, MS_NOSUID | MS_NODEV, options) < 0)
                return log_error_errno(-errno, "Cannot mount at %s: %m%s", point->path,
                                       errno == EPERM ? " (not root? use --user)" : "");

        point->attached = true;
        return DMIO_TAKE_FD(fd);
}

dev_t mount_point_device(const struct mount_point *point, int fd)
{
        char path[sizeof("/proc/self/fdinfo/") + 3 * sizeof(int)];
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        unsigned int minor_number;
        dev_t device;
        char line[128];

        /* The kernel calls a connection by the minor number of its file system. */
        (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        file = fopen(path, "re");
        while (file && fgets(line, sizeof(line), file))
                if (sscanf(line, "fuse_connection: %u", &minor_number) == 1)
                        return makedev(0, minor_number);
        return find_mount(point->path, &device) < 0 ? 0 : device;
}
