/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The classic face, by its public header alone: regions and error bits, what is refused, callbacks,
 * and the pages that are got and put. Memory has its own test (test-classic-memory.c).
 *
 * Every test runs on image files and, where root can have them, on loop devices. A region that
 * fails is one that does not fit its device: no error has to be injected for that.
 */

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "ways.h"

#define PAGES 64
#define SECTORS 4096
#define UNTOUCHED 0xa5a5ul

struct fixture {
        struct scratch big;
        struct scratch small; /* 8 sectors */
        struct page *data;    /* PAGES pages of a known pattern */
};

static struct fixture *fixture_of(void **state)
{
        return *state;
}

static enum scratch_kind group_kind;

static int setup(void **state)
{
        struct fixture *fixture = calloc(1, sizeof(*fixture));

        assert_non_null(fixture);
        scratch_init(&fixture->big, group_kind, SECTORS, 0);
        scratch_init(&fixture->small, group_kind, 8, 0);
        fixture->data = pages_new(PAGES);
        pattern_fill(fixture->data, PAGES * DMIO_PAGE_SIZE, 1);
        assert_int_equal(dm_io_get(PAGES), 0);
        *state = fixture;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *fixture = *state;

        assert_int_equal(dm_io_put(PAGES), 0);
        scratch_deinit(&fixture->big);
        scratch_deinit(&fixture->small);
        free(fixture->data);
        free(fixture);
        return 0;
}

/* --- regions and bits */

static void every_way_writes_many_and_reads_one(void **state)
{
        struct fixture *f = fixture_of(state);
        struct page *back = pages_new(6);

        for (size_t i = 0; i < N_WAYS; i++) {
                struct io_region where[] = {
                        scratch_region(&f->big, 8, 24),
                        scratch_region(&f->big, 1000, 8),
                        scratch_region(&f->big, SECTORS - 24, 24),
                };
                unsigned long bits = UNTOUCHED;

                print_message("           %s\n", ways[i].name);
                pattern_fill(f->data, 24 * DMIO_SECTOR_SIZE, (unsigned int)(100 + i));
                assert_int_equal(way_io(&ways[i], 3, where, DM_IO_WRITE, f->data, 24 * 512, &bits),
                                 0);
                assert_int_equal(bits, 0);
                scratch_expect(&f->big, 8 * 512, f->data, 24 * 512);
                scratch_expect(&f->big, 1000 * 512, f->data, 8 * 512);
                scratch_expect(&f->big, (SECTORS - 24) * 512, f->data, 24 * 512);
                scratch_expect_zeroes(&f->big, 0, 8 * 512);
                scratch_expect_zeroes(&f->big, 32 * 512, 968 * 512);
                scratch_expect_zeroes(&f->big, 1008 * 512, 512);

                memset(back, 0xee, 6 * DMIO_PAGE_SIZE);
                bits = UNTOUCHED;
                assert_int_equal(way_io(&ways[i], 1, where, DM_IO_READ, back, 24 * 512, &bits), 0);
                assert_int_equal(bits, 0);
                assert_memory_equal(back, f->data, 24 * 512);
                for (size_t byte = 24 * 512; byte < 6 * DMIO_PAGE_SIZE; byte++)
                        assert_int_equal(((unsigned char *)back)[byte], 0xee);
        }
        free(back);
}

static void every_third_of_64_regions_fails(void **state)
{
        struct fixture *f = fixture_of(state);

        for (size_t i = 0; i < N_WAYS; i++) {
                struct io_region where[64];
                unsigned long bits = UNTOUCHED, wanted = 0;

                pattern_fill(f->data, 8 * 512, (unsigned int)(200 + i));
                for (unsigned int leg = 0; leg < 64; leg++) {
                        if (leg % 3 == 0) {
                                where[leg] = scratch_region(&f->small, 8 + leg, 8);
                                wanted |= 1ul << leg;
                        } else {
                                where[leg] = scratch_region(&f->big, leg * 16, 8);
                        }
                }
                assert_true(wanted >> 63);
                assert_int_equal(way_io(&ways[i], 64, where, DM_IO_WRITE, f->data, 8 * 512, &bits),
                                 -EIO);
                assert_int_equal(bits, wanted);
                for (unsigned int leg = 0; leg < 64; leg++) {
                        if (leg % 3 != 0)
                                scratch_expect(&f->big, leg * 16 * 512, f->data, 8 * 512);
                        scratch_expect_zeroes(&f->big, (leg * 16 + 8) * 512, 8 * 512);
                }
                scratch_expect_zeroes(&f->small, 0, 8 * 512);
                assert_int_equal(scratch_size(&f->small), 8 * 512);
        }
}

static void one_bad_region_sets_its_own_bit_only(void **state)
{
        static const unsigned int bad[] = { 0, 1, 30, 31, 32, 33, 62, 63 };
        struct fixture *f = fixture_of(state);
        struct io_region where[64];

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                for (size_t w = 0; w < N_WAYS; w++) {
                        unsigned long bits = UNTOUCHED;

                        for (unsigned int leg = 0; leg < 64; leg++)
                                where[leg] = scratch_region(leg == bad[i] ? &f->small : &f->big,
                                                            leg * 8 + 8, 8);
                        assert_int_equal(
                                way_io(&ways[w], 64, where, DM_IO_WRITE, f->data, 4096, &bits),
                                -EIO);
                        assert_int_equal(bits, 1ul << bad[i]);
                }
        }
}

static void bits_are_overwritten_not_added(void **state)
{
        struct fixture *f = fixture_of(state);
        struct io_region bad = scratch_region(&f->small, 8, 8);
        struct io_region good = scratch_region(&f->big, 8, 8);
        unsigned long bits = UNTOUCHED;

        assert_int_equal(dm_io_sync_vm(1, &bad, DM_IO_WRITE, f->data, &bits), -EIO);
        assert_int_equal(bits, 1);
        assert_int_equal(dm_io_sync_vm(1, &good, DM_IO_WRITE, f->data, &bits), 0);
        assert_int_equal(bits, 0);
        assert_int_equal(dm_io_sync_vm(1, &bad, DM_IO_WRITE, f->data, NULL), -EIO);
}

static void empty_regions_take_no_part(void **state)
{
        struct fixture *f = fixture_of(state);
        struct io_region where[] = {
                scratch_region(&f->big, 0, 8),
                scratch_region(&f->big, 100, 0),
                scratch_region(&f->big, 200, 8),
        };

        for (size_t i = 0; i < N_WAYS; i++) {
                unsigned long bits = UNTOUCHED;

                assert_int_equal(way_io(&ways[i], 3, where, DM_IO_WRITE, f->data, 4096, &bits), 0);
                assert_int_equal(bits, 0);
                scratch_expect(&f->big, 0, f->data, 4096);
                scratch_expect_zeroes(&f->big, 100 * 512, 4096);
                scratch_expect(&f->big, 200 * 512, f->data, 4096);

                bits = UNTOUCHED;
                assert_int_equal(way_io(&ways[i], 0, where, DM_IO_WRITE, f->data, 4096, &bits), 0);
                assert_int_equal(bits, 0);
                bits = UNTOUCHED;
                assert_int_equal(way_io(&ways[i], 1, &where[1], DM_IO_READ, f->data, 4096, &bits),
                                 0);
                assert_int_equal(bits, 0);
        }
}

static void a_region_across_the_end_writes_nothing(void **state)
{
        struct fixture *f = fixture_of(state);

        for (size_t i = 0; i < N_WAYS; i++) {
                struct io_region where[] = {
                        scratch_region(&f->small, 4, 8),
                        scratch_region(&f->big, 8, 8),
                        scratch_region(&f->small, 1ull << 40, 8),
                        scratch_region(&f->small, UINT64_MAX - 3, 8),
                        scratch_region(&f->big, 0, 8),
                };
                unsigned long bits = UNTOUCHED;

                assert_int_equal(way_io(&ways[i], 5, where, DM_IO_WRITE, f->data, 4096, &bits),
                                 -EIO);
                assert_int_equal(bits, 0xd);
                scratch_expect_zeroes(&f->small, 0, 8 * 512);
                assert_int_equal(scratch_size(&f->small), 8 * 512);
                scratch_expect(&f->big, 0, f->data, 4096);
                scratch_expect(&f->big, 8 * 512, f->data, 4096);
        }
}

static void a_failed_read_leaves_zeroes(void **state)
{
        struct fixture *f = fixture_of(state);
        struct page *back = pages_new(2);

        for (size_t i = 0; i < N_WAYS; i++) {
                struct io_region where = scratch_region(&f->small, 4, 8);
                unsigned long bits = UNTOUCHED;

                memset(back, 0xee, 2 * DMIO_PAGE_SIZE);
                assert_int_equal(way_io(&ways[i], 1, &where, DM_IO_READ, back, 4096, &bits), -EIO);
                assert_int_equal(bits, 1);
                for (size_t byte = 0; byte < 4096; byte++)
                        assert_int_equal(back->bytes[byte], 0);
                assert_int_equal(back[1].bytes[0], 0xee);
        }
        free(back);
}

/* The image shrinks behind the device's back: what is gone reads as zeroes, what is there is read.
 */
static void a_read_that_fails_in_part_keeps_the_rest(void **state)
{
        struct fixture *f = fixture_of(state);
        const size_t length = SECTORS * 512, kept = length / 2;
        struct io_region where = scratch_region(&f->big, 0, SECTORS);
        unsigned char *written = malloc(length);
        struct page *back = pages_new(length / DMIO_PAGE_SIZE);
        const unsigned char *bytes = (const unsigned char *)back;
        unsigned long bits = UNTOUCHED;
        size_t good = 0;

        assert_non_null(written);
        pattern_fill(written, length, 3);
        assert_int_equal(dm_io_sync_vm(1, &where, DM_IO_WRITE, written, &bits), 0);
        assert_int_equal(ftruncate(f->big.image_fd, (off_t)kept), 0);

        memset(back, 0xee, length);
        assert_int_equal(dm_io_sync_vm(1, &where, DM_IO_READ, back, &bits), -EIO);
        assert_int_equal(bits, 1);
        while (good < length && bytes[good] == written[good])
                good++;
        assert_true(good <= kept + 512); /* a zero may happen to be right */
        for (size_t byte = good; byte < length; byte++)
                assert_int_equal(bytes[byte], 0);

        /* A piece that failed is zeroed whole, but a region that lies before it is not affected. */
        where.count = SECTORS / 2;
        assert_int_equal(dm_io_sync_vm(1, &where, DM_IO_READ, back, &bits), 0);
        assert_memory_equal(back, written, kept);

        assert_int_equal(ftruncate(f->big.image_fd, (off_t)length), 0);
        free(written);
        free(back);
}

static void overlapping_regions_hold_what_was_written(void **state)
{
        struct fixture *f = fixture_of(state);
        unsigned char found[512];

        for (size_t i = 0; i < N_WAYS; i++) {
                struct io_region same[] = {
                        scratch_region(&f->big, 16, 16),
                        scratch_region(&f->big, 16, 8),
                        scratch_region(&f->big, 16, 16),
                };
                struct io_region shifted[] = {
                        scratch_region(&f->big, 100, 16),
                        scratch_region(&f->big, 108, 16),
                };
                unsigned long bits = UNTOUCHED;

                pattern_fill(f->data, 8192, (unsigned int)(300 + i));
                assert_int_equal(way_io(&ways[i], 3, same, DM_IO_WRITE, f->data, 8192, &bits), 0);
                assert_int_equal(bits, 0);
                scratch_expect(&f->big, 16 * 512, f->data, 8192);

                assert_int_equal(way_io(&ways[i], 2, shifted, DM_IO_WRITE, f->data, 8192, &bits),
                                 0);
                assert_int_equal(bits, 0);
                scratch_expect(&f->big, 100 * 512, f->data, 4096);
                scratch_expect(&f->big, 116 * 512, (char *)f->data + 4096, 4096);
                for (size_t sector = 0; sector < 8; sector++) {
                        scratch_read(&f->big, (108 + sector) * 512, found, sizeof(found));
                        if (memcmp(found, (char *)f->data + sector * 512, 512) != 0)
                                assert_memory_equal(found, (char *)f->data + (8 + sector) * 512,
                                                    512);
                }
        }
}

static void a_read_only_device_fails_its_bit_only(void **state)
{
        struct fixture *f = fixture_of(state);
        struct block_device *read_only;
        struct io_region where[3];
        unsigned long bits = UNTOUCHED;

        assert_int_equal(dmio_device_open(f->big.path, DMIO_DEVICE_READ_ONLY, &read_only), 0);
        for (size_t i = 0; i < N_WAYS; i++) {
                where[0] = scratch_region(&f->big, 0, 8);
                where[1] = (struct io_region){ .bdev = read_only, .sector = 8, .count = 8 };
                where[2] = scratch_region(&f->big, 16, 8);
                assert_int_equal(way_io(&ways[i], 3, where, DM_IO_WRITE, f->data, 4096, &bits),
                                 -EIO);
                assert_int_equal(bits, 0x2);
                scratch_expect(&f->big, 0, f->data, 4096);
                scratch_expect_zeroes(&f->big, 8 * 512, 4096);
                scratch_expect(&f->big, 16 * 512, f->data, 4096);
                where[1].sector = 0;
                assert_int_equal(way_io(&ways[i], 1, &where[1], DM_IO_READ, f->data, 4096, &bits),
                                 0);
        }
        dmio_device_close(read_only);
}

/* --- what is refused */

static void too_many_regions_are_refused(void **state)
{
        struct fixture *f = fixture_of(state);
        struct io_region where[65];

        for (unsigned int leg = 0; leg < 65; leg++)
                where[leg] = scratch_region(&f->big, leg * 8, 8);
        for (size_t i = 0; i < N_WAYS; i++) {
                assert_int_equal(way_io_refused(&ways[i], 65, where, DM_IO_WRITE, f->data, 4096),
                                 -EINVAL);
                assert_int_equal(
                        way_io_refused(&ways[i], UINT_MAX, where, DM_IO_WRITE, f->data, 4096),
                        -EINVAL);
                assert_int_equal(way_io_refused(&ways[i], 2, where, DM_IO_READ, f->data, 4096),
                                 -EINVAL);
                assert_int_equal(way_io_refused(&ways[i], 1, where, 7, f->data, 4096), -EINVAL);
                assert_int_equal(way_io_refused(&ways[i], 1, where, -1, f->data, 4096), -EINVAL);
                assert_int_equal(way_io_refused(&ways[i], 1, NULL, DM_IO_WRITE, f->data, 4096),
                                 -EINVAL);
        }
        scratch_expect_zeroes(&f->big, 0, SECTORS * 512);
}

static void missing_pointers_are_refused(void **state)
{
        struct fixture *f = fixture_of(state);
        struct io_region where = scratch_region(&f->big, 0, 8);
        struct io_region nowhere = { .bdev = NULL, .sector = 0, .count = 8 };
        struct completion never = COMPLETION_INIT;
        unsigned long bits = UNTOUCHED;

        assert_int_equal(dm_io_sync_vm(1, &where, DM_IO_WRITE, NULL, &bits), -EINVAL);
        assert_int_equal(dm_io_sync_bvec(1, &where, DM_IO_WRITE, NULL, &bits), -EINVAL);
        assert_int_equal(dm_io_sync(1, &where, DM_IO_WRITE, NULL, 0, &bits), -EINVAL);
        assert_int_equal(dm_io_sync_vm(1, &nowhere, DM_IO_WRITE, f->data, &bits), -EINVAL);
        assert_int_equal(dm_io_async_vm(1, &where, DM_IO_WRITE, f->data, NULL, NULL), -EINVAL);
        assert_int_equal(dm_io_async_vm(1, &where, DM_IO_WRITE, NULL, completion_notify, &never),
                         -EINVAL);
        assert_int_equal(bits, UNTOUCHED);
        assert_int_equal(never.calls, 0);
        scratch_expect_zeroes(&f->big, 0, 4096);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_way_writes_many_and_reads_one, setup, teardown),
        cmocka_unit_test_setup_teardown(every_third_of_64_regions_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(one_bad_region_sets_its_own_bit_only, setup, teardown),
        cmocka_unit_test_setup_teardown(bits_are_overwritten_not_added, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_regions_take_no_part, setup, teardown),
        cmocka_unit_test_setup_teardown(a_region_across_the_end_writes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_read_leaves_zeroes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_that_fails_in_part_keeps_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(overlapping_regions_hold_what_was_written, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_only_device_fails_its_bit_only, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_regions_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_pointers_are_refused, setup, teardown),
};

int main(void)
{
        int r;

        group_kind = SCRATCH_FILE;
        r = cmocka_run_group_tests_name("on image files", tests, NULL, NULL);
        if (scratch_kind_works(SCRATCH_LOOP)) {
                group_kind = SCRATCH_LOOP;
                r |= cmocka_run_group_tests_name("on loop devices", tests, NULL, NULL);
        } else {
                printf("skip - on loop devices: there are none for us\n");
        }
        return r;
}
