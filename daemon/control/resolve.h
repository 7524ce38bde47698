/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The regions of a call, from what they name to opened devices. Who may name what is decided on the
 * main loop (device_list_prepare()); opening may block and happens on a worker
 * (device_list_open(), device_list_close()).
 *
 *   "fd:N"          a descriptor sent along, with the access mode that it has
 *   "/dev/sdb"      a path: privileged peers only
 *   anything else   a configured name, if it is granted to the peer; a name that is not granted
 *                   answers the same as one that does not exist
 */

#include <stdbool.h>
#include <stdint.h>

#include <dmio/dmio.h>

#include "control/call.h"
#include "control/fields.h"
#include "model/export.h"

struct region_argument {
        char *device;
        int64_t sector;
        int64_t count;
};

extern const struct field region_fields[];

struct device_entry {
        char *name;  /* as it was named */
        char *shown; /* of a descriptor: the path that it was opened by, for later answers */
        char *path;  /* what to open; NULL for a descriptor */
        int fd;
        unsigned int flags; /* DMIO_DEVICE_* */
        sector_t sector;
        sector_t count;
        struct block_device *bdev;
        struct dmio_device_id id;
        int error;        /* why it could not be opened or identified, if a call said so */
        enum leg_how how; /* this and the next for an export that outlasts the daemon */
        struct leg_identity identity; /* device_list_identify() */
        uint64_t kept;
};

struct device_list {
        const char *mount;  /* the daemon's own */
        dev_t mount_device; /* of it; 0 if unknown */
        bool unserved;      /* the mount, perhaps: whoever looks into it waits for ever */
        bool writes;
        bool privileged; /* whose descriptors are as good as paths */
        unsigned int n;
        struct device_entry entries[DM_IO_MAX_REGIONS];
};

/*
 * @regions: struct region_argument. @writes: the devices have to be writable. Returns NULL or an
 * error. The list has to be closed in both cases.
 */
json_t *device_list_prepare(struct device_list *list, const struct call *call,
                            const struct field_array *regions, bool writes);

/* Open all of them; to be called before the call's descriptors are closed. NULL or an error. */
json_t *device_list_open(struct device_list *list);

/*
 * What the devices are, for whoever finds them again after a restart: entry->identity. Asks the
 * kernel. NULL or an error: without a descriptor to ask with, nothing is known.
 */
json_t *device_list_identify(struct device_list *list);

/*
 * Have the descriptors among them kept for the next daemon, by the numbers from @first on. Before
 * they are closed, on a worker. What cannot be kept is not.
 */
void device_list_keep(struct device_list *list, struct keeper *keeper, uint64_t first);

/* They are not wanted after all. */
void device_list_forget(const struct device_list *list, struct keeper *keeper);

/* Close and free what there is. On a worker, if anything was opened. */
void device_list_close(struct device_list *list);
