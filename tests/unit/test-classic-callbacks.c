/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The classic face over time: callbacks, what they may do, many requests at once, signals, threads,
 * and the pages that are got and put meanwhile.
 */

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "scratch.h"
#include "ways.h"

#define SECTORS 20480

struct fixture {
        struct scratch disk;
        struct page *data; /* 16 pages of a known pattern */
};

static int setup(void **state)
{
        struct fixture *fixture = calloc(1, sizeof(*fixture));

        assert_non_null(fixture);
        scratch_init(&fixture->disk, SCRATCH_FILE, SECTORS, 0);
        fixture->data = pages_new(16);
        pattern_fill(fixture->data, 16 * DMIO_PAGE_SIZE, 1);
        *state = fixture;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *fixture = *state;

        scratch_deinit(&fixture->disk);
        free(fixture->data);
        free(fixture);
        return 0;
}

static void sem_wait_limited(sem_t *semaphore)
{
        struct timespec limit;

        assert_int_equal(clock_gettime(CLOCK_REALTIME, &limit), 0);
        limit.tv_sec += 20;
        while (sem_timedwait(semaphore, &limit) < 0)
                assert_int_equal(errno, EINTR);
}

/* --- pages */

static void asynchronous_calls_need_pages(void **state)
{
        struct fixture *f = *state;
        struct io_region where = scratch_region(&f->disk, 0, 8);
        struct completion completion = COMPLETION_INIT;
        unsigned long bits = 1;

        assert_int_equal(
                dm_io_async_vm(1, &where, DM_IO_WRITE, f->data, completion_notify, &completion),
                -EINVAL);
        assert_int_equal(dm_io_sync_vm(1, &where, DM_IO_WRITE, f->data, &bits), 0);
        assert_int_equal(bits, 0);
        assert_int_equal(dm_io_get(1), 0);
        assert_int_equal(
                dm_io_async_vm(1, &where, DM_IO_WRITE, f->data, completion_notify, &completion), 0);
        completion_wait(&completion, 1);
        assert_int_equal(dm_io_put(1), 0);
        assert_int_equal(completion.calls, 1);
        assert_int_equal(
                dm_io_async_vm(1, &where, DM_IO_WRITE, f->data, completion_notify, &completion),
                -EINVAL);
}

static void gets_and_puts_are_counted(void **state)
{
        assert_int_equal(dm_io_put(1), -EINVAL);
        assert_int_equal(dm_io_get(10), 0);
        assert_int_equal(dm_io_get(20), 0);
        assert_int_equal(dm_io_put(31), -EINVAL);
        assert_int_equal(dm_io_put(UINT_MAX), -EINVAL);
        assert_int_equal(dm_io_get(UINT_MAX), -EINVAL);
        assert_int_equal(dm_io_put(25), 0);
        assert_int_equal(dm_io_put(6), -EINVAL);
        assert_int_equal(dm_io_put(5), 0);
        assert_int_equal(dm_io_put(1), -EINVAL);
        for (unsigned int i = 0; i < 20; i++) {
                assert_int_equal(dm_io_get(i), 0);
                assert_int_equal(dm_io_put(i), 0);
        }
}

struct blocker {
        sem_t entered;
        sem_t go_on;
};

static void block(unsigned long error, void *context)
{
        struct blocker *blocker = context;

        (void)error;
        (void)sem_post(&blocker->entered);
        while (sem_wait(&blocker->go_on) < 0)
                ;
}

/* The first callback is held, so the second request cannot have been called back. */
static void the_last_pages_stay_while_requests_are_in_flight(void **state)
{
        struct fixture *f = *state;
        struct io_region where = scratch_region(&f->disk, 0, 8);
        struct completion completion = COMPLETION_INIT;
        struct blocker blocker;

        assert_int_equal(sem_init(&blocker.entered, 0, 0), 0);
        assert_int_equal(sem_init(&blocker.go_on, 0, 0), 0);
        assert_int_equal(dm_io_get(8), 0);
        assert_int_equal(dm_io_async_vm(1, &where, DM_IO_WRITE, f->data, block, &blocker), 0);
        sem_wait_limited(&blocker.entered);
        assert_int_equal(
                dm_io_async_vm(1, &where, DM_IO_WRITE, f->data, completion_notify, &completion), 0);

        assert_int_equal(dm_io_put(8), -EBUSY);
        assert_int_equal(dm_io_put(9), -EINVAL);
        assert_int_equal(dm_io_put(3), 0); /* not the last ones */
        assert_int_equal(dm_io_put(5), -EBUSY);
        assert_int_equal(completion.calls, 0);

        assert_int_equal(sem_post(&blocker.go_on), 0);
        completion_wait(&completion, 1);
        assert_int_equal(dm_io_put(5), 0);
        assert_int_equal(dm_io_put(1), -EINVAL);
        (void)sem_destroy(&blocker.entered);
        (void)sem_destroy(&blocker.go_on);
}

/* --- callbacks */

struct from_callback {
        struct fixture *fixture;
        int sync_result;
        int put_result;
        int get_result;
        int put_one_result;
        unsigned long bits;
        struct completion done;
};

static void try_what_is_forbidden(unsigned long error, void *context)
{
        struct from_callback *tries = context;
        struct io_region where = scratch_region(&tries->fixture->disk, 0, 8);

        tries->sync_result =
                dm_io_sync_vm(1, &where, DM_IO_WRITE, tries->fixture->data, &tries->bits);
        tries->put_result = dm_io_put(4);
        tries->get_result = dm_io_get(2);
        tries->put_one_result = dm_io_put(2);
        completion_notify(error, &tries->done);
}

static void a_callback_may_not_wait_nor_end_the_engine(void **state)
{
        struct fixture *f = *state;
        struct io_region where = scratch_region(&f->disk, 0, 8);
        struct from_callback tries = { .fixture = f, .bits = 0x77, .done = COMPLETION_INIT };

        assert_int_equal(dm_io_get(4), 0);
        assert_int_equal(
                dm_io_async_vm(1, &where, DM_IO_WRITE, f->data, try_what_is_forbidden, &tries), 0);
        completion_wait(&tries.done, 1);
        assert_int_equal(tries.sync_result, -EDEADLK);
        assert_int_equal(tries.bits, 0x77);
        assert_int_equal(tries.put_result, -EBUSY);
        assert_int_equal(tries.get_result, 0);
        assert_int_equal(tries.put_one_result, 0);
        assert_int_equal(dm_io_put(4), 0);
}

#define CHAIN_LENGTH 1000

struct chain {
        struct fixture *fixture;
        unsigned int left;
        unsigned long bits;
        int trouble;
        atomic_uint depth;
        struct completion done;
};

static void next_link(unsigned long error, void *context)
{
        struct chain *chain = context;
        struct io_region where;

        /* Never inside the submitting call, which is this function itself. */
        if (atomic_fetch_add(&chain->depth, 1) != 0)
                chain->trouble = -EDEADLK;
        chain->bits |= error;
        if (--chain->left == 0 || chain->trouble < 0) {
                completion_notify(chain->bits, &chain->done);
        } else {
                where = scratch_region(&chain->fixture->disk, chain->left * 8, 8);
                chain->trouble = dm_io_async_vm(1, &where, DM_IO_WRITE, chain->fixture->data,
                                                next_link, chain);
                if (chain->trouble < 0)
                        completion_notify(chain->bits, &chain->done);
        }
        (void)atomic_fetch_sub(&chain->depth, 1);
}

static void a_callback_may_submit_the_next_one(void **state)
{
        struct fixture *f = *state;
        struct chain chain = { .fixture = f, .left = CHAIN_LENGTH, .done = COMPLETION_INIT };
        struct io_region where = scratch_region(&f->disk, 0, 8);

        assert_int_equal(dm_io_get(1), 0);
        assert_int_equal(dm_io_async_vm(1, &where, DM_IO_WRITE, f->data, next_link, &chain), 0);
        completion_wait(&chain.done, 1);
        assert_int_equal(chain.trouble, 0);
        assert_int_equal(chain.left, 0);
        assert_int_equal(chain.bits, 0);
        for (unsigned int link = 0; link < CHAIN_LENGTH; link++)
                scratch_expect(&f->disk, (uint64_t)link * 8 * 512, f->data, 4096);
        scratch_expect_zeroes(&f->disk, (uint64_t)CHAIN_LENGTH * 8 * 512, 4096);
        assert_int_equal(dm_io_put(1), 0);
}

/* --- many at once */

#define MANY 2000

struct many {
        atomic_uint calls[MANY];
        atomic_ulong bits[MANY];
        struct completion all;
};

struct one_of_many {
        struct many *many;
        unsigned int number;
};

static void count_one(unsigned long error, void *context)
{
        struct one_of_many *one = context;

        (void)atomic_fetch_add(&one->many->calls[one->number], 1);
        atomic_store(&one->many->bits[one->number], error);
        completion_notify(0, &one->many->all);
}

/* The engine's thread is held, so that all of them are in flight before the first one ends. */
static void two_thousand_requests_in_flight(void **state)
{
        struct fixture *f = *state;
        struct many *many = calloc(1, sizeof(*many));
        struct one_of_many *contexts = calloc(MANY, sizeof(*contexts));
        struct completion init = COMPLETION_INIT;
        struct blocker blocker;
        struct io_region where[2];
        unsigned int good = 0;

        assert_non_null(many);
        assert_non_null(contexts);
        many->all = init;
        assert_int_equal(sem_init(&blocker.entered, 0, 0), 0);
        assert_int_equal(sem_init(&blocker.go_on, 0, 0), 0);
        assert_int_equal(dm_io_get(256), 0);
        where[0] = scratch_region(&f->disk, 0, 1);
        assert_int_equal(dm_io_async_vm(1, where, DM_IO_READ, &f->data[15], block, &blocker), 0);
        sem_wait_limited(&blocker.entered);

        for (unsigned int i = 0; i < MANY; i++) {
                contexts[i] = (struct one_of_many){ many, i };
                where[0] = scratch_region(&f->disk, i * 8, 8);
                where[1] = scratch_region(&f->disk, SECTORS - 8, i % 7 == 0 ? 16 : 8);
                assert_int_equal(dm_io_async_vm(2, where, DM_IO_WRITE, &f->data[i % 10], count_one,
                                                &contexts[i]),
                                 0);
                /* Regions belong to the caller again. */
                memset(where, 0xff, sizeof(where));
        }
        assert_int_equal(many->all.calls, 0);
        assert_int_equal(sem_post(&blocker.go_on), 0);
        completion_wait(&many->all, MANY);

        for (unsigned int i = 0; i < MANY; i++) {
                assert_int_equal(many->calls[i], 1);
                assert_int_equal(many->bits[i], i % 7 == 0 ? 2 : 0);
                good += many->bits[i] == 0;
                scratch_expect(&f->disk, (uint64_t)i * 4096, &f->data[i % 10], 4096);
        }
        assert_int_equal(good, MANY - (MANY + 6) / 7);
        assert_int_equal(dm_io_put(256), 0);
        assert_int_equal(dm_io_put(1), -EINVAL);
        free(many);
        free(contexts);
        (void)sem_destroy(&blocker.entered);
        (void)sem_destroy(&blocker.go_on);
}

static void on_signal(int number)
{
        (void)number;
}

static atomic_bool signals_stop;

static void *send_signals(void *target)
{
        const struct timespec pause = { .tv_nsec = 100000 };

        while (!atomic_load(&signals_stop)) {
                (void)pthread_kill(*(pthread_t *)target, SIGUSR1);
                (void)nanosleep(&pause, NULL);
        }
        return NULL;
}

static void a_signal_does_not_end_a_synchronous_call(void **state)
{
        struct fixture *f = *state;
        const size_t length = SECTORS * 512;
        struct sigaction action = { .sa_handler = on_signal };
        struct io_region where = scratch_region(&f->disk, 0, SECTORS);
        unsigned char *data = malloc(length);
        pthread_t self = pthread_self(), sender;

        assert_non_null(data);
        assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
        atomic_store(&signals_stop, false);
        assert_int_equal(pthread_create(&sender, NULL, send_signals, &self), 0);
        for (unsigned int i = 0; i < 20; i++) {
                unsigned long bits = 1;

                pattern_fill(data, 4096, i);
                assert_int_equal(dm_io_sync_vm(1, &where, DM_IO_WRITE, data, &bits), 0);
                assert_int_equal(bits, 0);
                scratch_expect(&f->disk, 0, data, length);
        }
        atomic_store(&signals_stop, true);
        assert_int_equal(pthread_join(sender, NULL), 0);
        free(data);
}

#define THREADS 16

struct worker {
        pthread_t thread;
        struct fixture *fixture;
        unsigned int number;
        int trouble;
};

/* Own sectors, own data; every second request has a bit of its own. */
static void *work(void *argument)
{
        struct worker *worker = argument;
        struct page *data = aligned_alloc(4096, 8192);
        struct io_region where[2];
        unsigned long bits;
        int r;

        if (!data) {
                worker->trouble = ENOMEM;
                return NULL;
        }
        for (unsigned int i = 0; i < 100 && !worker->trouble; i++) {
                bool bad = (i + worker->number) % 2;

                pattern_fill(data, 4096, worker->number * 1000 + i);
                where[0] = scratch_region(&worker->fixture->disk, worker->number * 64, 8);
                where[1] = scratch_region(&worker->fixture->disk,
                                          bad ? SECTORS : worker->number * 64 + 16, 8);
                bits = 0x77;
                r = dm_io_sync_vm(2, where, DM_IO_WRITE, data, &bits);
                if (r != (bad ? -EIO : 0) || bits != (bad ? 2 : 0))
                        worker->trouble = 1;
                r = dm_io_sync_vm(1, where, DM_IO_READ, &data[1], &bits);
                if (r < 0 || memcmp(data, &data[1], 4096) != 0)
                        worker->trouble = 2;
        }
        free(data);
        return NULL;
}

static void threads_do_not_see_each_others_bits(void **state)
{
        struct worker workers[THREADS];

        for (unsigned int i = 0; i < THREADS; i++) {
                workers[i] = (struct worker){ .fixture = *state, .number = i };
                assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
        }
        for (unsigned int i = 0; i < THREADS; i++) {
                assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
                assert_int_equal(workers[i].trouble, 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(asynchronous_calls_need_pages, setup, teardown),
                cmocka_unit_test_setup_teardown(gets_and_puts_are_counted, setup, teardown),
                cmocka_unit_test_setup_teardown(the_last_pages_stay_while_requests_are_in_flight,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(a_callback_may_not_wait_nor_end_the_engine, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_callback_may_submit_the_next_one, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(two_thousand_requests_in_flight, setup, teardown),
                cmocka_unit_test_setup_teardown(a_signal_does_not_end_a_synchronous_call, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(threads_do_not_see_each_others_bits, setup,
                                                teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
