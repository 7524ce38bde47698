/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fault rules: what they act on, how often, and what becomes of the requests. Two legs on scratch
 * images, an engine with its own thread, one request of two regions.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <dmio/fault.h>

#include "scratch.h"
#include "util/clock.h"

#define SECTORS 8192
#define BYTES ((size_t)SECTORS * 512)
#define MIB ((sector_t)2048)

struct fixture {
        struct dmio_engine *engine;
        struct dm_io_client *client;
        struct scratch legs[2];
        unsigned char *data, *back;
        struct dm_io_leg_error errors[2];
};

static int setup(void **state)
{
        const struct dmio_engine_options options = { .backend = test_backend() };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dm_io_client_create(f->engine, 64, &f->client), 0);
        for (int i = 0; i < 2; i++) {
                f->legs[i] = SCRATCH_NULL;
                scratch_init(&f->legs[i], SCRATCH_FILE, SECTORS, 0);
        }
        f->data = aligned_alloc(4096, BYTES);
        f->back = aligned_alloc(4096, BYTES);
        assert_true(f->data && f->back);
        pattern_fill(f->data, BYTES, 4711);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(dm_io_client_destroy(f->client), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        for (int i = 0; i < 2; i++)
                scratch_deinit(&f->legs[i]);
        free(f->data);
        free(f->back);
        free(f);
        return 0;
}

static unsigned long run(struct fixture *f, enum dm_io_op op, unsigned int flags, void *memory,
                         unsigned int n_legs, sector_t sector, sector_t count)
{
        struct io_region regions[2] = { scratch_region(&f->legs[0], sector, count),
                                        scratch_region(&f->legs[1], sector, count) };
        struct dm_io_request request = {
                .op = op,
                .flags = flags,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = memory },
                .client = f->client,
                .leg_errors = f->errors,
        };
        unsigned long bits = ~0UL;
        int r = dm_io(&request, n_legs, regions, &bits);

        assert_int_equal(r, bits ? -EIO : 0);
        return bits;
}

static unsigned long write_both(struct fixture *f, sector_t sector, sector_t count)
{
        return run(f, DM_IO_WRITE, 0, f->data, 2, sector, count);
}

static struct dmio_fault *add(struct fixture *f, struct dmio_fault_rule rule)
{
        struct dmio_fault *fault = NULL;

        assert_int_equal(dmio_fault_add(f->engine, &rule, &fault), 0);
        return fault;
}

static struct dmio_fault_stats stats(struct dmio_fault *fault)
{
        struct dmio_fault_stats s;

        dmio_fault_stats(fault, &s);
        return s;
}

static void one_leg_fails_and_the_other_is_written(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *fault = add(f, (struct dmio_fault_rule){ .leg = 1, .error = EREMOTEIO });

        assert_int_equal(write_both(f, 8, 16), 0x2);
        assert_int_equal(f->errors[0].error, 0);
        assert_int_equal(f->errors[1].error, EREMOTEIO);
        assert_int_equal(f->errors[1].sector, 8);
        scratch_expect(&f->legs[0], 8 * 512, f->data, 16 * 512);
        scratch_expect_zeroes(&f->legs[1], 0, BYTES);

        dmio_fault_remove(fault);
        assert_int_equal(write_both(f, 8, 16), 0);
        scratch_expect(&f->legs[1], 8 * 512, f->data, 16 * 512);
}

/* What lies before the bad range is written, and the error says where it was met. */
static void a_bad_range_has_a_beginning(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *fault = add(f, (struct dmio_fault_rule){ .ops = DMIO_FAULT_WRITE,
                                                                    .bdev = f->legs[0].bdev,
                                                                    .leg = -1,
                                                                    .sector = 1000,
                                                                    .count = 8,
                                                                    .error = EIO });

        assert_int_equal(write_both(f, 0, 3 * MIB), 0x1);
        assert_int_equal(f->errors[0].sector, 1000);
        scratch_expect(&f->legs[0], 0, f->data, 1000 * 512);
        scratch_expect_zeroes(&f->legs[0], 1000 * 512, (MIB - 1000) * 512);
        /* The pieces behind the one that failed are tried all the same. */
        scratch_expect(&f->legs[0], MIB * 512, f->data + MIB * 512, 2 * MIB * 512);
        scratch_expect(&f->legs[1], 0, f->data, 3 * MIB * 512);

        assert_int_equal(write_both(f, 1008, 8), 0);
        assert_int_equal(write_both(f, 992, 8), 0);
        assert_int_equal(stats(fault).hits, 1);
        dmio_fault_remove(fault);
}

static void the_piece_that_fails_reads_as_zeroes(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *fault;

        assert_int_equal(write_both(f, 0, 3 * MIB), 0);
        fault = add(f, (struct dmio_fault_rule){ .ops = DMIO_FAULT_READ,
                                                 .leg = -1,
                                                 .sector = MIB + 5,
                                                 .count = 1,
                                                 .error = ENODATA });
        memset(f->back, 0xff, BYTES);
        assert_int_equal(run(f, DM_IO_READ, 0, f->back, 1, 0, 3 * MIB), 0x1);
        assert_int_equal(f->errors[0].error, ENODATA);
        assert_int_equal(f->errors[0].sector, MIB + 5);
        assert_memory_equal(f->back, f->data, MIB * 512);
        for (size_t i = MIB * 512; i < 2 * MIB * 512; i++)
                assert_int_equal(f->back[i], 0);
        assert_memory_equal(f->back + 2 * MIB * 512, f->data + 2 * MIB * 512, MIB * 512);
        dmio_fault_remove(fault);
}

static void matches_are_skipped_and_counted(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *fault =
                add(f, (struct dmio_fault_rule){ .leg = 0, .skip = 2, .times = 2, .error = EIO });

        for (int i = 0; i < 6; i++)
                assert_int_equal(write_both(f, 0, 8), i == 2 || i == 3 ? 0x1 : 0);
        assert_int_equal(stats(fault).matches, 6);
        assert_int_equal(stats(fault).hits, 2);
        dmio_fault_remove(fault);
}

static void short_transfers_are_resumed(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *fault =
                add(f, (struct dmio_fault_rule){
                               .action = DMIO_FAULT_SHORT, .leg = -1, .bytes = 3 * 512 + 100 });

        assert_int_equal(write_both(f, 3, 64), 0);
        assert_int_equal(stats(fault).hits, 2 * 22); /* 64 sectors by threes, on two legs */
        scratch_expect(&f->legs[0], 3 * 512, f->data, 64 * 512);
        scratch_expect(&f->legs[1], 3 * 512, f->data, 64 * 512);
        memset(f->back, 0xff, BYTES);
        assert_int_equal(run(f, DM_IO_READ, 0, f->back + 1, 1, 3, 64), 0);
        assert_memory_equal(f->back + 1, f->data, 64 * 512);
        assert_int_equal(f->back[0], 0xff);
        assert_int_equal(f->back[1 + 64 * 512], 0xff);
        dmio_fault_remove(fault);
}

static void what_is_to_be_tried_again_is_no_error(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *again =
                add(f, (struct dmio_fault_rule){ .leg = -1, .times = 3, .error = EAGAIN });
        struct dmio_fault *interrupted =
                add(f, (struct dmio_fault_rule){ .leg = 1, .times = 1, .error = EINTR });

        assert_int_equal(write_both(f, 0, 8), 0);
        assert_int_equal(stats(again).hits, 3);
        assert_int_equal(stats(interrupted).hits, 1);
        scratch_expect(&f->legs[1], 0, f->data, 8 * 512);
        dmio_fault_remove(again);
        dmio_fault_remove(interrupted);
}

/* A flush that fails keeps the data of its leg from being written. */
static void flushes_fail_by_themselves(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *fault =
                add(f, (struct dmio_fault_rule){ .ops = DMIO_FAULT_FLUSH, .leg = 1, .error = EIO });

        assert_int_equal(run(f, DM_IO_WRITE, DM_IO_PREFLUSH, NULL, 2, 0, 0), 0x2);
        assert_int_equal(run(f, DM_IO_WRITE, DM_IO_PREFLUSH, f->data, 2, 0, 8), 0x2);
        scratch_expect(&f->legs[0], 0, f->data, 8 * 512);
        scratch_expect_zeroes(&f->legs[1], 0, BYTES);
        assert_int_equal(write_both(f, 0, 8), 0);
        dmio_fault_remove(fault);
}

/* Ten seconds at most. */
static void wait_held(struct dmio_fault *fault)
{
        const struct timespec pause = { .tv_nsec = 1000000 };

        for (int i = 0; i < 10000 && stats(fault).held == 0; i++)
                (void)nanosleep(&pause, NULL);
        assert_int_equal(stats(fault).held, 1);
}

static void held_until_it_is_let_go(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *fault =
                add(f, (struct dmio_fault_rule){ .action = DMIO_FAULT_HOLD, .leg = 1 });
        struct io_region regions[2] = { scratch_region(&f->legs[0], 0, 8),
                                        scratch_region(&f->legs[1], 0, 8) };
        struct completion completion = COMPLETION_INIT;
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = f->data },
                .client = f->client,
                .notify = { .fn = completion_notify, .context = &completion },
        };

        assert_int_equal(dm_io(&request, 2, regions, NULL), 0);
        wait_held(fault);
        scratch_expect_zeroes(&f->legs[1], 0, BYTES);
        assert_int_equal(completion.calls, 0);
        assert_int_equal(dmio_fault_release(fault), 1);
        completion_wait(&completion, 1);
        assert_int_equal(completion.bits, 0);
        scratch_expect(&f->legs[1], 0, f->data, 8 * 512);

        /* The end of a rule lets go, too. */
        assert_int_equal(dm_io(&request, 2, regions, NULL), 0);
        wait_held(fault);
        dmio_fault_remove(fault);
        completion_wait(&completion, 2);
        assert_int_equal(completion.bits, 0);
}

static void delays_end(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *slow =
                add(f, (struct dmio_fault_rule){
                               .action = DMIO_FAULT_DELAY, .leg = 0, .delay_us = 20000 });
        struct dmio_fault *slower =
                add(f, (struct dmio_fault_rule){
                               .action = DMIO_FAULT_DELAY, .leg = 1, .delay_us = 30000 });

        assert_int_equal(write_both(f, 0, 8), 0);
        assert_int_equal(stats(slow).hits, 1);
        assert_int_equal(stats(slower).hits, 1);
        scratch_expect(&f->legs[0], 0, f->data, 8 * 512);
        scratch_expect(&f->legs[1], 0, f->data, 8 * 512);
        dmio_fault_remove(slow);
        dmio_fault_remove(slower);
}

/* Its delay is an hour, or as long as it is there. */
static void a_delay_ends_with_its_rule(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *fault =
                add(f, (struct dmio_fault_rule){
                               .action = DMIO_FAULT_DELAY, .leg = 0, .delay_us = 3600000000 });
        struct io_region region = scratch_region(&f->legs[0], 0, 8);
        struct completion completion = COMPLETION_INIT;
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = f->data },
                .notify = { .fn = completion_notify, .context = &completion },
                .client = f->client,
        };

        assert_int_equal(dm_io(&request, 1, &region, NULL), 0);
        for (int i = 0; i < 5000 && stats(fault).hits == 0; i++)
                usleep(1000);
        assert_int_equal(stats(fault).hits, 1);
        assert_int_equal(completion.calls, 0);
        dmio_fault_remove(fault);
        completion_wait(&completion, 1);
        assert_int_equal(completion.bits, 0);
        scratch_expect(&f->legs[0], 0, f->data, 8 * 512);
}

static void a_rule_is_for_one_client(void **state)
{
        struct fixture *f = *state;
        struct dm_io_client *other, *own = f->client;
        struct dmio_fault *fault;

        assert_int_equal(dm_io_client_create(f->engine, 0, &other), 0);
        fault = add(f, (struct dmio_fault_rule){ .leg = -1, .client = other, .error = EIO });
        assert_int_equal(write_both(f, 0, 8), 0);
        f->client = other;
        assert_int_equal(write_both(f, 0, 8), 0x3);
        f->client = own;
        dmio_fault_remove(fault);
        assert_int_equal(dm_io_client_destroy(other), 0);
}

/* A flush is of the region that it is asked for. */
static void a_range_has_its_flushes(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *named = add(f, (struct dmio_fault_rule){ .ops = DMIO_FAULT_FLUSH,
                                                                    .leg = 1,
                                                                    .sector = 16,
                                                                    .count = 8,
                                                                    .error = EIO });
        struct dmio_fault *all = add(
                f, (struct dmio_fault_rule){ .leg = 0, .sector = 16, .count = 8, .error = EIO });

        assert_int_equal(run(f, DM_IO_WRITE, DM_IO_PREFLUSH, NULL, 2, 15, 0), 0);
        assert_int_equal(run(f, DM_IO_WRITE, DM_IO_PREFLUSH, NULL, 2, 16, 0), 0x2);
        assert_int_equal(run(f, DM_IO_WRITE, DM_IO_PREFLUSH, NULL, 2, 23, 0), 0x2);
        assert_int_equal(run(f, DM_IO_WRITE, DM_IO_PREFLUSH, NULL, 2, 24, 0), 0);
        assert_int_equal(stats(all).matches, 0);
        dmio_fault_remove(named);
        dmio_fault_remove(all);
}

/* Each region has its own time. */
static void a_slow_leg_is_done_later(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *slow =
                add(f, (struct dmio_fault_rule){
                               .action = DMIO_FAULT_DELAY, .leg = 1, .delay_us = 50000 });
        uint64_t before = now_usec();

        assert_int_equal(write_both(f, 0, 8), 0);
        assert_in_range(f->errors[0].done_usec, before, f->errors[1].done_usec);
        assert_in_range(f->errors[1].done_usec, before + 50000, now_usec());
        dmio_fault_remove(slow);
}

static void nonsense_is_refused(void **state)
{
        static const struct dmio_fault_rule rules[] = {
                { .leg = -1 },                               /* no error number */
                { .leg = -1, .error = -EIO },                /* a negative one */
                { .leg = -1, .error = EAGAIN },              /* for ever */
                { .leg = -2, .error = EIO },                 /* no such leg */
                { .leg = 64, .error = EIO },                 /* no such leg */
                { .leg = -1, .ops = 1u << 5, .error = EIO }, /* no such operation */
                { .leg = -1, .action = 99, .error = EIO },   /* no such action */
                { .leg = -1, .count = ~0ULL, .error = EIO }, /* no such range */
                { .leg = -1, .action = DMIO_FAULT_DELAY, .delay_us = ~0ULL },
        };
        const struct dmio_fault_rule good = { .leg = -1, .error = EIO };
        struct dmio_fault *fault = NULL;
        struct fixture *f = *state;

        for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
                assert_int_equal(dmio_fault_add(f->engine, &rules[i], &fault), -EINVAL);
        assert_int_equal(dmio_fault_add(NULL, &good, &fault), -EINVAL);
        assert_int_equal(dmio_fault_add(f->engine, NULL, &fault), -EINVAL);
        assert_int_equal(dmio_fault_add(f->engine, &good, NULL), -EINVAL);
        assert_null(fault);
        dmio_fault_remove(NULL);
        /* A rule that is left goes with its engine, in teardown. */
        (void)add(f, good);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(one_leg_fails_and_the_other_is_written),
                TEST(a_bad_range_has_a_beginning),
                TEST(the_piece_that_fails_reads_as_zeroes),
                TEST(matches_are_skipped_and_counted),
                TEST(short_transfers_are_resumed),
                TEST(what_is_to_be_tried_again_is_no_error),
                TEST(flushes_fail_by_themselves),
                TEST(held_until_it_is_let_go),
                TEST(delays_end),
                TEST(a_delay_ends_with_its_rule),
                TEST(a_rule_is_for_one_client),
                TEST(a_range_has_its_flushes),
                TEST(a_slow_leg_is_done_later),
                TEST(nonsense_is_refused),
        };

        if (!test_backend_works())
                return 77;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
