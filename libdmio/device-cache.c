/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the page cache of the machine holds of a device that is used with O_DIRECT: bytes that
 * others have read or written without. A direct write finds such a page, has it written back,
 * thrown out, and goes through a thread of the kernel's for that, each of them by itself: four
 * times what the write costs otherwise. To have them written back and thrown out together, first,
 * is cheaper.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device-internal.h"
#include "util/macros.h"

/* cachestat(2), of Linux 6.5; the headers we build with may be older. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

struct cache_range {
        uint64_t offset;
        uint64_t length;
};

struct cache_counts {
        uint64_t cached; /* pages, like the others */
        uint64_t dirty;
        uint64_t written_back;
        uint64_t evicted;
        uint64_t recently_evicted;
};

static bool device_is_uncached(const struct block_device *bdev)
{
        return bdev->direct && !bdev->far && !bdev->in_memory && !atomic_load(&bdev->ram);
}

uint64_t dmio_device_cached(struct block_device *bdev, sector_t sector, sector_t count)
{
        struct cache_range range = { sector << DMIO_SECTOR_SHIFT, count << DMIO_SECTOR_SHIFT };
        struct cache_counts counts = {};

        /* A length of 0 would be everything from the offset on. */
        if (!device_is_uncached(bdev) || count == 0 ||
            syscall(SYS_cachestat, bdev->fd, &range, &counts, 0) < 0)
                return 0;
        return counts.cached * (uint64_t)sysconf(_SC_PAGESIZE);
}

int dmio_device_uncache(struct block_device *bdev, sector_t sector, sector_t count)
{
        off_t offset = (off_t)(sector << DMIO_SECTOR_SHIFT);
        off_t length = (off_t)(count << DMIO_SECTOR_SHIFT);
        int r;

        if (!device_is_uncached(bdev) || count == 0)
                return 0;

        /*
         * Only what is clean can go; and what was dirty is safe in any case. The kernel tells each
         * descriptor once of what could not be written back: a flush would not hear of it any more.
         */
        if (sync_file_range(bdev->fd, offset, length,
                            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                    SYNC_FILE_RANGE_WAIT_AFTER) < 0) {
                r = -errno;
                atomic_fetch_add(&bdev->flush_failures, 1);
                return r;
        }
        r = posix_fadvise(bdev->fd, offset, length, POSIX_FADV_DONTNEED);
        return -r;
}
