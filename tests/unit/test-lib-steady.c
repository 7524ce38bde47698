/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Once warm, requests allocate nothing: 100,000 of them, of every shape, at a depth within the
 * reservation, and neither the allocator nor the system is asked for memory.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "allocations.h"
#include "scratch.h"

#define DEPTH 32
#define BATCH 10000 /* a wait has its limit */
#define WARM_UP 4000
#define N_LEGS 8
#define SLOT_PAGES 8
#define SLOT_SECTORS (SLOT_PAGES * 8)

struct load;

struct slot {
        struct load *load;
        struct page *pages;
        struct page_list links[SLOT_PAGES];
        struct bio_vec bvec[SLOT_PAGES * 2];
        struct io_region regions[N_LEGS];
};

/* Engine by its own thread or by ours. */
struct load {
        struct scratch legs[N_LEGS];
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct dm_io_client *client;
        struct slot slots[DEPTH];
        struct completion done;
        unsigned int n_started, n_done, n_target, n_failed;
};

/* What request number @n is: the shapes of memory, aligned and not, go round with the operations.
 */
static void shape(struct slot *slot, unsigned int n, struct dm_io_request *ret,
                  unsigned int *ret_regions)
{
        static const enum dm_io_op ops[] = { DM_IO_WRITE, DM_IO_READ, DM_IO_WRITE, DM_IO_READ,
                                             DM_IO_WRITE_ZEROES };
        unsigned int legs[] = { 1, 2, N_LEGS };
        bool misaligned = n / 7 % 3 == 0;

        *ret = (struct dm_io_request){ .op = ops[n % 5] };
        /* What makes durable takes its time. */
        if (n % 1000 == 999)
                ret->op = DM_IO_FLUSH;
        else if (n % 1000 == 500)
                ret->flags = DM_IO_PREFLUSH | DM_IO_FUA;
        *ret_regions = ret->op & 1 ? legs[n / 5 % 3] : 1;
        switch (n % 3) {
        case 0:
                ret->mem.type = DM_IO_KMEM;
                ret->mem.ptr.addr = slot->pages->bytes + misaligned;
                break;
        case 1:
                ret->mem.type = DM_IO_PAGE_LIST;
                ret->mem.offset = misaligned ? 512 : 0;
                ret->mem.ptr.pl = slot->links;
                break;
        default:
                ret->mem.type = DM_IO_BVEC;
                ret->mem.n_bvec = SLOT_PAGES * 2;
                ret->mem.ptr.bvec = slot->bvec;
        }
}

static void slot_done(unsigned long error, void *context);

static void slot_start(struct slot *slot)
{
        struct load *load = slot->load;
        unsigned int n = load->n_started++, n_regions;
        struct dm_io_request request;

        shape(slot, n, &request, &n_regions);
        request.client = load->client;
        request.queue = load->queue;
        request.notify = (struct dm_io_notify){ slot_done, slot };
        for (unsigned int i = 0; i < n_regions; i++)
                slot->regions[i] =
                        scratch_region(&load->legs[i], 8 * (n % 64), SLOT_SECTORS - 8 - n % 8);
        if (dm_io(&request, n_regions, slot->regions, NULL) < 0) {
                load->n_failed++;
                slot_done(1, slot);
        }
}

/* Only on the queue's thread. */
static void slot_done(unsigned long error, void *context)
{
        struct slot *slot = context;
        struct load *load = slot->load;

        load->n_done++;
        load->n_failed += error != 0;
        if (load->n_started < load->n_target)
                slot_start(slot);
        else if (load->n_done == load->n_target)
                completion_notify(0, &load->done);
}

static void start_all(struct dmio_task *task);

struct kick {
        struct dmio_task task;
        struct load *load;
};

static void start_all(struct dmio_task *task)
{
        struct load *load = ((struct kick *)task)->load;

        for (unsigned int i = 0; i < DEPTH && load->n_started < load->n_target; i++)
                slot_start(&load->slots[i]);
}

static void run(struct load *load, unsigned int n, unsigned int calls, bool own_loop)
{
        struct kick kick = { .task = { .fn = start_all }, .load = load };

        load->n_target += n;
        dmio_queue_post(load->queue, &kick.task);
        while (own_loop && load->n_done < load->n_target)
                assert_true(dmio_queue_process(load->queue, -1, 0) >= 0);
        completion_wait(&load->done, calls);
}

static void load_begin(struct load *load, bool own_loop)
{
        const struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = own_loop ? DMIO_ENGINE_NO_THREAD : 0,
        };

        *load = (struct load){ .done = COMPLETION_INIT };
        for (unsigned int i = 0; i < N_LEGS; i++) {
                load->legs[i] = SCRATCH_NULL;
                scratch_init(&load->legs[i], SCRATCH_FILE, 2048, 0);
        }
        assert_int_equal(dmio_engine_create(&options, &load->engine), 0);
        if (own_loop)
                assert_int_equal(dmio_queue_create(load->engine, &load->queue), 0);
        else
                load->queue = dmio_engine_queue(load->engine);
        assert_int_equal(
                dm_io_client_create(load->engine, DEPTH * SLOT_PAGES * N_LEGS, &load->client), 0);
        for (unsigned int i = 0; i < DEPTH; i++) {
                struct slot *slot = &load->slots[i];

                slot->load = load;
                slot->pages = pages_new(SLOT_PAGES);
                for (unsigned int k = 0; k < SLOT_PAGES; k++) {
                        /* Backwards, so that no two are neighbours. */
                        struct page *page = &slot->pages[SLOT_PAGES - 1 - k];

                        slot->links[k] = (struct page_list){
                                .next = k + 1 < SLOT_PAGES ? &slot->links[k + 1] : NULL,
                                .page = page,
                        };
                        slot->bvec[2 * k] = (struct bio_vec){ page, 1000, 0 };
                        slot->bvec[2 * k + 1] = (struct bio_vec){ page, 3096, 1000 };
                }
        }
}

static void load_end(struct load *load, bool own_loop)
{
        assert_int_equal(load->n_failed, 0);
        assert_int_equal(dm_io_client_destroy(load->client), 0);
        if (own_loop)
                assert_int_equal(dmio_queue_destroy(load->queue), 0);
        assert_int_equal(dmio_engine_destroy(load->engine), 0);
        for (unsigned int i = 0; i < DEPTH; i++)
                free(load->slots[i].pages);
        for (unsigned int i = 0; i < N_LEGS; i++)
                scratch_deinit(&load->legs[i]);
}

static void allocates_nothing(bool own_loop, unsigned int n_batches)
{
        static struct load load;
        unsigned long before, after;
        struct dm_io_client_stats stats;

        load_begin(&load, own_loop);
        run(&load, WARM_UP, 1, own_loop);
        before = allocations_count();
        for (unsigned int i = 0; i < n_batches; i++)
                run(&load, BATCH, 2 + i, own_loop);
        after = allocations_count();
        assert_int_equal(load.n_done, WARM_UP + n_batches * BATCH);
        dm_io_client_stats(load.client, &stats);
        load_end(&load, own_loop);
        assert_true(before > 0); /* the warm-up at the latest: they are being counted */
        assert_int_equal(after - before, 0);
        assert_int_equal(stats.waits, 0);
}

static void in_the_engines_thread(void **state)
{
        allocates_nothing(false, 10);
}

static void in_a_loop_of_ones_own(void **state)
{
        allocates_nothing(true, 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(in_the_engines_thread),
                cmocka_unit_test(in_a_loop_of_ones_own),
        };

        if (!test_backend_works())
                return 77;
        if (!allocations_are_counted()) {
                (void)printf("SKIP: the sanitizer has the allocator's place\n");
                return 77;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
