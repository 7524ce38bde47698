/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel tells of a device beside its size and alignment: what it does besides reading and
 * writing, and how it likes requests to be.
 *
 * Of a block device the driver's limits are in sysfs, those of a partition at its disk. There is no
 * asking a file system whether it punches holes: even a hole past the end of a file changes its
 * times and takes its set-user-id bit away. So of a file nothing is known, and the operation tells.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device-internal.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* The directory of the queue of block device @device, to be closed; or a negative errno. */
static int queue_open(dev_t device)
{
        static const char *const places[] = { "queue", "../queue" };
        char path[64];

        for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
                int fd;

                (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(device),
                               minor(device), places[i]);
                fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (fd >= 0)
                        return fd;
        }
        return -errno;
}

/* The number in the file @name of @queue, or UINT64_MAX. */
static uint64_t queue_number(int queue, const char *name)
{
        DMIO_CLEANUP(close_fdp) int fd = openat(queue, name, O_RDONLY | O_CLOEXEC);
        char text[32] = "", *end;
        unsigned long long number;

        if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
                return UINT64_MAX;
        number = strtoull(text, &end, 10);
        return end > text ? number : UINT64_MAX;
}

static sector_t queue_sectors(int queue, const char *name)
{
        uint64_t bytes = queue_number(queue, name);

        return bytes == UINT64_MAX ? DMIO_DEVICE_LIMIT_UNKNOWN : bytes >> DMIO_SECTOR_SHIFT;
}

static void limits_read_changing(struct device_limits *limits, int queue)
{
        atomic_store(&limits->discard_max, queue_sectors(queue, "discard_max_bytes"));
        atomic_store(&limits->write_zeroes_max, queue_sectors(queue, "write_zeroes_max_bytes"));
}

static void limits_of_block(struct block_device *bdev)
{
        DMIO_CLEANUP(close_fdp) int queue = queue_open(bdev->id.device);
        struct device_limits *limits = &bdev->limits;
        unsigned int bytes;
        uint64_t granularity;

        if (ioctl(bdev->fd, BLKPBSZGET, &bytes) == 0)
                limits->physical_block = MAX(bytes, bdev->logical_block);
        if (ioctl(bdev->fd, BLKIOOPT, &bytes) == 0)
                limits->optimal_io = bytes;
        if (queue < 0)
                return;
        limits_read_changing(limits, queue);
        granularity = queue_number(queue, "discard_granularity");
        if (granularity <= UINT32_MAX)
                limits->discard_granularity = (unsigned int)granularity;
}

/* Of struct device_limits; a block device's. */
enum { LIMITS_UNKNOWN, LIMITS_OUTDATED, LIMITS_KNOWN };

void device_limits_init(struct block_device *bdev, const struct stat *st)
{
        struct device_limits *limits = &bdev->limits;

        pthread_mutex_init(&limits->lock, NULL);
        atomic_store(&limits->discard_max, DMIO_DEVICE_LIMIT_UNKNOWN);
        atomic_store(&limits->write_zeroes_max, DMIO_DEVICE_LIMIT_UNKNOWN);
        limits->physical_block = bdev->logical_block;
        atomic_store(&limits->state, LIMITS_UNKNOWN);
        if (bdev->block)
                return;
        limits->optimal_io = (unsigned int)st->st_blksize;
        limits->discard_granularity = (unsigned int)st->st_blksize;
        atomic_store(&limits->state, LIMITS_KNOWN);
}

void device_limits_outdate(struct block_device *bdev)
{
        int known = LIMITS_KNOWN;

        if (bdev->block)
                (void)atomic_compare_exchange_strong(&bdev->limits.state, &known, LIMITS_OUTDATED);
}

void device_limits_need(struct block_device *bdev)
{
        /* Each device has its own lock: sysfs waits for a queue that is frozen, of one that hangs.
         */
        if (atomic_load(&bdev->limits.state) == LIMITS_KNOWN)
                return;
        pthread_mutex_lock(&bdev->limits.lock);
        if (atomic_load(&bdev->limits.state) == LIMITS_UNKNOWN)
                limits_of_block(bdev);
        else if (atomic_load(&bdev->limits.state) == LIMITS_OUTDATED)
                device_limits_look_again(bdev);
        atomic_store(&bdev->limits.state, LIMITS_KNOWN);
        pthread_mutex_unlock(&bdev->limits.lock);
}

void device_limits_look_again(struct block_device *bdev)
{
        DMIO_CLEANUP(close_fdp) int queue = -EBADF;

        if (!bdev->block)
                return;
        queue = queue_open(bdev->id.device);
        if (queue >= 0)
                limits_read_changing(&bdev->limits, queue);
}
