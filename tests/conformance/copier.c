/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 125 to 132, 138 to 141, 148 and 149: what the copier copies, on which memory, and how fast. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "copier-kit.h"
#include "reserve.h"
#include "util/macros.h"

#define CHUNK_PAGES 128

/* --- 125 to 130: sizes and numbers */

static void copy_of_sectors(struct kit *kit, sector_t sectors, uint64_t chunks)
{
        struct disk *source = kit_disk(kit, DISK_CACHED), *disk = kit_disk(kit, DISK_CACHED);
        struct io_region from = on_disk(source, 3, sectors), dest = on_disk(disk, 9, sectors);
        struct dm_kcopyd_client *kc = copier_new(kit);

        disk_fill(kit, source, 3, sectors + 1, 1);
        copier_expect(kit, kc, &from, 1, &dest, 0, 0, 0);
        expect_copied(kit, disk, &dest);
        assert_int_equal(chunks_begun(kc), chunks);
        copier_end(kc);
}

static void case_125_one_sector(struct kit *kit)
{
        copy_of_sectors(kit, 1, 1);
}

static void case_126_nothing(struct kit *kit)
{
        struct disk *disks[2] = { kit_disk(kit, DISK_FILE), kit_disk(kit, DISK_FILE) };
        struct io_region from = on_disk(disks[0], 8, 0), dest = on_disk(disks[1], 8, 0);
        struct io_region all[2] = { on_disk(disks[0], 0, 0), on_disk(disks[1], 0, 0) };
        struct dmio_fault *counters[2] = { counter_new(kit, 0, &all[0]),
                                           counter_new(kit, 0, &all[1]) };
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct told told = TOLD_INIT;

        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, told_notify, &told, NULL), 0);
        copier_expect_told(kit, &told, 0, 0);
        assert_false(pthread_equal(told.thread, pthread_self()));
        assert_int_equal(rule_matches(counters[0]) + rule_matches(counters[1]), 0);
        copier_end(kc);
}

static void case_127_one_chunk(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct disk *source, *disks[2];
        struct io_region from, dests[2], all;
        struct dmio_fault *reads, *writes[2];

        copier_disks(kit, CHUNK, &source, &from, disks, dests, 2);
        reads = counter_new(kit, 0, &from);
        for (unsigned int i = 0; i < 2; i++) {
                all = on_disk(disks[i], 0, 0);
                writes[i] = counter_new(kit, 0, &all);
        }
        copier_expect(kit, kc, &from, 2, dests, 0, 0, 0);
        assert_int_equal(rule_matches(reads), 1);
        for (unsigned int i = 0; i < 2; i++) {
                assert_int_equal(rule_matches(writes[i]), 1);
                expect_copied(kit, disks[i], &dests[i]);
        }
        copier_end(kc);
}

static void case_128_one_sector_more(struct kit *kit)
{
        copy_of_sectors(kit, CHUNK + 1, 2);
}

static void case_129_nine_chunks(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct told told = TOLD_INIT;
        struct disk *source, *disk;
        struct io_region from, dest, eighth;
        struct dmio_fault *first, *others;

        copier_disks(kit, 9 * CHUNK, &source, &from, &disk, &dest, 1);
        eighth = chunk_of(&from, 7);
        first = rule_new(kit, DMIO_FAULT_HOLD, DMIO_FAULT_READ, &eighth, 0, 0);
        others = rule_new(kit, DMIO_FAULT_HOLD, DMIO_FAULT_READ, &from, 0, 0);
        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, told_notify, &told, NULL), 0);
        rule_wait_held(first, 1);
        rule_wait_held(others, 7);
        kit_settle(kit);
        assert_int_equal(chunks_begun(kc), 8);
        assert_int_equal(rule_held(others), 7);
        /* One ends, the ninth begins. */
        assert_int_equal(dmio_fault_release(first), 1);
        rule_wait_held(others, 8);
        assert_int_equal(chunks_begun(kc), 9);
        assert_int_equal(kit_calls(&told.completion), 0);
        dmio_fault_remove(others);
        copier_expect_told(kit, &told, 0, 0);
        expect_copied(kit, disk, &dest);
        copier_end(kc);
}

static void case_130_eight_destinations(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct disk *source, *disks[8];
        struct io_region from, dests[8];

        copier_disks(kit, 3 * CHUNK + 16, &source, &from, disks, dests, 8);
        copier_expect(kit, kc, &from, 8, dests, 0, 0, 0);
        for (unsigned int i = 0; i < 8; i++)
                expect_copied(kit, disks[i], &dests[i]);
        copier_end(kc);
}

/* --- 131, 132: what is refused */

static void case_131_too_many_or_none(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct disk *source, *disks[9];
        struct io_region from, dests[9];

        copier_disks(kit, 8, &source, &from, disks, dests, 9);
        copier_expect_refused(kit, kc, &from, 9, dests);
        copier_expect_refused(kit, kc, &from, 0, dests);
        assert_int_equal(dm_kcopyd_zero(kc, 9, dests, 0, told_notify, NULL, NULL), -EINVAL);
        assert_int_equal(dm_kcopyd_zero(kc, 0, dests, 0, told_notify, NULL, NULL), -EINVAL);
        copier_end(kc);
}

static void case_132_counts_differ(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct disk *source, *disks[3];
        struct io_region from, dests[3];

        copier_disks(kit, 64, &source, &from, disks, dests, 3);
        dests[2].count = 56;
        copier_expect_refused(kit, kc, &from, 3, dests);
        dests[2].count = 64;
        from.count = 72;
        copier_expect_refused(kit, kc, &from, 3, dests);
        dests[1].count = 0;
        assert_int_equal(dm_kcopyd_zero(kc, 3, dests, 0, told_notify, NULL, NULL), -EINVAL);
        copier_end(kc);
}

/* --- 138, 139: zeroes */

static void zero_disks(struct kit *kit, struct disk **disks, struct io_region *dests)
{
        for (unsigned int i = 0; i < 3; i++) {
                disks[i] = kit_disk(kit, DISK_FILE);
                disk_fill(kit, disks[i], 0, 6 * CHUNK, 2);
                dests[i] = on_disk(disks[i], 8 * (i + 1), 5 * CHUNK + 8);
        }
}

static void expect_zeroed(struct kit *kit, struct disk **disks, const struct io_region *dests)
{
        for (unsigned int i = 0; i < 3; i++) {
                sector_t end = dests[i].sector + dests[i].count;

                disk_expect_fill(kit, disks[i], 0, dests[i].sector, 2, 0);
                disk_expect_zeroes(kit, disks[i], dests[i].sector,
                                   dests[i].count * DMIO_SECTOR_SIZE);
                disk_expect_fill(kit, disks[i], end, 8, 2, 0);
        }
}

static void case_138_zero(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct dmio_pool_stats before, after;
        struct told told = TOLD_INIT;
        struct dmio_fault *writes;
        struct disk *disks[3];
        struct io_region dests[3], any = {};

        zero_disks(kit, disks, dests);
        writes = counter_new(kit, DMIO_FAULT_WRITE, &any);
        dmio_pool_stats(kit->engine, &before);
        assert_int_equal(dm_kcopyd_zero(kc, 3, dests, 0, told_notify, &told, NULL), 0);
        copier_expect_told(kit, &told, 0, 0);
        dmio_pool_stats(kit->engine, &after);
        assert_int_equal(before.high_water, after.high_water);
        if (rule_matches(writes) > 0)
                kit_skip(kit, "files cannot be zeroed here but by writing");
        expect_zeroed(kit, disks, dests);
        copier_end(kc);
}

static void case_139_zero_by_writes(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct told told = TOLD_INIT;
        struct dmio_fault *writes, *zeroes;
        struct disk *disks[3];
        struct io_region dests[3], any = {};
        struct dmio_fault_rule cannot = {
                .action = DMIO_FAULT_ERROR,
                .ops = DMIO_FAULT_WRITE_ZEROES,
                .leg = -1,
                .error = EOPNOTSUPP,
        };
        struct dmio_fault *fault;

        zero_disks(kit, disks, dests);
        cannot.bdev = disks[1]->bdev;
        writes = counter_new(kit, DMIO_FAULT_WRITE, &any);
        zeroes = counter_new(kit, DMIO_FAULT_WRITE_ZEROES, &any);
        assert_int_equal(dmio_fault_add(kit->engine, &cannot, &fault), 0);
        assert_int_equal(dm_kcopyd_zero(kc, 3, dests, 0, told_notify, &told, NULL), 0);
        copier_expect_told(kit, &told, 0, 0);
        assert_int_equal(rule_matches(writes), 3 * 6);
        expect_zeroed(kit, disks, dests);
        /* Another error is one. */
        dmio_fault_remove(fault);
        cannot.error = EIO;
        told = (struct told)TOLD_INIT;
        assert_int_equal(dmio_fault_add(kit->engine, &cannot, &fault), 0);
        assert_int_equal(
                dm_kcopyd_zero(kc, 3, dests, DM_KCOPYD_IGNORE_ERROR, told_notify, &told, NULL), 0);
        if (rule_matches(zeroes) > 0)
                copier_expect_told(kit, &told, 0, 0x2);
        copier_end(kc);
}

/* --- 140, 141: memory */

/* All that can be had; returns how much that is. */
static uint64_t take_the_rest(struct kit *kit, struct page_list **ret)
{
        struct page_list *more, **last = ret;
        uint64_t total = 0;

        *ret = NULL;
        for (unsigned int n = DMIO_PAGES_MAX; n > 0; n /= 2) {
                while ((more = dmio_pages_get(kit->client, n)) != NULL) {
                        *last = more;
                        while (*last)
                                last = &(*last)->next;
                        total += n;
                }
        }
        return total;
}

/*
 * On the account of a client without a reservation, which has all contexts that there are in use:
 * it goes on when there are some again.
 */
static void copy_without_contexts(struct kit *kit)
{
        const struct dm_kcopyd_options options = { .io_client = kit->client };
        struct completion others = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 2);
        struct told told = TOLD_INIT;
        struct io_region from, dest, where;
        struct disk *source, *disk, *slow;
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .flags = DM_IO_NOWAIT,
                .mem = in_vm(data),
                .notify = { .fn = completion_notify, .context = &others },
        };
        struct dm_kcopyd_client *kc;
        struct dmio_fault *hold;
        unsigned int n = 0;

        assert_int_equal(dm_kcopyd_client_create(kit->engine, &options, &kc), 0);
        copier_disks(kit, 2 * CHUNK, &source, &from, &disk, &dest, 1);
        disk_expect_zeroes(kit, disk, 0, DMIO_PAGE_SIZE); /* a RAM disk takes its memory now */
        slow = kit_disk(kit, DISK_FILE);
        where = on_disk(slow, 0, 8);
        hold = rule_new(kit, DMIO_FAULT_HOLD, 0, &where, 0, 0);
        starve_after(0);
        while (n < 100000 && kit_io(kit, &request, 1, &where, NULL) == 0)
                n++;
        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, told_notify, &told, NULL), 0);
        assert_int_equal(dm_kcopyd_client_flush(kc), 0);
        dmio_fault_remove(hold);
        copier_expect_told(kit, &told, 0, 0);
        (void)starve_end();
        completion_wait(&others, n);
        expect_copied(kit, disk, &dest);
        copier_end(kc);
}

static void case_140_on_the_reserve(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct dmio_pool_stats stats;
        struct told told = TOLD_INIT;
        struct disk *source, *disks[4];
        struct io_region from, dests[4];
        struct page_list *rest;
        uint64_t taken;

        kit_need_starving(kit);
        copier_disks(kit, 4 * CHUNK, &source, &from, disks, dests, 4);
        /* Everything that requests are made of is there, and goes back to what it was. */
        for (unsigned int i = 0; i < 4; i++)
                copier_expect(kit, kc, &from, 1, &dests[i], 0, 0, 0);
        dmio_pool_stats(kit->engine, &stats);
        assert_int_equal(stats.reserved, CHUNK_PAGES);
        assert_int_equal(stats.in_use, 0);
        taken = take_the_rest(kit, &rest);
        assert_int_equal(taken, stats.total - CHUNK_PAGES);
        for (unsigned int i = 0; i < 4; i++)
                dests[i].sector += 5 * CHUNK;

        starve_after(0);
        for (unsigned int i = 0; i < 4; i++)
                assert_int_equal(
                        dm_kcopyd_copy(kc, &from, 1, &dests[i], 0, told_notify, &told, NULL), 0);
        completion_wait(&told.completion, 4);
        (void)starve_end();
        assert_int_equal(told.completion.bits, 0);
        assert_int_equal(told.read_err, 0);

        /* One chunk at a time had pages, none waited in the pool, and all are home. */
        kit_settle(kit);
        dmio_pool_stats(kit->engine, &stats);
        assert_int_equal(stats.waits, 0);
        assert_int_equal(stats.in_use, taken);
        assert_int_equal(stats.total - taken, CHUNK_PAGES);
        dmio_pages_put(kit->client, rest);
        for (unsigned int i = 0; i < 4; i++)
                expect_copied(kit, disks[i], &dests[i]);
        copier_end(kc);
        copy_without_contexts(kit);
}

static unsigned int open_descriptors(void)
{
        unsigned int n = 0;

        for (int fd = 0; fd < 1024; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void case_141_no_memory_for_a_client(struct kit *kit)
{
        struct dm_kcopyd_options options = { .sub_job_sectors = 2048 };
        struct dm_kcopyd_client *kc = NULL;
        struct dmio_pool_stats before, after;
        unsigned int descriptors, n = 0;
        int r;

        kit_need_starving(kit);
        dmio_pool_stats(kit->engine, &before);
        descriptors = open_descriptors();
        for (;; n++) {
                starve_after(n);
                r = dm_kcopyd_client_create(kit->engine, &options, &kc);
                if (starve_end() == 0)
                        break;
                assert_int_equal(r, -ENOMEM);
                assert_null(kc);
                dmio_pool_stats(kit->engine, &after);
                assert_memory_equal(&before, &after, sizeof(before));
                assert_int_equal(open_descriptors(), descriptors);
        }
        assert_int_equal(r, 0);
        assert_true(n >= 2);
        dmio_pool_stats(kit->engine, &after);
        assert_int_equal(after.reserved, 256);
        copier_end(kc);
        dmio_pool_stats(kit->engine, &after);
        assert_int_equal(after.reserved, 0);
        assert_int_equal(open_descriptors(), descriptors);
}

/* --- 148 */

/*
 * At 50 percent as much rest is due as there was work; what may be owed when something begins is 50
 * ms. So once a second copy has begun, the rest for the first one has been taken.
 */
static void case_148_throttle(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct dm_kcopyd_client_stats stats, then;
        struct dmio_fault_rule slow = {
                .action = DMIO_FAULT_DELAY,
                .leg = -1,
                .delay_us = 20000,
        };
        struct dmio_fault *fault;
        struct io_region from, dest;
        struct disk *source, *disk;

        copier_disks(kit, 19 * CHUNK, &source, &from, &disk, &dest, 1);
        assert_int_equal(dmio_fault_add(kit->engine, &slow, &fault), 0);
        copier_expect(kit, kc, &from, 1, &dest, 0, 0, 0);
        dm_kcopyd_client_stats(kc, &stats);
        assert_int_equal(stats.throttle, 100);
        assert_true(stats.busy_us >= 40000);
        assert_int_equal(stats.idle_us, 0);
        assert_int_equal(stats.pauses, 0);

        assert_int_equal(dm_kcopyd_client_set_throttle(kc, 101), -EINVAL);
        assert_int_equal(dm_kcopyd_client_set_throttle(kc, 50), 0);
        then = stats;
        copier_expect(kit, kc, &from, 1, &dest, 0, 0, 0);
        dm_kcopyd_client_stats(kc, &stats);
        assert_true(stats.pauses > 0);
        copier_expect(kit, kc, &from, 1, &dest, 0, 0, 0);
        then.busy_us = stats.busy_us - then.busy_us;
        dm_kcopyd_client_stats(kc, &stats);
        assert_true(stats.idle_us + 50000 >= then.busy_us);
        dmio_fault_remove(fault);
        expect_copied(kit, disk, &dest);
        copier_end(kc);
}

/* --- 149 */

static void case_149_overlap(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct disk *disk = kit_disk(kit, DISK_FILE), *other = kit_disk(kit, DISK_FILE);
        struct io_region from = on_disk(disk, 1024, 2048);
        struct io_region dests[2] = { on_disk(other, 1024, 2048), on_disk(disk, 3072 - 8, 2048) };
        struct block_device *buffered;
        char path[64];

        disk_fill(kit, disk, 1024, 2048, 1);
        copier_expect_refused(kit, kc, &from, 2, dests);
        dests[1].sector = 8;
        copier_expect_refused(kit, kc, &from, 2, dests);
        dests[1].sector = 1024;
        copier_expect_refused(kit, kc, &from, 2, dests);
        /* The same one, opened in another way. */
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", disk->image_fd);
        assert_int_equal(dmio_device_open(path, DMIO_DEVICE_BUFFERED, &buffered), 0);
        dests[1].bdev = buffered;
        copier_expect_refused(kit, kc, &from, 2, dests);
        dmio_device_close(buffered);

        dests[1] = on_disk(disk, 3072, 2048);
        copier_expect(kit, kc, &from, 2, dests, 0, 0, 0);
        for (unsigned int i = 0; i < 2; i++)
                disk_expect_fill(kit, i ? disk : other, dests[i].sector, 2048, 1, dests[i].sector);
        copier_end(kc);
}

static const struct conformance_case cases[] = {
        CASE(125, 125_one_sector, ON_MODERN, "a copy of 1 sector: the bytes, (0, 0)", NULL),
        CASE(126, 126_nothing, ON_MODERN,
             "a copy of nothing: (0, 0) later and on the worker, no I/O", NULL),
        CASE(127, 127_one_chunk, ON_MODERN,
             "a copy of a full chunk: one read, one write a destination", NULL),
        CASE(128, 128_one_sector_more, ON_MODERN, "a sector more: two chunks, one callback", NULL),
        CASE(129, 129_nine_chunks, ON_MODERN,
             "9 chunks: 8 at a time, the ninth begins when one ends", NULL),
        CASE(130, 130_eight_destinations, ON_MODERN, "8 destinations: all equal the source", NULL),
        CASE(131, 131_too_many_or_none, ON_MODERN, "9 destinations, or none: -EINVAL, no callback",
             NULL),
        CASE(132, 132_counts_differ, ON_MODERN, "counts that differ: -EINVAL, no callback", NULL),
        CASE(138, 138_zero, ON_MODERN, "zero, all destinations can: no writes, no pages, zeroes",
             NULL),
        CASE(139, 139_zero_by_writes, ON_MODERN,
             "zero, one destination cannot: zeroes are written to all, (0, 0)",
             "each chunk is tried until one of them is refused"),
        CASE(140, 140_on_the_reserve, ON_MODERN,
             "4 copies on the pages of one chunk, allocations fail: all finish, nobody waits in "
             "the pool",
             NULL),
        CASE(141, 141_no_memory_for_a_client, ON_MODERN,
             "memory ends in the middle of making a client: -ENOMEM, nothing is left behind", NULL),
        CASE(148, 148_throttle, ON_MODERN, "throttle 50: as much rest as work; 100: none",
             "the worker does not sleep meanwhile"),
        CASE(149, 149_overlap, ON_MODERN,
             "source and destination share sectors: -EINVAL, no callback", NULL),
};

const struct conformance_section copier_section = { "The copier", cases, ARRAY_SIZE(cases) };
