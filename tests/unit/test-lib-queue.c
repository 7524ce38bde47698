/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Queues in the caller's own event loop: poll(2) on the queue's descriptor, tasks posted by other
 * threads, operations on pipes and sockets, giving up, requests, and who may call what from where.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

#define LIMIT_MS 20000

struct fixture {
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct dm_io_client *client;
};

static int setup(void **state)
{
        const struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD,
                .depth = 16,
        };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_null(dmio_engine_queue(f->engine));
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        assert_int_equal(dm_io_client_create(f->engine, 16, &f->client), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(dm_io_client_destroy(f->client), 0);
        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        free(f);
        return 0;
}

/* One turn of an event loop: sleeps in poll(2), on the queue's descriptor alone. */
static void turn(struct fixture *f)
{
        struct pollfd pollfd = { .fd = dmio_queue_fd(f->queue), .events = POLLIN };

        assert_int_equal(poll(&pollfd, 1, LIMIT_MS), 1);
        assert_true(dmio_queue_process(f->queue, 0, 0) >= 0);
}

struct test_op {
        struct dmio_op op; /* first */
        struct iovec iov;
        int result;
        unsigned int calls;
};

static void op_done(struct dmio_op *op, int result)
{
        struct test_op *test = (struct test_op *)op;

        test->result = result;
        test->calls++;
}

static void op_init(struct test_op *test, enum dmio_op_type type, int fd, void *data, size_t length)
{
        *test = (struct test_op){
                .op = { .type = type, .fd = fd, .n_iov = 1, .fn = op_done },
                .iov = { data, length },
        };
        test->op.iov = &test->iov;
}

static void submit(struct fixture *f, struct test_op *test)
{
        dmio_queue_submit(f->queue, &test->op);
        assert_int_equal(test->calls, 0);
}

static void an_idle_queue_is_silent(void **state)
{
        struct fixture *f = *state;
        struct pollfd pollfd = { .fd = dmio_queue_fd(f->queue), .events = POLLIN };
        struct timespec before, after;

        assert_int_equal(dmio_queue_process(f->queue, 0, 0), 0);
        assert_int_equal(poll(&pollfd, 1, 0), 0);
        assert_int_equal(dmio_queue_in_flight(f->queue), 0);
        assert_true(dmio_queue_is_mine(f->queue));

        (void)clock_gettime(CLOCK_MONOTONIC, &before);
        assert_int_equal(dmio_queue_process(f->queue, 20000, 0), 0);
        (void)clock_gettime(CLOCK_MONOTONIC, &after);
        assert_true((after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec -
                            before.tv_nsec >=
                    19000000ll);
}

static void a_pipe_is_written_and_read(void **state)
{
        struct fixture *f = *state;
        char out[] = "over the ring", in[sizeof(out)] = "";
        struct test_op reading, writing;
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        op_init(&reading, DMIO_OP_READV, fds[0], in, sizeof(in));
        submit(f, &reading);
        assert_int_equal(dmio_queue_process(f->queue, 0, 0), 0);
        assert_int_equal(dmio_queue_in_flight(f->queue), 1);
        assert_int_equal(dmio_queue_destroy(f->queue), -EBUSY);

        op_init(&writing, DMIO_OP_WRITEV, fds[1], out, sizeof(out));
        submit(f, &writing);
        assert_true(dmio_queue_process(f->queue, 0, 0) >= 0); /* submits what waits */
        while (reading.calls == 0 || writing.calls == 0)
                turn(f);
        assert_int_equal(reading.result, sizeof(in));
        assert_int_equal(writing.result, sizeof(out));
        assert_string_equal(in, out);
        assert_int_equal(dmio_queue_in_flight(f->queue), 0);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void a_socket_pair_carries_many(void **state)
{
        enum { N = 100 }; /* more than the depth of the queue */
        struct fixture *f = *state;
        struct test_op *ops = calloc(2 * N, sizeof(*ops));
        int(*fds)[2] = calloc(N, sizeof(*fds));
        uint32_t out[N], in[N];
        unsigned int n_done = 0;

        assert_non_null(ops);
        assert_non_null(fds);
        for (unsigned int i = 0; i < N; i++) {
                out[i] = 0xabcd0000 + i;
                in[i] = 0;
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds[i]), 0);
                op_init(&ops[i], DMIO_OP_WRITEV, fds[i][0], &out[i], sizeof(out[i]));
                op_init(&ops[N + i], DMIO_OP_READV, fds[i][1], &in[i], sizeof(in[i]));
                submit(f, &ops[i]);
                submit(f, &ops[N + i]);
        }
        while (n_done < 2 * N) {
                assert_true(dmio_queue_process(f->queue, LIMIT_MS * 1000, 0) > 0);
                n_done = 0;
                for (unsigned int i = 0; i < 2 * N; i++)
                        n_done += ops[i].calls;
        }
        for (unsigned int i = 0; i < N; i++) {
                assert_int_equal(ops[i].calls, 1);
                assert_int_equal(ops[N + i].calls, 1);
                assert_int_equal(ops[i].result, 4);
                assert_int_equal(ops[N + i].result, 4);
                assert_int_equal(in[i], out[i]);
                (void)close(fds[i][0]);
                (void)close(fds[i][1]);
        }
        assert_int_equal(dmio_queue_in_flight(f->queue), 0);
        free(ops);
        free(fds);
}

static void results_are_those_of_the_system_call(void **state)
{
        struct fixture *f = *state;
        char byte = 'x';
        struct test_op nop, bad, end;
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        (void)close(fds[1]);
        op_init(&nop, DMIO_OP_NOP, -1, NULL, 0);
        op_init(&bad, DMIO_OP_WRITEV, fds[0], &byte, 1);
        op_init(&end, DMIO_OP_READV, fds[0], &byte, 1);
        submit(f, &nop);
        submit(f, &bad);
        submit(f, &end);
        assert_true(dmio_queue_process(f->queue, 0, 0) >= 0);
        while (nop.calls + bad.calls + end.calls < 3)
                turn(f);
        assert_int_equal(nop.result, 0);
        assert_int_equal(bad.result, -EBADF);
        assert_int_equal(end.result, 0);
        (void)close(fds[0]);
}

static void what_has_not_begun_can_be_given_up(void **state)
{
        struct fixture *f = *state;
        char byte;
        struct test_op reading;
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        op_init(&reading, DMIO_OP_READV, fds[0], &byte, 1);
        submit(f, &reading);
        assert_int_equal(dmio_queue_process(f->queue, 0, 0), 0);
        dmio_queue_cancel(f->queue, &reading.op);
        while (reading.calls == 0)
                assert_true(dmio_queue_process(f->queue, LIMIT_MS * 1000, 0) >= 0);
        assert_int_equal(reading.calls, 1);
        assert_int_equal(reading.result, -ECANCELED);
        assert_int_equal(dmio_queue_in_flight(f->queue), 0);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

/* --- tasks */

#define SENDERS 4
#define TASKS 500

struct posted {
        struct dmio_task task; /* first */
        struct sender *sender;
        unsigned int number;
};

struct sender {
        pthread_t thread;
        struct dmio_queue *queue;
        struct posted tasks[TASKS];
        unsigned int next; /* that must run; on the queue's thread */
        bool in_order;
        bool on_queue_thread;
        bool is_mine; /* as the sender sees it */
};

static void run_posted(struct dmio_task *task)
{
        struct posted *posted = (struct posted *)task;
        struct sender *sender = posted->sender;

        if (posted->number != sender->next)
                sender->in_order = false;
        if (!dmio_queue_is_mine(sender->queue))
                sender->on_queue_thread = false;
        sender->next++;
}

static void *send_tasks(void *argument)
{
        struct sender *sender = argument;

        sender->is_mine = dmio_queue_is_mine(sender->queue);
        for (unsigned int i = 0; i < TASKS; i++) {
                sender->tasks[i] = (struct posted){
                        .task.fn = run_posted,
                        .sender = sender,
                        .number = i,
                };
                dmio_queue_post(sender->queue, &sender->tasks[i].task);
        }
        return NULL;
}

static void threads_post_tasks_in_order(void **state)
{
        struct fixture *f = *state;
        struct sender *senders = calloc(SENDERS, sizeof(*senders));
        unsigned int done = 0;

        assert_non_null(senders);
        for (unsigned int i = 0; i < SENDERS; i++) {
                senders[i].queue = f->queue;
                senders[i].in_order = true;
                senders[i].on_queue_thread = true;
                assert_int_equal(pthread_create(&senders[i].thread, NULL, send_tasks, &senders[i]),
                                 0);
        }
        while (done < SENDERS * TASKS) {
                turn(f);
                done = 0;
                for (unsigned int i = 0; i < SENDERS; i++)
                        done += senders[i].next;
        }
        for (unsigned int i = 0; i < SENDERS; i++) {
                assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
                assert_int_equal(senders[i].next, TASKS);
                assert_true(senders[i].in_order);
                assert_true(senders[i].on_queue_thread);
                assert_false(senders[i].is_mine);
        }
        free(senders);
}

struct sleeper {
        struct dmio_task task; /* first */
        bool ran;
};

static void wake_sleeper(struct dmio_task *task)
{
        ((struct sleeper *)task)->ran = true;
}

static void *post_one(void *argument)
{
        void **arguments = argument;

        dmio_queue_post(arguments[0], arguments[1]);
        return NULL;
}

static void a_task_wakes_a_sleeping_queue(void **state)
{
        struct fixture *f = *state;

        for (unsigned int round = 0; round < 50; round++) {
                struct sleeper sleeper = { .task.fn = wake_sleeper };
                void *arguments[] = { f->queue, &sleeper.task };
                pthread_t thread;

                assert_int_equal(pthread_create(&thread, NULL, post_one, arguments), 0);
                while (!sleeper.ran)
                        assert_true(dmio_queue_process(f->queue, LIMIT_MS * 1000,
                                                       round % 2 ? 50 : 0) >= 0);
                assert_int_equal(pthread_join(thread, NULL), 0);
        }
}

/* --- requests */

struct forbidden {
        struct fixture *fixture;
        struct scratch *disk;
        struct page *page;
        int process, destroy_queue, destroy_client, destroy_engine, sync;
        bool ran;
};

static void try_forbidden(unsigned long error, void *context)
{
        struct forbidden *tries = context;
        struct io_region where = scratch_region(tries->disk, 8, 8);
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = tries->page },
                .client = tries->fixture->client,
        };

        (void)error;
        tries->process = dmio_queue_process(tries->fixture->queue, 0, 0);
        tries->destroy_queue = dmio_queue_destroy(tries->fixture->queue);
        tries->destroy_client = dm_io_client_destroy(tries->fixture->client);
        tries->destroy_engine = dmio_engine_destroy(tries->fixture->engine);
        tries->sync = dm_io(&request, 1, &where, NULL);
        tries->ran = true;
}

static void a_callback_may_not_wait(void **state)
{
        struct fixture *f = *state;
        struct scratch disk;
        struct forbidden tries = { .fixture = f, .disk = &disk, .page = pages_new(1) };
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = tries.page },
                .notify = { try_forbidden, &tries },
                .client = f->client,
        };
        struct io_region where;

        scratch_init(&disk, SCRATCH_FILE, 64, 0);
        pattern_fill(tries.page, DMIO_PAGE_SIZE, 6);
        where = scratch_region(&disk, 0, 8);
        assert_int_equal(dm_io(&request, 1, &where, NULL), 0);
        while (!tries.ran)
                turn(f);
        assert_int_equal(tries.process, -EDEADLK);
        assert_int_equal(tries.destroy_queue, -EDEADLK);
        assert_int_equal(tries.destroy_client, -EBUSY);
        assert_int_equal(tries.destroy_engine, -EDEADLK);
        assert_int_equal(tries.sync, -EDEADLK);
        scratch_expect(&disk, 0, tries.page, 4096);
        scratch_expect_zeroes(&disk, 4096, 4096);
        free(tries.page);
        scratch_deinit(&disk);
}

static void requests_run_in_the_callers_loop(void **state)
{
        enum { N = 64 };
        struct fixture *f = *state;
        struct completion completion = COMPLETION_INIT;
        struct page *data = pages_new(N + 1);
        struct scratch disk;
        struct dm_io_leg_error errors[2];

        scratch_init(&disk, SCRATCH_FILE, 2 * N * 8, 0);
        pattern_fill(data, N * DMIO_PAGE_SIZE, 4);
        for (unsigned int i = 0; i < N; i++) {
                struct io_region where[] = {
                        scratch_region(&disk, i * 8, 8),
                        scratch_region(&disk, (N + i) * 8, 8),
                };
                struct dm_io_request request = {
                        .op = DM_IO_WRITE,
                        .mem = { .type = DM_IO_KMEM, .ptr.addr = &data[i] },
                        .notify = { completion_notify, &completion },
                        .client = f->client,
                        .queue = f->queue,
                };

                assert_int_equal(dm_io(&request, 2, where, NULL), 0);
        }
        assert_int_equal(completion.calls, 0);
        while (completion.calls < N)
                assert_true(dmio_queue_process(f->queue, LIMIT_MS * 1000, 0) >= 0);
        assert_int_equal(completion.bits, 0);
        scratch_expect(&disk, 0, data, N * DMIO_PAGE_SIZE);
        scratch_expect(&disk, N * DMIO_PAGE_SIZE, data, N * DMIO_PAGE_SIZE);
        assert_int_equal(dm_io_client_destroy(NULL), 0);

        /* The errno and the sector beside the bit. */
        struct io_region where[] = {
                scratch_region(&disk, 0, 8),
                scratch_region(&disk, 2 * N * 8 - 4, 8),
        };
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .mem = { .type = DM_IO_VMA, .ptr.vma = data },
                .notify = { completion_notify, &completion },
                .client = f->client,
                .leg_errors = errors,
        };
        memset(errors, 0xff, sizeof(errors));
        assert_int_equal(dm_io(&request, 2, where, NULL), 0);
        while (completion.calls < N + 1)
                assert_true(dmio_queue_process(f->queue, LIMIT_MS * 1000, 0) >= 0);
        assert_int_equal(completion.bits, 2);
        assert_int_equal(errors[0].error, 0);
        assert_int_equal(errors[1].error, ENOSPC);
        scratch_deinit(&disk);
        free(data);
}

static void flush_discard_and_zeroes(void **state)
{
        struct fixture *f = *state;
        struct completion completion = COMPLETION_INIT;
        unsigned char data[64 * 512];
        struct scratch disk;
        static const enum dm_io_op ops[] = { DM_IO_WRITE_ZEROES, DM_IO_FLUSH, DM_IO_DISCARD };
        unsigned int calls = 0;

        scratch_init(&disk, SCRATCH_FILE, 64, 0);
        pattern_fill(data, sizeof(data), 5);
        scratch_write(&disk, 0, data, sizeof(data));
        for (unsigned int i = 0; i < 3; i++) {
                struct io_region where[] = {
                        scratch_region(&disk, 8 * i, ops[i] == DM_IO_FLUSH ? 0 : 8),
                        scratch_region(&disk, 32 + 8 * i, 8),
                };
                struct dm_io_request request = {
                        .op = ops[i],
                        .notify = { completion_notify, &completion },
                        .client = f->client,
                };

                assert_int_equal(dm_io(&request, ops[i] == DM_IO_FLUSH ? 1 : 2, where, NULL), 0);
                while (completion.calls == calls)
                        assert_true(dmio_queue_process(f->queue, LIMIT_MS * 1000, 0) >= 0);
                calls++;
                assert_int_equal(completion.bits, 0);
        }
        scratch_expect_zeroes(&disk, 0, 4096);
        scratch_expect_zeroes(&disk, 32 * 512, 4096);
        scratch_expect(&disk, 8 * 512, data + 8 * 512, 8 * 512);
        scratch_expect(&disk, 24 * 512, data + 24 * 512, 8 * 512);
        assert_int_equal(scratch_size(&disk), 64 * 512);
        scratch_deinit(&disk);
}

/* Only a ring outlives its process; elsewhere the file is held by whoever has it open. */
static void a_ring_holds_a_file_until_it_is_gone(void **state)
{
        struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD | DMIO_ENGINE_HELD_FD,
                .held_fd = -1,
        };
        struct pollfd pollfd = { .events = POLLIN };
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        int fds[2];
        bool ring;

        assert_int_equal(dmio_engine_create(&options, &engine), -EBADF);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        options.held_fd = fds[1];
        assert_int_equal(dmio_engine_create(&options, &engine), 0);
        ring = strcmp(dmio_engine_backend(engine), "uring") == 0;
        assert_int_equal(dmio_queue_create(engine, &queue), 0);
        assert_int_equal(close(fds[1]), 0);

        pollfd.fd = fds[0];
        if (ring)
                assert_int_equal(poll(&pollfd, 1, 0), 0);
        assert_int_equal(dmio_queue_destroy(queue), 0);
        assert_int_equal(poll(&pollfd, 1, LIMIT_MS), 1);
        assert_int_equal(pollfd.revents, POLLHUP);
        assert_int_equal(dmio_engine_destroy(engine), 0);
        assert_int_equal(close(fds[0]), 0);
}

static void options_that_make_no_sense_are_refused(void **state)
{
        struct dmio_engine_options options = { .flags = 1u << 30 };
        struct dmio_engine *engine = NULL;

        assert_int_equal(dmio_engine_create(&options, &engine), -EINVAL);
        options = (struct dmio_engine_options){ .depth = 4097 };
        assert_int_equal(dmio_engine_create(&options, &engine), -EINVAL);
        options = (struct dmio_engine_options){ .backend = "punch-cards" };
        assert_int_equal(dmio_engine_create(&options, &engine), -EOPNOTSUPP);
        assert_null(engine);
        assert_int_equal(dmio_engine_destroy(NULL), 0);
        assert_int_equal(dmio_queue_destroy(NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(an_idle_queue_is_silent, setup, teardown),
                cmocka_unit_test_setup_teardown(a_pipe_is_written_and_read, setup, teardown),
                cmocka_unit_test_setup_teardown(a_socket_pair_carries_many, setup, teardown),
                cmocka_unit_test_setup_teardown(results_are_those_of_the_system_call, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(what_has_not_begun_can_be_given_up, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(threads_post_tasks_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(a_task_wakes_a_sleeping_queue, setup, teardown),
                cmocka_unit_test_setup_teardown(a_callback_may_not_wait, setup, teardown),
                cmocka_unit_test_setup_teardown(requests_run_in_the_callers_loop, setup, teardown),
                cmocka_unit_test_setup_teardown(flush_discard_and_zeroes, setup, teardown),
                cmocka_unit_test(a_ring_holds_a_file_until_it_is_gone),
                cmocka_unit_test(options_that_make_no_sense_are_refused),
        };

        if (!test_backend_works())
                return 77;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
