/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 85 to 102: flush, FUA, discard, zeroes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kit.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define PAGE DMIO_PAGE_SIZE

static int io_with_flags(struct kit *kit, enum dm_io_op op, unsigned int flags, const void *data,
                         unsigned int n, const struct io_region *where, unsigned long *bits)
{
        struct dm_io_request request = { .op = op, .flags = flags, .mem = in_vm(data) };

        return kit_io(kit, &request, n, where, bits);
}

static void flags_ok(struct kit *kit, enum dm_io_op op, unsigned int flags, const void *data,
                     unsigned int n, const struct io_region *where)
{
        unsigned long bits = KIT_UNTOUCHED;

        assert_int_equal(io_with_flags(kit, op, flags, data, n, where, &bits), 0);
        assert_int_equal(bits, 0);
}

static void flags_fail(struct kit *kit, enum dm_io_op op, unsigned int flags, const void *data,
                       unsigned int n, const struct io_region *where, unsigned long expected)
{
        unsigned long bits = KIT_UNTOUCHED;

        assert_int_equal(io_with_flags(kit, op, flags, data, n, where, &bits), -EIO);
        assert_int_equal(bits, expected);
}

static void flushed_once_and_nothing_else(const struct disk *disk)
{
        assert_int_equal(disk_count(disk, FAULT_FLUSH), 1);
        assert_int_equal(disk_count(disk, ~0u), 1);
}

static void case_085_flush_alone(struct kit *kit)
{
        struct io_region where[3];
        struct disk *disks[3];

        for (unsigned int i = 0; i < 3; i++) {
                disks[i] = kit_disk(kit, DISK_FAULTY);
                where[i] = on_disk(disks[i], 0, 0);
        }
        flags_ok(kit, DM_IO_WRITE, DM_IO_PREFLUSH, NULL, 3, where);
        for (unsigned int i = 0; i < 3; i++)
                flushed_once_and_nothing_else(disks[i]);
        disk_forget(disks[0]);
        flags_ok(kit, DM_IO_FLUSH, 0, NULL, 1, where);
        flushed_once_and_nothing_else(disks[0]);
}

static void case_086_flush_fails_on_a_leg(struct kit *kit)
{
        struct io_region where[3];
        struct disk *disks[3];

        for (unsigned int i = 0; i < 3; i++) {
                disks[i] = kit_disk(kit, DISK_FAULTY);
                where[i] = on_disk(disks[i], 0, 0);
        }
        disk_breaks(kit, disks[1], FAULT_FLUSH, EIO);
        flags_fail(kit, DM_IO_WRITE, DM_IO_PREFLUSH, NULL, 3, where, BIT(1));
        for (unsigned int i = 0; i < 3; i++)
                flushed_once_and_nothing_else(disks[i]);
        flags_fail(kit, DM_IO_FLUSH, 0, NULL, 1, &where[1], BIT(0));
}

/* Every write to the disk began after the flush had ended. */
static void flush_came_first(const struct disk *disk, unsigned int n_writes)
{
        struct fault_entry flush, write;

        assert_int_equal(disk_count(disk, FAULT_FLUSH), 1);
        if (!disk->faulty)
                return; /* fault rules do not tell when */
        assert_true(faulty_find(disk->faulty, disk->index, FAULT_FLUSH, 0, &flush));
        for (unsigned int i = 0; i < n_writes; i++) {
                assert_true(faulty_find(disk->faulty, disk->index, FAULT_WRITE, i, &write));
                assert_true(write.begin > flush.end);
        }
}

static void case_087_flush_with_and_without_data(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *empty = kit_disk(kit, DISK_FAULTY), *disk = kit_disk(kit, DISK_FAULTY);
        struct io_region where[] = { on_disk(empty, 0, 0), on_disk(disk, 8, 8) };
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .flags = DM_IO_PREFLUSH,
                .mem = in_vm(data),
                .notify = { .fn = completion_notify, .context = &completion },
        };

        assert_int_equal(kit_io(kit, &request, 2, where, NULL), 0);
        kit_called(&completion, 0);
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 1);
        flushed_once_and_nothing_else(empty);
        flush_came_first(disk, 1);
        disk_expect(kit, disk, 8, data, PAGE);
}

static void case_088_no_flush_unasked(struct kit *kit)
{
        struct disk *disks[2] = { kit_disk(kit, DISK_FAULTY), kit_disk(kit, DISK_FAULTY) };
        struct io_region where[] = { on_disk(disks[0], 0, 0), on_disk(disks[1], 0, 0) };

        flags_ok(kit, DM_IO_WRITE, 0, NULL, 2, where);
        for (unsigned int i = 0; i < 2; i++)
                assert_int_equal(disk_count(disks[i], ~0u), 0);
}

/* While the flush is held, another request goes through: there was time for a premature write. */
static void case_089_data_after_the_flush(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 513, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY), *other = kit_disk(kit, DISK_FAULTY);
        struct io_region where = on_disk(disk, 8, 4096), beside = on_disk(other, 8, 8);
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .flags = DM_IO_PREFLUSH,
                .mem = in_vm(data->bytes + 512),
                .notify = { .fn = completion_notify, .context = &completion },
        };

        disk_holds(kit, disk, FAULT_FLUSH);
        assert_int_equal(kit_io(kit, &request, 1, &where, NULL), 0);
        disk_wait_held(disk);
        for (unsigned int i = 0; i < 10; i++)
                kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &beside);
        assert_int_equal(disk_count(disk, FAULT_WRITE), 0);
        disk_release(disk);
        kit_called(&completion, 0);
        assert_true(disk_count(disk, FAULT_WRITE) >= 2);
        flush_came_first(disk, disk_count(disk, FAULT_WRITE));
        disk_expect(kit, disk, 8, data->bytes + 512, 4096 * DMIO_SECTOR_SIZE);
}

static void case_090_no_data_after_a_failed_flush(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *bad = kit_disk(kit, DISK_FAULTY), *good = kit_disk(kit, DISK_FAULTY);
        struct io_region where[] = { on_disk(bad, 8, 8), on_disk(good, 8, 8) };

        disk_fill(kit, bad, 0, 24, 2);
        disk_breaks(kit, bad, FAULT_FLUSH, EIO);
        flags_fail(kit, DM_IO_WRITE, DM_IO_PREFLUSH, data, 2, where, BIT(0));
        assert_int_equal(disk_count(bad, FAULT_WRITE), 0);
        disk_expect_fill(kit, bad, 0, 24, 2, 0);
        disk_expect(kit, good, 8, data, PAGE);
}

/* Either every write carries the demand, or a flush comes after all of them. */
static bool is_durable(const struct disk *disk)
{
        unsigned int n = disk_count(disk, FAULT_WRITE);
        struct fault_entry flush, write;

        if (n > 0 && disk_count(disk, FAULT_DURABLE) == n)
                return true;
        if (n == 0 || !faulty_find(disk->faulty, disk->index, FAULT_FLUSH, 0, &flush))
                return false;
        for (unsigned int i = 0; i < n; i++)
                if (!faulty_find(disk->faulty, disk->index, FAULT_WRITE, i, &write) ||
                    flush.begin < write.end)
                        return false;
        return true;
}

static void case_091_fua_is_durable(struct kit *kit)
{
        struct page *data = kit_pages(kit, 512, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct io_region where = on_disk(disk, 8, 8), large = on_disk(disk, 8, 4096);

        if (!disk->faulty)
                kit_skip(kit, "what is durable is not seen here");
        flags_ok(kit, DM_IO_WRITE, DM_IO_FUA, data, 1, &where);
        assert_true(is_durable(disk));
        disk_expect(kit, disk, 8, data, PAGE);
        disk_forget(disk);
        flags_ok(kit, DM_IO_WRITE, DM_IO_FUA, data, 1, &large);
        assert_true(is_durable(disk));
        disk_expect(kit, disk, 8, data, 512 * PAGE);
        disk_forget(disk);
        flags_ok(kit, DM_IO_WRITE, 0, data, 1, &where);
        assert_false(is_durable(disk));
}

static void case_092_durability_fails(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *good = kit_disk(kit, DISK_FAULTY), *bad = kit_disk(kit, DISK_FAULTY);
        struct io_region where[] = { on_disk(good, 8, 8), on_disk(bad, 8, 8) };

        disk_breaks(kit, bad, FAULT_DURABLE | FAULT_FLUSH, EIO);
        flags_fail(kit, DM_IO_WRITE, DM_IO_FUA, data, 2, where, BIT(1));
        flags_ok(kit, DM_IO_WRITE, 0, data, 2, where);
        disk_expect(kit, good, 8, data, PAGE);
}

static void case_093_flush_without_a_cache(struct kit *kit)
{
        DMIO_CLEANUP(close_fdp) int fd = memfd_create("dmio", MFD_CLOEXEC);
        struct page *data = kit_pages(kit, 1, 1);
        struct block_device *bdev;
        struct io_region where = { .count = 8 };

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, 16 * PAGE), 0);
        assert_int_equal(dmio_device_from_fd(fd, 0, &bdev), 0);
        where.bdev = bdev;
        flags_ok(kit, DM_IO_WRITE, DM_IO_PREFLUSH | DM_IO_FUA, data, 1, &where);
        flags_ok(kit, DM_IO_FLUSH, 0, NULL, 1, &where);
        where.count = 0;
        flags_ok(kit, DM_IO_WRITE, DM_IO_PREFLUSH, NULL, 1, &where);
        dmio_device_close(bdev);
}

/* A disk that has data, and does not know some operations. */
static struct disk *disk_without(struct kit *kit, unsigned int ops)
{
        struct disk *disk = kit_disk(kit, DISK_FAULTY);

        disk_fill(kit, disk, 0, 64, 2);
        if (ops)
                disk_breaks(kit, disk, ops, EOPNOTSUPP);
        return disk;
}

static void unsupported_legs(struct kit *kit, enum dm_io_op op, unsigned int n,
                             const struct io_region *where, unsigned long expected)
{
        struct completion completion = COMPLETION_INIT;
        struct dm_io_leg_error errors[4] = {};
        struct dm_io_request request = {
                .op = op,
                .notify = { .fn = completion_notify, .context = &completion },
                .leg_errors = errors,
        };

        assert_int_equal(kit_io(kit, &request, n, where, NULL), 0);
        kit_called(&completion, expected);
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 1);
        for (unsigned int i = 0; i < n; i++)
                assert_int_equal(errors[i].error, expected & BIT(i) ? EOPNOTSUPP : 0);
}

static void case_094_discard_is_unsupported(struct kit *kit)
{
        struct disk *disk = disk_without(kit, FAULT_DISCARD);
        struct io_region where = on_disk(disk, 8, 16);

        flags_fail(kit, DM_IO_DISCARD, 0, NULL, 1, &where, BIT(0));
        unsupported_legs(kit, DM_IO_DISCARD, 1, &where, BIT(0));
        assert_int_equal(disk_count(disk, FAULT_WRITE), 0);
        disk_expect_fill(kit, disk, 0, 64, 2, 0);
}

static void case_095_discard_is_supported_by_one(struct kit *kit)
{
        struct disk *good = disk_without(kit, 0), *bad = disk_without(kit, FAULT_DISCARD);
        struct io_region where[] = { on_disk(good, 8, 16), on_disk(bad, 8, 16) };

        unsupported_legs(kit, DM_IO_DISCARD, 2, where, BIT(1));
        disk_expect_fill(kit, good, 0, 8, 2, 0);
        disk_expect_zeroes(kit, good, 8, 2 * PAGE);
        disk_expect_fill(kit, good, 24, 40, 2, 0);
        disk_expect_fill(kit, bad, 0, 64, 2, 0);
}

static void case_096_discard_of_nothing(struct kit *kit)
{
        struct disk *disk = disk_without(kit, FAULT_DISCARD);
        struct io_region where = on_disk(disk, 8, 0);

        flags_ok(kit, DM_IO_DISCARD, 0, NULL, 1, &where);
        assert_int_equal(disk_count(disk, ~0u), 0);
}

/* The library's own limit for one operation is 1 GiB. */
static void case_097_discard_of_more_than_the_limit(struct kit *kit)
{
        enum { STEPS = 10 };
        const sector_t step = UINT64_C(256) * 2048;
        struct disk *disk = kit_disk_of(kit, DISK_FILE, STEPS * step, 0);
        struct io_region where = on_disk(disk, 8, STEPS * step - 16);
        unsigned long bits = KIT_UNTOUCHED;
        int r;

        for (unsigned int i = 0; i < STEPS; i++)
                disk_fill(kit, disk, i * step, 64, 2);
        disk_fill(kit, disk, STEPS * step - 64, 64, 2);
        r = io_with_flags(kit, DM_IO_DISCARD, 0, NULL, 1, &where, &bits);
        if (r == -EIO)
                kit_skip(kit, "the file system has no holes");
        assert_int_equal(r, 0);
        assert_int_equal(bits, 0);
        disk_expect_fill(kit, disk, 0, 8, 2, 0);
        disk_expect_zeroes(kit, disk, 8, 56 * DMIO_SECTOR_SIZE);
        for (unsigned int i = 1; i < STEPS; i++)
                disk_expect_zeroes(kit, disk, i * step, 64 * DMIO_SECTOR_SIZE);
        disk_expect_zeroes(kit, disk, STEPS * step - 64, 56 * DMIO_SECTOR_SIZE);
        disk_expect_fill(kit, disk, STEPS * step - 8, 8, 2, STEPS * step - 64);
}

static void case_098_flags_that_do_not_fit(struct kit *kit)
{
        static const struct {
                enum dm_io_op op;
                unsigned int flags;
        } bad[] = {
                { DM_IO_DISCARD, DM_IO_PREFLUSH },
                { DM_IO_DISCARD, DM_IO_FUA },
                { DM_IO_WRITE_ZEROES, DM_IO_PREFLUSH },
                { DM_IO_READ, DM_IO_PREFLUSH },
                { DM_IO_READ, DM_IO_FUA },
                { DM_IO_FLUSH, DM_IO_FUA },
                { DM_IO_WRITE, 1u << 31 },
        };
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where = on_disk(disk, 8, 8);

        disk_fill(kit, disk, 0, 64, 2);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct dm_io_request request = {
                        .op = bad[i].op,
                        .flags = bad[i].flags,
                        .mem = in_vm(kit_pages(kit, 1, 1)),
                };

                kit_refused(kit, &request, 1, &where, -EINVAL);
        }
        disk_expect_fill(kit, disk, 0, 64, 2, 0);
}

static void case_099_write_zeroes(struct kit *kit)
{
        struct disk *disks[2];
        struct io_region where[2];

        kit_disks(kit, disks, 2);
        for (unsigned int i = 0; i < 2; i++) {
                disk_fill(kit, disks[i], 0, 8192, 2);
                where[i] = on_disk(disks[i], 3 + i, 4097);
        }
        flags_ok(kit, DM_IO_WRITE_ZEROES, 0, NULL, 2, where);
        for (unsigned int i = 0; i < 2; i++) {
                disk_expect_fill(kit, disks[i], 0, 3 + i, 2, 0);
                disk_expect_zeroes(kit, disks[i], 3 + i, 4097 * DMIO_SECTOR_SIZE);
                disk_expect_fill(kit, disks[i], 4100 + i, 4000, 2, 0);
        }
}

static void case_100_zeroes_are_unsupported_by_one(struct kit *kit)
{
        struct disk *good = disk_without(kit, 0);
        struct disk *bad = disk_without(kit, FAULT_ZEROES | FAULT_DISCARD);
        struct io_region where[] = { on_disk(good, 8, 16), on_disk(bad, 8, 16) };

        unsupported_legs(kit, DM_IO_WRITE_ZEROES, 2, where, BIT(1));
        assert_int_equal(disk_count(bad, FAULT_WRITE), 0);
        disk_expect_zeroes(kit, good, 8, 2 * PAGE);
        disk_expect_fill(kit, good, 24, 40, 2, 0);
        disk_expect_fill(kit, bad, 0, 64, 2, 0);
}

static void case_101_discard_of_two(struct kit *kit)
{
        struct disk *disks[2] = { disk_without(kit, 0), disk_without(kit, 0) };
        struct io_region where[] = { on_disk(disks[0], 8, 8), on_disk(disks[1], 16, 16) };

        flags_ok(kit, DM_IO_DISCARD, 0, NULL, 2, where);
        disk_expect_zeroes(kit, disks[0], 8, PAGE);
        disk_expect_fill(kit, disks[0], 16, 48, 2, 0);
        disk_expect_zeroes(kit, disks[1], 16, 2 * PAGE);
        disk_expect_fill(kit, disks[1], 0, 16, 2, 0);
}

static void case_102_flush_of_two(struct kit *kit)
{
        struct disk *disks[2] = { kit_disk(kit, DISK_FAULTY), kit_disk(kit, DISK_FAULTY) };
        struct io_region where[] = { on_disk(disks[0], 0, 0), on_disk(disks[1], 0, 0) };
        struct dm_io_request request = { .op = DM_IO_FLUSH };

        kit_refused(kit, &request, 2, where, -EINVAL);
        for (unsigned int i = 0; i < 2; i++)
                assert_int_equal(disk_count(disks[i], ~0u), 0);
}

static const struct conformance_case cases[] = {
        CASE(85, 085_flush_alone, ON_MODERN,
             "PREFLUSH to 3 legs of count 0, no memory: one flush each, nothing else", NULL),
        CASE(86, 086_flush_fails_on_a_leg, ON_MODERN,
             "the same, the flush of leg 1 fails: bits 0b010", NULL),
        CASE(87, 087_flush_with_and_without_data, ON_MODERN,
             "PREFLUSH to counts 0 and 8: a flush; a flush, then the data", NULL),
        CASE(88, 088_no_flush_unasked, ON_MODERN, "write of counts 0, 0 without PREFLUSH: no flush",
             NULL),
        CASE(89, 089_data_after_the_flush, ON_MODERN,
             "PREFLUSH with data: no piece begins before the flush has ended", NULL),
        CASE(90, 090_no_data_after_a_failed_flush, ON_MODERN,
             "PREFLUSH fails on a leg with data: its bit, its data is not written, the other's is",
             NULL),
        CASE(91, 091_fua_is_durable, ON_MODERN,
             "FUA: the device is told to make each piece durable before the end", NULL),
        CASE(92, 092_durability_fails, ON_MODERN, "FUA, the durable step fails: the bit", NULL),
        CASE(93, 093_flush_without_a_cache, ON_MODERN, "flush of something that has no cache: 0",
             "memory as a file"),
        CASE(94, 094_discard_is_unsupported, ON_MODERN,
             "discard where there is none: the bit with EOPNOTSUPP, no data changes", "D2"),
        CASE(95, 095_discard_is_supported_by_one, ON_MODERN,
             "discard, leg 0 can and leg 1 cannot: bits 0b10, leg 0 is discarded, one callback",
             "D2"),
        CASE(96, 096_discard_of_nothing, ON_MODERN, "discard of count 0 where there is none: 0",
             NULL),
        CASE(97, 097_discard_of_more_than_the_limit, ON_MODERN,
             "discard of 2.5 GiB, more than one operation may: all of it, one result", NULL),
        CASE(98, 098_flags_that_do_not_fit, ON_MODERN,
             "discard with PREFLUSH, read with FUA and the like: -EINVAL",
             "the kernel sets the bit"),
        CASE(99, 099_write_zeroes, ON_MODERN,
             "write zeroes to 2 legs without memory: zeroes, nothing around them changes", NULL),
        CASE(100, 100_zeroes_are_unsupported_by_one, ON_MODERN,
             "write zeroes, leg 1 cannot: its bit only, no plain writes instead", "D2"),
        CASE(101, 101_discard_of_two, ON_MODERN, "discard of 2 regions: accepted", NULL),
        CASE(102, 102_flush_of_two, ON_MODERN, "bare flush of 2 regions: -EINVAL, no callback",
             "the kernel says -EIO"),
};

const struct conformance_section flush_section = { "Flush, FUA, discard, zeroes", cases,
                                                   ARRAY_SIZE(cases) };
