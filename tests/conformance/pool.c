/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 103 to 124: reservations.
 *
 * The kernel's pool holds request contexts, four for each page, and counts a minimum and idle ones.
 * Ours holds pages, and lends them: what a client has reserved it can always have. So where the
 * table speaks of "min" the cases look at what is reserved, and where it speaks of a context that
 * is waited for, they wait for pages.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "kit.h"
#include "starve.h"
#include "util/macros.h"

#define PAGE DMIO_PAGE_SIZE
#define CHUNK DMIO_POOL_CHUNK_PAGES

/* --- one reservation, by either face */

static int get(struct kit *kit, unsigned int n)
{
        return kit->classic ? dm_io_get(n) : dm_io_client_get(kit->client, n);
}

static int put(struct kit *kit, unsigned int n)
{
        return kit->classic ? dm_io_put(n) : dm_io_client_put(kit->client, n);
}

/* The classic face does not tell: a put of one more is refused. */
static void expect_reserved(struct kit *kit, unsigned int n)
{
        struct dm_io_client_stats stats;

        assert_int_equal(put(kit, n + 1), -EINVAL);
        if (kit->classic)
                return;
        dm_io_client_stats(kit->client, &stats);
        assert_int_equal(stats.reserved, n);
}

static struct dmio_pool_stats pool_of(struct dmio_engine *engine)
{
        struct dmio_pool_stats stats;

        dmio_pool_stats(engine, &stats);
        return stats;
}

/* Without pages there is no asynchronous classic call: the pool is gone. */
static void expect_gone(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;

        if (kit->classic) {
                assert_int_equal(
                        dm_io_async_vm(0, NULL, DM_IO_WRITE, NULL, completion_notify, &completion),
                        -EINVAL);
                assert_int_equal(put(kit, 0), -EINVAL);
        } else {
                assert_int_equal(pool_of(kit->engine).reserved, 0);
                assert_int_equal(pool_of(kit->engine).total, CHUNK);
        }
        assert_int_equal(kit_calls(&completion), 0);
}

static void an_async_write_works(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where = on_disk(disk, 8, 8);

        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 1, &where, &completion), 0);
        kit_called(&completion, 0);
        disk_expect(kit, disk, 8, data, PAGE);
}

static void need_starving(struct kit *kit)
{
        if (!starve_works())
                kit_skip(kit, "allocations cannot be made to fail under this sanitizer");
}

static void case_103_get_of_one(struct kit *kit)
{
        assert_int_equal(get(kit, 1), 0);
        expect_reserved(kit, 1);
        an_async_write_works(kit);
        assert_int_equal(put(kit, 1), 0);
        if (!kit->classic)
                expect_reserved(kit, 0);
        expect_gone(kit);
}

static void case_104_gets_add_up(struct kit *kit)
{
        assert_int_equal(get(kit, 16), 0);
        expect_reserved(kit, 16);
        assert_int_equal(get(kit, 16), 0);
        expect_reserved(kit, 32);
        assert_int_equal(put(kit, 16), 0);
        expect_reserved(kit, 16);
        assert_int_equal(put(kit, 16), 0);
        expect_gone(kit);
        /* Several chunks, and back. */
        assert_int_equal(get(kit, 3 * CHUNK), 0);
        if (!kit->classic)
                assert_true(pool_of(kit->engine).total >= 4 * CHUNK);
        assert_int_equal(put(kit, 3 * CHUNK), 0);
        expect_gone(kit);
}

static void case_105_put_in_parts(struct kit *kit)
{
        assert_int_equal(get(kit, 10), 0);
        expect_reserved(kit, 10);
        assert_int_equal(put(kit, 4), 0);
        expect_reserved(kit, 6);
        assert_int_equal(put(kit, 6), 0);
        expect_gone(kit);
}

static void case_106_get_of_nothing(struct kit *kit)
{
        assert_int_equal(get(kit, 0), 0);
        expect_reserved(kit, 0);
        an_async_write_works(kit);
        assert_int_equal(put(kit, 0), 0);
        expect_gone(kit);
}

static void case_107_put_without_get(struct kit *kit)
{
        assert_int_equal(put(kit, 1), -EINVAL);
        assert_int_equal(put(kit, UINT32_MAX), -EINVAL);
        expect_gone(kit);
}

static void case_108_put_of_more_than_was_got(struct kit *kit)
{
        assert_int_equal(get(kit, 10), 0);
        assert_int_equal(put(kit, 11), -EINVAL);
        expect_reserved(kit, 10);
        an_async_write_works(kit);
        assert_int_equal(put(kit, 10), 0);
        expect_gone(kit);
}

static void case_109_get_of_far_too_many(struct kit *kit)
{
        assert_int_equal(get(kit, 4), 0);
        assert_int_equal(get(kit, 0x40000000), -EINVAL);
        assert_int_equal(get(kit, UINT32_MAX), -EINVAL);
        expect_reserved(kit, 4);
        assert_int_equal(put(kit, 4), 0);
        expect_gone(kit);
}

static void case_110_the_first_get_fails(struct kit *kit)
{
        need_starving(kit);
        for (unsigned int n = 0; n < 2; n++) {
                int r;

                starve_after(n);
                r = get(kit, CHUNK);
                assert_true(starve_end() > 0);
                assert_int_equal(r, -ENOMEM);
                expect_gone(kit);
        }
        assert_int_equal(get(kit, CHUNK), 0);
        expect_reserved(kit, CHUNK);
        an_async_write_works(kit);
        assert_int_equal(put(kit, CHUNK), 0);
        expect_gone(kit);
}

static void case_111_growth_fails(struct kit *kit)
{
        int r;

        need_starving(kit);
        assert_int_equal(get(kit, 4), 0);
        starve_after(0);
        r = get(kit, CHUNK);
        assert_true(starve_end() > 0);
        assert_int_equal(r, -ENOMEM);
        expect_reserved(kit, 4);
        an_async_write_works(kit);
        assert_int_equal(get(kit, CHUNK), 0);
        expect_reserved(kit, CHUNK + 4);
        assert_int_equal(put(kit, CHUNK + 4), 0);
        expect_gone(kit);
}

static void case_112_growth_fails_half_way(struct kit *kit)
{
        uint64_t before = 0;
        int r;

        need_starving(kit);
        assert_int_equal(get(kit, 4), 0);
        if (!kit->classic)
                before = pool_of(kit->engine).total;
        for (unsigned int n = 1; n <= 5; n++) {
                starve_after(n);
                r = get(kit, 4 * CHUNK);
                assert_true(starve_end() > 0);
                assert_int_equal(r, -ENOMEM);
                expect_reserved(kit, 4);
                if (!kit->classic)
                        assert_int_equal(pool_of(kit->engine).total, before);
        }
        assert_int_equal(put(kit, 4), 0);
        expect_gone(kit);
}

/* Each step of making an engine fails in turn; what was made before it must be gone. */
static void case_113_a_later_step_fails(struct kit *kit)
{
        struct dmio_engine_options options = { .backend = kit->target, .max_pages = 1000 };
        struct rlimit limit, none;
        struct dm_io_client *client = NULL;
        struct dmio_engine *engine = NULL;
        unsigned int n_failures = 0;
        int r = -ENOMEM;

        need_starving(kit);
        for (unsigned int n = 0; n < 1000 && r < 0; n++) {
                starve_after(n);
                r = dmio_engine_create(&options, &engine);
                (void)starve_end();
                n_failures += r < 0;
                assert_true(r == 0 || r == -ENOMEM || r == -EOPNOTSUPP);
        }
        assert_int_equal(r, 0);
        assert_true(n_failures >= 2);
        assert_int_equal(dm_io_client_create(engine, 1001, &client), -EINVAL);
        assert_null(client);
        /* -EBUSY if a client were left. */
        assert_int_equal(dmio_engine_destroy(engine), 0);

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        none = (struct rlimit){ .rlim_cur = 0, .rlim_max = limit.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        engine = NULL;
        r = dmio_engine_create(&options, &engine);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_true(r < 0);
        assert_null(engine);
        assert_int_equal(dmio_engine_create(&options, &engine), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
}

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
        struct dm_io_client_stats stats;

        assert_int_equal(get(kit, 1), 0);
        submit_held(kit, disk, data, N, &completion);
        assert_int_equal(kit_calls(&completion), 0);
        if (!kit->classic) {
                dm_io_client_stats(kit->client, &stats);
                assert_int_equal(stats.in_flight, N);
                assert_int_equal(stats.in_use, 0);
                assert_int_equal(stats.waits, 0);
        }
        disk_release(disk);
        completion_wait(&completion, N);
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), N);
        for (unsigned int i = 0; i < N; i++)
                disk_expect(kit, disk, 8 * i, data, PAGE);
        assert_int_equal(put(kit, 1), 0);
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

static void tight_begin(struct kit *kit, struct tight *tight, unsigned int one, unsigned int other)
{
        struct dmio_engine_options options = { .floor_pages = 1 };

        tight->engine = kit_engine_new(kit, &options);
        tight->n_taken = 0;
        assert_int_equal(dm_io_client_create(tight->engine, one, &tight->one), 0);
        assert_int_equal(dm_io_client_create(tight->engine, other, &tight->other), 0);
}

static void tight_end(struct tight *tight)
{
        for (unsigned int i = 0; i < tight->n_taken; i++)
                dmio_pages_put(tight->one, tight->taken[i]);
        assert_int_equal(dm_io_client_destroy(tight->one), 0);
        assert_int_equal(dm_io_client_destroy(tight->other), 0);
        assert_int_equal(dmio_engine_destroy(tight->engine), 0);
}

static uint64_t waits_of(struct dm_io_client *client)
{
        struct dm_io_client_stats stats;

        dm_io_client_stats(client, &stats);
        return stats.waits;
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
 * Somebody else has taken all that is nobody's, memory cannot be had: the reservation of 4 pages
 * holds, a fifth page has to be waited for and comes when one of the four goes home.
 */
static void case_115_the_reservation_and_one_more(struct kit *kit)
{
        struct page_list *own[4];
        struct waiter fifth;
        struct tight tight;

        need_starving(kit);
        tight_begin(kit, &tight, 100, 4);
        assert_true(take_all(&tight, tight.one) >= 100);
        starve_after(0);
        for (unsigned int i = 0; i < 4; i++)
                own[i] = dmio_pages_get(tight.other, 1);
        (void)starve_end();
        for (unsigned int i = 0; i < 4; i++)
                assert_non_null(own[i]);
        assert_int_equal(waits_of(tight.other), 0);
        assert_null(dmio_pages_get(tight.other, 1));

        wait_for_a_page(&tight, tight.other, &fifth);
        assert_int_equal(waits_of(tight.other), 1);
        assert_int_equal(kit_calls(&fifth.completion), 0);
        dmio_pages_put(tight.other, own[2]);
        completion_wait(&fifth.completion, 1);
        assert_non_null(fifth.pages);
        dmio_pages_put(tight.other, fifth.pages);
        for (unsigned int i = 0; i < 4; i++)
                if (i != 2)
                        dmio_pages_put(tight.other, own[i]);
        tight_end(&tight);
}

/* Without memory requests get what contexts there are; then they are refused, and lose nothing. */
static void case_116_no_context_without_waiting(struct kit *kit)
{
        enum { MOST = 100000 };
        struct completion accepted = COMPLETION_INIT, refused = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .flags = DM_IO_NOWAIT,
                .mem = in_vm(data),
                .notify = { .fn = completion_notify, .context = &accepted },
        };
        struct io_region where = on_disk(disk, 8, 8);
        unsigned int n = 0, n_failed;
        int r, r_waiting;

        need_starving(kit);
        submit_held(kit, disk, data, 1, &accepted);
        starve_after(0);
        while ((r = kit_io(kit, &request, 1, &where, NULL)) == 0 && n < MOST)
                n++;
        request.notify.context = &refused;
        request.flags = 0;
        r_waiting = kit_io(kit, &request, 1, &where, NULL);
        n_failed = starve_end();
        disk_release(disk);
        completion_wait(&accepted, n + 1);
        assert_int_equal(r, -EAGAIN);
        assert_int_equal(r_waiting, -ENOMEM);
        assert_true(n_failed > 0);
        kit_settle(kit);
        assert_int_equal(kit_calls(&accepted), n + 1);
        assert_int_equal(kit_calls(&refused), 0);
}

static void case_117_sync_with_all_pages_taken(struct kit *kit)
{
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where = on_disk(disk, 8, 8);
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_vm(data) };
        unsigned long bits = KIT_UNTOUCHED;
        struct tight tight;

        if (kit->classic) {
                /* No pages have been got at all. */
                kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
                disk_expect(kit, disk, 8, data, PAGE);
                return;
        }
        tight_begin(kit, &tight, 100, 0);
        assert_true(take_all(&tight, tight.one) >= 100);
        assert_null(dmio_pages_get(tight.other, 1));
        request.client = tight.other;
        assert_int_equal(dm_io(&request, 1, &where, &bits), 0);
        assert_int_equal(bits, 0);
        tight_end(&tight);
        disk_expect(kit, disk, 8, data, PAGE);
}

/* Waiters of one client are served in order, one for each page that comes home. */
static void case_118_a_page_wakes_who_waits(struct kit *kit)
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

static void case_119_put_while_all_is_in_use(struct kit *kit)
{
        struct page_list *pages[6];
        struct dm_io_client_stats stats;

        assert_int_equal(get(kit, 3 * CHUNK), 0);
        for (unsigned int i = 0; i < 6; i++) {
                pages[i] = dmio_pages_get(kit->client, 256);
                assert_non_null(pages[i]);
        }
        assert_int_equal(put(kit, 3 * CHUNK - 4), 0);
        dm_io_client_stats(kit->client, &stats);
        assert_int_equal(stats.reserved, 4);
        assert_int_equal(stats.in_use, 3 * CHUNK);
        assert_true(pool_of(kit->engine).total >= 3 * CHUNK);
        for (unsigned int i = 0; i < 6; i++)
                dmio_pages_put(kit->client, pages[i]);
        dm_io_client_stats(kit->client, &stats);
        assert_int_equal(stats.in_use, 0);
        assert_true(pool_of(kit->engine).total <= 2 * CHUNK);
        assert_int_equal(put(kit, 4), 0);
        expect_gone(kit);
}

static void case_120_put_to_zero_meanwhile(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct page *data = kit_pages(kit, 1, 1);
        struct disk *disk = kit_disk(kit, DISK_FAULTY);

        assert_int_equal(get(kit, 4), 0);
        submit_held(kit, disk, data, 1, &completion);
        assert_int_equal(put(kit, 4), -EBUSY);
        expect_reserved(kit, 4);
        assert_int_equal(put(kit, 3), 0);
        assert_int_equal(put(kit, 1), -EBUSY);
        disk_release(disk);
        kit_called(&completion, 0);
        assert_int_equal(put(kit, 1), 0);
        assert_int_equal(kit_calls(&completion), 1);
        expect_gone(kit);
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

                getter->trouble = get(getter->kit, n);
                if (!getter->trouble)
                        getter->trouble = put(getter->kit, n);
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
        assert_int_equal(get(kit, 1), 0);
        get_and_put_in_threads(kit, 10000 / THREADS);
        expect_reserved(kit, 1);
        assert_int_equal(put(kit, 1), 0);
        expect_gone(kit);
        get_and_put_in_threads(kit, 25);
        expect_gone(kit);
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

/* The one that has a reservation does its I/O through pool pages while eight others want it all. */
struct greedy {
        pthread_t thread;
        struct dm_io_client *client;
        _Atomic(bool) *stop;
        bool trouble;
};

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
                while (n > 0)
                        dmio_pages_put(greedy->client, pages[--n]);
        }
        return NULL;
}

static void case_123_the_others_take_everything(struct kit *kit)
{
        struct page *data = kit_pages(kit, 64, 1);
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct io_region where = on_disk(disk, 8, 496);
        struct dm_io_request request = { .op = DM_IO_WRITE, .mem = in_vm(data->bytes + 1) };
        unsigned long bits = 0;
        struct greedy others[THREADS];
        _Atomic(bool) stop = false;
        unsigned int n_failed = 0;
        struct tight tight;

        need_starving(kit);
        tight_begin(kit, &tight, 0, 64);
        request.client = tight.other;
        assert_int_equal(dm_io(&request, 1, &where, &bits), 0);
        for (unsigned int i = 0; i < THREADS; i++) {
                others[i] = (struct greedy){ .stop = &stop };
                assert_int_equal(dm_io_client_create(tight.engine, 16, &others[i].client), 0);
                assert_int_equal(pthread_create(&others[i].thread, NULL, take_and_give, &others[i]),
                                 0);
        }
        starve_after(0);
        for (unsigned int i = 0; i < 200; i++)
                n_failed += dm_io(&request, 1, &where, &bits) != 0 || bits != 0;
        (void)starve_end();
        atomic_store(&stop, true);
        for (unsigned int i = 0; i < THREADS; i++) {
                assert_int_equal(pthread_join(others[i].thread, NULL), 0);
                assert_false(others[i].trouble);
                assert_int_equal(dm_io_client_destroy(others[i].client), 0);
        }
        assert_int_equal(n_failed, 0);
        assert_int_equal(waits_of(tight.other), 0);
        tight_end(&tight);
        disk_expect(kit, disk, 8, data->bytes + 1, 496 * DMIO_SECTOR_SIZE);
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
        CASE(103, 103_get_of_one, ON_BOTH | NOTHING_GOT,
             "get(1): 1 page is reserved, async requests work", "pages, not four contexts each"),
        CASE(104, 104_gets_add_up, ON_BOTH | NOTHING_GOT,
             "get(16) twice, put(16) twice: 16, 32, 16, gone", NULL),
        CASE(105, 105_put_in_parts, ON_BOTH | NOTHING_GOT, "get(10), put(4), put(6): 10, 6, gone",
             NULL),
        CASE(106, 106_get_of_nothing, ON_BOTH | NOTHING_GOT,
             "get(0): async requests work; put(0) ends it", NULL),
        CASE(107, 107_put_without_get, ON_BOTH | NOTHING_GOT, "put(1) without a get: -EINVAL",
             NULL),
        CASE(108, 108_put_of_more_than_was_got, ON_BOTH | NOTHING_GOT,
             "get(10), put(11): -EINVAL, 10 stay reserved", NULL),
        CASE(109, 109_get_of_far_too_many, ON_BOTH | NOTHING_GOT,
             "get(0x40000000): -EINVAL, nothing changes", NULL),
        CASE(110, 110_the_first_get_fails, ON_BOTH | NOTHING_GOT,
             "the first get finds no memory: -ENOMEM, nothing is there, the next one succeeds",
             NULL),
        CASE(111, 111_growth_fails, ON_BOTH | NOTHING_GOT,
             "a further get finds no memory: -ENOMEM, what was reserved stays", NULL),
        CASE(112, 112_growth_fails_half_way, ON_BOTH | NOTHING_GOT,
             "memory ends in the middle of a get: -ENOMEM, nothing changes",
             "the kernel says 0 with a part of it"),
        CASE(113, 113_a_later_step_fails, ON_MODERN,
             "a later step of making an engine or client fails: the earlier ones are undone", NULL),
        CASE(114, 114_many_more_than_reserved, ON_BOTH | NOTHING_GOT,
             "100 requests in flight on a reservation of 1: none waits, the reserve is untouched",
             NULL),
        CASE(115, 115_the_reservation_and_one_more, ON_MODERN,
             "no memory, others have taken the rest: 4 reserved pages at once, the fifth when one "
             "comes home",
             "of pages; contexts are not reserved: a request for which there is no memory is "
             "refused, it never blocks (116)"),
        CASE(116, 116_no_context_without_waiting, ON_MODERN,
             "no memory for a context: -EAGAIN with NOWAIT, -ENOMEM without, no callback", NULL),
        CASE(117, 117_sync_with_all_pages_taken, ON_BOTH | NOTHING_GOT,
             "a sync call while nothing is reserved or left",
             "D7; with no pages left. Without memory for a context it would be refused (116)"),
        CASE(118, 118_a_page_wakes_who_waits, ON_MODERN,
             "each page that comes home serves the next one that waits", NULL),
        CASE(119, 119_put_while_all_is_in_use, ON_MODERN,
             "put while all pages are in use: returns at once, the memory goes as they come home",
             NULL),
        CASE(120, 120_put_to_zero_meanwhile, ON_CLASSIC | NOTHING_GOT,
             "put to 0 with a request in flight: -EBUSY, its callback comes once",
             "D4; of the classic face, a client's put does not look at its requests"),
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

const struct conformance_section pool_section = { "Reservations", cases, ARRAY_SIZE(cases) };
