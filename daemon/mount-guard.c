/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mount-guard.h"
#include "util/cleanup.h"

/* As many as the kernel follows. */
#define LINKS_MAX 40

/* The next part of a path that is not "", and its length; 0 at the end. */
static size_t next_part(const char **path)
{
        *path += strspn(*path, "/");
        return strcspn(*path, "/");
}

/* "/a/./b//../c" becomes "/a/c": parts in place, behind a slash each. "/" becomes "". */
static char *normalise(const char *path)
{
        char *result, *end;
        size_t n;

        result = malloc(strlen(path) + 2);
        if (!result)
                return NULL;
        end = result;
        while ((n = next_part(&path)) > 0) {
                if (n == 2 && path[0] == '.' && path[1] == '.') {
                        while (end > result && *--end != '/')
                                ;
                } else if (n != 1 || path[0] != '.') {
                        *end++ = '/';
                        memcpy(end, path, n);
                        end += n;
                }
                path += n;
        }
        *end = '\0';
        return result;
}

bool mount_guard_has_path(const char *mount, const char *path)
{
        DMIO_CLEANUP(freep) char *folder = NULL;
        DMIO_CLEANUP(freep) char *file = NULL;
        size_t n;

        if (!mount)
                return false;
        folder = normalise(mount);
        file = normalise(path);
        if (!folder || !file)
                return true; /* rather refuse */
        n = strlen(folder);
        return strncmp(file, folder, n) == 0 && (file[n] == '\0' || file[n] == '/');
}

/* Asks the kernel only, as long as it is opened with O_PATH. */
static int look_at(int fd, struct statx *ret)
{
        return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, ret) < 0 ? -errno : 0;
}

static dev_t device_of(const struct statx *stx)
{
        return makedev(stx->stx_dev_major, stx->stx_dev_minor);
}

dev_t mount_guard_device(const char *mount)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        struct statx stx;

        fd = open(mount, O_PATH | O_CLOEXEC);
        if (fd < 0 || look_at(fd, &stx) < 0)
                return 0;
        return stx.stx_attributes & STATX_ATTR_MOUNT_ROOT ? device_of(&stx) : 0;
}

/* Where a walk is, and what is still before it. */
struct walk {
        dev_t device;
        int fd;
        char rest[2 * PATH_MAX];
        unsigned int n_links;
};

/* Put the text of a link before the rest. */
static int walk_link(struct walk *walk, const char *link, const char *rest)
{
        char text[sizeof(walk->rest)];

        if (snprintf(text, sizeof(text), "%s/%s", link, rest) >= (int)sizeof(text))
                return -ENAMETOOLONG;
        memcpy(walk->rest, text, sizeof(text));
        if (link[0] != '/')
                return 0;
        close_fd(walk->fd);
        walk->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return walk->fd < 0 ? -errno : 0;
}

/* One part of the path: nothing below it is touched before it is known where it lies. */
static int walk_step(struct walk *walk, const char *part, const char *rest)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
        const char *below = rest;
        char link[PATH_MAX];
        struct statx stx;
        ssize_t n;
        int r;

        n = readlinkat(walk->fd, part, link, sizeof(link) - 1);
        if (n > 0) {
                link[n] = '\0';
                if (++walk->n_links > LINKS_MAX)
                        return -ELOOP;
                return walk_link(walk, link, rest);
        }
        /* O_DIRECTORY: what is mounted on demand is to be, as it is for others. */
        if (next_part(&below) > 0)
                flags |= O_DIRECTORY;
        fd = openat(walk->fd, part, flags);
        if (fd < 0)
                return -errno;
        r = look_at(fd, &stx);
        if (r < 0)
                return r;
        if (device_of(&stx) == walk->device)
                return -EXDEV;
        close_fd(walk->fd);
        walk->fd = DMIO_TAKE_FD(fd);
        memmove(walk->rest, rest, strlen(rest) + 1);
        return 0;
}

int mount_guard_open(const char *path, dev_t device)
{
        struct walk walk = { .device = device, .fd = -EBADF };
        char part[NAME_MAX + 1];
        int r = walk_link(&walk, "/", path);

        while (r == 0) {
                const char *begin = walk.rest;
                size_t n = next_part(&begin);

                if (n == 0)
                        return walk.fd;
                if (n > NAME_MAX) {
                        r = -ENAMETOOLONG;
                        break;
                }
                memcpy(part, begin, n);
                part[n] = '\0';
                r = walk_step(&walk, part, begin + n);
        }
        close_fd(walk.fd);
        return r;
}
