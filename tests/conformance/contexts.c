/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 114 to 124: requests and pages beyond the reservation, and with memory short.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "reserve.h"
#include "util/macros.h"

#define PAGE DMIO_PAGE_SIZE
#define CHUNK DMIO_POOL_CHUNK_PAGES

/* --- requests beyond the reservation */

/* @n writes of a page, held by the device. */
static void submit_held(struct kit *kit, struct disk *disk, const void *data, unsigned int n,
                        struct completion *completion)
{
        disk_holds(kit, disk, FAULT_WRITE);
        for (unsigned int i = 0; i < n; i++) {
                struct io_region where = on_disk(disk, 8 * i, 8);

                assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 1, &where, completion),
                                 0);
        }
        disk_wait_held(disk);
}

static void case_114_many_more_than_reserved(struct kit *kit)
{
        enum { N = 100 };
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);

        assert_int_equal(kit_get(kit, 1), 0);
        submit_held(kit, disk, data, N, &completion);
        assert_int_equal(kit_calls(&completion), 0);
        if (!kit->classic) {
                assert_int_equal(stats_of(kit->client).in_flight, N);
                assert_int_equal(stats_of(kit->client).in_use, 0);
                assert_int_equal(stats_of(kit->client).waits, 0);
        }
        disk_release(disk);
        completion_wait(&completion, N);
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), N);
        for (unsigned int i = 0; i < N; i++)
                disk_expect(kit, disk, 8 * i, data, PAGE);
        assert_int_equal(kit_put(kit, 1), 0);
}

struct waiter {
        struct dmio_page_wait wait;
        struct completion completion;
        struct page_list *pages;
};

static void waiter_served(struct dmio_page_wait *wait, struct page_list *pages)
{
        struct waiter *waiter = (struct waiter *)wait;

        waiter->pages = pages;
        completion_notify(0, &waiter->completion);
}

/* An engine whose pages all belong to somebody, and two clients; one takes all that it can. */
struct tight {
        struct dmio_engine *engine;
        bool is_own;
        struct dm_io_client *one, *other;
        struct page_list *taken[2 * CHUNK];
        unsigned int n_taken;
};

/* Everything that @client can have, page by page. */
static unsigned int take_all(struct tight *tight, struct dm_io_client *client)
{
        unsigned int n = 0;

        for (;; n++) {
                struct page_list *page = dmio_pages_get(client, 1);

                if (!page)
                        return n;
                assert_true(tight->n_taken < ARRAY_SIZE(tight->taken));
                tight->taken[tight->n_taken++] = page;
        }
}

static void tight_begin_on(struct tight *tight, struct dmio_engine *engine, unsigned int one,
                           unsigned int other)
{
        tight->engine = engine;
        tight->is_own = false;
        tight->n_taken = 0;
        assert_int_equal(dm_io_client_create(engine, one, &tight->one), 0);
        assert_int_equal(dm_io_client_create(engine, other, &tight->other), 0);
}

static void tight_begin(struct kit *kit, struct tight *tight, unsigned int one, unsigned int other)
{
        struct dmio_engine_options options = { .floor_pages = 1 };

        tight_begin_on(tight, kit_engine_new(kit, &options), one, other);
        tight->is_own = true;
}

static void tight_end(struct tight *tight)
{
        for (unsigned int i = 0; i < tight->n_taken; i++)
                dmio_pages_put(tight->one, tight->taken[i]);
        assert_int_equal(dm_io_client_destroy(tight->one), 0);
        assert_int_equal(dm_io_client_destroy(tight->other), 0);
        if (tight->is_own)
                assert_int_equal(dmio_engine_destroy(tight->engine), 0);
}

static uint64_t waits_of(struct dm_io_client *client)
{
        return stats_of(client).waits;
}

/* Until @client has waited @n times; the case's own limit ends this. */
static void until_waits(struct dm_io_client *client, uint64_t n)
{
        while (waits_of(client) < n)
                (void)sched_yield();
}

static void wait_for_a_page(struct tight *tight, struct dm_io_client *client, struct waiter *waiter)
{
        *waiter = (struct waiter){
                .wait = { .client = client,
                          .queue = dmio_engine_queue(tight->engine),
                          .n_pages = 1,
                          .fn = waiter_served },
                .completion = COMPLETION_INIT,
        };
        assert_int_equal(dmio_pages_wait(&waiter->wait), 0);
}

/*
 * Two clients of one engine whose requests are held, with memory short: one without a reservation
 * has taken every context that is nobody's; the other has 1 page, 4 contexts, and uses them all,
 * the last one on a disk of its own, so that it can be let go alone. The disks hold by the engine's
 * rules, which occupies no thread.
 */
struct crowd {
        struct tight tight; /* on the kit's engine */
        struct page *data;
        struct disk *disk, *last_disk;
        struct completion done;
        unsigned int n_one; /* requests of tight.one */
};

static struct dm_io_request crowd_request(struct crowd *crowd, struct dm_io_client *client,
                                          unsigned int flags)
{
        return (struct dm_io_request){
                .op = DM_IO_WRITE,
                .flags = flags,
                .mem = in_vm(crowd->data),
                .notify = { .fn = completion_notify, .context = &crowd->done },
                .client = client,
        };
}

static int crowd_submit(struct crowd *crowd, struct dm_io_client *client, struct disk *disk,
                        unsigned int flags)
{
        struct dm_io_request request = crowd_request(crowd, client, flags);
        struct io_region where = on_disk(disk, 8, 8);

        return dm_io(&request, 1, &where, NULL);
}

/* Leaves allocations failing: starve_end(). */
static void crowd_begin(struct kit *kit, struct crowd *crowd)
{
        enum { MOST = 100000 };
        int r;

        *crowd = (struct crowd){ .done = COMPLETION_INIT };
        crowd->data = kit_pages(kit, 1, 1);
        crowd->disk = kit_disk(kit, DISK_RULED);
        crowd->last_disk = kit_disk(kit, DISK_RULED);
        kit_need_starving(kit);
        /* The RAM disks of "memory" are made at first use. */
        disk_fill(kit, crowd->disk, 8, 8, 3);
        disk_fill(kit, crowd->last_disk, 8, 8, 3);
        tight_begin_on(&crowd->tight, kit->engine, 0, 1);
        disk_holds(kit, crowd->disk, FAULT_WRITE);
        disk_holds(kit, crowd->last_disk, FAULT_WRITE);

        starve_after(0);
        do
                r = crowd_submit(crowd, crowd->tight.one, crowd->disk, DM_IO_NOWAIT);
        while (r == 0 && ++crowd->n_one < MOST);
        assert_int_equal(r, -EAGAIN);
        for (unsigned int i = 0; i < 3; i++)
                assert_int_equal(crowd_submit(crowd, crowd->tight.other, crowd->disk, 0), 0);
        assert_int_equal(crowd_submit(crowd, crowd->tight.other, crowd->last_disk, 0), 0);
        assert_int_equal(stats_of(crowd->tight.other).contexts_idle, 0);
        assert_int_equal(waits_of(crowd->tight.other), 0);
}

/* All that was accepted, and @more, has been called back once. */
static void crowd_end(struct kit *kit, struct crowd *crowd, unsigned int more)
{
        unsigned int n = crowd->n_one + 4 + more;

        disk_release(crowd->disk);
        disk_release(crowd->last_disk);
        completion_wait(&crowd->done, n);
        assert_int_equal(stats_of(crowd->tight.other).contexts, 4);
        tight_end(&crowd->tight);
        kit_settle(kit);
        assert_int_equal(kit_calls(&crowd->done), n);
        disk_expect(kit, crowd->disk, 8, crowd->data, PAGE);
        disk_expect(kit, crowd->last_disk, 8, crowd->data, PAGE);
}

struct fifth {
        struct crowd *crowd;
        pthread_t thread;
        _Atomic(bool) returned;
        int result;
};

static void *submit_fifth(void *argument)
{
        struct fifth *fifth = argument;

        fifth->result =
                crowd_submit(fifth->crowd, fifth->crowd->tight.other, fifth->crowd->last_disk, 0);
        atomic_store(&fifth->returned, true);
        return NULL;
}

static void case_115_the_reservation_and_one_more(struct kit *kit)
{
        struct crowd crowd;
        struct fifth fifth = { .crowd = &crowd };

        crowd_begin(kit, &crowd);
        assert_int_equal(pthread_create(&fifth.thread, NULL, submit_fifth, &fifth), 0);
        until_waits(crowd.tight.other, 1);
        assert_false(atomic_load(&fifth.returned));
        assert_int_equal(kit_calls(&crowd.done), 0);
        disk_release(crowd.last_disk);
        assert_int_equal(pthread_join(fifth.thread, NULL), 0);
        assert_int_equal(fifth.result, 0);

        /* The next one waits as well, until there is a larger reservation. */
        completion_wait(&crowd.done, 2);
        fifth.result = -1;
        disk_holds(kit, crowd.last_disk, FAULT_WRITE);
        while (crowd_submit(&crowd, crowd.tight.other, crowd.disk, DM_IO_NOWAIT) == 0)
                crowd.n_one++;
        assert_int_equal(pthread_create(&fifth.thread, NULL, submit_fifth, &fifth), 0);
        until_waits(crowd.tight.other, 2);
        (void)starve_end();
        assert_int_equal(dm_io_client_get(crowd.tight.other, 1), 0);
        assert_int_equal(pthread_join(fifth.thread, NULL), 0);
        assert_int_equal(fifth.result, 0);
        assert_int_equal(dm_io_client_put(crowd.tight.other, 1), 0);
        crowd_end(kit, &crowd, 2);
}

/* A callback cannot wait for what it may itself have to bring about. */
struct from_callback {
        struct crowd *crowd;
        struct completion returned;
        int result;
};

static void submit_in_callback(unsigned long error, void *context)
{
        struct from_callback *from = context;

        /* Its own context has come home: that one can be had, one more cannot. */
        from->result = crowd_submit(from->crowd, from->crowd->tight.other, from->crowd->disk, 0);
        if (from->result == 0)
                from->result =
                        crowd_submit(from->crowd, from->crowd->tight.other, from->crowd->disk, 0);
        completion_notify(error, &from->returned);
}

static void case_116_no_context_without_waiting(struct kit *kit)
{
        struct crowd crowd;
        struct from_callback from = { .crowd = &crowd, .returned = COMPLETION_INIT };
        struct dm_io_request request;
        struct io_region where;
        struct dm_io_client *poor = NULL;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_RULED);

        disk_fill(kit, disk, 8, 8, 3);
        crowd_begin(kit, &crowd);
        assert_int_equal(crowd_submit(&crowd, crowd.tight.other, crowd.disk, DM_IO_NOWAIT),
                         -EAGAIN);
        (void)starve_end();

        assert_int_equal(dm_io_client_create(crowd.tight.engine, 0, &poor), 0);
        request = crowd_request(&crowd, crowd.tight.other, 0);
        request.notify.fn = submit_in_callback;
        request.notify.context = &from;
        where = on_disk(disk, 8, 8);
        disk_holds(kit, disk, FAULT_WRITE);
        assert_int_equal(dm_io(&request, 1, &where, NULL), 0);
        starve_after(0);
        while (crowd_submit(&crowd, crowd.tight.one, crowd.disk, DM_IO_NOWAIT) == 0)
                crowd.n_one++;
        /* With nothing in flight there is nothing to wait for. */
        assert_int_equal(crowd_submit(&crowd, poor, crowd.disk, 0), -ENOMEM);
        disk_release(disk);
        completion_wait(&from.returned, 1);
        (void)starve_end();
        assert_int_equal(from.result, -ENOMEM);
        assert_int_equal(dm_io_client_destroy(poor), 0);
        crowd_end(kit, &crowd, 1);
        disk_expect(kit, disk, 8, data, PAGE);
}

/* With neither a page nor a context left for it. */
static void case_117_sync_with_all_taken(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 2);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where = on_disk(disk, 8, 8);
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_vm(data) };
        unsigned long bits = KIT_UNTOUCHED;
        struct crowd crowd;
        int r;

        if (kit->classic) {
                /* No pages have been got at all. */
                kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
                disk_expect(kit, disk, 8, data, PAGE);
                return;
        }
        disk_fill(kit, disk, 8, 8, 3);
        crowd_begin(kit, &crowd);
        assert_true(take_all(&crowd.tight, crowd.tight.one) > 0);
        request.client = crowd.tight.other;
        r = dm_io(&request, 1, &where, &bits);
        (void)starve_end();
        assert_int_equal(r, 0);
        assert_int_equal(bits, 0);
        crowd_end(kit, &crowd, 0);
        disk_expect(kit, disk, 8, data, PAGE);
}

/* Waiters of one client are served in order, one for each page that comes home. */
static void a_page_wakes_who_waits(struct kit *kit)
{
        struct waiter waiters[3];
        struct tight tight;

        tight_begin(kit, &tight, 100, 0);
        assert_true(take_all(&tight, tight.one) >= 100);
        for (unsigned int i = 0; i < 3; i++)
                wait_for_a_page(&tight, tight.one, &waiters[i]);
        for (unsigned int i = 0; i < 3; i++) {
                dmio_pages_put(tight.one, tight.taken[--tight.n_taken]);
                completion_wait(&waiters[i].completion, 1);
                for (unsigned int k = i + 1; k < 3; k++)
                        assert_int_equal(kit_calls(&waiters[k].completion), 0);
        }
        for (unsigned int i = 0; i < 3; i++)
                dmio_pages_put(tight.one, waiters[i].pages);
        tight_end(&tight);
}

/* What comes home belongs to the reserve again, however many there were beyond it. */
static void case_118_what_comes_home(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);

        a_page_wakes_who_waits(kit);
        assert_int_equal(kit_get(kit, 1), 0);
        kit_expect_reserved(kit, 1);
        submit_held(kit, disk, data, 7, &completion);
        assert_int_equal(stats_of(kit->client).contexts_idle, 0);
        disk_release(disk);
        completion_wait(&completion, 7);
        kit_settle(kit);
        kit_expect_reserved(kit, 1);
        assert_int_equal(kit_put(kit, 1), 0);
}

static void contexts_of_a_put(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);

        assert_int_equal(kit_get(kit, 4), 0);
        submit_held(kit, disk, data, 16, &completion);
        assert_int_equal(stats_of(kit->client).contexts_idle, 0);
        assert_int_equal(kit_put(kit, 3), 0);
        assert_int_equal(stats_of(kit->client).contexts, 4);
        assert_int_equal(stats_of(kit->client).contexts_idle, 0);
        disk_release(disk);
        completion_wait(&completion, 16);
        kit_settle(kit);
        kit_expect_reserved(kit, 1);
        assert_int_equal(kit_put(kit, 1), 0);
}

static void case_119_put_while_all_is_in_use(struct kit *kit)
{
        struct page_list *pages[6];
        struct dm_io_client_stats stats;

        contexts_of_a_put(kit);
        assert_int_equal(kit_get(kit, 3 * CHUNK), 0);
        for (unsigned int i = 0; i < 6; i++) {
                pages[i] = dmio_pages_get(kit->client, 256);
                assert_non_null(pages[i]);
        }
        assert_int_equal(kit_put(kit, 3 * CHUNK - 4), 0);
        dm_io_client_stats(kit->client, &stats);
        assert_int_equal(stats.reserved, 4);
        assert_int_equal(stats.in_use, 3 * CHUNK);
        assert_true(pool_of(kit->engine).total >= 3 * CHUNK);
        for (unsigned int i = 0; i < 6; i++)
                dmio_pages_put(kit->client, pages[i]);
        dm_io_client_stats(kit->client, &stats);
        assert_int_equal(stats.in_use, 0);
        assert_true(pool_of(kit->engine).total <= 2 * CHUNK);
        assert_int_equal(kit_put(kit, 4), 0);
        kit_expect_gone(kit);
}

static void case_120_put_to_zero_meanwhile(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);

        assert_int_equal(kit_get(kit, 4), 0);
        submit_held(kit, disk, data, 1, &completion);
        assert_int_equal(kit_put(kit, 4), -EBUSY);
        kit_expect_reserved(kit, 4);
        assert_int_equal(kit_put(kit, 3), 0);
        assert_int_equal(kit_put(kit, 1), -EBUSY);
        disk_release(disk);
        kit_called(&completion, 0);
        assert_int_equal(kit_put(kit, 1), 0);
        assert_int_equal(kit_calls(&completion), 1);
        kit_expect_gone(kit);
}

#define THREADS 8

struct getter {
        pthread_t thread;
        struct kit *kit;
        unsigned int times;
        int trouble;
};

static void *get_and_put(void *argument)
{
        struct getter *getter = argument;

        for (unsigned int i = 0; i < getter->times && !getter->trouble; i++) {
                unsigned int n = 1 + i % 7;

                getter->trouble = kit_get(getter->kit, n);
                if (!getter->trouble)
                        getter->trouble = kit_put(getter->kit, n);
        }
        return NULL;
}

static void get_and_put_in_threads(struct kit *kit, unsigned int times)
{
        struct getter getters[THREADS];

        for (unsigned int i = 0; i < THREADS; i++) {
                getters[i] = (struct getter){ .kit = kit, .times = times };
                assert_int_equal(pthread_create(&getters[i].thread, NULL, get_and_put, &getters[i]),
                                 0);
        }
        for (unsigned int i = 0; i < THREADS; i++) {
                assert_int_equal(pthread_join(getters[i].thread, NULL), 0);
                assert_int_equal(getters[i].trouble, 0);
        }
}

/* Most with one page kept, so that not each of them starts and ends the engine. */
static void case_121_balanced_in_eight_threads(struct kit *kit)
{
        assert_int_equal(kit_get(kit, 1), 0);
        get_and_put_in_threads(kit, 10000 / THREADS);
        kit_expect_reserved(kit, 1);
        assert_int_equal(kit_put(kit, 1), 0);
        kit_expect_gone(kit);
        get_and_put_in_threads(kit, 25);
        kit_expect_gone(kit);
}

static void case_122_defaults_and_limits(struct kit *kit)
{
        struct dmio_engine_options options = { .backend = kit->target };
        struct dmio_engine *engine = NULL;
        struct dm_io_client *client;

        assert_int_equal(pool_of(kit->engine).total, CHUNK);
        assert_int_equal(pool_of(kit->engine).reserved, 0);
        assert_true(pool_of(kit->engine).limit > 0);
        options.depth = 4097;
        assert_int_equal(dmio_engine_create(&options, &engine), -EINVAL);
        options.depth = 4096;
        options.flags = 1u << 31;
        assert_int_equal(dmio_engine_create(&options, &engine), -EINVAL);
        assert_null(engine);

        options.flags = 0;
        options.max_pages = 100;
        assert_int_equal(dmio_engine_create(&options, &engine), 0);
        assert_int_equal(pool_of(engine).limit, 100);
        assert_int_equal(dm_io_client_create(engine, 100, &client), 0);
        assert_int_equal(dm_io_client_get(client, 1), -EINVAL);
        assert_int_equal(pool_of(engine).reserved, 100);
        assert_int_equal(dm_io_client_destroy(client), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
}

/*
 * The one that has a reservation does its I/O through pool pages while eight others want all pages
 * and all contexts.
 */
struct greedy {
        pthread_t thread;
        struct dm_io_client *client;
        struct io_region where;
        const void *data;
        struct completion done;
        unsigned int n_submitted;
        _Atomic(bool) *stop;
        bool trouble;
};

static void submit_all(struct greedy *greedy)
{
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .flags = DM_IO_NOWAIT,
                .mem = in_vm(greedy->data),
                .notify = { .fn = completion_notify, .context = &greedy->done },
                .client = greedy->client,
        };

        for (unsigned int i = 0; i < 500 && dm_io(&request, 1, &greedy->where, NULL) == 0; i++)
                greedy->n_submitted++;
        completion_wait(&greedy->done, greedy->n_submitted);
}

static void *take_and_give(void *argument)
{
        struct greedy *greedy = argument;

        while (!atomic_load(greedy->stop)) {
                struct page_list *pages[64];
                unsigned int n = 0;

                while (n < ARRAY_SIZE(pages) &&
                       (pages[n] = dmio_pages_get(greedy->client, 1 + n % 16)) != NULL)
                        n++;
                greedy->trouble |= n == 0;
                submit_all(greedy);
                while (n > 0)
                        dmio_pages_put(greedy->client, pages[--n]);
        }
        return NULL;
}

static void case_123_the_others_take_everything(struct kit *kit)
{
        enum { BATCH = 60 }; /* a page each to bounce, of 64 */
        struct page *data = kit_pages(kit, 64, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct disk *others_disk = kit_disk(kit, DISK_FILE);
        struct completion done = COMPLETION_INIT;
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .notify = { .fn = completion_notify, .context = &done },
        };
        struct greedy others[THREADS];
        _Atomic(bool) stop = false;
        unsigned int n = 0;
        struct tight tight;
        int r = 0;

        kit_need_starving(kit);
        disk_fill(kit, disk, 8, 8, 2);
        disk_fill(kit, others_disk, 8, 8, 2);
        tight_begin(kit, &tight, 0, 64);
        request.client = tight.other;
        for (unsigned int i = 0; i < THREADS; i++) {
                others[i] = (struct greedy){
                        .where = on_disk(others_disk, 8 * i, 8),
                        .data = data,
                        .done = COMPLETION_INIT,
                        .stop = &stop,
                };
                assert_int_equal(dm_io_client_create(tight.engine, 16, &others[i].client), 0);
                assert_int_equal(pthread_create(&others[i].thread, NULL, take_and_give, &others[i]),
                                 0);
        }
        starve_after(0);
        for (unsigned int i = 0; i < 200 && r == 0; i++) {
                for (unsigned int k = 0; k < BATCH && r == 0; k++) {
                        struct io_region where = on_disk(disk, 8 * (k + 1), 8);

                        request.mem = in_vm(data->bytes + k * PAGE + 1);
                        r = dm_io(&request, 1, &where, NULL);
                        n += r == 0;
                }
                completion_wait(&done, n);
        }
        (void)starve_end();
        atomic_store(&stop, true);
        for (unsigned int i = 0; i < THREADS; i++) {
                assert_int_equal(pthread_join(others[i].thread, NULL), 0);
                assert_false(others[i].trouble);
                assert_int_equal(dm_io_client_destroy(others[i].client), 0);
                assert_int_equal(kit_calls(&others[i].done), others[i].n_submitted);
        }
        assert_int_equal(r, 0);
        assert_int_equal(waits_of(tight.other), 0);
        tight_end(&tight);
        disk_expect(kit, disk, 8, data->bytes + 1, BATCH * PAGE);
}

static void case_124_async_before_any_get(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *data = kit_pages(kit, 1, 1);
        struct page_list *list = kit_list(kit, data, 1);
        struct bio_vec *bvec = kit_bvec(kit, data, (const unsigned int[]){ 4096 }, 1);
        struct io_region where = on_disk(disk, 8, 8);
        struct dm_io_memory memories[] = { in_vm(data), in_list(list, 0), in_bvec(bvec) };

        for (size_t i = 0; i < ARRAY_SIZE(memories); i++)
                assert_int_equal(kit_async(kit, DM_IO_WRITE, memories[i], 1, &where, &completion),
                                 -EINVAL);
        assert_int_equal(dm_io_get(1), 0);
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 0);
        assert_int_equal(dm_io_put(1), 0);
        disk_expect_zeroes(kit, disk, 0, 16 * DMIO_SECTOR_SIZE);
}

static const struct conformance_case cases[] = {
        CASE(114, 114_many_more_than_reserved, ON_BOTH | NOTHING_GOT,
             "100 requests in flight on a reservation of 1: none waits",
             "a client uses its reserve first and memory beyond it after that, so idle is 0 "
             "meanwhile"),
        CASE(115, 115_the_reservation_and_one_more, ON_MODERN,
             "no memory, others have taken the rest: 4 requests at once, the fifth call blocks "
             "until one "
             "ends",
             NULL),
        CASE(116, 116_no_context_without_waiting, ON_MODERN,
             "no context: -EAGAIN with NOWAIT; -ENOMEM in a callback, or with nothing to wait for; "
             "no "
             "callback",
             NULL),
        CASE(117, 117_sync_with_all_taken, ON_BOTH | NOTHING_GOT,
             "a sync call while no page and no context is left, and no memory", "D7"),
        CASE(118, 118_what_comes_home, ON_MODERN | NOTHING_GOT,
             "what comes home goes to the reserve; each page serves the next one that waits", NULL),
        CASE(119, 119_put_while_all_is_in_use, ON_MODERN | NOTHING_GOT,
             "put while all is in use: returns at once, the rest goes as it comes home", NULL),
        CASE(120, 120_put_to_zero_meanwhile, ON_CLASSIC | NOTHING_GOT,
             "put to 0 with a request in flight: -EBUSY, its callback comes once",
             "D4; it would end the default engine. A client of the modern face is there without "
             "pages, "
             "too, so its put is allowed"),
        CASE(121, 121_balanced_in_eight_threads, ON_BOTH | NOTHING_GOT,
             "8 threads, 10000 gets and puts: all is put back in the end", NULL),
        CASE(122, 122_defaults_and_limits, ON_MODERN, "defaults and limits of an engine's options",
             "the kernel's module parameter has no counterpart"),
        CASE(123, 123_the_others_take_everything, ON_MODERN,
             "8 clients take all they can, allocations fail: one within its reservation never "
             "waits",
             NULL),
        CASE(124, 124_async_before_any_get, ON_CLASSIC | NOTHING_GOT,
             "async call before any get: -EINVAL, no callback", NULL),
};

const struct conformance_section context_section = { "Beyond the reservation", cases,
                                                     ARRAY_SIZE(cases) };
