/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "config.h"
#include "control/errors.h"
#include "control/resolve.h"
#include "mount-guard.h"
#include "util/cleanup.h"

#define OWN_MOUNT_REASON "lies in the daemon's own mount"

const struct field region_fields[] = {
        FIELD(struct region_argument, device, FIELD_STRING, .required = true),
        FIELD(struct region_argument, sector, FIELD_INT, .required = true, .max = FIELD_INT_MAX),
        FIELD(struct region_argument, count, FIELD_INT, .required = true, .max = FIELD_INT_MAX),
        FIELD_END,
};

/* The N of "fd:N", or SIZE_MAX if that is not what it says. */
static size_t descriptor_number(const char *name)
{
        const char *digits = name + strlen("fd:");
        size_t n = 0;

        /* A descriptor has one name: no blanks, signs or leading zeroes. */
        if (!isdigit((unsigned char)*digits) || (digits[0] == '0' && digits[1]))
                return SIZE_MAX;
        for (; *digits; digits++) {
                if (!isdigit((unsigned char)*digits) || n > SIZE_MAX / 100)
                        return SIZE_MAX;
                n = n * 10 + (size_t)(*digits - '0');
        }
        return n;
}

static json_t *prepare_path(struct device_list *list, struct device_entry *entry,
                            unsigned int region, const char *path)
{
        if (mount_guard_has_path(list->mount, path))
                return error_invalid_region(region, OWN_MOUNT_REASON);
        entry->path = strdup(path);
        return entry->path ? NULL : ERROR_NO_MEMORY;
}

static json_t *prepare_device(struct device_list *list, const struct call *call,
                              unsigned int region, struct device_entry *entry)
{
        const struct device_grant *grant;
        size_t n;

        if (!list->writes)
                entry->flags |= DMIO_DEVICE_READ_ONLY;

        if (strncmp(entry->name, "fd:", 3) == 0) {
                n = descriptor_number(entry->name);
                if (n >= call->descriptors.n)
                        return error_no_such_device(entry->name);
                entry->fd = call->descriptors.fds[n];
                entry->how = LEG_BY_DESCRIPTOR;
                return NULL;
        }
        if (entry->name[0] == '/') {
                if (!call->peer->privileged)
                        return error_permission_denied("paths are for root and the daemon's own "
                                                       "user: send a descriptor");
                return prepare_path(list, entry, region, entry->name);
        }

        grant = config_find_device(call->model->config, entry->name, call->peer);
        if (!grant)
                return error_no_such_device(entry->name);
        if (grant->read_only && list->writes)
                return error_device(entry->name, EROFS);
        entry->how = LEG_BY_NAME;
        return prepare_path(list, entry, region, grant->path);
}

json_t *device_list_prepare(struct device_list *list, const struct call *call,
                            const struct field_array *regions, bool writes)
{
        const struct region_argument *items = regions->items;
        json_t *error;

        *list = (struct device_list){
                .mount = call->model->mount,
                .mount_device = call->model->mount_device,
                .writes = writes,
                .privileged = call->peer->privileged,
        };
        if (regions->n < 1 || regions->n > DM_IO_MAX_REGIONS)
                return error_invalid_parameter("regions", "must be 1 to 64 regions");

        for (unsigned int i = 0; i < regions->n; i++) {
                struct device_entry *entry = &list->entries[i];

                list->n = i + 1;
                *entry = (struct device_entry){
                        .fd = -EBADF,
                        .sector = (sector_t)items[i].sector,
                        .count = (sector_t)items[i].count,
                };
                entry->name = strdup(items[i].device);
                if (!entry->name)
                        return ERROR_NO_MEMORY;
                if (items[i].sector + items[i].count > FIELD_INT_MAX)
                        return error_invalid_region(i, "ends beyond the last possible sector");
                error = prepare_device(list, call, i, entry);
                if (error)
                        return error;
        }
        return NULL;
}

static json_t *failure(struct device_entry *entry, int error)
{
        entry->error = error;
        return error == -ENOMEM ? ERROR_NO_MEMORY : error_device(entry->name, error);
}

/* Is @fd something that we could and should open? Asks nobody but the kernel. */
static json_t *check_file(const struct device_list *list, unsigned int region,
                          struct device_entry *entry, int fd)
{
        struct statx stx;
        dev_t device;

        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_BTIME, &stx) < 0)
                return failure(entry, -errno);
        device = makedev(stx.stx_dev_major, stx.stx_dev_minor);
        if (list->mount_device != 0 && device == list->mount_device)
                return error_invalid_region(region, OWN_MOUNT_REASON);
        if (S_ISDIR(stx.stx_mode))
                return error_device(entry->name, EISDIR);
        if (!S_ISREG(stx.stx_mode) && !S_ISBLK(stx.stx_mode))
                return error_device(entry->name, ENOTBLK);
        if (S_ISREG(stx.stx_mode) && stx.stx_mask & STATX_BTIME && stx.stx_btime.tv_sec > 0) {
                entry->identity.born_sec = stx.stx_btime.tv_sec;
                entry->identity.born_nsec = stx.stx_btime.tv_nsec;
        }
        return NULL;
}

static json_t *open_error(struct device_entry *entry, int error)
{
        if (entry->path && (error == -ENOENT || error == -ENXIO || error == -ENODEV))
                return error_no_such_device(entry->name);
        return failure(entry, error);
}

/*
 * Look at a path, which a link may lead into our own mount, without asking that: what the kernel
 * has at hand it gives at once, and the rest is walked first. Links of /proc are more than their
 * text, so the walk's result is not taken unless the kernel's own walk might wait. -EXDEV: it is in
 * the mount.
 */
static int look_at_path(const struct device_list *list, const char *path)
{
        struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_CACHED };
        int fd = -EBADF;

        if (list->mount_device != 0) {
                if (!list->unserved)
                        fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
                if (fd >= 0)
                        return fd;
                fd = mount_guard_open(path, list->mount_device);
                if (list->unserved || fd == -EXDEV)
                        return fd;
                close_fd(fd);
        }
        fd = open(path, O_PATH | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static json_t *open_path(struct device_list *list, unsigned int region, struct device_entry *entry)
{
        char link[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        json_t *error;
        int r;

        /* Only looked at at first: opening a FIFO waits, and opening a tape rewinds it. */
        fd = look_at_path(list, entry->path);
        if (fd == -EXDEV)
                return error_invalid_region(region, OWN_MOUNT_REASON);
        if (fd < 0)
                return open_error(entry, fd);
        error = check_file(list, region, entry, fd);
        if (error)
                return error;
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        r = dmio_device_open(link, entry->flags, &entry->bdev);
        return r < 0 ? open_error(entry, r) : NULL;
}

/* "fd:0" means nothing once the message is gone. Where there is no path, it has to do. */
static char *descriptor_path(int fd)
{
        char link[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
        char path[PATH_MAX];
        json_t *text;
        ssize_t n;

        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        if (n <= 0 || path[0] != '/')
                return NULL;
        path[n] = '\0';
        /* It is to be shown, and kept, as JSON. */
        text = json_string(path);
        json_decref(text);
        return text ? strdup(path) : NULL;
}

static json_t *open_descriptor(struct device_list *list, unsigned int region,
                               struct device_entry *entry)
{
        json_t *error = check_file(list, region, entry, entry->fd);
        int r;

        if (error)
                return error;
        r = dmio_device_from_fd(entry->fd, entry->flags, &entry->bdev);
        if (r < 0)
                return open_error(entry, r);
        entry->shown = descriptor_path(entry->fd);
        if (entry->shown && list->privileged)
                entry->how = LEG_BY_PATH;
        return NULL;
}

json_t *device_list_open(struct device_list *list)
{
        for (unsigned int i = 0; i < list->n; i++) {
                struct device_entry *entry = &list->entries[i];
                json_t *error;

                error = entry->path ? open_path(list, i, entry) : open_descriptor(list, i, entry);
                if (error)
                        return error;
                entry->id = dmio_device_id(entry->bdev);
                if (list->writes && dmio_device_is_read_only(entry->bdev))
                        return error_device(entry->name, EROFS);
        }
        return NULL;
}

json_t *device_list_identify(struct device_list *list)
{
        for (unsigned int i = 0; i < list->n; i++) {
                struct device_entry *entry = &list->entries[i];
                struct dmio_device_info info;
                int r = 0;

                dmio_device_info(entry->bdev, &info);
                entry->identity.id = info.id;
                entry->identity.block = info.block;
                entry->identity.capacity = info.capacity;
                if (info.block)
                        r = device_serial(info.id.device, entry->identity.serial);
                if (r < 0)
                        return failure(entry, r);
        }
        return NULL;
}

/* Regions that name one descriptor have one number. */
void device_list_keep(struct device_list *list, struct keeper *keeper, uint64_t first)
{
        for (unsigned int i = 0; i < list->n; i++) {
                struct device_entry *entry = &list->entries[i];
                unsigned int same = 0;

                if (entry->fd < 0)
                        continue;
                while (list->entries[same].fd != entry->fd)
                        same++;
                if (same < i)
                        entry->kept = list->entries[same].kept;
                else if (keeper->class->keep(keeper, first + i, entry->fd) == 0)
                        entry->kept = first + i;
        }
}

void device_list_forget(const struct device_list *list, struct keeper *keeper)
{
        for (unsigned int i = 0; i < list->n; i++)
                if (list->entries[i].kept)
                        keeper_forget(keeper, list->entries[i].kept);
}

void device_list_close(struct device_list *list)
{
        for (unsigned int i = 0; i < list->n; i++) {
                dmio_device_close(list->entries[i].bdev);
                free(list->entries[i].name);
                free(list->entries[i].shown);
                free(list->entries[i].path);
        }
        list->n = 0;
}
