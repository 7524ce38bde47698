/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 1 to 22: arguments and numbers of regions. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "kit.h"
#include "util/macros.h"

#define PAGE DMIO_PAGE_SIZE

static void case_001_sync_write(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where = on_disk(disk, 0, 8);

        disk_fill(kit, disk, 0, KIT_SECTORS, 2);
        kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
        disk_expect(kit, disk, 0, data, PAGE);
        disk_expect_fill(kit, disk, 8, KIT_SECTORS - 8, 2, 0);
}

static void case_002_sync_read(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *data = kit_pages(kit, 1, 1), *found = kit_pages(kit, 1, 9);
        struct io_region where = on_disk(disk, 0, 8);

        kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
        kit_ok(kit, DM_IO_READ, in_vm(found), 1, &where);
        assert_memory_equal(found, data, PAGE);
}

static void case_003_async_round_trip(struct kit *kit)
{
        struct completion written = COMPLETION_INIT, read = COMPLETION_INIT;
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *data = kit_pages(kit, 1, 1), *found = kit_pages(kit, 1, 9);
        struct io_region where = on_disk(disk, 40, 8);

        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 1, &where, &written), 0);
        kit_called(&written, 0);
        assert_int_equal(kit_async(kit, DM_IO_READ, in_vm(found), 1, &where, &read), 0);
        kit_called(&read, 0);
        assert_memory_equal(found, data, PAGE);
        kit_settle(kit);
        assert_int_equal(kit_calls(&written), 1);
        assert_int_equal(kit_calls(&read), 1);
}

/* No operation at all reaches the disk. */
static void nothing_is_done(struct kit *kit, enum dm_io_op op, unsigned int n, bool async)
{
        struct completion completion = COMPLETION_INIT;
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct page *data = kit_pages(kit, 1, 1), *before = kit_pages(kit, 1, 1);
        struct io_region where = on_disk(disk, 8, 0);

        disk_fill(kit, disk, 0, 64, 2);
        if (async) {
                assert_int_equal(
                        kit_async(kit, op, in_vm(data), n, n > 0 ? &where : NULL, &completion), 0);
                kit_called(&completion, 0);
                kit_settle(kit);
                assert_int_equal(kit_calls(&completion), 1);
        } else {
                kit_ok(kit, op, in_vm(data), n, n > 0 ? &where : NULL);
        }
        assert_int_equal(disk_count(disk, ~0u), 0);
        assert_memory_equal(data, before, PAGE);
        disk_expect_fill(kit, disk, 0, 64, 2, 0);
}

static void case_004_sync_write_of_nothing(struct kit *kit)
{
        nothing_is_done(kit, DM_IO_WRITE, 1, false);
}

struct where_called {
        struct completion completion;
        pthread_t thread;
};

static void note_thread(unsigned long error, void *context)
{
        struct where_called *called = context;

        called->thread = pthread_self();
        completion_notify(error, &called->completion);
}

static void case_005_async_write_of_nothing(struct kit *kit)
{
        struct where_called called = { .completion = COMPLETION_INIT };
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where = on_disk(disk, 8, 0);
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = in_vm(kit_pages(kit, 1, 1)),
                .notify = { .fn = note_thread, .context = &called },
        };

        assert_int_equal(kit_io(kit, &request, 1, &where, NULL), 0);
        kit_called(&called.completion, 0);
        kit_settle(kit);
        assert_int_equal(kit_calls(&called.completion), 1);
        /* D5: never inside of the call that submits. */
        assert_false(pthread_equal(called.thread, pthread_self()));
        disk_expect_zeroes(kit, disk, 0, 16 * DMIO_SECTOR_SIZE);
}

static void case_006_sync_read_of_nothing(struct kit *kit)
{
        nothing_is_done(kit, DM_IO_READ, 1, false);
}

static void case_007_sync_write_to_nowhere(struct kit *kit)
{
        nothing_is_done(kit, DM_IO_WRITE, 0, false);
}

static void case_008_async_write_to_nowhere(struct kit *kit)
{
        nothing_is_done(kit, DM_IO_WRITE, 0, true);
}

static void case_009_an_empty_leg_is_skipped(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where[3];
        struct disk *disks[3];

        kit_disks(kit, disks, 3);
        for (unsigned int i = 0; i < 3; i++) {
                disk_fill(kit, disks[i], 0, 64, 10 + i);
                where[i] = on_disk(disks[i], 16, i == 1 ? 0 : 8);
        }
        kit_ok(kit, DM_IO_WRITE, in_vm(data), 3, where);
        disk_expect(kit, disks[0], 16, data, PAGE);
        disk_expect_fill(kit, disks[0], 0, 16, 10, 0);
        disk_expect_fill(kit, disks[0], 24, 40, 10, 0);
        disk_expect_fill(kit, disks[1], 0, 64, 11, 0);
        disk_expect(kit, disks[2], 16, data, PAGE);
}

static void case_010_legs_of_different_lengths(struct kit *kit)
{
        struct page *data = kit_pages(kit, 2, 1);
        struct io_region where[2];
        struct disk *disks[2];

        kit_disks(kit, disks, 2);
        for (unsigned int i = 0; i < 2; i++)
                disk_fill(kit, disks[i], 0, 64, 10 + i);
        where[0] = on_disk(disks[0], 0, 16);
        where[1] = on_disk(disks[1], 0, 8);
        kit_ok(kit, DM_IO_WRITE, in_vm(data), 2, where);
        disk_expect(kit, disks[0], 0, data, 2 * PAGE);
        disk_expect_fill(kit, disks[0], 16, 48, 10, 0);
        disk_expect(kit, disks[1], 0, data, PAGE);
        disk_expect_fill(kit, disks[1], 8, 56, 11, 0);
}

/* Both forms are refused in one go; the two numbers of the table differ in the form only. */
static void read_of_two(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1), *before = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where[] = { on_disk(disk, 0, 8), on_disk(disk, 8, 8) };
        struct dm_io_request request = { .op = DM_IO_READ, .mem = in_vm(data) };

        kit_refused(kit, &request, 2, where, -EINVAL);
        assert_memory_equal(data, before, PAGE);
}

static void case_011_sync_read_of_two_regions(struct kit *kit)
{
        read_of_two(kit);
}

static void case_012_async_read_of_two_regions(struct kit *kit)
{
        read_of_two(kit);
}

static void case_013_sixty_four_legs(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where[64];
        struct disk *disks[64];

        kit_disks(kit, disks, 64);
        for (unsigned int i = 0; i < 64; i++)
                where[i] = on_disk(disks[i], i, 8);
        kit_ok(kit, DM_IO_WRITE, in_vm(data), 64, where);
        for (unsigned int i = 0; i < 64; i++)
                disk_expect(kit, disks[i], i, data, PAGE);
}

static void sixty_five(struct kit *kit)
{
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_vm(kit_pages(kit, 1, 1)) };
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where[65];

        for (unsigned int i = 0; i < 65; i++)
                where[i] = on_disk(disk, i * 8, 8);
        kit_refused(kit, &request, 65, where, -EINVAL);
        kit_refused(kit, &request, UINT32_MAX, where, -EINVAL);
        disk_expect_zeroes(kit, disk, 0, 65 * PAGE);
}

static void case_014_sync_sixty_five_legs(struct kit *kit)
{
        sixty_five(kit);
}

static void case_015_async_sixty_five_legs(struct kit *kit)
{
        sixty_five(kit);
}

static void case_016_unknown_kind_of_memory(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where = on_disk(disk, 0, 8);
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_vm(kit_pages(kit, 1, 1)) };

        request.mem.type = (enum dm_io_mem_type)(DM_IO_KMEM + 1);
        kit_refused(kit, &request, 1, &where, -EINVAL);
        request.mem.type = (enum dm_io_mem_type)0x7fffffff;
        kit_refused(kit, &request, 1, &where, -EINVAL);
        disk_expect_zeroes(kit, disk, 0, PAGE);
}

static void case_017_unknown_memory_and_two_regions(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where[] = { on_disk(disk, 0, 8), on_disk(disk, 8, 8) };
        struct dm_io_request request = { .op = DM_IO_READ, .mem = in_vm(kit_pages(kit, 1, 1)) };

        request.mem.type = (enum dm_io_mem_type)(DM_IO_KMEM + 1);
        kit_refused(kit, &request, 2, where, -EINVAL);
}

static void case_018_missing_pointers(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where = on_disk(disk, 0, 8), nowhere = { .count = 8 };
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_vm(data) };
        unsigned long bits = KIT_UNTOUCHED;

        kit_refused(kit, &request, 1, NULL, -EINVAL);
        kit_refused(kit, &request, 1, &nowhere, -EINVAL);
        for (int type = DM_IO_PAGE_LIST; type <= DM_IO_KMEM; type++) {
                if (kit->classic && type == DM_IO_KMEM)
                        continue;
                request.mem = (struct dm_io_memory){ .type = (enum dm_io_mem_type)type };
                kit_refused(kit, &request, 1, &where, -EINVAL);
        }
        if (!kit->classic) {
                assert_int_equal(dm_io(NULL, 1, &where, &bits), -EINVAL);
                request.mem = in_vm(data);
                request.client = NULL;
                assert_int_equal(dm_io(&request, 1, &where, &bits), -EINVAL);
                assert_int_equal(bits, KIT_UNTOUCHED);
        } else {
                assert_int_equal(dm_io_async_vm(1, &where, DM_IO_WRITE, data, NULL, NULL), -EINVAL);
        }
        disk_expect_zeroes(kit, disk, 0, PAGE);
}

static void case_019_nobody_asks_for_the_bits(struct kit *kit)
{
        struct disk *bad = kit_disk(kit, DISK_FAULTY);
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where = on_disk(bad, 0, 8);

        disk_breaks(kit, bad, FAULT_WRITE, EIO);
        assert_int_equal(kit_sync(kit, DM_IO_WRITE, in_vm(data), 1, &where, NULL), -EIO);
}

/* Everything of the call but the bytes is gone when it has returned. */
static void case_020_arguments_may_go_at_once(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct page *data = kit_pages(kit, 3, 1);
        struct page_list list[3];
        struct io_region where = on_disk(disk, 8, 24);
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = in_list(list, 0),
                .notify = { .fn = completion_notify, .context = &completion },
        };

        disk_holds(kit, disk, FAULT_WRITE);
        for (unsigned int i = 0; i < 3; i++)
                list[i] = (struct page_list){ i < 2 ? &list[i + 1] : NULL, &data[2 - i] };
        assert_int_equal(kit_io(kit, &request, 1, &where, NULL), 0);
        memset(&where, 0xff, sizeof(where));
        memset(&request, 0xff, sizeof(request));
        memset(list, 0xff, sizeof(list));
        disk_wait_held(disk);
        disk_release(disk);
        kit_called(&completion, 0);
        for (unsigned int i = 0; i < 3; i++)
                disk_expect(kit, disk, 8 + 8 * i, &data[2 - i], PAGE);
}

static void case_021_sector_and_count_overflow(struct kit *kit)
{
        static const struct {
                sector_t sector, count;
        } bad[] = {
                { UINT64_MAX - 3, 8 }, { UINT64_MAX, 1 },        { 8, UINT64_MAX },
                { 0, UINT64_MAX },     { UINT64_C(1) << 55, 8 }, { 0, UINT64_C(1) << 55 },
        };
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where[3];
        struct disk *disks[3];

        kit_disks(kit, disks, 3);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                sector_t sector = 8 * i;

                where[0] = on_disk(disks[0], sector, 8);
                where[1] = on_disk(disks[1], bad[i].sector, bad[i].count);
                where[2] = on_disk(disks[2], sector, 8);
                kit_fails(kit, DM_IO_WRITE, in_vm(data), 3, where, BIT(1));
                disk_expect(kit, disks[0], sector, data, PAGE);
                disk_expect(kit, disks[2], sector, data, PAGE);
        }
        disk_expect_zeroes(kit, disks[1], 0, KIT_SECTORS * DMIO_SECTOR_SIZE);
}

static void case_022_less_than_a_block(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_LOOP_4096);
        struct page *data = kit_pages(kit, 2, 1);
        struct io_region bad[] = { on_disk(disk, 0, 1), on_disk(disk, 1, 8), on_disk(disk, 8, 9) };
        struct io_region good = on_disk(disk, 8, 8);

        disk_fill(kit, disk, 0, 64, 2);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                kit_fails(kit, DM_IO_WRITE, in_vm(data), 1, &bad[i], BIT(0));
                disk_expect_fill(kit, disk, 0, 64, 2, 0);
        }
        kit_ok(kit, DM_IO_WRITE, in_vm((char *)data + 1), 1, &good);
        disk_expect(kit, disk, 8, (char *)data + 1, PAGE);
}

static const struct conformance_case cases[] = {
        CASE(1, 001_sync_write, ON_BOTH,
             "sync write of 8 sectors: they are there, the rest is as it was", NULL),
        CASE(2, 002_sync_read, ON_BOTH, "sync read of what was written", NULL),
        CASE(3, 003_async_round_trip, ON_BOTH,
             "async write, then async read: each called back once with 0", NULL),
        CASE(4, 004_sync_write_of_nothing, ON_BOTH, "sync write of 0 sectors: 0, no I/O", NULL),
        CASE(5, 005_async_write_of_nothing, ON_BOTH,
             "async write of 0 sectors: called back once with 0", "never inside of the call (D5)"),
        CASE(6, 006_sync_read_of_nothing, ON_BOTH,
             "sync read of 0 sectors: 0, the memory is as it was, no I/O", NULL),
        CASE(7, 007_sync_write_to_nowhere, ON_BOTH, "sync write of no region: 0, no I/O", NULL),
        CASE(8, 008_async_write_to_nowhere, ON_BOTH,
             "async write of no region: called back once with 0", NULL),
        CASE(9, 009_an_empty_leg_is_skipped, ON_BOTH,
             "write to counts 8, 0, 8: legs 0 and 2 are written, leg 1 is as it was", NULL),
        CASE(10, 010_legs_of_different_lengths, ON_BOTH,
             "write to counts 16 and 8: leg 1 has the first half", NULL),
        CASE(11, 011_sync_read_of_two_regions, ON_BOTH,
             "sync read of 2 regions: -EINVAL, bits and memory untouched", "the kernel says -EIO"),
        CASE(12, 012_async_read_of_two_regions, ON_BOTH,
             "async read of 2 regions: -EINVAL, no callback",
             "the kernel says -EIO, older ones call back as well (D1)"),
        CASE(13, 013_sixty_four_legs, ON_BOTH, "write to 64 legs: 64 equal copies", NULL),
        CASE(14, 014_sync_sixty_five_legs, ON_BOTH,
             "sync write to 65 legs: -EINVAL, nothing written", NULL),
        CASE(15, 015_async_sixty_five_legs, ON_BOTH,
             "async write to 65 legs: -EINVAL, no callback, nothing written", NULL),
        CASE(16, 016_unknown_kind_of_memory, ON_MODERN,
             "unknown kind of memory: -EINVAL, bits untouched, no callback", NULL),
        CASE(17, 017_unknown_memory_and_two_regions, ON_MODERN,
             "unknown kind of memory and read of 2 regions: -EINVAL", "the kernel says -EIO"),
        CASE(18, 018_missing_pointers, ON_BOTH,
             "no regions, no device, no client, no memory: -EINVAL each",
             "a context of NULL is the caller's business"),
        CASE(19, 019_nobody_asks_for_the_bits, ON_BOTH,
             "sync write to a bad leg without asking for the bits: -EIO", NULL),
        CASE(20, 020_arguments_may_go_at_once, ON_BOTH,
             "request, regions and page list overwritten after the call: the I/O is the old one's",
             NULL),
        CASE(21, 021_sector_and_count_overflow, ON_BOTH,
             "sector + count overflows: that leg's bit, the others are written", NULL),
        CASE(22, 022_less_than_a_block, ON_BOTH,
             "1 sector on a device of 4096-byte blocks: the bit, nothing written", NULL),
};

const struct conformance_section arguments_section = { "Arguments and numbers of regions", cases,
                                                       ARRAY_SIZE(cases) };
