/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the engine knows of a device; the public view is struct dmio_device_info. */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include <dmio/device.h>

#include "util/list.h"

/*
 * As in struct dmio_device_info. Only the first two may change while it is open. Of a block device
 * they are in files that take longer to read than a request takes, so that happens when somebody
 * wants to know: device_limits_need() comes first.
 */
struct device_limits {
        pthread_mutex_t lock; /* private, as is the next: device-limits.c */
        _Atomic(int) state;
        _Atomic(sector_t) discard_max;
        _Atomic(sector_t) write_zeroes_max;
        unsigned int discard_granularity;
        unsigned int physical_block;
        unsigned int optimal_io;
};

struct block_device {
        struct list link;  /* of the registry, under its lock */
        unsigned int refs; /* under the registry's lock */
        int fd;
        struct dmio_device_id id;
        _Atomic(sector_t) capacity;
        _Atomic(unsigned int) flush_failures;
        unsigned int logical_block;
        unsigned int memory_align;
        struct device_limits limits;
        bool read_only;
        bool direct;
        bool block;
        bool own;       /* the open file description is ours alone */
        bool far;       /* a file that a FUSE or network server serves, which may never answer */
        bool in_memory; /* a file without NOWAIT, but its I/O is a copy and waits for nobody */

        /* The RAM disk in its place (backend-memory.c), made at the first use. */
        _Atomic(void *) ram;
        uint64_t ram_bytes; /* set before ram is, under the registry's lock */
};

/* True if [sector, sector + count) lies on the device; looks again where its size may be another.
 */
bool device_fits(struct block_device *bdev, sector_t sector, sector_t count, bool writes);

/* When @bdev is opened; @st: of its descriptor. */
void device_limits_init(struct block_device *bdev, const struct stat *st);

/* When it is opened once more: what may have changed is asked for again when it is needed. */
void device_limits_outdate(struct block_device *bdev);

/* See to it that the limits are there. May open files of sysfs. Any thread. */
void device_limits_need(struct block_device *bdev);

/* Ask again, now, for what may have changed: the two first ones. */
void device_limits_look_again(struct block_device *bdev);

/*
 * The RAM disk that stands in for @bdev where nothing real is to be touched: blank at first, of the
 * capacity that the device had then, shared by all who use @bdev, gone with it. Returns 0 or
 * -ENOMEM. Any thread.
 */
int device_ram(struct block_device *bdev, void **ret, uint64_t *ret_bytes);
