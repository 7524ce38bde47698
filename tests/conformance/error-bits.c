/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 51 to 69: which leg failed. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "kit.h"
#include "util/macros.h"

#define PAGE DMIO_PAGE_SIZE
#define MIB (UINT64_C(1) << 20)

/* @bad: the legs that fail. All others must have the data. */
static void write_with_bad_legs(struct kit *kit, unsigned int n, unsigned long bad, bool async)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where[64];
        struct disk *disks[64];

        for (unsigned int i = 0; i < n; i++) {
                disks[i] = kit_disk(kit, bad & BIT(i) ? DISK_FAULTY : DISK_FILE);
                disk_fill(kit, disks[i], 0, 24, 2);
                if (bad & BIT(i))
                        disk_breaks(kit, disks[i], FAULT_WRITE, EIO);
                where[i] = on_disk(disks[i], 8, 8);
        }
        if (async) {
                assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), n, where, &completion),
                                 0);
                kit_called(&completion, bad);
                kit_settle(kit);
                assert_int_equal(kit_calls(&completion), 1);
        } else {
                kit_fails(kit, DM_IO_WRITE, in_vm(data), n, where, bad);
        }
        for (unsigned int i = 0; i < n; i++) {
                if (!(bad & BIT(i)))
                        disk_expect(kit, disks[i], 8, data, PAGE);
                disk_expect_fill(kit, disks[i], 0, 8, 2, 0);
                disk_expect_fill(kit, disks[i], 16, 8, 2, 0);
        }
}

static void case_051_the_first_of_three(struct kit *kit)
{
        write_with_bad_legs(kit, 3, BIT(0), false);
}

static void case_052_the_last_of_three(struct kit *kit)
{
        write_with_bad_legs(kit, 3, BIT(2), false);
}

static void case_053_all_of_three(struct kit *kit)
{
        write_with_bad_legs(kit, 3, BIT(0) | BIT(1) | BIT(2), false);
}

static void case_054_two_of_three(struct kit *kit)
{
        write_with_bad_legs(kit, 3, BIT(0) | BIT(2), true);
}

static void case_055_leg_31(struct kit *kit)
{
        write_with_bad_legs(kit, 64, BIT(31), true);
}

static void case_056_legs_32_and_63(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where[64];
        struct disk *good = kit_disk(kit, DISK_FILE), *bad = kit_disk(kit, DISK_FAULTY);

        write_with_bad_legs(kit, 4, BIT(1), true);
        disk_breaks(kit, bad, FAULT_WRITE, EIO);
        for (unsigned int leg = 32; leg <= 63; leg += 31) {
                completion.calls = 0;
                for (unsigned int i = 0; i < 64; i++)
                        where[i] = on_disk(i == leg ? bad : good, 8 * i, 8);
                assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 64, where, &completion),
                                 0);
                kit_called(&completion, BIT(leg));
        }
        for (unsigned int i = 0; i < 64; i++)
                disk_expect(kit, good, 8 * i, data, PAGE);
}

static void case_057_some_pieces_of_a_leg(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1280, 1);
        struct disk *good = kit_disk(kit, DISK_FILE), *bad = kit_disk(kit, DISK_FAULTY);
        struct io_region where[] = { on_disk(good, 0, 10240), on_disk(bad, 0, 10240) };
        static const unsigned int bad_pieces[] = { 0, 2, 3 };

        for (size_t i = 0; i < ARRAY_SIZE(bad_pieces); i++) {
                struct fault_rule rule = {
                        .action = FAULT_ERROR,
                        .ops = FAULT_WRITE,
                        .offset = bad_pieces[i] * MIB + 512,
                        .length = 512,
                        .error = EIO,
                };

                disk_fault(kit, bad, &rule);
        }
        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 2, where, &completion), 0);
        kit_called(&completion, BIT(1));
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 1);
        disk_expect(kit, good, 0, data, 5 * MIB);
        disk_expect(kit, bad, 2048, &data[256], MIB);
        disk_expect(kit, bad, 8192, &data[1024], MIB);
}

/* No clock: the second leg ends when it is let go. */
static void case_058_the_slow_leg_is_waited_for(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *small = kit_disk(kit, DISK_FILE), *slow = kit_disk(kit, DISK_FAULTY);
        struct io_region where[] = { on_disk(small, KIT_SECTORS, 8), on_disk(slow, 8, 8) };

        disk_holds(kit, slow, FAULT_WRITE);
        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 2, where, &completion), 0);
        disk_wait_held(slow);
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 0);
        disk_release(slow);
        kit_called(&completion, BIT(0));
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 1);
        disk_expect(kit, slow, 8, data, PAGE);
}

static void file_has_not_grown(const struct disk *disk)
{
        struct stat st;

        assert_int_equal(fstat(disk->image_fd, &st), 0);
        assert_int_equal(st.st_size, disk->sectors * DMIO_SECTOR_SIZE);
}

static void case_059_beyond_the_end(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where[] = { on_disk(disk, KIT_SECTORS, 8),
                                     on_disk(disk, KIT_SECTORS + 1000, 1) };

        disk_fill(kit, disk, KIT_SECTORS - 64, 64, 2);
        for (size_t i = 0; i < ARRAY_SIZE(where); i++)
                kit_fails(kit, DM_IO_WRITE, in_vm(data), 1, &where[i], BIT(0));
        disk_expect_fill(kit, disk, KIT_SECTORS - 64, 64, 2, KIT_SECTORS - 64);
        file_has_not_grown(disk);
}

static void case_060_across_the_end(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1024, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where = on_disk(disk, KIT_SECTORS - 8, 16);

        disk_fill(kit, disk, KIT_SECTORS - 8192, 8192, 2);
        kit_fails(kit, DM_IO_WRITE, in_vm(data), 1, &where, BIT(0));
        /* Several pieces would fit. */
        where = on_disk(disk, KIT_SECTORS - 8191, 8192);
        kit_fails(kit, DM_IO_WRITE, in_vm(data), 1, &where, BIT(0));
        disk_expect_fill(kit, disk, KIT_SECTORS - 8192, 8192, 2, KIT_SECTORS - 8192);
        file_has_not_grown(disk);
}

static void case_061_a_smaller_leg(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *large = kit_disk(kit, DISK_FILE);
        struct disk *small = kit_disk_of(kit, DISK_FILE, 1000, 0);
        struct io_region where[] = { on_disk(large, 996, 8), on_disk(small, 996, 8) };

        kit_fails(kit, DM_IO_WRITE, in_vm(data), 2, where, BIT(1));
        disk_expect(kit, large, 996, data, PAGE);
        disk_expect_zeroes(kit, small, 0, 1000 * DMIO_SECTOR_SIZE);
        file_has_not_grown(small);
}

static void case_062_read_beyond_the_end(struct kit *kit)
{
        struct page *data = kit_pages(kit, 3, 1), *guard = kit_pages(kit, 3, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where[] = { on_disk(disk, KIT_SECTORS, 8),
                                     on_disk(disk, KIT_SECTORS - 4, 8) };

        disk_fill(kit, disk, KIT_SECTORS - 64, 64, 2);
        memset(guard->bytes + 512, 0, PAGE);
        for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
                pattern_fill(data, 3 * PAGE, 1);
                kit_fails(kit, DM_IO_READ, in_vm(data->bytes + 512), 1, &where[i], BIT(0));
                assert_memory_equal(data, guard, 3 * PAGE);
        }
}

static void case_063_the_same_start_twice(struct kit *kit)
{
        struct page *data = kit_pages(kit, 2, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where[] = { on_disk(disk, 8, 8), on_disk(disk, 8, 16) };

        kit_ok(kit, DM_IO_WRITE, in_vm(data), 2, where);
        disk_expect(kit, disk, 8, data, 2 * PAGE);
        disk_expect_zeroes(kit, disk, 24, PAGE);
}

static void case_064_overlapping_legs(struct kit *kit)
{
        struct page *data = kit_pages(kit, 2, 1), *found = kit_pages(kit, 4, 9);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where[] = { on_disk(disk, 8, 16), on_disk(disk, 13, 16) };
        struct io_region all = on_disk(disk, 8, 21);

        kit_ok(kit, DM_IO_WRITE, in_vm(data), 2, where);
        kit_ok(kit, DM_IO_READ, in_vm(found), 1, &all);
        for (unsigned int i = 0; i < 21; i++) {
                const unsigned char *at = found->bytes + i * 512;
                bool first = i < 16 && memcmp(at, data->bytes + i * 512, 512) == 0;
                bool second = i >= 5 && memcmp(at, data->bytes + (i - 5) * 512, 512) == 0;

                assert_true(first || second);
        }
        disk_expect_zeroes(kit, disk, 29, PAGE);
}

static void case_065_the_same_region_twice(struct kit *kit)
{
        struct page *data = kit_pages(kit, 2, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where[] = { on_disk(disk, 8, 16), on_disk(disk, 8, 16) };

        kit_ok(kit, DM_IO_WRITE, in_vm(data), 2, where);
        disk_expect(kit, disk, 8, data, 2 * PAGE);
        disk_expect_zeroes(kit, disk, 24, PAGE);
}

static void case_066_a_read_only_leg(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *good = kit_disk(kit, DISK_FILE);
        struct disk *fixed = kit_disk_of(kit, DISK_FILE, KIT_SECTORS, DMIO_DEVICE_READ_ONLY);
        struct io_region where[] = { on_disk(good, 8, 8), on_disk(fixed, 8, 8) };

        kit_fails(kit, DM_IO_WRITE, in_vm(data), 2, where, BIT(1));
        disk_expect(kit, good, 8, data, PAGE);
        disk_expect_zeroes(kit, fixed, 0, 64 * DMIO_SECTOR_SIZE);
}

static void case_067_bits_are_written_not_added(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region bad = on_disk(disk, KIT_SECTORS, 8), good = on_disk(disk, 8, 8);
        unsigned long bits = ~0UL;

        assert_int_equal(kit_sync(kit, DM_IO_WRITE, in_vm(data), 1, &bad, &bits), -EIO);
        assert_int_equal(bits, BIT(0));
        assert_int_equal(kit_sync(kit, DM_IO_WRITE, in_vm(data), 1, &good, &bits), 0);
        assert_int_equal(bits, 0);
}

static void case_068_the_errno_of_each_leg(struct kit *kit)
{
        struct page *data = kit_pages(kit, 512, 1);
        struct dm_io_leg_error errors[4];
        struct dm_io_request request = { .op = DM_IO_WRITE,
                                         .mem = in_vm(data),
                                         .leg_errors = errors };
        struct fault_rule rule = { .action = FAULT_ERROR, .ops = FAULT_WRITE, .length = 512 };
        struct disk *good = kit_disk(kit, DISK_FILE), *bad = kit_disk(kit, DISK_FAULTY);
        struct disk *fixed = kit_disk_of(kit, DISK_FILE, KIT_SECTORS, DMIO_DEVICE_READ_ONLY);
        struct io_region where[] = { on_disk(good, 8, 8), on_disk(bad, 0, 4096),
                                     on_disk(good, KIT_SECTORS, 8), on_disk(fixed, 8, 8) };
        unsigned long bits = KIT_UNTOUCHED;

        memset(errors, 0xff, sizeof(errors));
        rule.offset = 4096;
        rule.error = EIO;
        disk_fault(kit, bad, &rule);
        assert_int_equal(kit_io(kit, &request, 4, where, &bits), -EIO);
        assert_int_equal(bits, BIT(1) | BIT(2) | BIT(3));
        assert_int_equal(errors[0].error, 0);
        assert_int_equal(errors[1].error, EIO);
        assert_true(errors[1].sector <= 8);
        assert_int_equal(errors[2].error, ENOSPC);
        assert_int_equal(errors[2].sector, KIT_SECTORS);
        assert_int_equal(errors[3].error, EROFS);

        /* Of two errors one after the other the first one stays. */
        rule.offset = 0;
        rule.error = ENODATA;
        disk_fault(kit, bad, &rule);
        where[1] = on_disk(bad, 0, 1);
        assert_int_equal(kit_io(kit, &request, 2, where, &bits), -EIO);
        assert_int_equal(bits, BIT(1));
        assert_int_equal(errors[1].error, ENODATA);
        assert_int_equal(errors[1].sector, 0);
}

static void case_069_the_device_goes(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *good = kit_disk(kit, DISK_FILE), *mortal = kit_disk(kit, DISK_MORTAL);
        struct io_region where[] = { on_disk(good, 8, 8), on_disk(mortal, 8, 8) };

        disk_holds(kit, mortal, FAULT_WRITE);
        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 2, where, &completion), 0);
        disk_wait_held(mortal);
        faulty_kill(mortal->faulty);
        kit_called(&completion, BIT(1));
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 1);
        disk_expect(kit, good, 8, data, PAGE);
        kit_fails(kit, DM_IO_WRITE, in_vm(data), 2, where, BIT(1));
}

static const struct conformance_case cases[] = {
        CASE(51, 051_the_first_of_three, ON_BOTH,
             "write to 3 legs, the first is bad: bits 0b001, the others have it all", NULL),
        CASE(52, 052_the_last_of_three, ON_BOTH, "write to 3 legs, the last is bad: bits 0b100",
             NULL),
        CASE(53, 053_all_of_three, ON_BOTH, "write to 3 legs, all bad: bits 0b111", NULL),
        CASE(54, 054_two_of_three, ON_BOTH,
             "async write to 3 legs, 0 and 2 are bad: called back once with 0b101", NULL),
        CASE(55, 055_leg_31, ON_BOTH, "async write to 64 legs, leg 31 is bad: bit 31 and no other",
             NULL),
        CASE(56, 056_legs_32_and_63, ON_BOTH,
             "async write to 64 legs, leg 32 is bad, then 63: that bit and no other", NULL),
        CASE(57, 057_some_pieces_of_a_leg, ON_BOTH,
             "leg 1 fails in 3 of its 5 pieces: its bit once, the other pieces are written", NULL),
        CASE(58, 058_the_slow_leg_is_waited_for, ON_BOTH,
             "leg 0 fails at once, leg 1 ends later: one callback, then",
             "the slow leg is held until the test lets it go, not for a second"),
        CASE(59, 059_beyond_the_end, ON_BOTH,
             "write beyond the end: the bit, nothing changes, the file does not grow", NULL),
        CASE(60, 060_across_the_end, ON_BOTH,
             "write across the end: the bit, nothing of it is written",
             "D6; the kernel may write what fits"),
        CASE(61, 061_a_smaller_leg, ON_BOTH, "leg 1 is too small: its bit, leg 0 is written", NULL),
        CASE(62, 062_read_beyond_the_end, ON_BOTH,
             "read beyond or across the end: the bit, the memory is zeroes", NULL),
        CASE(63, 063_the_same_start_twice, ON_BOTH, "two regions of one device with the same start",
             NULL),
        CASE(64, 064_overlapping_legs, ON_BOTH,
             "two regions that overlap: each sector is that of one of them", NULL),
        CASE(65, 065_the_same_region_twice, ON_BOTH, "the same region twice", NULL),
        CASE(66, 066_a_read_only_leg, ON_BOTH, "a leg opened for reading only: its bit only", NULL),
        CASE(67, 067_bits_are_written_not_added, ON_BOTH,
             "a failure, then a success: the bits are 0", NULL),
        CASE(68, 068_the_errno_of_each_leg, ON_MODERN,
             "the errno of each leg: what the device said, ENOSPC, EROFS", NULL),
        CASE(69, 069_the_device_goes, ON_BOTH,
             "the device goes during a request: its bit, one callback", NULL),
};

const struct conformance_section error_bits_section = { "Error bits", cases, ARRAY_SIZE(cases) };
