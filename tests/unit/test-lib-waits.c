/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Who waits, for what, and who wakes him: descriptors that are polled after the queue was driven
 * without a limit, threads with several queues, threads that wait for each other's, pages that must
 * not become out of reach. And regions that can be nowhere, of which a read still leaves zeroes.
 */

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

#define POLL_LIMIT_MS 5000
#define ROUNDS 300

struct fixture {
        struct scratch scratch;
        struct dmio_engine *engine;
        struct dm_io_client *client;
        struct page *page;
};

static int setup(void **state)
{
        const struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->scratch = SCRATCH_NULL;
        scratch_init(&f->scratch, SCRATCH_FILE, 2048, 0);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dm_io_client_create(f->engine, 64, &f->client), 0);
        f->page = pages_new(1);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(dm_io_client_destroy(f->client), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        scratch_deinit(&f->scratch);
        free(f->page);
        free(f);
        return 0;
}

static struct dm_io_request request_of(const struct fixture *f, enum dm_io_op op)
{
        return (struct dm_io_request){
                .op = op,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = f->page },
                .client = f->client,
        };
}

/* A write that follows itself until it is told to stop. */
struct chain {
        struct fixture *fixture;
        unsigned int n_done;
        bool stop, failed;
};

static void chain_go_on(unsigned long error, void *context)
{
        struct chain *chain = context;
        struct dm_io_request request = request_of(chain->fixture, DM_IO_WRITE);
        struct io_region where = scratch_region(&chain->fixture->scratch, 0, 8);

        chain->failed |= error != 0;
        chain->n_done++;
        request.notify = (struct dm_io_notify){ chain_go_on, chain };
        if (!chain->stop && dm_io(&request, 1, &where, NULL) < 0)
                chain->failed = true;
}

static void copied(int read_err, unsigned long write_err, void *context)
{
        *(bool *)context = read_err || write_err;
}

static void polled_after_a_wait_without_limit(void **state)
{
        struct fixture *f = *state;
        struct chain chain = { .fixture = f };
        struct pollfd pollfd = { .events = POLLIN };
        struct dmio_queue *queue;

        assert_int_equal(dmio_queue_create(f->engine, &queue), 0);
        pollfd.fd = dmio_queue_fd(queue);
        assert_true(pollfd.fd >= 0);
        chain_go_on(0, &chain);
        for (unsigned int i = 0; i < ROUNDS; i++) {
                /* Now and then it is the library that drives the queue. */
                if (i % 10 == 0) {
                        struct io_region from = scratch_region(&f->scratch, 64, 64);
                        struct io_region to = scratch_region(&f->scratch, 256, 64);
                        struct dm_kcopyd_client *kc;
                        bool failed = true;

                        assert_int_equal(dm_kcopyd_client_create(f->engine, NULL, &kc), 0);
                        assert_int_equal(
                                dm_kcopyd_copy(kc, &from, 1, &to, 0, copied, &failed, NULL), 0);
                        assert_int_equal(dm_kcopyd_client_destroy(kc), 0);
                        assert_false(failed);
                } else {
                        assert_true(dmio_queue_process(queue, -1, 0) > 0);
                }
                assert_int_equal(poll(&pollfd, 1, POLL_LIMIT_MS), 1);
                assert_true(dmio_queue_process(queue, 0, 0) >= 0);
        }
        chain.stop = true;
        while (dmio_queue_in_flight(queue) > 0)
                assert_true(dmio_queue_process(queue, -1, 0) >= 0);
        assert_false(chain.failed);
        assert_true(chain.n_done > ROUNDS / 2);
        assert_int_equal(dmio_queue_destroy(queue), 0);
}

static void done(unsigned long error, void *context)
{
        *(unsigned long *)context = error;
}

/* The end of a client waits for what is on either of them. */
static void a_thread_with_two_queues(void **state)
{
        struct fixture *f = *state;
        struct io_region where = scratch_region(&f->scratch, 0, 8);
        struct dmio_queue *queues[2];
        struct dm_io_client *client;
        struct dm_io_request request;
        unsigned long error = 1;

        for (unsigned int i = 0; i < 2; i++)
                assert_int_equal(dmio_queue_create(f->engine, &queues[i]), 0);
        assert_int_equal(dm_io_client_create(f->engine, 1, &client), 0);
        request = request_of(f, DM_IO_WRITE);
        request.client = client;
        request.queue = queues[1];
        request.notify = (struct dm_io_notify){ done, &error };
        assert_int_equal(dm_io(&request, 1, &where, NULL), 0);
        assert_int_equal(dm_io_client_destroy(client), 0);
        assert_int_equal(error, 0);
        for (unsigned int i = 0; i < 2; i++)
                assert_int_equal(dmio_queue_destroy(queues[i]), 0);
}

struct crossing {
        struct fixture *fixture;
        pthread_t threads[2];
        pthread_barrier_t barrier;
        struct dmio_queue *queues[2];
        _Atomic(unsigned int) n_done;
        _Atomic(bool) failed;
};

struct crosser {
        struct crossing *crossing;
        unsigned int index;
};

/* Asks the other one's queue, and drives its own for as long as the other may want it. */
static void *cross(void *argument)
{
        struct crosser *crosser = argument;
        struct crossing *crossing = crosser->crossing;
        struct fixture *f = crossing->fixture;
        struct dmio_queue **own = &crossing->queues[crosser->index];
        struct io_region where = scratch_region(&f->scratch, 8, 8);
        struct dm_io_request request = request_of(f, DM_IO_READ);
        struct page *page = pages_new(1);

        request.mem.ptr.addr = page;
        if (dmio_queue_create(f->engine, own) < 0)
                atomic_store(&crossing->failed, true);
        (void)pthread_barrier_wait(&crossing->barrier);
        request.queue = crossing->queues[!crosser->index];
        for (unsigned int i = 0; i < 20 && !atomic_load(&crossing->failed); i++)
                if (dm_io(&request, 1, &where, NULL) < 0)
                        atomic_store(&crossing->failed, true);
        atomic_fetch_add(&crossing->n_done, 1);
        while (atomic_load(&crossing->n_done) < 2)
                (void)dmio_queue_process(*own, 1000, 0);
        (void)pthread_barrier_wait(&crossing->barrier);
        if (dmio_queue_destroy(*own) < 0)
                atomic_store(&crossing->failed, true);
        free(page);
        return NULL;
}

static void threads_that_wait_for_each_other(void **state)
{
        struct crossing crossing = { .fixture = *state };
        struct crosser crossers[2];

        assert_int_equal(pthread_barrier_init(&crossing.barrier, NULL, 2), 0);
        for (unsigned int i = 0; i < 2; i++) {
                crossers[i] = (struct crosser){ &crossing, i };
                assert_int_equal(pthread_create(&crossing.threads[i], NULL, cross, &crossers[i]),
                                 0);
        }
        for (unsigned int i = 0; i < 2; i++)
                assert_int_equal(pthread_join(crossing.threads[i], NULL), 0);
        assert_false(atomic_load(&crossing.failed));
        (void)pthread_barrier_destroy(&crossing.barrier);
}

/* Wherever the region is not, what is read of it are zeroes. */
static void a_read_of_what_is_nowhere(void **state)
{
        static const sector_t sectors[] = { 2048, 2041, UINT64_MAX, UINT64_MAX - 8 };
        struct fixture *f = *state;
        struct dm_io_request request = request_of(f, DM_IO_READ);
        static const struct page zeroes;
        struct dmio_queue *queue;
        unsigned long bits;

        assert_int_equal(dmio_queue_create(f->engine, &queue), 0);
        for (size_t i = 0; i < sizeof(sectors) / sizeof(*sectors); i++) {
                struct io_region where = { f->scratch.bdev, sectors[i], 8 };

                memset(f->page, 0x5a, sizeof(*f->page));
                bits = 0;
                assert_int_equal(dm_io(&request, 1, &where, &bits), -EIO);
                assert_int_equal(bits, 1);
                assert_memory_equal(f->page, &zeroes, sizeof(zeroes));
        }
        assert_int_equal(dmio_queue_destroy(queue), 0);
}

/* With errors ignored a destination gets zeroes then, and nothing that lay in the pool before. */
static void a_copy_of_what_is_nowhere(void **state)
{
        struct fixture *f = *state;
        struct io_region data = scratch_region(&f->scratch, 0, 512);
        struct io_region where = scratch_region(&f->scratch, 1024, 512);
        struct io_region nowhere = { f->scratch.bdev, 2048, 512 };
        struct page *dirt = pages_new(64);
        struct dm_kcopyd_client *kc;
        struct dmio_queue *queue;
        bool failed = false;

        memset(dirt, 0x5a, 64 * sizeof(*dirt));
        scratch_write(&f->scratch, 0, dirt, 512 * 512);
        assert_int_equal(dmio_queue_create(f->engine, &queue), 0);
        for (unsigned int i = 0; i < 2; i++) {
                const struct io_region *from = i == 0 ? &data : &nowhere;

                assert_int_equal(dm_kcopyd_client_create(f->engine, NULL, &kc), 0);
                assert_int_equal(dm_kcopyd_copy(kc, from, 1, &where, DM_KCOPYD_IGNORE_ERROR, copied,
                                                &failed, NULL),
                                 0);
                assert_int_equal(dm_kcopyd_client_destroy(kc), 0);
                assert_int_equal(failed, i == 1);
        }
        assert_int_equal(dmio_queue_destroy(queue), 0);
        scratch_expect_zeroes(&f->scratch, 1024 * 512, 512 * 512);
        free(dirt);
}

struct page_waiter {
        struct dmio_page_wait wait;
        struct page_list *pages;
};

static void pages_came(struct dmio_page_wait *wait, struct page_list *pages)
{
        ((struct page_waiter *)wait)->pages = pages;
}

/* A put after which a waiter could never be served is refused. */
static void a_put_that_would_strand_a_waiter(void **state)
{
        const struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD,
                .floor_pages = 1,
        };
        struct dm_io_client *waiting, *other;
        struct page_list *one, *all;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct page_waiter waiter;

        assert_int_equal(dmio_engine_create(&options, &engine), 0);
        assert_int_equal(dmio_queue_create(engine, &queue), 0);
        assert_int_equal(dm_io_client_create(engine, 256, &waiting), 0);
        assert_int_equal(dm_io_client_create(engine, 255, &other), 0);
        one = dmio_pages_get(waiting, 1);
        all = dmio_pages_get(other, 256);
        assert_non_null(one);
        assert_non_null(all);
        waiter = (struct page_waiter){
                .wait = { .client = waiting, .queue = queue, .n_pages = 256, .fn = pages_came },
        };
        assert_int_equal(dmio_pages_wait(&waiter.wait), 0);
        assert_int_equal(dm_io_client_put(waiting, 256), -EBUSY);
        assert_int_equal(dm_io_client_put(waiting, 257), -EINVAL);
        assert_int_equal(dm_io_client_put(waiting, 1), 0);
        dmio_pages_put(waiting, one);
        dmio_pages_put(other, all);
        while (!waiter.pages)
                assert_true(dmio_queue_process(queue, -1, 0) >= 0);
        dmio_pages_put(waiting, waiter.pages);
        assert_int_equal(dm_io_client_put(waiting, 255), 0);
        assert_int_equal(dm_io_client_destroy(waiting), 0);
        assert_int_equal(dm_io_client_destroy(other), 0);
        assert_int_equal(dmio_queue_destroy(queue), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
}

/* In a child of fork(): exits with 0 if it can have queues of its own. */
static void use_a_queue_of_ones_own(void)
{
        const struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct dmio_engine *engine;
        struct dmio_queue *queue;

        if (dmio_engine_create(&options, &engine) < 0)
                _exit(2);
        if (dmio_queue_create(engine, &queue) < 0)
                _exit(3);
        _exit(dmio_queue_process(queue, 0, 0) < 0 ? 4 : 0);
}

static void a_child_has_none_of_its_parents_queues(void **state)
{
        struct dmio_queue *queues[4], *fifth;
        struct fixture *f = *state;
        int status;
        pid_t pid;

        for (unsigned int i = 0; i < 4; i++)
                assert_int_equal(dmio_queue_create(f->engine, &queues[i]), 0);
        assert_int_equal(dmio_queue_create(f->engine, &fifth), -EMFILE);
        pid = fork();
        if (pid == 0)
                use_a_queue_of_ones_own();
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        for (unsigned int i = 0; i < 4; i++)
                assert_int_equal(dmio_queue_destroy(queues[i]), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(polled_after_a_wait_without_limit, setup, teardown),
                cmocka_unit_test_setup_teardown(a_thread_with_two_queues, setup, teardown),
                cmocka_unit_test_setup_teardown(threads_that_wait_for_each_other, setup, teardown),
                cmocka_unit_test_setup_teardown(a_read_of_what_is_nowhere, setup, teardown),
                cmocka_unit_test_setup_teardown(a_copy_of_what_is_nowhere, setup, teardown),
                cmocka_unit_test(a_put_that_would_strand_a_waiter),
                cmocka_unit_test_setup_teardown(a_child_has_none_of_its_parents_queues, setup,
                                                teardown),
        };

        if (!test_backend_works())
                return 77;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
