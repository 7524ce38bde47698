/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The copier beyond the numbered cases: job handles (progress, cancel, errors, how long they last),
 * clients on somebody else's account, callers on several threads, in callbacks, and in an event
 * loop of their own.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <dmio/dmio.h>

#include "scratch.h"

#define CHUNK ((sector_t)1024)
#define SECTORS (20 * CHUNK)
#define BYTES ((size_t)SECTORS * 512)

struct fixture {
        struct dmio_engine *engine;
        struct dm_kcopyd_client *kc;
        struct scratch source, dest;
        unsigned char *data;
        struct dmio_fault *faults[4];
};

static int setup(void **state)
{
        const struct dmio_engine_options options = { .backend = test_backend() };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dm_kcopyd_client_create(f->engine, NULL, &f->kc), 0);
        scratch_init(&f->source, SCRATCH_FILE, SECTORS, 0);
        scratch_init(&f->dest, SCRATCH_FILE, SECTORS, 0);
        f->data = malloc(BYTES);
        assert_non_null(f->data);
        pattern_fill(f->data, BYTES, 4711);
        scratch_write(&f->source, 0, f->data, BYTES);
        *state = f;
        return 0;
}

/* Ends a rule; the teardown does that for those that a test which fails leaves behind. */
static void end(struct fixture *f, struct dmio_fault *fault)
{
        for (unsigned int i = 0; i < 4; i++)
                if (f->faults[i] == fault)
                        f->faults[i] = NULL;
        dmio_fault_remove(fault);
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        struct dmio_pool_stats stats;

        for (unsigned int i = 0; i < 4; i++)
                end(f, f->faults[i]);
        assert_int_equal(dm_kcopyd_client_destroy(f->kc), 0);
        dmio_pool_stats(f->engine, &stats);
        assert_int_equal(stats.in_use, 0);
        assert_int_equal(stats.reserved, 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        scratch_deinit(&f->source);
        scratch_deinit(&f->dest);
        free(f->data);
        free(f);
        return 0;
}

/* --- copies */

struct told {
        struct completion completion; /* the bits are the write errors */
        int read_err;
};

#define TOLD_INIT                                                                                  \
        {                                                                                          \
                .completion = COMPLETION_INIT                                                      \
        }

static void told_notify(int read_err, unsigned long write_err, void *context)
{
        struct told *told = context;

        told->read_err |= read_err;
        completion_notify(write_err, &told->completion);
}

static unsigned int calls(struct told *told)
{
        unsigned int n;

        (void)pthread_mutex_lock(&told->completion.lock);
        n = told->completion.calls;
        (void)pthread_mutex_unlock(&told->completion.lock);
        return n;
}

/* A copy of the first @count sectors to the same place. */
static struct dm_kcopyd_job *copy(struct fixture *f, sector_t count, unsigned int flags,
                                  struct told *told)
{
        struct io_region from = scratch_region(&f->source, 0, count);
        struct io_region dest = scratch_region(&f->dest, 0, count);
        struct dm_kcopyd_job *job = NULL;

        assert_int_equal(dm_kcopyd_copy(f->kc, &from, 1, &dest, flags, told_notify, told, &job), 0);
        assert_non_null(job);
        return job;
}

static struct dm_kcopyd_job_status status(struct dm_kcopyd_job *job)
{
        struct dm_kcopyd_job_status s;

        dm_kcopyd_job_status(job, &s);
        return s;
}

static void expect_told(struct told *told, int read_err, unsigned long write_err)
{
        completion_wait(&told->completion, 1);
        assert_int_equal(calls(told), 1);
        assert_int_equal(told->completion.bits, write_err);
        assert_int_equal(told->read_err, read_err);
}

static struct dmio_fault *add(struct fixture *f, const struct dmio_fault_rule *rule)
{
        unsigned int i = 0;

        while (f->faults[i])
                assert_true(++i < 4);
        assert_int_equal(dmio_fault_add(f->engine, rule, &f->faults[i]), 0);
        return f->faults[i];
}

static struct dmio_fault *hold(struct fixture *f, unsigned int ops, sector_t sector, sector_t count)
{
        const struct dmio_fault_rule rule = {
                .action = DMIO_FAULT_HOLD,
                .ops = ops,
                .leg = -1,
                .sector = sector,
                .count = count,
        };

        return add(f, &rule);
}

static void moment(void)
{
        const struct timespec pause = { .tv_nsec = 1000000 };

        (void)nanosleep(&pause, NULL);
}

static uint64_t held(struct dmio_fault *fault)
{
        struct dmio_fault_stats stats;

        dmio_fault_stats(fault, &stats);
        return stats.held;
}

static void wait_held(struct dmio_fault *fault, uint64_t n)
{
        for (unsigned int i = 0; held(fault) < n; i++) {
                assert_true(i < 20000);
                moment();
        }
}

static struct dm_kcopyd_client_stats client_stats(struct dm_kcopyd_client *kc)
{
        struct dm_kcopyd_client_stats stats;

        dm_kcopyd_client_stats(kc, &stats);
        return stats;
}

/* --- jobs */

static void progress_goes_up_to_the_total(void **state)
{
        struct fixture *f = *state;
        static struct told told = TOLD_INIT;
        struct dmio_fault *last = hold(f, DMIO_FAULT_WRITE, SECTORS - CHUNK, CHUNK);
        struct dm_kcopyd_job *job = copy(f, SECTORS, 0, &told);
        struct dm_kcopyd_job_status s;
        sector_t before = 0;

        do {
                s = status(job);
                assert_int_equal(s.state, DM_KCOPYD_JOB_RUNNING);
                assert_int_equal(s.total, SECTORS);
                assert_int_equal(s.num_dests, 1);
                assert_true(s.done >= before);
                before = s.done;
        } while (s.done < SECTORS - CHUNK);
        /* What is being written does not count. */
        wait_held(last, 1);
        assert_int_equal(status(job).done, SECTORS - CHUNK);
        assert_int_equal(calls(&told), 0);
        end(f, last);
        expect_told(&told, 0, 0);
        s = status(job);
        assert_int_equal(s.state, DM_KCOPYD_JOB_DONE);
        assert_int_equal(s.done, SECTORS);
        scratch_expect(&f->dest, 0, f->data, BYTES);
        dm_kcopyd_job_unref(job);
}

/* 8 chunks are being read: they are written, and no other is begun. */
static void cancel_lets_finish_what_runs(void **state)
{
        struct fixture *f = *state;
        static struct told told = TOLD_INIT;
        struct dmio_fault *reads = hold(f, DMIO_FAULT_READ, 0, SECTORS);
        struct dm_kcopyd_job *job = copy(f, SECTORS, 0, &told);

        wait_held(reads, DM_KCOPYD_SUB_JOBS);
        dm_kcopyd_job_cancel(job);
        dm_kcopyd_job_cancel(job);
        assert_int_equal(dm_kcopyd_client_flush(f->kc), 0);
        assert_int_equal(status(job).state, DM_KCOPYD_JOB_RUNNING);
        assert_int_equal(calls(&told), 0);
        end(f, reads);
        expect_told(&told, 0, 0);
        assert_int_equal(status(job).state, DM_KCOPYD_JOB_CANCELLED);
        assert_int_equal(status(job).done, DM_KCOPYD_SUB_JOBS * CHUNK);
        assert_int_equal(client_stats(f->kc).sub_jobs, DM_KCOPYD_SUB_JOBS);
        scratch_expect(&f->dest, 0, f->data, DM_KCOPYD_SUB_JOBS * CHUNK * 512);
        scratch_expect_zeroes(&f->dest, DM_KCOPYD_SUB_JOBS * CHUNK * 512, 12 * CHUNK * 512);
        dm_kcopyd_job_cancel(job);
        assert_int_equal(status(job).state, DM_KCOPYD_JOB_CANCELLED);
        dm_kcopyd_job_unref(job);
}

/* Chunks that have been read and wait for their turn are written in it, also after a cancel. */
static void cancel_in_sequence(void **state)
{
        struct fixture *f = *state;
        static struct told told = TOLD_INIT;
        struct dmio_fault *first = hold(f, DMIO_FAULT_READ, 0, CHUNK);
        struct dmio_fault *eighth = hold(f, DMIO_FAULT_READ, 7 * CHUNK, CHUNK);
        struct dm_kcopyd_job *job = copy(f, SECTORS, DM_KCOPYD_WRITE_SEQ, &told);

        wait_held(first, 1);
        wait_held(eighth, 1);
        dm_kcopyd_job_cancel(job);
        end(f, first);
        end(f, eighth);
        expect_told(&told, 0, 0);
        assert_int_equal(status(job).state, DM_KCOPYD_JOB_CANCELLED);
        assert_int_equal(status(job).done, DM_KCOPYD_SUB_JOBS * CHUNK);
        scratch_expect(&f->dest, 0, f->data, DM_KCOPYD_SUB_JOBS * CHUNK * 512);
        dm_kcopyd_job_unref(job);
}

/* Those that wait for pages have not begun: they are given up, one job does not hold up another. */
static void cancel_of_who_waits_for_pages(void **state)
{
        struct fixture *f = *state;
        static struct told told = TOLD_INIT, other_told = TOLD_INIT;
        struct dm_io_client *greedy;
        struct page_list *rest = NULL, **last = &rest;
        struct dm_kcopyd_job *job, *other;
        struct dmio_fault *reads;

        assert_int_equal(dm_io_client_create(f->engine, 0, &greedy), 0);
        for (unsigned int n = DMIO_PAGES_MAX; n > 0; n /= 2)
                while ((*last = dmio_pages_get(greedy, n)) != NULL)
                        while (*last)
                                last = &(*last)->next;
        reads = hold(f, DMIO_FAULT_READ, 0, CHUNK);
        job = copy(f, SECTORS, 0, &told);
        wait_held(reads, 1);
        other = copy(f, SECTORS, 0, &other_told);
        assert_int_equal(dm_kcopyd_client_flush(f->kc), 0);
        dm_kcopyd_job_cancel(other);
        expect_told(&other_told, 0, 0);
        assert_int_equal(status(other).state, DM_KCOPYD_JOB_CANCELLED);
        assert_int_equal(status(other).done, 0);
        dm_kcopyd_job_cancel(job);
        assert_int_equal(dm_kcopyd_client_flush(f->kc), 0);
        assert_int_equal(calls(&told), 0);
        end(f, reads);
        expect_told(&told, 0, 0);
        assert_int_equal(status(job).done, CHUNK);
        dmio_pages_put(greedy, rest);
        assert_int_equal(dm_io_client_destroy(greedy), 0);
        dm_kcopyd_job_unref(job);
        dm_kcopyd_job_unref(other);
}

/* What is told of a destination is the first error, though there is another. */
static void the_first_error_is_told(void **state)
{
        struct fixture *f = *state;
        static struct told told = TOLD_INIT;
        struct dmio_fault *third = hold(f, DMIO_FAULT_READ, 2 * CHUNK, CHUNK);
        struct dmio_fault_rule rule = {
                .action = DMIO_FAULT_ERROR,
                .ops = DMIO_FAULT_WRITE,
                .leg = -1,
                .sector = CHUNK,
                .count = CHUNK,
                .error = EREMOTEIO,
        };
        struct dm_kcopyd_job *job;

        (void)add(f, &rule);
        rule.sector = 2 * CHUNK;
        rule.error = EIO;
        (void)add(f, &rule);
        job = copy(f, 4 * CHUNK, DM_KCOPYD_IGNORE_ERROR, &told);
        for (unsigned int i = 0; status(job).write_err == 0; i++) {
                assert_true(i < 20000);
                moment();
        }
        end(f, third);
        expect_told(&told, 0, 1);
        assert_int_equal(status(job).dests[0].error, EREMOTEIO);
        assert_int_equal(status(job).dests[0].sector, CHUNK);
        scratch_expect_zeroes(&f->dest, CHUNK * 512, 2 * CHUNK * 512);
        scratch_expect(&f->dest, 3 * CHUNK * 512, f->data + 3 * CHUNK * 512, CHUNK * 512);
        dm_kcopyd_job_unref(job);
}

static void a_cancel_that_comes_too_late(void **state)
{
        struct fixture *f = *state;
        static struct told told = TOLD_INIT;
        struct dm_kcopyd_job *job = copy(f, CHUNK, 0, &told);

        expect_told(&told, 0, 0);
        dm_kcopyd_job_cancel(job);
        assert_int_equal(status(job).state, DM_KCOPYD_JOB_DONE);
        dm_kcopyd_job_unref(job);
}

static void a_handle_outlasts_its_client(void **state)
{
        struct fixture *f = *state;
        static struct told told = TOLD_INIT;
        struct dm_kcopyd_job *job = copy(f, SECTORS, 0, &told);

        assert_int_equal(dm_kcopyd_client_destroy(f->kc), 0);
        assert_int_equal(calls(&told), 1);
        f->kc = NULL;
        dm_kcopyd_job_cancel(job);
        assert_int_equal(status(job).state, DM_KCOPYD_JOB_DONE);
        assert_ptr_equal(dm_kcopyd_job_ref(job), job);
        dm_kcopyd_job_unref(job);
        dm_kcopyd_job_unref(job);
        dm_kcopyd_job_unref(NULL);
}

/* --- regions that do not fit fail whole */

static void a_destination_that_does_not_fit(void **state)
{
        struct fixture *f = *state;
        struct io_region from = scratch_region(&f->source, 0, 4 * CHUNK);
        struct io_region dests[2] = { scratch_region(&f->dest, SECTORS - 3 * CHUNK, 4 * CHUNK),
                                      scratch_region(&f->dest, 0, 4 * CHUNK) };
        static struct told told = TOLD_INIT;
        struct dm_kcopyd_job *job;

        assert_int_equal(dm_kcopyd_copy(f->kc, &from, 2, dests, DM_KCOPYD_IGNORE_ERROR, told_notify,
                                        &told, &job),
                         0);
        expect_told(&told, 0, 0x1);
        assert_int_equal(status(job).state, DM_KCOPYD_JOB_FAILED);
        assert_int_equal(status(job).dests[0].error, ENOSPC);
        assert_int_equal(status(job).dests[0].sector, SECTORS - 3 * CHUNK);
        assert_int_equal(status(job).dests[1].error, 0);
        scratch_expect(&f->dest, 0, f->data, 4 * CHUNK * 512);
        scratch_expect_zeroes(&f->dest, (SECTORS - 3 * CHUNK) * 512, 3 * CHUNK * 512);
        assert_int_equal(scratch_size(&f->dest), BYTES);
        dm_kcopyd_job_unref(job);

        /* Not even when the sum overflows. */
        told = (struct told)TOLD_INIT;
        dests[0].sector = UINT64_MAX - 7;
        assert_int_equal(dm_kcopyd_zero(f->kc, 1, dests, 0, told_notify, &told, &job), 0);
        expect_told(&told, 0, 0x1);
        assert_int_equal(status(job).dests[0].error, ENOSPC);
        dm_kcopyd_job_unref(job);
}

static void a_source_that_does_not_fit(void **state)
{
        struct fixture *f = *state;
        struct io_region from = scratch_region(&f->source, SECTORS - CHUNK, 2 * CHUNK);
        struct io_region dest = scratch_region(&f->dest, 8, 2 * CHUNK);
        static struct told told = TOLD_INIT;
        struct dm_kcopyd_job *job;

        scratch_write(&f->dest, 0, f->data, 3 * CHUNK * 512);
        assert_int_equal(dm_kcopyd_copy(f->kc, &from, 1, &dest, 0, told_notify, &told, &job), 0);
        expect_told(&told, 1, 0);
        assert_int_equal(status(job).source.error, EIO);
        assert_int_equal(status(job).source.sector, SECTORS - CHUNK);
        assert_int_equal(status(job).done, 0);
        scratch_expect(&f->dest, 0, f->data, 3 * CHUNK * 512);
        dm_kcopyd_job_unref(job);

        told = (struct told)TOLD_INIT;
        assert_int_equal(dm_kcopyd_copy(f->kc, &from, 1, &dest, DM_KCOPYD_IGNORE_ERROR, told_notify,
                                        &told, NULL),
                         0);
        expect_told(&told, 1, 0);
        scratch_expect(&f->dest, 0, f->data, 8 * 512);
        scratch_expect_zeroes(&f->dest, 8 * 512, 2 * CHUNK * 512);
}

static void what_is_refused(void **state)
{
        struct fixture *f = *state;
        struct io_region from = scratch_region(&f->source, 0, 64);
        struct io_region dest = scratch_region(&f->dest, 0, 64), missing = { .count = 64 };
        struct dm_kcopyd_options options = { .sub_job_sectors = 2049 };
        struct dmio_device_info info;
        static struct told told = TOLD_INIT;
        struct dm_kcopyd_client *kc = NULL;

        assert_int_equal(dm_kcopyd_copy(NULL, &from, 1, &dest, 0, told_notify, &told, NULL),
                         -EINVAL);
        assert_int_equal(dm_kcopyd_copy(f->kc, NULL, 1, &dest, 0, told_notify, &told, NULL),
                         -EINVAL);
        assert_int_equal(dm_kcopyd_copy(f->kc, &from, 1, NULL, 0, told_notify, &told, NULL),
                         -EINVAL);
        assert_int_equal(dm_kcopyd_copy(f->kc, &from, 1, &dest, 0, NULL, &told, NULL), -EINVAL);
        assert_int_equal(dm_kcopyd_copy(f->kc, &missing, 1, &dest, 0, told_notify, &told, NULL),
                         -EINVAL);
        assert_int_equal(dm_kcopyd_zero(f->kc, 1, &missing, 0, told_notify, &told, NULL), -EINVAL);
        assert_int_equal(dm_kcopyd_copy(f->kc, &from, 1, &dest, 1, told_notify, &told, NULL),
                         -EINVAL);
        assert_int_equal(dm_kcopyd_copy(f->kc, &from, 1, &dest, 8, told_notify, &told, NULL),
                         -EINVAL);
        assert_null(dm_kcopyd_prepare_callback(f->kc, NULL, &told));
        dmio_device_info(f->dest.bdev, &info);
        if (info.logical_block > 512) {
                dest.sector = 1;
                assert_int_equal(
                        dm_kcopyd_copy(f->kc, &from, 1, &dest, 0, told_notify, &told, NULL),
                        -EINVAL);
        }

        assert_int_equal(dm_kcopyd_client_create(NULL, NULL, &kc), -EINVAL);
        assert_int_equal(dm_kcopyd_client_create(f->engine, NULL, NULL), -EINVAL);
        assert_int_equal(dm_kcopyd_client_create(f->engine, &options, &kc), -EINVAL);
        options = (struct dm_kcopyd_options){ .throttle = 101 };
        assert_int_equal(dm_kcopyd_client_create(f->engine, &options, &kc), -EINVAL);
        assert_null(kc);
        assert_int_equal(dm_kcopyd_client_destroy(NULL), 0);
        assert_int_equal(dm_kcopyd_client_flush(f->kc), 0);
        assert_int_equal(calls(&told), 0);
}

/* --- the throttle */

/*
 * A copy that may be busy one percent of the time, and has been for long enough that the writes
 * have to wait for seconds. They are held when they come.
 */
static struct dm_kcopyd_job *copy_that_rests(struct fixture *f, struct told *told,
                                             struct dmio_fault **ret_writes)
{
        struct dmio_fault *reads = hold(f, DMIO_FAULT_READ, 0, SECTORS);
        struct dm_kcopyd_job *job;

        *ret_writes = hold(f, DMIO_FAULT_WRITE, 0, SECTORS);
        job = copy(f, SECTORS, 0, told);
        wait_held(reads, DM_KCOPYD_SUB_JOBS);
        assert_int_equal(dm_kcopyd_client_set_throttle(f->kc, 1), 0);
        assert_int_equal(client_stats(f->kc).throttle, 1);
        assert_int_equal(dm_kcopyd_client_flush(f->kc), 0);
        for (unsigned int i = 0; i < 50; i++)
                moment();
        end(f, reads);
        for (unsigned int i = 0; client_stats(f->kc).pauses == 0; i++) {
                assert_true(i < 20000);
                moment();
        }
        assert_int_equal(calls(told), 0);
        return job;
}

static void the_throttle_is_lifted(void **state)
{
        struct fixture *f = *state;
        static struct told told = TOLD_INIT;
        struct dmio_fault *writes;
        struct dm_kcopyd_job *job = copy_that_rests(f, &told, &writes);

        assert_int_equal(dm_kcopyd_client_set_throttle(f->kc, 0), 0);
        assert_int_equal(client_stats(f->kc).throttle, 100);
        /* It was not the time that brought them. */
        assert_int_equal(dm_kcopyd_client_flush(f->kc), 0);
        assert_true(held(writes) > 0);
        end(f, writes);
        expect_told(&told, 0, 0);
        scratch_expect(&f->dest, 0, f->data, BYTES);
        dm_kcopyd_job_unref(job);
}

/* What has been read by a cancelled job is written at once. */
static void cancel_does_not_wait_for_the_throttle(void **state)
{
        struct fixture *f = *state;
        static struct told told = TOLD_INIT;
        struct dmio_fault *writes;
        struct dm_kcopyd_job *job = copy_that_rests(f, &told, &writes);

        dm_kcopyd_job_cancel(job);
        assert_int_equal(dm_kcopyd_client_flush(f->kc), 0);
        assert_true(held(writes) > 0);
        end(f, writes);
        expect_told(&told, 0, 0);
        assert_int_equal(status(job).state, DM_KCOPYD_JOB_CANCELLED);
        assert_true(status(job).done > 0);
        scratch_expect(&f->dest, 0, f->data, status(job).done * 512);
        dm_kcopyd_job_unref(job);
}

/* --- accounts */

static void on_somebody_elses_account(void **state)
{
        struct fixture *f = *state;
        struct dm_kcopyd_options options = { .sub_job_sectors = 64 };
        struct io_region from = scratch_region(&f->source, 0, SECTORS);
        struct io_region dest = scratch_region(&f->dest, 0, SECTORS);
        static struct told told = TOLD_INIT;
        struct dm_io_client_stats stats;
        struct dm_kcopyd_client *kc;

        assert_int_equal(dm_io_client_create(f->engine, 8, &options.io_client), 0);
        assert_int_equal(dm_kcopyd_client_create(f->engine, &options, &kc), 0);
        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, told_notify, &told, NULL), 0);
        expect_told(&told, 0, 0);
        scratch_expect(&f->dest, 0, f->data, BYTES);
        assert_int_equal(client_stats(kc).sub_jobs, SECTORS / 64);
        dm_io_client_stats(options.io_client, &stats);
        assert_int_equal(stats.reserved, 8);
        assert_int_equal(stats.in_use, 0);
        assert_int_equal(stats.requests, 2 * SECTORS / 64);
        assert_int_equal(dm_kcopyd_client_destroy(kc), 0);
        assert_int_equal(dm_io_client_destroy(options.io_client), 0);
}

/* Pages that its client lacks are waited for; those that it can never have are an error. */
static void without_a_reservation(void **state)
{
        struct fixture *f = *state;
        struct dmio_engine_options small = { .backend = test_backend(), .floor_pages = 16 };
        struct dm_kcopyd_options options = { .sub_job_sectors = 128 };
        struct io_region from = scratch_region(&f->source, 0, CHUNK);
        struct io_region dest = scratch_region(&f->dest, 0, CHUNK);
        static struct told told = TOLD_INIT, other = TOLD_INIT;
        struct page_list *pages, *rest = NULL, **last = &rest;
        struct dm_kcopyd_client *kc;
        struct dm_kcopyd_job *job;
        struct dm_io_client_stats stats;
        struct dmio_engine *engine;

        assert_int_equal(dmio_engine_create(&small, &engine), 0);
        assert_int_equal(dm_io_client_create(engine, 0, &options.io_client), 0);
        assert_int_equal(dm_kcopyd_client_create(engine, &options, &kc), 0);
        pages = dmio_pages_get(options.io_client, 16);
        assert_non_null(pages);
        for (unsigned int n = DMIO_PAGES_MAX; n > 0; n /= 2)
                while ((*last = dmio_pages_get(options.io_client, n)) != NULL)
                        while (*last)
                                last = &(*last)->next;
        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, told_notify, &told, NULL), 0);
        assert_int_equal(dm_kcopyd_client_flush(kc), 0);
        dm_io_client_stats(options.io_client, &stats);
        assert_int_equal(stats.waits, 1);
        assert_int_equal(calls(&told), 0);
        dmio_pages_put(options.io_client, pages);
        expect_told(&told, 0, 0);
        scratch_expect(&f->dest, 0, f->data, CHUNK * 512);
        assert_int_equal(dm_kcopyd_client_destroy(kc), 0);

        options.sub_job_sectors = 256;
        assert_int_equal(dm_kcopyd_client_create(engine, &options, &kc), 0);
        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, told_notify, &other, &job), 0);
        expect_told(&other, 1, 0);
        assert_int_equal(status(job).source.error, ENOMEM);
        dm_kcopyd_job_unref(job);
        assert_int_equal(dm_kcopyd_client_destroy(kc), 0);
        dmio_pages_put(options.io_client, rest);
        assert_int_equal(dm_io_client_destroy(options.io_client), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
}

/* --- callers */

struct relay {
        struct fixture *f;
        struct told told;
        unsigned int n;
};

#define RELAYS 200
#define RELAY_SECTORS 64

/* Each callback copies what the last one has copied one place further. */
static void relay_notify(int read_err, unsigned long write_err, void *context)
{
        struct relay *relay = context;
        struct fixture *f = relay->f;
        struct io_region from = scratch_region(&f->source, 0, RELAY_SECTORS);
        struct io_region dest = scratch_region(&f->dest, relay->n * RELAY_SECTORS, RELAY_SECTORS);
        int r = 0;

        if (relay->n > 0)
                from = scratch_region(&f->dest, (relay->n - 1) * RELAY_SECTORS, RELAY_SECTORS);
        if (relay->n++ < RELAYS && !read_err && !write_err) {
                r = dm_kcopyd_copy(f->kc, &from, 1, &dest, 0, relay_notify, relay, NULL);
                if (r == 0)
                        return;
        }
        told_notify(read_err || r < 0, write_err, &relay->told);
}

static void copies_from_callbacks(void **state)
{
        struct fixture *f = *state;
        static struct relay relay = { .told = TOLD_INIT };

        relay.f = f;
        relay_notify(0, 0, &relay);
        expect_told(&relay.told, 0, 0);
        for (unsigned int i = 0; i < RELAYS; i++)
                scratch_expect(&f->dest, i * RELAY_SECTORS * 512, f->data, RELAY_SECTORS * 512);
}

#define THREADS 4
#define COPIES 16

struct caller {
        pthread_t thread;
        struct fixture *f;
        unsigned int number;
        struct told told;
        int result;
};

/* Copies to places of their own, and others that are cancelled. */
static void *caller_thread(void *argument)
{
        struct caller *caller = argument;
        struct fixture *f = caller->f;

        for (unsigned int i = 0; i < COPIES && caller->result == 0; i++) {
                sector_t at = (caller->number * COPIES + i) * 264;
                struct io_region from = scratch_region(&f->source, at, 264);
                struct io_region dest = scratch_region(&f->dest, at, 264);
                struct dm_kcopyd_job_status s;
                struct dm_kcopyd_job *job;

                caller->result =
                        dm_kcopyd_copy(f->kc, &from, 1, &dest, 0, told_notify, &caller->told, &job);
                if (caller->result < 0)
                        break;
                dm_kcopyd_job_status(job, &s);
                dm_kcopyd_job_unref(job);
                /* Another, which may be anywhere when it is cancelled. */
                dest = scratch_region(&f->dest, SECTORS - 3 * CHUNK, 3 * CHUNK);
                caller->result =
                        dm_kcopyd_zero(f->kc, 1, &dest, 0, told_notify, &caller->told, &job);
                if (caller->result < 0)
                        break;
                dm_kcopyd_job_cancel(job);
                dm_kcopyd_job_unref(job);
                (void)dm_kcopyd_client_set_throttle(f->kc, i % 2 ? 0 : 99);
        }
        return NULL;
}

static void copies_of_several_threads(void **state)
{
        struct fixture *f = *state;
        static struct caller callers[THREADS];

        for (unsigned int i = 0; i < THREADS; i++) {
                callers[i] = (struct caller){ .f = f, .number = i, .told = TOLD_INIT };
                assert_int_equal(
                        pthread_create(&callers[i].thread, NULL, caller_thread, &callers[i]), 0);
        }
        for (unsigned int i = 0; i < THREADS; i++) {
                assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
                assert_int_equal(callers[i].result, 0);
                completion_wait(&callers[i].told.completion, 2 * COPIES);
                assert_int_equal(callers[i].told.completion.bits, 0);
                assert_int_equal(callers[i].told.read_err, 0);
        }
        scratch_expect(&f->dest, 0, f->data, (size_t)THREADS * COPIES * 264 * 512);
        assert_int_equal(dm_kcopyd_client_flush(f->kc), 0);
}

static void in_a_loop_of_ones_own(void **state)
{
        struct fixture *f = *state;
        struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct io_region from = scratch_region(&f->source, 0, SECTORS);
        struct io_region dest = scratch_region(&f->dest, 0, SECTORS);
        struct dm_kcopyd_options slow = { .throttle = 50 };
        static struct told told = TOLD_INIT;
        struct dm_kcopyd_client *kc = NULL;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        void *prepared;

        assert_int_equal(dmio_engine_create(&options, &engine), 0);
        assert_int_equal(dm_kcopyd_client_create(engine, NULL, &kc), -EINVAL);
        assert_int_equal(dmio_queue_create(engine, &queue), 0);
        assert_int_equal(dm_kcopyd_client_create(engine, &slow, &kc), 0);
        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, told_notify, &told, NULL), 0);
        assert_int_equal(calls(&told), 0);
        while (calls(&told) == 0)
                assert_true(dmio_queue_process(queue, 1000000, 0) >= 0);
        assert_int_equal(told.completion.bits, 0);
        scratch_expect(&f->dest, 0, f->data, BYTES);

        /* Flush and destroy drive the queue. */
        prepared = dm_kcopyd_prepare_callback(kc, told_notify, &told);
        assert_non_null(prepared);
        dm_kcopyd_do_callback(prepared, 0, 7);
        assert_int_equal(calls(&told), 1);
        assert_int_equal(dm_kcopyd_client_flush(kc), 0);
        assert_int_equal(calls(&told), 2);
        assert_int_equal(told.completion.bits, 7);
        assert_int_equal(dm_kcopyd_zero(kc, 1, &dest, 0, told_notify, &told, NULL), 0);
        assert_int_equal(dm_kcopyd_client_destroy(kc), 0);
        assert_int_equal(calls(&told), 3);
        scratch_expect_zeroes(&f->dest, 0, BYTES);
        assert_int_equal(dmio_queue_destroy(queue), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
                TEST(progress_goes_up_to_the_total),
                TEST(cancel_lets_finish_what_runs),
                TEST(cancel_in_sequence),
                TEST(cancel_of_who_waits_for_pages),
                TEST(the_first_error_is_told),
                TEST(a_cancel_that_comes_too_late),
                TEST(a_handle_outlasts_its_client),
                TEST(a_destination_that_does_not_fit),
                TEST(a_source_that_does_not_fit),
                TEST(what_is_refused),
                TEST(the_throttle_is_lifted),
                TEST(cancel_does_not_wait_for_the_throttle),
                TEST(on_somebody_elses_account),
                TEST(without_a_reservation),
                TEST(copies_from_callbacks),
                TEST(copies_of_several_threads),
                TEST(in_a_loop_of_ones_own),
        };

        if (!test_backend_works())
                return 77;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
