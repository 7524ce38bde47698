/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 43 to 50: large requests, and transfers that come in pieces. */
#include <errno.h>
#include <string.h>

#include "kit.h"
#include "util/macros.h"

#define PAGE DMIO_PAGE_SIZE
#define MIB (UINT64_C(1) << 20)
#define MIB_SECTORS (MIB / DMIO_SECTOR_SIZE)

static void case_043_around_a_mebibyte(struct kit *kit)
{
        static const sector_t counts[] = { 2039, 2040, 2048 };
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *pages = kit_pages(kit, 257, 1);
        struct page_list *list = kit_list(kit, pages, 257);

        for (unsigned int i = 0; i < ARRAY_SIZE(counts); i++) {
                struct io_region where = on_disk(disk, 3000 * i, counts[i]);

                kit_ok(kit, DM_IO_WRITE, in_list(list, 512 * i), 1, &where);
                disk_expect(kit, disk, where.sector, pages->bytes + 512 * i,
                            counts[i] * DMIO_SECTOR_SIZE);
                disk_expect_zeroes(kit, disk, where.sector + counts[i], PAGE);
        }
}

/* How many pieces there are can be seen only by fault rules. */
static void case_044_more_than_a_piece(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 512, 1);
        struct io_region where[2];
        struct disk *disks[2];

        for (unsigned int i = 0; i < 2; i++) {
                disks[i] = kit_disk(kit, kit->classic ? DISK_FILE : DISK_RULED);
                where[i] = on_disk(disks[i], 100 * i, 4096);
        }
        kit_ok(kit, DM_IO_WRITE, in_vm(data), 2, where);
        for (unsigned int i = 0; i < 2 && !kit->classic; i++)
                assert_true(disk_count(disks[i], FAULT_WRITE) >= 2);
        for (unsigned int i = 0; i < 2; i++)
                where[i].sector += 8192;
        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 2, where, &completion), 0);
        kit_called(&completion, 0);
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 1);
        for (unsigned int i = 0; i < 2; i++) {
                disk_expect(kit, disks[i], 100 * i, data, 2 * MIB);
                disk_expect(kit, disks[i], 8192 + 100 * i, data, 2 * MIB);
        }
}

/* The memory is a ring of 251 pages, so that a page in a wrong place is seen. */
static void case_045_small_queue(struct kit *kit)
{
        enum { RING = 251 };
        struct dmio_engine_options options = { .depth = 8 };
        struct dmio_engine *engine = kit_engine_new(kit, &options);
        struct page *pages = kit_pages(kit, RING, 1), *found = kit_pages(kit, 256, 9);
        struct page_list *list = kit_list(kit, pages, RING);
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_list(list, 0) };
        unsigned long bits = KIT_UNTOUCHED;
        struct io_region where[2];

        list[RING - 1].next = list;
        assert_int_equal(dm_io_client_create(engine, 0, &request.client), 0);
        for (unsigned int i = 0; i < 2; i++)
                where[i] = on_disk(kit_disk_of(kit, DISK_CACHED, 64 * MIB_SECTORS, 0), 0,
                                   64 * MIB_SECTORS);
        assert_int_equal(dm_io(&request, 2, where, &bits), 0);
        assert_int_equal(bits, 0);

        request.op = DM_IO_READ;
        request.mem = in_vm(found);
        for (unsigned int i = 0; i < 128; i++) {
                struct io_region at = where[i % 2];
                unsigned int first = i / 2 * 256;

                at.sector = first * UINT64_C(8);
                at.count = MIB_SECTORS;
                assert_int_equal(dm_io(&request, 1, &at, &bits), 0);
                for (unsigned int k = 0; k < 256; k++)
                        assert_memory_equal(&found[k], &pages[(first + k) % RING], PAGE);
        }
        assert_int_equal(dm_io_client_destroy(request.client), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
}

static void case_046_short_transfers(struct kit *kit)
{
        struct fault_rule rule = { .action = FAULT_SHORT, .ops = FAULT_READ | FAULT_WRITE };
        struct disk *disk = kit_disk(kit, DISK_RULED);
        struct page *data = kit_pages(kit, 4, 1), *found = kit_pages(kit, 4, 9);
        struct bio_vec *bvec =
                kit_bvec(kit, found, (const unsigned int[]){ 512, 3584, 1024, 4096 }, 4);
        struct io_region where = on_disk(disk, 8, 18);

        disk_fill(kit, disk, 0, 64, 2);
        rule.bytes = 512;
        disk_fault(kit, disk, &rule);
        kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
        assert_true(disk_count(disk, FAULT_WRITE) >= 18);
        disk_forget(disk);
        kit_ok(kit, DM_IO_READ, in_bvec(bvec), 1, &where);
        assert_true(disk_count(disk, FAULT_READ) >= 18);
        assert_memory_equal(found, data, 18 * DMIO_SECTOR_SIZE);
        disk_expect(kit, disk, 8, data, 18 * DMIO_SECTOR_SIZE);
        disk_expect_fill(kit, disk, 0, 8, 2, 0);
        disk_expect_fill(kit, disk, 26, 38, 2, 0);
}

static void case_047_nothing_transferred(struct kit *kit)
{
        struct fault_rule rule = {
                .action = FAULT_SHORT, .ops = FAULT_READ, .offset = 8192, .length = 4096
        };
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct page *data = kit_pages(kit, 1, 1), *zeroes = kit_pages(kit, 1, 0);
        struct io_region where = on_disk(disk, 16, 8);

        disk_fill(kit, disk, 0, 64, 2);
        disk_fault(kit, disk, &rule);
        kit_fails(kit, DM_IO_READ, in_vm(data), 1, &where, BIT(0));
        assert_memory_equal(data, zeroes, PAGE);
}

static void case_048_again(struct kit *kit)
{
        static const int errors[] = { EAGAIN, EINTR };
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct page *data = kit_pages(kit, 2, 1), *found = kit_pages(kit, 2, 9);
        struct io_region where = on_disk(disk, 8, 16);

        for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
                struct fault_rule rule = { .action = FAULT_ERROR, .times = 1, .error = errors[i] };

                rule.ops = FAULT_WRITE;
                disk_fault(kit, disk, &rule);
                rule.ops = FAULT_READ;
                disk_fault(kit, disk, &rule);
                disk_forget(disk);
                kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
                assert_true(disk_count(disk, FAULT_WRITE) >= 2);
                kit_ok(kit, DM_IO_READ, in_vm(found), 1, &where);
                assert_true(disk_count(disk, FAULT_READ) >= 2);
                assert_memory_equal(found, data, 2 * PAGE);
        }
}

static void case_049_the_second_piece_fails(struct kit *kit)
{
        struct fault_rule rule = {
                .action = FAULT_ERROR,
                .ops = FAULT_READ,
                .offset = MIB + 4 * PAGE,
                .length = 512,
                .error = EIO,
        };
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct page *data = kit_pages(kit, 512, 1), *found = kit_pages(kit, 513, 9);
        struct page *guard = kit_pages(kit, 513, 9), *zeroes = kit_pages(kit, 256, 0);
        struct io_region where = on_disk(disk, 0, 4096);

        kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
        disk_fault(kit, disk, &rule);
        kit_fails(kit, DM_IO_READ, in_vm(found), 1, &where, BIT(0));
        assert_memory_equal(found, data, MIB);
        assert_memory_equal(&found[256], zeroes, MIB);
        assert_memory_equal(&found[512], &guard[512], PAGE);
}

static void case_050_the_only_piece_fails(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct page *found = kit_pages(kit, 3, 9), *guard = kit_pages(kit, 3, 9);
        struct io_region where = on_disk(disk, 8, 8);

        disk_breaks(kit, disk, FAULT_READ, EIO);
        kit_fails(kit, DM_IO_READ, in_vm(found->bytes + 100), 1, &where, BIT(0));
        memset(guard->bytes + 100, 0, PAGE);
        assert_memory_equal(found, guard, 3 * PAGE);
}

static const struct conformance_case cases[] = {
        CASE(43, 043_around_a_mebibyte, ON_BOTH, "write of 2039, 2040 and 2048 sectors", NULL),
        CASE(44, 044_more_than_a_piece, ON_BOTH,
             "write of 2 MiB, more than a piece of the library: one result", NULL),
        CASE(45, 045_small_queue, ON_MODERN, "write of 64 MiB to 2 legs through a queue of 8",
             NULL),
        CASE(46, 046_short_transfers, ON_MODERN,
             "transfers of 512 bytes at most: resumed until all is there",
             "by fault rules: io_uring resumes a file's short transfers itself"),
        CASE(47, 047_nothing_transferred, ON_BOTH,
             "a read inside of the device gets 0 bytes: the bit, no endless loop", NULL),
        CASE(48, 048_again, ON_BOTH, "EAGAIN and EINTR, once each: tried again, no bit", NULL),
        CASE(49, 049_the_second_piece_fails, ON_BOTH,
             "read of 2 pieces, the second fails: the first is there, the second zeroes", NULL),
        CASE(50, 050_the_only_piece_fails, ON_BOTH,
             "read of one piece that fails: zeroes, nothing around it changes", NULL),
};

const struct conformance_section sizes_section = { "Splitting and sizes", cases,
                                                   ARRAY_SIZE(cases) };
