/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 23 to 42: the ways to describe memory. */
#include <errno.h>
#include <string.h>

#include "kit.h"
#include "util/macros.h"

#define PAGE DMIO_PAGE_SIZE

/* A list over pages that do not lie in order: page i of the list is page @order[i] of @pages. */
static struct page_list *list_in_order(struct kit *kit, struct page *pages,
                                       const unsigned int *order, size_t n)
{
        struct page_list *list = kit_list(kit, pages, n);

        for (size_t i = 0; i < n; i++)
                list[i].page = &pages[order[i]];
        return list;
}

/* What a page list says from @offset on. */
static void gather(const struct page_list *list, unsigned int offset, void *to, size_t length)
{
        char *at = to;

        while (length > 0) {
                size_t n = MIN(length, (size_t)(PAGE - offset));

                memcpy(at, (char *)page_address(list->page) + offset, n);
                at += n;
                length -= n;
                offset = 0;
                list = list->next;
        }
}

static void write_list(struct kit *kit, unsigned int offset, const unsigned int *order, size_t n,
                       sector_t count)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *pages = kit_pages(kit, n, 1), *flat = kit_pages(kit, n + 1, 0);
        struct page_list *list = list_in_order(kit, pages, order, n);
        struct io_region where = on_disk(disk, 16, count);
        size_t length = (size_t)(count * DMIO_SECTOR_SIZE);

        disk_fill(kit, disk, 0, 128, 2);
        gather(list, offset, flat, length);
        kit_ok(kit, DM_IO_WRITE, in_list(list, offset), 1, &where);
        disk_expect(kit, disk, 16, flat, length);
        disk_expect_fill(kit, disk, 0, 16, 2, 0);
        disk_expect_fill(kit, disk, 16 + count, 112 - count, 2, 0);
}

static void case_023_page_list(struct kit *kit)
{
        write_list(kit, 0, (const unsigned int[]){ 2, 0, 1 }, 3, 24);
}

static void case_024_page_list_from_512(struct kit *kit)
{
        write_list(kit, 512, (const unsigned int[]){ 1, 0 }, 2, 8);
}

static void case_025_page_list_from_3584(struct kit *kit)
{
        write_list(kit, 3584, (const unsigned int[]){ 1, 2, 0 }, 3, 17);
}

static void case_026_page_list_from_100(struct kit *kit)
{
        write_list(kit, 100, (const unsigned int[]){ 1, 0 }, 2, 8);
}

static void case_027_read_into_page_list_from_100(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *pages = kit_pages(kit, 3, 3), *before = kit_pages(kit, 3, 3);
        struct page *data = kit_pages(kit, 1, 4);
        struct page_list *list = list_in_order(kit, pages, (const unsigned int[]){ 2, 0 }, 2);
        struct io_region where = on_disk(disk, 8, 8);

        kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
        kit_ok(kit, DM_IO_READ, in_list(list, 100), 1, &where);
        assert_memory_equal(pages[2].bytes, before[2].bytes, 100);
        assert_memory_equal(pages[2].bytes + 100, data->bytes, PAGE - 100);
        assert_memory_equal(pages[0].bytes, data->bytes + PAGE - 100, 100);
        assert_memory_equal(pages[0].bytes + 100, before[0].bytes + 100, PAGE - 100);
        assert_memory_equal(pages[1].bytes, before[1].bytes, PAGE);
}

static void list_is_refused(struct kit *kit, size_t n_pages, unsigned int offset, sector_t count)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page_list *list = kit_list(kit, kit_pages(kit, n_pages, 1), n_pages);
        struct io_region where = on_disk(disk, 0, count);
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_list(list, offset) };

        kit_refused(kit, &request, 1, &where, -EINVAL);
        request.op = DM_IO_READ;
        kit_refused(kit, &request, 1, &where, -EINVAL);
        disk_expect_zeroes(kit, disk, 0, 16 * PAGE);
}

static void case_028_offset_beyond_the_page(struct kit *kit)
{
        list_is_refused(kit, 2, 4096, 8);
}

static void case_029_page_list_too_short(struct kit *kit)
{
        list_is_refused(kit, 1, 0, 16);
        list_is_refused(kit, 1, 1, 8);
}

static void case_030_circular_page_list(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *page = kit_pages(kit, 1, 1), *flat = kit_pages(kit, 256, 0);
        struct page_list *list = kit_list(kit, page, 1);
        struct io_region where = on_disk(disk, 8, 2048);

        list->next = list;
        for (unsigned int i = 0; i < 256; i++)
                flat[i] = *page;
        kit_ok(kit, DM_IO_WRITE, in_list(list, 0), 1, &where);
        disk_expect(kit, disk, 8, flat, 256 * PAGE);
        disk_expect_zeroes(kit, disk, 0, PAGE);
        disk_expect_zeroes(kit, disk, 2056, PAGE);
}

static void write_bvec(struct kit *kit, const unsigned int *lengths, size_t n, sector_t count)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        size_t length = (size_t)(count * DMIO_SECTOR_SIZE);
        struct page *data = kit_pages(kit, count / 8 + 3, 1);
        struct bio_vec *bvec = kit_bvec(kit, data, lengths, n);
        struct io_region where = on_disk(disk, 8, count);

        disk_fill(kit, disk, 0, count + 64, 2);
        kit_ok(kit, DM_IO_WRITE, in_bvec(bvec), 1, &where);
        disk_expect(kit, disk, 8, data, length);
        disk_expect_fill(kit, disk, 0, 8, 2, 0);
        disk_expect_fill(kit, disk, 8 + count, 56, 2, 0);
}

static void case_031_bvec_of_sectors(struct kit *kit)
{
        write_bvec(kit, (const unsigned int[]){ 512, 1024, 2560 }, 3, 8);
}

static void case_032_bvec_of_odd_lengths(struct kit *kit)
{
        write_bvec(kit, (const unsigned int[]){ 1, 511, 3, 4093, 512 }, 5, 10);
}

static void case_033_bvec_longer_than_the_region(struct kit *kit)
{
        unsigned int lengths[41];

        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
                lengths[i] = 100;
        write_bvec(kit, lengths, ARRAY_SIZE(lengths), 8);
}

static void case_034_bvec_with_an_empty_entry(struct kit *kit)
{
        write_bvec(kit, (const unsigned int[]){ 1024, 0, 3072 }, 3, 8);
}

static void case_035_bvec_too_short(struct kit *kit)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct bio_vec *bvec =
                kit_bvec(kit, kit_pages(kit, 1, 1), (const unsigned int[]){ 4000, 95 }, 2);
        struct io_region where = on_disk(disk, 0, 8);
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_bvec(bvec) };

        kit_refused(kit, &request, 1, &where, -EINVAL);
        request.mem.n_bvec = 2;
        kit_refused(kit, &request, 1, &where, -EINVAL);
        disk_expect_zeroes(kit, disk, 0, PAGE);
}

/* 1500 ranges, none of which continues the one before. */
static void case_036_bvec_of_1500_entries(struct kit *kit)
{
        enum { N = 1500 };
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *data = kit_pages(kit, N / 8 + 1, 1), *flat = kit_pages(kit, N / 8 + 1, 0);
        unsigned int lengths[N];
        struct bio_vec *bvec;
        struct io_region where = on_disk(disk, 8, N);

        for (unsigned int i = 0; i < N; i++)
                lengths[i] = 512;
        bvec = kit_bvec(kit, data, lengths, N);
        for (unsigned int i = 0; i < N / 2; i++) {
                struct bio_vec swapped = bvec[i];

                bvec[i] = bvec[N - 1 - i];
                bvec[N - 1 - i] = swapped;
        }
        for (unsigned int i = 0; i < N; i++)
                memcpy((char *)flat + i * 512, (char *)data + (N - 1 - i) * 512, 512);
        kit_ok(kit, DM_IO_WRITE, in_bvec(bvec), 1, &where);
        disk_expect(kit, disk, 8, flat, N * 512);
        disk_expect_zeroes(kit, disk, 8 + N, PAGE);
}

static void case_037_read_into_bvec_of_odd_lengths(struct kit *kit)
{
        static const unsigned int lengths[] = { 7, 505, 4096 };
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *data = kit_pages(kit, 2, 1);
        struct page *pages = kit_pages(kit, 9, 3), *before = kit_pages(kit, 9, 3);
        struct bio_vec *bvec = kit_bvec(kit, pages, lengths, 3);
        struct io_region where = on_disk(disk, 8, 9);
        size_t done = 0;

        /* Each vector begins at byte 300 of every third page. */
        for (unsigned int i = 0; i < 3; i++) {
                bvec[i].bv_page = &pages[3 * i];
                bvec[i].bv_offset = 300;
        }
        kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
        kit_ok(kit, DM_IO_READ, in_bvec(bvec), 1, &where);
        for (unsigned int i = 0; i < 3; i++) {
                size_t at = 3 * PAGE * i;

                memcpy((char *)before + at + 300, (char *)data + done, lengths[i]);
                done += lengths[i];
        }
        assert_memory_equal(pages, before, 9 * PAGE);
}

static void write_vm(struct kit *kit, size_t offset, sector_t count, bool must_be_direct)
{
        struct disk *disk = kit_disk(kit, DISK_FILE);
        size_t length = (size_t)(count * DMIO_SECTOR_SIZE);
        struct page *data = kit_pages(kit, count / 8 + 2, 1);
        struct page *found = kit_pages(kit, count / 8 + 2, 3);
        struct page *before = kit_pages(kit, count / 8 + 2, 3);
        struct io_region where = on_disk(disk, 24, count);

        if (must_be_direct && !dmio_device_is_direct(disk->bdev))
                kit_skip(kit, "the file system has no O_DIRECT");
        kit_ok(kit, DM_IO_WRITE, in_vm((char *)data + offset), 1, &where);
        disk_expect(kit, disk, 24, (char *)data + offset, length);
        disk_expect_zeroes(kit, disk, 24 + count, PAGE);
        kit_ok(kit, DM_IO_READ, in_vm((char *)found + offset), 1, &where);
        memcpy((char *)before + offset, (char *)data + offset, length);
        assert_memory_equal(found, before, (count / 8 + 2) * PAGE);
}

static void case_038_vm_from_512(struct kit *kit)
{
        write_vm(kit, 512, 16, false);
}

static void case_039_vm_at_an_odd_address(struct kit *kit)
{
        write_vm(kit, 1, 8, true);
}

static void case_040_every_leg_begins_at_the_start(struct kit *kit)
{
        struct page *pages = kit_pages(kit, 4, 1);
        struct page_list *list = kit_list(kit, pages, 4);
        struct io_region where[3];
        struct disk *disks[3];

        kit_disks(kit, disks, 3);
        for (unsigned int i = 0; i < 3; i++)
                where[i] = on_disk(disks[i], 8 * i, 24);
        kit_ok(kit, DM_IO_WRITE, in_list(list, 512), 3, where);
        for (unsigned int i = 0; i < 3; i++)
                disk_expect(kit, disks[i], 8 * i, pages->bytes + 512, 3 * PAGE);
}

static void case_041_legs_of_odd_vectors(struct kit *kit)
{
        struct page *data = kit_pages(kit, 3, 1);
        struct bio_vec *bvec =
                kit_bvec(kit, data, (const unsigned int[]){ 5, 700, 1, 900, 2048, 1500 }, 6);
        struct io_region where[2];
        struct disk *disks[2];

        kit_disks(kit, disks, 2);
        where[0] = on_disk(disks[0], 5, 3);
        where[1] = on_disk(disks[1], 7, 9);
        kit_ok(kit, DM_IO_WRITE, in_bvec(bvec), 2, where);
        disk_expect(kit, disks[0], 5, data, 3 * DMIO_SECTOR_SIZE);
        disk_expect_zeroes(kit, disks[0], 8, PAGE);
        disk_expect(kit, disks[1], 7, data, 9 * DMIO_SECTOR_SIZE);
        disk_expect_zeroes(kit, disks[1], 16, PAGE);
}

static void case_042_memory_changes_meanwhile(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct page *data = kit_pages(kit, 8, 1);
        struct io_region where = on_disk(disk, 8, 64);

        disk_holds(kit, disk, FAULT_WRITE);
        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 1, &where, &completion), 0);
        disk_wait_held(disk);
        memset(data, 0x77, 8 * PAGE);
        disk_release(disk);
        kit_called(&completion, 0);
        disk_expect_zeroes(kit, disk, 0, PAGE);
        disk_expect_zeroes(kit, disk, 72, PAGE);
}

static const struct conformance_case cases[] = {
        CASE(23, 023_page_list, ON_BOTH, "page list of 3 pages: in order on the device", NULL),
        CASE(24, 024_page_list_from_512, ON_BOTH, "page list from byte 512: crosses the page",
             NULL),
        CASE(25, 025_page_list_from_3584, ON_BOTH,
             "page list from byte 3584, 17 sectors over 3 pages", NULL),
        CASE(26, 026_page_list_from_100, ON_BOTH, "page list from byte 100: exactly 4096 bytes",
             NULL),
        CASE(27, 027_read_into_page_list_from_100, ON_BOTH,
             "read into a page list from byte 100: nothing around it changes", NULL),
        CASE(28, 028_offset_beyond_the_page, ON_BOTH, "page list from byte 4096: -EINVAL", NULL),
        CASE(29, 029_page_list_too_short, ON_BOTH, "page list that ends too early: -EINVAL, no I/O",
             NULL),
        CASE(30, 030_circular_page_list, ON_BOTH,
             "circular list of one page, 2048 sectors: the page 256 times", NULL),
        CASE(31, 031_bvec_of_sectors, ON_BOTH, "vectors of 512, 1024, 2560 bytes", NULL),
        CASE(32, 032_bvec_of_odd_lengths, ON_BOTH, "vectors of 1, 511, 3, 4093, 512 bytes", NULL),
        CASE(33, 033_bvec_longer_than_the_region, ON_BOTH,
             "41 vectors of 100 bytes, 8 sectors: the last 4 bytes are not used", NULL),
        CASE(34, 034_bvec_with_an_empty_entry, ON_BOTH,
             "an empty vector in the middle is passed by", NULL),
        CASE(35, 035_bvec_too_short, ON_BOTH,
             "vectors of 4095 bytes for 8 sectors: -EINVAL, no I/O", NULL),
        CASE(36, 036_bvec_of_1500_entries, ON_BOTH,
             "1500 scattered vectors of 512 bytes: more than IOV_MAX", NULL),
        CASE(37, 037_read_into_bvec_of_odd_lengths, ON_BOTH,
             "read into vectors of 7, 505, 4096 bytes: each filled, nothing around it changes",
             NULL),
        CASE(38, 038_vm_from_512, ON_BOTH, "plain memory from byte 512 of a page", NULL),
        CASE(39, 039_vm_at_an_odd_address, ON_BOTH,
             "plain memory at an odd address, device in O_DIRECT", NULL),
        CASE(40, 040_every_leg_begins_at_the_start, ON_BOTH,
             "3 legs from a page list with an offset: all equal", NULL),
        CASE(41, 041_legs_of_odd_vectors, ON_BOTH,
             "legs of 3 and 9 sectors from odd vectors: each the start of the memory", NULL),
        CASE(42, 042_memory_changes_meanwhile, ON_BOTH,
             "memory changed during an async write: called back once, nothing else is hit",
             "which bytes the region then holds is not defined"),
};

const struct conformance_section memory_section = { "Memory", cases, ARRAY_SIZE(cases) };
