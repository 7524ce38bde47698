/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "copier-kit.h"

#include <errno.h>
#include <time.h>

void told_notify(int read_err, unsigned long write_err, void *context)
{
        struct told *told = context;

        told->read_err = read_err;
        told->thread = pthread_self();
        completion_notify(write_err, &told->completion);
}

struct dm_kcopyd_client *copier_new(struct kit *kit)
{
        struct dm_kcopyd_client *kc = NULL;

        assert_int_equal(dm_kcopyd_client_create(kit->engine, NULL, &kc), 0);
        return kc;
}

void copier_end(struct dm_kcopyd_client *kc)
{
        assert_int_equal(dm_kcopyd_client_destroy(kc), 0);
}

void copier_expect_told(struct kit *kit, struct told *told, int read_err, unsigned long write_err)
{
        kit_called(&told->completion, write_err);
        assert_int_equal(told->read_err, read_err);
        kit_settle(kit);
        assert_int_equal(kit_calls(&told->completion), 1);
}

void copier_expect(struct kit *kit, struct dm_kcopyd_client *kc, const struct io_region *from,
                   unsigned int n, const struct io_region *dests, unsigned int flags, int read_err,
                   unsigned long write_err)
{
        struct told told = TOLD_INIT;

        assert_int_equal(dm_kcopyd_copy(kc, from, n, dests, flags, told_notify, &told, NULL), 0);
        copier_expect_told(kit, &told, read_err, write_err);
}

void copier_expect_refused(struct kit *kit, struct dm_kcopyd_client *kc,
                           const struct io_region *from, unsigned int n,
                           const struct io_region *dests)
{
        struct dm_kcopyd_job *job = (struct dm_kcopyd_job *)&kit;
        struct dm_kcopyd_client_stats stats;
        struct told told = TOLD_INIT;

        assert_int_equal(dm_kcopyd_copy(kc, from, n, dests, 0, told_notify, &told, &job), -EINVAL);
        assert_ptr_equal(job, &kit);
        assert_int_equal(dm_kcopyd_client_flush(kc), 0);
        assert_int_equal(kit_calls(&told.completion), 0);
        dm_kcopyd_client_stats(kc, &stats);
        assert_int_equal(stats.jobs, 0);
        assert_int_equal(stats.sub_jobs, 0);
}

uint64_t chunks_begun(struct dm_kcopyd_client *kc)
{
        struct dm_kcopyd_client_stats stats;

        dm_kcopyd_client_stats(kc, &stats);
        return stats.sub_jobs;
}

struct dmio_fault *rule_new(struct kit *kit, enum dmio_fault_action action, unsigned int ops,
                            const struct io_region *where, uint64_t skip, uint64_t times)
{
        struct dmio_fault_rule it = {
                .action = action,
                .ops = ops,
                .bdev = where->bdev,
                .leg = -1,
                .sector = where->sector,
                .count = where->count,
                .skip = skip,
                .times = times,
                .error = EIO,
        };
        struct dmio_fault *fault = NULL;

        assert_int_equal(dmio_fault_add(kit->engine, &it, &fault), 0);
        return fault;
}

struct dmio_fault *counter_new(struct kit *kit, unsigned int ops, const struct io_region *where)
{
        return rule_new(kit, DMIO_FAULT_HOLD, ops, where, UINT64_MAX, 0);
}

uint64_t rule_matches(struct dmio_fault *fault)
{
        struct dmio_fault_stats stats;

        dmio_fault_stats(fault, &stats);
        return stats.matches;
}

uint64_t rule_held(struct dmio_fault *fault)
{
        struct dmio_fault_stats stats;

        dmio_fault_stats(fault, &stats);
        return stats.held;
}

void moment(void)
{
        const struct timespec pause = { .tv_nsec = 1000000 };

        (void)nanosleep(&pause, NULL);
}

void rule_wait_held(struct dmio_fault *fault, uint64_t n)
{
        while (rule_held(fault) < n)
                moment();
}

struct io_region chunk_of(const struct io_region *region, unsigned int i)
{
        return (struct io_region){ region->bdev, region->sector + (sector_t)i * CHUNK, CHUNK };
}

void copier_disks(struct kit *kit, sector_t count, struct disk **source, struct io_region *from,
                  struct disk **disks, struct io_region *dests, unsigned int n)
{
        *source = kit_disk(kit, DISK_FILE);
        *from = on_disk(*source, 8, count);
        disk_fill(kit, *source, 8, count, 1);
        for (unsigned int i = 0; i < n; i++) {
                disks[i] = kit_disk(kit, DISK_FILE);
                dests[i] = on_disk(disks[i], 16 * (i + 1), count);
        }
}

void expect_copied(struct kit *kit, struct disk *disk, const struct io_region *region)
{
        disk_expect_fill(kit, disk, region->sector, region->count, 1, region->sector);
        disk_expect_zeroes(kit, disk, region->sector - 8, 8 * DMIO_SECTOR_SIZE);
        disk_expect_zeroes(kit, disk, region->sector + region->count, 8 * DMIO_SECTOR_SIZE);
}

void expect_chunk(struct kit *kit, struct disk *disk, const struct io_region *region,
                  unsigned int i, bool copied)
{
        struct io_region chunk = chunk_of(region, i);

        if (copied)
                disk_expect_fill(kit, disk, chunk.sector, CHUNK, 1, region->sector);
        else
                disk_expect_zeroes(kit, disk, chunk.sector, CHUNK_BYTES);
}
