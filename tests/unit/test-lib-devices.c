/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Block devices of 512- and of 4096-byte blocks, alone and as legs of one request, used directly
 * and through the page cache: every operation; regions that are not whole blocks, which are refused
 * whole; memory at any byte, in every shape.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dmio/dmio.h>

#include "scratch.h"
#include "ways.h"

#define SECTORS 4096
#define BYTES ((size_t)SECTORS * 512)
#define N_DISKS 4

/* Two of each, so that a request of all has its legs in between. */
static const struct {
        enum scratch_kind kind;
        unsigned int flags;
        unsigned int block; /* in sectors */
} kinds[N_DISKS] = {
        { SCRATCH_LOOP, 0, 1 },
        { SCRATCH_LOOP_4096, 0, 8 },
        { SCRATCH_LOOP, DMIO_DEVICE_BUFFERED, 1 },
        { SCRATCH_LOOP_4096, DMIO_DEVICE_BUFFERED, 8 },
};

struct fixture {
        struct dmio_engine *engine;
        struct dm_io_client *client;
        struct scratch disks[N_DISKS];
        struct dmio_fault *counters[N_DISKS]; /* of all operations of the disk */
        struct dm_io_leg_error errors[N_DISKS];
        unsigned char *old, *data, *back; /* what is on the disks at first, what is written, read */
};

static int setup(void **state)
{
        const struct dmio_engine_options options = { .backend = test_backend() };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dm_io_client_create(f->engine, 16, &f->client), 0);
        f->old = aligned_alloc(4096, BYTES);
        f->data = aligned_alloc(4096, 2 * BYTES);
        f->back = aligned_alloc(4096, 2 * BYTES);
        assert_true(f->old && f->data && f->back);
        pattern_fill(f->old, BYTES, 7);
        pattern_fill(f->data, 2 * BYTES, 8);
        for (unsigned int i = 0; i < N_DISKS; i++) {
                struct dmio_fault_rule never = { .skip = UINT64_MAX, .leg = -1, .error = EIO };

                scratch_init(&f->disks[i], kinds[i].kind, SECTORS, kinds[i].flags);
                scratch_write(&f->disks[i], 0, f->old, BYTES);
                never.bdev = f->disks[i].bdev;
                assert_int_equal(dmio_fault_add(f->engine, &never, &f->counters[i]), 0);
        }
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(dm_io_client_destroy(f->client), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        for (unsigned int i = 0; i < N_DISKS; i++)
                scratch_deinit(&f->disks[i]);
        free(f->old);
        free(f->data);
        free(f->back);
        free(f);
        return 0;
}

static struct dm_io_memory flat(void *data)
{
        return (struct dm_io_memory){ .type = DM_IO_KMEM, .ptr.addr = data };
}

/* On the same range of @n disks from @first on; returns the bits. */
static unsigned long run(struct fixture *f, enum dm_io_op op, unsigned int flags,
                         struct dm_io_memory memory, unsigned int first, unsigned int n,
                         sector_t sector, sector_t count)
{
        struct dm_io_request request = {
                .op = op,
                .flags = flags,
                .mem = memory,
                .client = f->client,
                .leg_errors = f->errors,
        };
        struct io_region regions[N_DISKS];
        unsigned long bits = ~0UL;
        int r;

        for (unsigned int i = 0; i < n; i++)
                regions[i] = scratch_region(&f->disks[first + i], sector, count);
        r = dm_io(&request, n, regions, &bits);
        assert_int_equal(r, bits ? -EIO : 0);
        return bits;
}

static uint64_t issued(const struct fixture *f, unsigned int disk)
{
        struct dmio_fault_stats stats;

        dmio_fault_stats(f->counters[disk], &stats);
        return stats.matches;
}

/* The image under a device that goes through the page cache is behind until that is flushed. */
static void expect(struct fixture *f, unsigned int disk, const void *bytes)
{
        assert_int_equal(run(f, DM_IO_FLUSH, 0, flat(NULL), disk, 1, 0, 0), 0);
        scratch_expect(&f->disks[disk], 0, bytes, BYTES);
}

static void the_block_is_known(void **state)
{
        struct fixture *f = *state;

        for (unsigned int i = 0; i < N_DISKS; i++) {
                struct dmio_device_info info;

                dmio_device_info(f->disks[i].bdev, &info);
                assert_int_equal(info.logical_block, kinds[i].block * 512);
                assert_int_equal(info.physical_block, kinds[i].block * 512);
                assert_int_equal(info.direct, kinds[i].flags == 0);
                assert_int_equal(info.capacity, SECTORS);
        }
}

/* One after the other over the same disk; @model is what must be on it. */
static void every_operation(void **state)
{
        static const unsigned int flags[] = { 0, DM_IO_PREFLUSH, DM_IO_FUA,
                                              DM_IO_PREFLUSH | DM_IO_FUA | DM_IO_SYNC };
        struct fixture *f = *state;

        for (unsigned int disk = 0; disk < N_DISKS; disk++) {
                sector_t block = kinds[disk].block, at = block, count = 3 * block;
                unsigned char *model = malloc(BYTES);

                assert_non_null(model);
                memcpy(model, f->old, BYTES);
                for (unsigned int i = 0; i < 4; i++, at += 64) {
                        assert_int_equal(run(f, DM_IO_WRITE, flags[i], flat(f->data + 4096 * i),
                                             disk, 1, at, count),
                                         0);
                        memcpy(model + at * 512, f->data + 4096 * i, count * 512);
                }
                /* As much as takes several pieces, and the very last block. */
                assert_int_equal(run(f, DM_IO_WRITE, 0, flat(f->data), disk, 1, at, 3200), 0);
                memcpy(model + at * 512, f->data, (size_t)3200 * 512);
                assert_int_equal(
                        run(f, DM_IO_WRITE, 0, flat(f->data), disk, 1, SECTORS - block, block), 0);
                memcpy(model + BYTES - block * 512, f->data, block * 512);
                assert_int_equal(run(f, DM_IO_WRITE, DM_IO_PREFLUSH, flat(NULL), disk, 1, 0, 0), 0);
                expect(f, disk, model);
                memset(f->back, 0, BYTES);
                assert_int_equal(run(f, DM_IO_READ, 0, flat(f->back), disk, 1, 0, SECTORS), 0);
                assert_memory_equal(f->back, model, BYTES);

                assert_int_equal(
                        run(f, DM_IO_WRITE_ZEROES, 0, flat(NULL), disk, 1, block, 9 * block), 0);
                memset(model + block * 512, 0, 9 * block * 512);
                /* Whole units of 4096 bytes, which a loop device turns into holes. */
                assert_int_equal(run(f, DM_IO_DISCARD, 0, flat(NULL), disk, 1, 800, 1600), 0);
                memset(model + (size_t)800 * 512, 0, (size_t)1600 * 512);
                expect(f, disk, model);
                assert_int_equal(run(f, DM_IO_READ, 0, flat(f->back), disk, 1, 0, SECTORS), 0);
                assert_memory_equal(f->back, model, BYTES);

                /* Less than a unit may stay as it is, but what is beside it must. */
                assert_int_equal(run(f, DM_IO_DISCARD, 0, flat(NULL), disk, 1, block, block), 0);
                expect(f, disk, model);
                free(model);
        }
}

static void less_than_a_unit_is_discarded_or_not(void **state)
{
        static const struct {
                sector_t sector, count;
        } ranges[] = { { 1, 1 }, { 7, 2 }, { 9, 30 }, { 65, 7 } };
        struct fixture *f = *state;

        for (unsigned int i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
                size_t at = ranges[i].sector * 512, end = at + ranges[i].count * 512;

                assert_int_equal(run(f, DM_IO_DISCARD, 0, flat(NULL), 0, 1, ranges[i].sector,
                                     ranges[i].count),
                                 0);
                scratch_read(&f->disks[0], 0, f->back, BYTES);
                for (; at < end; at += 512)
                        if (memcmp(f->back + at, f->old + at, 512) != 0)
                                memset(f->old + at, 0, 512);
                expect(f, 0, f->old);
        }
}

/* Of all legs those fail that cannot; of them nothing is read or written. */
static void regions_that_are_no_blocks_are_refused_whole(void **state)
{
        static const struct {
                sector_t sector, count;
        } ranges[] = { { 1, 8 }, { 8, 1 }, { 7, 8 }, { 0, 12 }, { 4, 2049 }, { 8, 2049 } };
        static const enum dm_io_op ops[] = { DM_IO_WRITE, DM_IO_DISCARD, DM_IO_WRITE_ZEROES };
        struct fixture *f = *state;

        for (unsigned int i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
                sector_t sector = ranges[i].sector, count = ranges[i].count;

                for (unsigned int j = 0; j < sizeof(ops) / sizeof(ops[0]); j++) {
                        assert_int_equal(
                                run(f, ops[j], 0, flat(f->data), 0, N_DISKS, sector, count), 0xa);
                        for (unsigned int disk = 0; disk < N_DISKS; disk++) {
                                assert_int_equal(f->errors[disk].error, disk % 2 ? EINVAL : 0);
                                if (disk % 2)
                                        assert_int_equal(f->errors[disk].sector, sector);
                        }
                }
                for (unsigned int disk = 1; disk < N_DISKS; disk += 2) {
                        memset(f->back, 1, count * 512 + 1);
                        assert_int_equal(
                                run(f, DM_IO_READ, 0, flat(f->back), disk, 1, sector, count), 1);
                        assert_int_equal(f->errors[0].error, EINVAL);
                        for (size_t k = 0; k < count * 512; k++)
                                assert_int_equal(f->back[k], 0);
                        assert_int_equal(f->back[count * 512], 1);
                }
                scratch_expect_zeroes(&f->disks[0], sector * 512, count * 512);
        }
        for (unsigned int disk = 0; disk < N_DISKS; disk++) {
                if (disk % 2 == 0) {
                        assert_true(issued(f, disk) > 0);
                        continue;
                }
                assert_int_equal(issued(f, disk), 0);
                expect(f, disk, f->old);
        }

        /* Not for want of alignment but of room. */
        assert_int_equal(run(f, DM_IO_WRITE, 0, flat(f->data), 0, N_DISKS, SECTORS - 7, 8), 0xf);
        for (unsigned int disk = 0; disk < N_DISKS; disk++)
                assert_int_equal(f->errors[disk].error, ENOSPC);
}

static struct dm_io_memory memory_make(enum way_memory shape, void *data, size_t length)
{
        static const unsigned int lengths[] = { 1, 7, 511, 4096, 512, 10000 };
        struct dm_io_memory memory = flat(data);

        switch (shape) {
        case WAY_PAGE_LIST:
                memory.type = DM_IO_PAGE_LIST;
                memory.offset = (unsigned int)((uintptr_t)data % DMIO_PAGE_SIZE);
                memory.ptr.pl = page_list_new(data, length);
                break;
        case WAY_BVEC:
                memory.type = DM_IO_BVEC;
                memory.ptr.bvec = bvec_new(data, length, lengths, 6);
                break;
        case WAY_VM:
                break;
        }
        return memory;
}

static void memory_free(struct dm_io_memory memory)
{
        if (memory.type == DM_IO_PAGE_LIST)
                free((void *)(uintptr_t)memory.ptr.pl);
        else if (memory.type == DM_IO_BVEC)
                free((void *)(uintptr_t)memory.ptr.bvec);
}

/* Written from one alignment to all legs, and read into another one from each. */
static void memory_of_any_alignment(void **state)
{
        static const size_t offsets[] = { 0, 1, 7, 511, 512, 4095 };
        static const sector_t counts[] = { 8, 24, 1000 };
        const unsigned int n = sizeof(offsets) / sizeof(offsets[0]);
        struct fixture *f = *state;

        for (unsigned int i = 0; i < 3 * n * 3; i++) {
                size_t from = offsets[i % n], to = offsets[(i + 1 + i / n) % n];
                enum way_memory shape = (enum way_memory)(i / n % 3);
                sector_t count = counts[i / n / 3], sector = 8 * (i + 1);
                size_t length = count * 512;
                struct dm_io_memory memory;

                memory = memory_make(shape, f->data + from, length);
                assert_int_equal(run(f, DM_IO_WRITE, 0, memory, 0, N_DISKS, sector, count), 0);
                memory_free(memory);
                for (unsigned int disk = 0; disk < N_DISKS; disk++) {
                        memset(f->back, 0x5a, to + length + 1);
                        memory = memory_make(shape, f->back + to, length);
                        assert_int_equal(run(f, DM_IO_READ, 0, memory, disk, 1, sector, count), 0);
                        memory_free(memory);
                        assert_memory_equal(f->back + to, f->data + from, length);
                        for (size_t k = 0; k < to; k++)
                                assert_int_equal(f->back[k], 0x5a);
                        assert_int_equal(f->back[to + length], 0x5a);
                }
        }
}

/*
 * Ranges that do not lie behind each other, of whole sectors but not of whole blocks: more of them
 * than one operation takes, so that it has to end where a block does.
 */
static void memory_in_many_places(void **state)
{
        static const unsigned int lengths[] = { 512, 1024, 1536, 512 };
        enum { N = 601 };
        struct fixture *f = *state;
        struct dm_io_memory memory = { .type = DM_IO_BVEC, .n_bvec = N };
        struct bio_vec *vectors = calloc(N, sizeof(*vectors));
        size_t length = 0, at = 0;

        assert_non_null(vectors);
        for (unsigned int i = 0; i < N; i++) {
                unsigned char *place = f->data + at;

                vectors[i] = (struct bio_vec){
                        .bv_page = virt_to_page(place),
                        .bv_len = lengths[i % 4],
                        .bv_offset = (unsigned int)((uintptr_t)place % DMIO_PAGE_SIZE),
                };
                memcpy(f->old + 4096 + length, place, lengths[i % 4]);
                length += lengths[i % 4];
                at += lengths[i % 4] + 512;
        }
        memory.ptr.bvec = vectors;
        length = length / 4096 * 4096;
        assert_true(4096 + length < BYTES && at < 2 * BYTES);
        assert_int_equal(run(f, DM_IO_WRITE, 0, memory, 0, N_DISKS, 8, length / 512), 0);
        pattern_fill(f->data, BYTES, 7);
        memcpy(f->data, f->old, 4096 + length);
        for (unsigned int disk = 0; disk < N_DISKS; disk++)
                expect(f, disk, f->data);
        free(vectors);
}

/* Blocks that fit all, and blocks that fit some: the same bytes, as far as they go. */
static void legs_of_different_blocks(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(run(f, DM_IO_WRITE, DM_IO_FUA, flat(f->data + 1), 0, N_DISKS, 16, 3000),
                         0);
        memcpy(f->old + 16 * 512, f->data + 1, (size_t)3000 * 512);
        for (unsigned int disk = 0; disk < N_DISKS; disk++)
                expect(f, disk, f->old);
        assert_int_equal(run(f, DM_IO_WRITE, 0, flat(f->data + 7), 0, N_DISKS, 17, 999), 0xa);
        for (unsigned int disk = 1; disk < N_DISKS; disk += 2)
                expect(f, disk, f->old);
        memcpy(f->old + 17 * 512, f->data + 7, (size_t)999 * 512);
        for (unsigned int disk = 0; disk < N_DISKS; disk += 2)
                expect(f, disk, f->old);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(the_block_is_known, setup, teardown),
                cmocka_unit_test_setup_teardown(every_operation, setup, teardown),
                cmocka_unit_test_setup_teardown(less_than_a_unit_is_discarded_or_not, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(regions_that_are_no_blocks_are_refused_whole, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(memory_of_any_alignment, setup, teardown),
                cmocka_unit_test_setup_teardown(memory_in_many_places, setup, teardown),
                cmocka_unit_test_setup_teardown(legs_of_different_blocks, setup, teardown),
        };

        if (!test_backend_works())
                return 77;
        if (!scratch_kind_works(SCRATCH_LOOP_4096)) {
                print_message("SKIP: needs loop devices of both block sizes\n");
                return 77;
        }
        return cmocka_run_group_tests_name("block devices", tests, NULL, NULL);
}
