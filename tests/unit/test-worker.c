/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/list.h"
#include "worker.h"

#define WAIT_USEC UINT64_C(10000000)
#define N_HELD 12

/* Jobs of one user, each of which runs until it is let go. */
struct held {
        struct worker_job job;
        sem_t *release;
};

static atomic_uint n_running, n_running_most;
static unsigned int n_done;

static void held_run(struct worker_job *job)
{
        unsigned int n = atomic_fetch_add(&n_running, 1) + 1;

        if (n > atomic_load(&n_running_most))
                atomic_store(&n_running_most, n);
        while (sem_wait(container_of(job, struct held, job)->release) < 0)
                ;
        atomic_fetch_sub(&n_running, 1);
}

static void nothing_run(struct worker_job *job)
{
}

static void count_done(struct worker_job *job)
{
        n_done++;
}

static void run_until_done(sd_event *event, unsigned int wanted)
{
        uint64_t now, end;

        assert_true(sd_event_now(event, CLOCK_MONOTONIC, &now) >= 0);
        end = now + WAIT_USEC;
        while (n_done < wanted && now < end) {
                assert_true(sd_event_run(event, end - now) >= 0);
                assert_true(sd_event_now(event, CLOCK_MONOTONIC, &now) >= 0);
        }
        assert_int_equal(n_done, wanted);
}

/* @at_end: let them go only while the worker is being freed. */
static void hold(bool at_end)
{
        struct held held[N_HELD];
        struct worker_job others[20];
        struct worker *worker;
        sd_event *event;
        sem_t release;

        n_done = 0;
        atomic_store(&n_running_most, 0);
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(sem_init(&release, 0, 0), 0);
        assert_int_equal(worker_new(event, &worker), 0);
        for (unsigned int i = 0; i < N_HELD; i++) {
                held[i] = (struct held){
                        .job = { .run = held_run, .done = count_done, .uid = 7 },
                        .release = &release,
                };
                worker_submit(worker, &held[i].job);
        }

        /* Submitted later, done first. */
        for (unsigned int i = 0; i < 20; i++) {
                others[i] = (struct worker_job){ .run = nothing_run,
                                                 .done = count_done,
                                                 .uid = i % 2 ? 8 : 0 };
                worker_submit(worker, &others[i]);
        }
        run_until_done(event, 20);

        for (unsigned int i = 0; i < N_HELD; i++)
                assert_int_equal(sem_post(&release), 0);
        if (!at_end)
                run_until_done(event, 20 + N_HELD);
        assert_null(worker_free(worker));
        assert_int_equal(n_done, 20 + N_HELD);
        assert_in_range(atomic_load(&n_running_most), 1, WORKER_JOBS_PER_UID);
        sem_destroy(&release);
        sd_event_unref(event);
}

static void jobs_that_hang_hold_up_their_own_user_alone(void **state)
{
        hold(false);
}

static void what_waits_at_the_end_is_run(void **state)
{
        hold(true);
}

static void our_own_jobs_have_no_limit(void **state)
{
        struct held held[WORKER_THREADS_MAX];
        struct worker *worker;
        sd_event *event;
        sem_t release;

        n_done = 0;
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(sem_init(&release, 0, 0), 0);
        assert_int_equal(worker_new(event, &worker), 0);
        for (unsigned int i = 0; i < WORKER_THREADS_MAX; i++) {
                held[i] = (struct held){
                        .job = { .run = held_run, .done = count_done },
                        .release = &release,
                };
                worker_submit(worker, &held[i].job);
        }
        for (unsigned int ms = 0; atomic_load(&n_running) < WORKER_THREADS_MAX && ms < 10000; ms++)
                assert_true(sd_event_run(event, 1000) >= 0);
        assert_int_equal(atomic_load(&n_running), WORKER_THREADS_MAX);
        for (unsigned int i = 0; i < WORKER_THREADS_MAX; i++)
                assert_int_equal(sem_post(&release), 0);
        assert_null(worker_free(worker));
        assert_int_equal(n_done, WORKER_THREADS_MAX);
        sem_destroy(&release);
        sd_event_unref(event);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(jobs_that_hang_hold_up_their_own_user_alone),
                cmocka_unit_test(what_waits_at_the_end_is_run),
                cmocka_unit_test(our_own_jobs_have_no_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
