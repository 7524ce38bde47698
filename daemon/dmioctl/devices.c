/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dmioctl/devices.h"
#include "dmioctl/dmioctl.h"
#include "dmioctl/errors.h"
#include "dmioctl/show.h"

void devices_deinit(struct devices *devices)
{
        for (unsigned int i = 0; i < devices->n; i++) {
                close_fd(devices->fds[i]);
                free(devices->names[i]);
        }
        *devices = (struct devices){};
}

int devices_add(struct devices *devices, int fd, unsigned int *ret)
{
        if (devices->n == CONTROL_MAX_DESCRIPTORS) {
                close_fd(fd);
                complain("too many files for one request: at most %d, the data included; use "
                         "several "
                         "requests",
                         CONTROL_MAX_DESCRIPTORS);
                return STATUS_USAGE;
        }
        devices->fds[devices->n] = fd;
        devices->names[devices->n] = NULL;
        *ret = devices->n++;
        return STATUS_OK;
}

static bool is_storage(mode_t mode)
{
        return S_ISREG(mode) || S_ISBLK(mode);
}

static int open_storage(const char *path, bool read_only)
{
        int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;
        int fd = open(path, flags | O_DIRECT);

        /* Not every file system can do without the page cache. */
        if (fd < 0 && errno == EINVAL)
                fd = open(path, flags);
        return fd;
}

int devices_open(struct devices *devices, const char *path)
{
        unsigned int number;
        struct stat st;
        int fd = -EBADF, r;

        if (stat(path, &st) < 0) {
                r = -errno;
        } else if (!is_storage(st.st_mode)) {
                complain("'%s' is neither a block device nor a regular file; use one of these",
                         path);
                return STATUS_REFUSED;
        } else {
                fd = open_storage(path, false);
                if (fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM))
                        fd = open_storage(path, true);
                r = fd < 0 ? -errno : 0;
        }
        if (r < 0) {
                complain("cannot open '%s': %s; %s", path, strerror(-r), errno_advice(-r));
                return STATUS_REFUSED;
        }
        return devices_add(devices, fd, &number);
}

/* The number of the descriptor that was opened for @name, or devices->n. */
static unsigned int devices_find(const struct devices *devices, const char *name)
{
        unsigned int i;

        for (i = 0; i < devices->n; i++)
                if (devices->names[i] && strcmp(devices->names[i], name) == 0)
                        break;
        return i;
}

int devices_resolve(struct devices *devices, const char *name, bool read_only,
                    char buffer[static DEVICES_NAME_MAX], const char **ret)
{
        bool has_slash = strchr(name, '/');
        unsigned int i = devices_find(devices, name);
        struct stat st;
        int fd, r;

        if (i < devices->n) {
                snprintf(buffer, DEVICES_NAME_MAX, "fd:%u", i);
                *ret = buffer;
                return STATUS_OK;
        }

        r = stat(name, &st);
        if (!has_slash && (r < 0 || !is_storage(st.st_mode))) {
                /* Would mean one of our own descriptors, or nothing. */
                if (strncmp(name, "fd:", 3) == 0) {
                        complain("'%s' is not the name of a device; for a file of that name write "
                                 "./%s",
                                 name, name);
                        return STATUS_USAGE;
                }
                *ret = name;
                return STATUS_OK;
        }
        if (r < 0) {
                r = -errno;
                complain("cannot open '%s': %s; %s", name, strerror(-r), errno_advice(-r));
                return STATUS_REFUSED;
        }
        if (!is_storage(st.st_mode)) {
                complain("'%s' is neither a block device nor a regular file; use one of these",
                         name);
                return STATUS_REFUSED;
        }

        fd = open_storage(name, read_only);
        if (fd < 0) {
                r = -errno;
                complain("cannot open '%s' for %s: %s; %s", name,
                         read_only ? "reading" : "reading and writing", strerror(-r),
                         errno_advice(-r));
                return STATUS_REFUSED;
        }
        r = devices_add(devices, fd, &i);
        if (r != STATUS_OK)
                return r;
        devices->names[i] = strdup(name);
        if (!devices->names[i])
                return complain_memory();

        snprintf(buffer, DEVICES_NAME_MAX, "fd:%u", i);
        *ret = buffer;
        return STATUS_OK;
}

const char *devices_original(const struct devices *devices, const char *name)
{
        char number[DEVICES_NAME_MAX];

        for (unsigned int i = 0; i < devices->n; i++) {
                snprintf(number, sizeof(number), "fd:%u", i);
                if (devices->names[i] && strcmp(number, name) == 0)
                        return devices->names[i];
        }
        return name;
}
