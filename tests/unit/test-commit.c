/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Commits and the record of failed legs, with a keeper whose writes end when the test says so: who
 * is served by which write, and that nothing on an export ends before a failure is written down.
 */

#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "config.h"
#include "loop.h"
#include "model/client.h"
#include "model/commit.h"
#include "model/export.h"
#include "util/cleanup.h"
#include "worker.h"

#define WAIT_USEC UINT64_C(10000000)

static const struct peer root = { .uid = 0, .privileged = true };

struct fixture {
        struct config config;
        sd_event *event;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct loop *loop;
        struct worker *worker;
        struct model model;
        struct keeper keeper;
        sem_t may_end;          /* a write */
        unsigned int n_seen;    /* contents that were made */
        unsigned int value;     /* what there is to write */
        unsigned int described; /* the value as the latest write has seen it */
        _Atomic(unsigned int) n_begun;
        _Atomic(int) error; /* of the writes */
        struct client *client;
        struct export *export;
};

static json_t *describe(struct keeper *keeper)
{
        struct fixture *f = container_of(keeper, struct fixture, keeper);

        f->n_seen++;
        f->described = f->value;
        return json_object();
}

static int write_content(struct keeper *keeper, const json_t *content)
{
        struct fixture *f = container_of(keeper, struct fixture, keeper);

        atomic_fetch_add(&f->n_begun, 1);
        while (sem_wait(&f->may_end) < 0)
                ;
        return atomic_load(&f->error);
}

static const struct keeper_class class = { .describe = describe, .write = write_content };

static void run_once(struct fixture *f)
{
        assert_true(sd_event_run(f->event, 20000) >= 0);
}

#define run_until(f, condition)                                                                    \
        do {                                                                                       \
                uint64_t now_, end_;                                                               \
                assert_true(sd_event_now((f)->event, CLOCK_MONOTONIC, &now_) >= 0);                \
                end_ = now_ + WAIT_USEC;                                                           \
                while (!(condition) && now_ < end_) {                                              \
                        run_once(f);                                                               \
                        assert_true(sd_event_now((f)->event, CLOCK_MONOTONIC, &now_) >= 0);        \
                }                                                                                  \
                assert_true(condition);                                                            \
        } while (0)

static struct leg_spec make_leg(void)
{
        struct leg_spec leg = { .device = strdup("disk"), .count = 8 };
        int fd = memfd_create("disk", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, 4096), 0);
        assert_int_equal(dmio_device_from_fd(fd, 0, &leg.bdev), 0);
        close_fd(fd);
        return leg;
}

static int setup(void **state)
{
        const struct dmio_engine_options options = { .flags = DMIO_ENGINE_NO_THREAD };
        struct leg_spec legs[3] = { make_leg(), make_leg(), make_leg() };
        struct fixture *f = calloc(1, sizeof(*f));
        struct model_refusal refusal;

        assert_non_null(f);
        assert_int_equal(sem_init(&f->may_end, 0, 0), 0);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        assert_int_equal(loop_new(f->event, f->queue, &f->loop), 0);
        assert_int_equal(worker_new(f->event, &f->worker), 0);
        assert_int_equal(model_init(&f->model, f->engine, f->queue, &f->config, f->worker), 0);
        assert_int_equal(keeper_init(&f->keeper, &class, f->event), 0);
        f->model.keeper = &f->keeper;
        assert_int_equal(client_new(&f->model, "a", &root, 8, true, 0, &f->client, &refusal),
                         MODEL_OK);
        assert_int_equal(export_new(f->client, "x", legs, 3, false, false, EXPORT_CACHE_NONE,
                                    &f->export, &refusal),
                         MODEL_OK);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        /* As the daemon ends. */
        for (unsigned int i = 0; i < 100; i++)
                (void)sem_post(&f->may_end);
        commit_freeze(&f->model);
        (void)client_close(f->client, NULL, NULL);
        run_until(f, f->model.n_clients == 0);
        loop_finish(f->queue);
        worker_free(f->worker);
        keeper_deinit(&f->keeper);
        model_deinit(&f->model);
        loop_free(f->loop);
        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        sd_event_unref(f->event);
        (void)sem_destroy(&f->may_end);
        free(f);
        return 0;
}

struct waiter {
        struct commit commit;
        unsigned int n_done;
        int error;
};

static void waiter_done(struct commit *commit, int error)
{
        struct waiter *waiter = container_of(commit, struct waiter, commit);

        waiter->n_done++;
        waiter->error = error;
}

static void begin(struct fixture *f, struct waiter *waiter)
{
        *waiter = (struct waiter){ .commit.done = waiter_done };
        f->value++;
        commit_begin(&f->model, &waiter->commit);
}

static void let_write_end(struct fixture *f)
{
        assert_int_equal(sem_post(&f->may_end), 0);
}

static void one_write_serves_all_who_wait_when_it_begins(void **state)
{
        struct fixture *f = *state;
        struct waiter first, second, third;

        begin(f, &first);
        run_until(f, f->n_begun == 1);
        begin(f, &second);
        begin(f, &third);
        for (unsigned int i = 0; i < 5; i++)
                run_once(f);
        assert_int_equal(first.n_done + second.n_done + third.n_done, 0);
        assert_int_equal(f->described, 1);

        let_write_end(f);
        run_until(f, f->n_begun == 2);
        assert_int_equal(first.n_done, 1);
        assert_int_equal(first.error, 0);
        assert_int_equal(second.n_done + third.n_done, 0);
        assert_int_equal(f->described, 3);

        let_write_end(f);
        run_until(f, third.n_done == 1);
        assert_int_equal(second.n_done, 1);
        assert_int_equal(f->n_seen, 2);
}

static void a_write_that_fails_fails_those_it_was_for(void **state)
{
        struct fixture *f = *state;
        struct waiter first, second;

        atomic_store(&f->error, -ENOSPC);
        begin(f, &first);
        run_until(f, f->n_begun == 1);
        begin(f, &second);
        let_write_end(f);
        run_until(f, f->n_begun == 2);
        assert_int_equal(first.error, -ENOSPC);
        assert_int_equal(second.n_done, 0);
        atomic_store(&f->error, 0);
        let_write_end(f);
        run_until(f, second.n_done == 1);
        assert_int_equal(second.error, 0);
}

static void what_has_failed_is_written_again_by_itself(void **state)
{
        struct fixture *f = *state;
        struct waiter first;

        atomic_store(&f->error, -ENOSPC);
        begin(f, &first);
        let_write_end(f);
        run_until(f, first.n_done == 1);
        atomic_store(&f->error, 0);
        run_until(f, f->n_begun == 2);
        let_write_end(f);
        run_until(f, !f->keeper.writing);
        assert_int_equal(f->n_seen, 2);
}

static void the_last_commit_is_the_last(void **state)
{
        struct fixture *f = *state;
        struct waiter first, last = { .commit.done = waiter_done }, late;

        begin(f, &first);
        run_until(f, f->n_begun == 1);
        commit_last(&f->model, &last.commit);
        begin(f, &late);
        assert_int_equal(late.n_done, 1);
        assert_int_equal(late.error, -ESHUTDOWN);
        let_write_end(f);
        let_write_end(f);
        run_until(f, last.n_done == 1);
        assert_int_equal(last.error, 0);
        assert_int_equal(f->n_seen, 2);
}

static void what_is_taken_apart_is_not_written(void **state)
{
        struct fixture *f = *state;
        struct waiter first, second;

        begin(f, &first);
        run_until(f, f->n_begun == 1);
        begin(f, &second);
        commit_freeze(&f->model);
        let_write_end(f);
        run_until(f, second.n_done == 1);
        assert_int_equal(second.error, -ESHUTDOWN);
        assert_int_equal(f->n_seen, 1);
}

struct passenger {
        struct record_wait wait;
        unsigned int n_done;
};

static void passenger_done(struct dmio_task *task)
{
        container_of(task, struct passenger, wait.task)->n_done++;
}

static bool wait_for_record(struct fixture *f, struct passenger *passenger)
{
        *passenger = (struct passenger){
                .wait = { .queue = f->queue, .task.fn = passenger_done },
        };
        return record_wait(f->export, &passenger->wait);
}

static void fail_leg(struct fixture *f, unsigned int leg)
{
        export_leg_error(f->export, leg, DM_IO_WRITE, EIO, true);
}

static void nobody_waits_where_no_leg_has_failed(void **state)
{
        struct fixture *f = *state;
        struct passenger passenger;

        assert_false(record_is_pending(&f->export->record));
        assert_false(wait_for_record(f, &passenger));
        export_leg_error(f->export, 0, DM_IO_READ, EIO, false);
        assert_false(wait_for_record(f, &passenger));
}

static void a_failure_is_waited_for(void **state)
{
        struct fixture *f = *state;
        struct passenger first, second, late;

        fail_leg(f, 0);
        assert_true(record_is_pending(&f->export->record));
        assert_true(wait_for_record(f, &first));
        run_until(f, f->n_begun == 1);
        assert_true(wait_for_record(f, &second));
        for (unsigned int i = 0; i < 5; i++)
                run_once(f);
        assert_int_equal(first.n_done + second.n_done, 0);
        let_write_end(f);
        run_until(f, first.n_done == 1 && second.n_done == 1);
        assert_int_equal(first.wait.error, 0);
        assert_int_equal(second.wait.error, 0);
        assert_false(wait_for_record(f, &late));
        assert_int_equal(f->n_seen, 1);
}

static void a_failure_that_a_write_has_not_seen_waits_for_the_next(void **state)
{
        struct fixture *f = *state;
        struct passenger first, second;

        fail_leg(f, 0);
        assert_true(wait_for_record(f, &first));
        run_until(f, f->n_begun == 1);
        fail_leg(f, 1);
        assert_true(wait_for_record(f, &second));
        let_write_end(f);
        run_until(f, f->n_begun == 2);
        run_until(f, first.n_done == 1);
        assert_int_equal(second.n_done, 0);
        assert_true(record_is_pending(&f->export->record));
        let_write_end(f);
        run_until(f, second.n_done == 1);
        assert_false(record_is_pending(&f->export->record));
}

static void a_failure_that_cannot_be_written_is_tried_by_the_next(void **state)
{
        struct fixture *f = *state;
        struct passenger first, second;

        atomic_store(&f->error, -EROFS);
        fail_leg(f, 0);
        assert_true(wait_for_record(f, &first));
        let_write_end(f);
        run_until(f, first.n_done == 1);
        assert_int_equal(first.wait.error, -EROFS);
        assert_true(record_is_pending(&f->export->record));

        atomic_store(&f->error, 0);
        assert_true(wait_for_record(f, &second));
        let_write_end(f);
        run_until(f, second.n_done == 1);
        assert_int_equal(second.wait.error, 0);
        assert_false(record_is_pending(&f->export->record));
}

static void an_export_that_does_not_last_waits_for_nothing(void **state)
{
        struct fixture *f = *state;
        struct leg_spec legs[2] = { make_leg(), make_leg() };
        struct model_refusal refusal;
        struct passenger passenger;
        struct client *client;
        struct export *lasting = f->export;

        assert_int_equal(client_new(&f->model, "b", &root, 8, false, 7, &client, &refusal),
                         MODEL_OK);
        assert_int_equal(export_new(client, "x", legs, 2, false, false, EXPORT_CACHE_NONE,
                                    &f->export, &refusal),
                         MODEL_OK);
        fail_leg(f, 0);
        assert_false(wait_for_record(f, &passenger));
        assert_int_equal(client_close(client, NULL, NULL), MODEL_OK);
        run_until(f, f->model.n_clients == 1);
        assert_int_equal(f->n_seen, 0);
        f->export = lasting;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(one_write_serves_all_who_wait_when_it_begins),
                TEST(a_write_that_fails_fails_those_it_was_for),
                TEST(what_has_failed_is_written_again_by_itself),
                TEST(the_last_commit_is_the_last),
                TEST(what_is_taken_apart_is_not_written),
                TEST(nobody_waits_where_no_leg_has_failed),
                TEST(a_failure_is_waited_for),
                TEST(a_failure_that_a_write_has_not_seen_waits_for_the_next),
                TEST(a_failure_that_cannot_be_written_is_tried_by_the_next),
                TEST(an_export_that_does_not_last_waits_for_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
