/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The three kinds of memory of the classic face: page lists with offsets and in any order, bio
 * vectors of odd lengths, plain memory at odd addresses; exact bytes, untouched guards around what
 * is read, and memory that is too short.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scratch.h"
#include "ways.h"

#define PAGES 64
#define SECTORS 8192
#define GUARD 0xee

static enum scratch_kind group_kind;

struct fixture {
        struct scratch disk;
        struct page *data; /* PAGES pages of a known pattern */
        struct page *back; /* PAGES pages of GUARD */
        unsigned char *flat;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        scratch_init(&f->disk, group_kind, SECTORS, 0);
        f->data = pages_new(PAGES);
        f->back = pages_new(PAGES);
        f->flat = malloc(PAGES * DMIO_PAGE_SIZE);
        assert_non_null(f->flat);
        pattern_fill(f->data, PAGES * DMIO_PAGE_SIZE, 1);
        memset(f->back, GUARD, PAGES * DMIO_PAGE_SIZE);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        scratch_deinit(&f->disk);
        free(f->data);
        free(f->back);
        free(f->flat);
        free(f);
        return 0;
}

/* Links pages[order[0]], pages[order[1]], ... */
static void link_pages(struct page_list *list, struct page *pages, const unsigned int *order,
                       unsigned int n)
{
        for (unsigned int i = 0; i < n; i++) {
                list[i].page = &pages[order[i]];
                list[i].next = i + 1 < n ? &list[i + 1] : NULL;
        }
}

/* The bytes of the list from @offset on, in one piece. */
static void flatten(const struct page_list *list, unsigned int offset, unsigned char *flat,
                    size_t length)
{
        size_t done = 0;

        for (; list && done < length; list = list->next, offset = 0)
                for (size_t byte = offset; byte < DMIO_PAGE_SIZE && done < length; byte++)
                        flat[done++] = list->page->bytes[byte];
        assert_int_equal(done, length);
}

static size_t count_guards(const struct page *pages, size_t n_pages)
{
        size_t guards = 0;

        for (size_t byte = 0; byte < n_pages * DMIO_PAGE_SIZE; byte++)
                guards += ((const unsigned char *)pages)[byte] == GUARD;
        return guards;
}

static void page_lists_have_any_offset_and_order(void **state)
{
        static const unsigned int orders[][4] = {
                { 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 7, 0, 20, 3 }, { 5, 5, 5, 5 }
        };
        static const unsigned int offsets[] = { 0, 1, 100, 511, 512, 513, 3584, 4000, 4095 };
        struct fixture *f = *state;
        struct page_list list[4];
        const size_t length = 17 * 512;

        for (size_t o = 0; o < 4; o++) {
                for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
                        struct io_region where[] = {
                                scratch_region(&f->disk, 3, 17),
                                scratch_region(&f->disk, 1001, 17),
                                scratch_region(&f->disk, 2000, 5),
                        };
                        unsigned long bits = 1;

                        pattern_fill(f->data, 32 * DMIO_PAGE_SIZE, (unsigned int)(o * 100 + i));
                        link_pages(list, f->data, orders[o], 4);
                        flatten(list, offsets[i], f->flat, length);
                        assert_int_equal(dm_io_sync(3, where, DM_IO_WRITE, list, offsets[i], &bits),
                                         0);
                        assert_int_equal(bits, 0);
                        scratch_expect(&f->disk, 3 * 512, f->flat, length);
                        scratch_expect(&f->disk, 1001 * 512, f->flat, length);
                        scratch_expect(&f->disk, 2000 * 512, f->flat, 5 * 512);
                        scratch_expect_zeroes(&f->disk, 2005 * 512, 4096);
                        scratch_expect_zeroes(&f->disk, 0, 3 * 512);
                        scratch_expect_zeroes(&f->disk, 20 * 512, 4096);
                }
        }
}

static void reading_into_a_page_list_keeps_the_guards(void **state)
{
        static const unsigned int order[] = { 9, 2, 30 };
        struct fixture *f = *state;
        struct page_list list[3];
        struct io_region where = scratch_region(&f->disk, 7, 16);
        unsigned long bits = 1;

        /* No byte of what is read looks like a guard. */
        for (size_t byte = 0; byte < PAGES * DMIO_PAGE_SIZE; byte++)
                if (((unsigned char *)f->data)[byte] == GUARD)
                        ((unsigned char *)f->data)[byte] = 0;
        scratch_write(&f->disk, 7 * 512, f->data, 16 * 512);

        link_pages(list, f->back, order, 3);
        assert_int_equal(dm_io_sync(1, &where, DM_IO_READ, list, 100, &bits), 0);
        assert_int_equal(bits, 0);
        flatten(list, 100, f->flat, 16 * 512);
        assert_memory_equal(f->flat, f->data, 16 * 512);
        assert_int_equal(count_guards(f->back, PAGES), PAGES * DMIO_PAGE_SIZE - 16 * 512);
}

static void a_circular_list_is_used_again_and_again(void **state)
{
        struct fixture *f = *state;
        struct page_list list = { .next = &list, .page = f->data };
        struct io_region where = scratch_region(&f->disk, 8, 2048);
        unsigned long bits = 1;

        assert_int_equal(dm_io_sync(1, &where, DM_IO_WRITE, &list, 0, &bits), 0);
        assert_int_equal(bits, 0);
        for (unsigned int page = 0; page < 256; page++)
                scratch_expect(&f->disk, (1 + page) * 4096, f->data, 4096);
        scratch_expect_zeroes(&f->disk, 257 * 4096, 4096);
}

static void bio_vectors_have_any_length(void **state)
{
        static const unsigned int lengths[][5] = {
                { 1, 511, 3, 4093, 512 },      { 7, 505, 4096, 512, 512 },
                { 100, 100, 100, 100, 100 },   { 1, 1, 1, 1, 1 },
                { 4096, 4096, 1, 4095, 4096 }, { 20000, 3, 9, 27, 81 },
        };
        struct fixture *f = *state;
        char *data = (char *)f->data + 123, *back = (char *)f->back + 777;
        const size_t length = 10 * 512;

        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                struct io_region where[] = {
                        scratch_region(&f->disk, 5, 10),
                        scratch_region(&f->disk, 501, 3),
                        scratch_region(&f->disk, 1000, 9),
                };
                struct bio_vec *vectors;
                unsigned long bits = 1;

                pattern_fill(data, length, (unsigned int)(500 + i));
                vectors = bvec_new(data, length, lengths[i], 5);
                assert_int_equal(dm_io_sync_bvec(3, where, DM_IO_WRITE, vectors, &bits), 0);
                assert_int_equal(bits, 0);
                free(vectors);
                scratch_expect(&f->disk, 5 * 512, data, length);
                scratch_expect(&f->disk, 501 * 512, data, 3 * 512);
                scratch_expect(&f->disk, 1000 * 512, data, 9 * 512);
                scratch_expect_zeroes(&f->disk, 15 * 512, 4096);
                scratch_expect_zeroes(&f->disk, 504 * 512, 512);

                memset(f->back, GUARD, PAGES * DMIO_PAGE_SIZE);
                vectors = bvec_new(back, length, lengths[i], 5);
                assert_int_equal(dm_io_sync_bvec(1, where, DM_IO_READ, vectors, &bits), 0);
                free(vectors);
                assert_memory_equal(back, data, length);
                assert_int_equal((unsigned char)back[-1], GUARD);
                assert_int_equal((unsigned char)back[length], GUARD);
        }
}

static void scattered_vectors_keep_what_lies_between(void **state)
{
        struct fixture *f = *state;
        /* 1 + 511 + 3 + 4093 + 512 = 10 sectors, one empty, one more than is needed */
        struct bio_vec vectors[] = {
                { &f->back[3], 1, 4095 },  { &f->back[1], 511, 17 },
                { &f->back[8], 0, 0 },     { &f->back[8], 3, 0 },
                { &f->back[20], 4093, 3 }, { &f->back[30], 512, 1000 },
                { &f->back[40], 4096, 0 }, { NULL, 0, 0 },
        };
        struct io_region where = scratch_region(&f->disk, 64, 10);
        unsigned long bits = 1;

        memset(f->flat, 0x11, 10 * 512);
        scratch_write(&f->disk, 64 * 512, f->flat, 10 * 512);
        assert_int_equal(dm_io_sync_bvec(1, &where, DM_IO_READ, vectors, &bits), 0);
        assert_int_equal(bits, 0);
        assert_int_equal(count_guards(f->back, PAGES), PAGES * DMIO_PAGE_SIZE - 10 * 512);
        for (size_t i = 0; i < 6; i++)
                for (unsigned int byte = 0; byte < vectors[i].bv_len; byte++)
                        assert_int_equal(vectors[i].bv_page->bytes[vectors[i].bv_offset + byte],
                                         0x11);
}

static void more_vectors_than_one_system_call_takes(void **state)
{
        static const unsigned int lengths[] = { 100, 156 };
        struct fixture *f = *state;
        const size_t length = PAGES * DMIO_PAGE_SIZE;
        struct io_region where = scratch_region(&f->disk, 0, length / 512);
        struct bio_vec *vectors = bvec_new(f->data, length, lengths, 2);
        unsigned long bits = 1;

        assert_int_equal(dm_io_sync_bvec(1, &where, DM_IO_WRITE, vectors, &bits), 0);
        assert_int_equal(bits, 0);
        scratch_expect(&f->disk, 0, f->data, length);
        free(vectors);
}

static void plain_memory_lies_at_any_address(void **state)
{
        static const size_t offsets[] = { 0, 1, 3, 7, 511, 512, 513, 4095 };
        struct fixture *f = *state;

        for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
                char *data = (char *)f->data + offsets[i], *back = (char *)f->back + offsets[i] + 1;
                struct io_region where[] = {
                        scratch_region(&f->disk, 1, 33),
                        scratch_region(&f->disk, 101, 33),
                };
                unsigned long bits = 1;

                pattern_fill(data, 33 * 512, (unsigned int)(700 + i));
                assert_int_equal(dm_io_sync_vm(2, where, DM_IO_WRITE, data, &bits), 0);
                assert_int_equal(bits, 0);
                scratch_expect(&f->disk, 512, data, 33 * 512);
                scratch_expect(&f->disk, 101 * 512, data, 33 * 512);
                scratch_expect_zeroes(&f->disk, 0, 512);
                scratch_expect_zeroes(&f->disk, 34 * 512, 512);

                memset(f->back, GUARD, PAGES * DMIO_PAGE_SIZE);
                assert_int_equal(dm_io_sync_vm(1, where, DM_IO_READ, back, &bits), 0);
                assert_memory_equal(back, data, 33 * 512);
                assert_int_equal((unsigned char)back[-1], GUARD);
                assert_int_equal((unsigned char)back[33 * 512], GUARD);
        }
}

static void large_requests_are_whole(void **state)
{
        static const sector_t counts[] = { 2039, 2040, 2048, 2049, 4096, SECTORS };
        struct fixture *f = *state;
        unsigned char *large = malloc(SECTORS * 512 + 1);

        assert_non_null(large);
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
                for (size_t odd = 0; odd < 2; odd++) {
                        struct io_region where = scratch_region(&f->disk, 0, counts[i]);
                        unsigned long bits = 1;

                        pattern_fill(large + odd, counts[i] * 512, (unsigned int)(i * 2 + odd));
                        assert_int_equal(dm_io_sync_vm(1, &where, DM_IO_WRITE, large + odd, &bits),
                                         0);
                        assert_int_equal(bits, 0);
                        scratch_expect(&f->disk, 0, large + odd, counts[i] * 512);
                }
        }
        free(large);
}

static void memory_that_is_too_short_is_refused(void **state)
{
        struct fixture *f = *state;
        static const unsigned int order[] = { 0, 1, 2 };
        struct page_list list[3], one = { .next = NULL, .page = f->data };
        struct bio_vec vectors[] = { { f->data, 4095, 0 }, { NULL, 0, 0 } };
        struct io_region where[] = {
                scratch_region(&f->disk, 0, 8),
                scratch_region(&f->disk, 8, 16),
        };
        struct completion never = COMPLETION_INIT;
        unsigned long bits = 0x77;

        link_pages(list, f->data, order, 3);
        assert_int_equal(dm_io_get(8), 0);
        /* It is the largest region that counts. */
        assert_int_equal(dm_io_sync(2, where, DM_IO_WRITE, &one, 0, &bits), -EINVAL);
        assert_int_equal(dm_io_sync(1, where, DM_IO_WRITE, &one, 1, &bits), -EINVAL);
        assert_int_equal(dm_io_sync(1, where, DM_IO_READ, &one, 512, &bits), -EINVAL);
        assert_int_equal(dm_io_sync(1, where, DM_IO_WRITE, list, 4096, &bits), -EINVAL);
        assert_int_equal(dm_io_sync_bvec(1, where, DM_IO_WRITE, vectors, &bits), -EINVAL);
        assert_int_equal(dm_io_async(1, where, DM_IO_WRITE, &one, 1, completion_notify, &never),
                         -EINVAL);
        assert_int_equal(
                dm_io_async_bvec(1, where, DM_IO_WRITE, vectors, completion_notify, &never),
                -EINVAL);
        assert_int_equal(bits, 0x77);
        scratch_expect_zeroes(&f->disk, 0, 64 * 512);

        assert_int_equal(dm_io_sync(1, where, DM_IO_WRITE, &one, 0, &bits), 0);
        vectors[0].bv_len = 4096;
        assert_int_equal(dm_io_sync_bvec(1, where, DM_IO_WRITE, vectors, &bits), 0);
        assert_int_equal(never.calls, 0);
        assert_int_equal(dm_io_put(8), 0);
}

/* Links and vectors may be reused as soon as the call returns; the bytes may not. */
static void descriptions_are_free_after_the_call(void **state)
{
        struct fixture *f = *state;
        struct completion completion = COMPLETION_INIT;
        struct io_region where = scratch_region(&f->disk, 0, 24);
        static const unsigned int order[] = { 2, 0, 1 };
        struct page_list list[3];
        struct bio_vec vectors[3];

        assert_int_equal(dm_io_get(8), 0);
        for (unsigned int round = 1; round <= 50; round++) {
                pattern_fill(f->data, 3 * DMIO_PAGE_SIZE, round);
                link_pages(list, f->data, order, 3);
                flatten(list, 0, f->flat, 24 * 512);
                where.sector = 0;
                assert_int_equal(dm_io_async(1, &where, DM_IO_WRITE, list, 0, completion_notify,
                                             &completion),
                                 0);
                memset(list, 0xff, sizeof(list));
                vectors[0] = (struct bio_vec){ f->data, 8192, 0 };
                vectors[1] = (struct bio_vec){ &f->data[2], 4096, 0 };
                vectors[2] = (struct bio_vec){ NULL, 0, 0 };
                where.sector = 100;
                assert_int_equal(dm_io_async_bvec(1, &where, DM_IO_WRITE, vectors,
                                                  completion_notify, &completion),
                                 0);
                memset(vectors, 0xff, sizeof(vectors));
                completion_wait(&completion, 2 * round);
                assert_int_equal(completion.bits, 0);
                scratch_expect(&f->disk, 0, f->flat, 24 * 512);
                scratch_expect(&f->disk, 100 * 512, f->data, 24 * 512);
        }
        assert_int_equal(dm_io_put(8), 0);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(page_lists_have_any_offset_and_order, setup, teardown),
        cmocka_unit_test_setup_teardown(reading_into_a_page_list_keeps_the_guards, setup, teardown),
        cmocka_unit_test_setup_teardown(a_circular_list_is_used_again_and_again, setup, teardown),
        cmocka_unit_test_setup_teardown(bio_vectors_have_any_length, setup, teardown),
        cmocka_unit_test_setup_teardown(scattered_vectors_keep_what_lies_between, setup, teardown),
        cmocka_unit_test_setup_teardown(more_vectors_than_one_system_call_takes, setup, teardown),
        cmocka_unit_test_setup_teardown(plain_memory_lies_at_any_address, setup, teardown),
        cmocka_unit_test_setup_teardown(large_requests_are_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_that_is_too_short_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(descriptions_are_free_after_the_call, setup, teardown),
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
