/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The pool through the modern face: what is reserved, lent out and waited for; that a reservation
 * is kept whatever others take; that waiters are served; and that memory goes back to the system.
 */

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scratch.h"

#define CHUNK DMIO_POOL_CHUNK_PAGES

struct fixture {
        struct dmio_engine *engine;
        struct dmio_queue *queue;
};

/* No thread: what happens in a queue happens when the test says so. */
static int setup(void **state)
{
        const struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD,
                .max_pages = 100000,
        };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        free(f);
        return 0;
}

static struct dmio_pool_stats pool_stats(const struct fixture *f)
{
        struct dmio_pool_stats stats;

        dmio_pool_stats(f->engine, &stats);
        return stats;
}

static struct dm_io_client_stats client_stats(struct dm_io_client *client)
{
        struct dm_io_client_stats stats;

        dm_io_client_stats(client, &stats);
        return stats;
}

static unsigned int list_length(const struct page_list *list)
{
        unsigned int n = 0;

        for (; list; list = list->next)
                n++;
        return n;
}

/* Takes pages one by one until there are none; returns them as an array of lists. */
static unsigned int take_all(struct dm_io_client *client, struct page_list **lists,
                             unsigned int n_max)
{
        unsigned int n = 0;

        while (n < n_max) {
                lists[n] = dmio_pages_get(client, 1);
                if (!lists[n])
                        break;
                n++;
        }
        return n;
}

static void give_all(struct dm_io_client *client, struct page_list **lists, unsigned int n)
{
        for (unsigned int i = 0; i < n; i++)
                dmio_pages_put(client, lists[i]);
}

static void gets_and_puts_are_counted(void **state)
{
        struct fixture *f = *state;
        struct dm_io_client *client, *other;
        uint64_t floor = pool_stats(f).total;

        assert_int_equal(pool_stats(f).limit, 100000);
        assert_int_equal(pool_stats(f).reserved, 0);
        assert_int_equal(dm_io_client_create(f->engine, 1000, &client), 0);
        assert_int_equal(pool_stats(f).reserved, 1000);
        assert_true(pool_stats(f).total >= 1000 + floor);
        assert_int_equal(dm_io_client_get(client, 24), 0);
        assert_int_equal(client_stats(client).reserved, 1024);
        assert_int_equal(dm_io_client_create(f->engine, 0, &other), 0);
        assert_int_equal(dm_io_client_get(other, 7), 0);
        assert_int_equal(pool_stats(f).reserved, 1031);

        assert_int_equal(dm_io_client_put(other, 8), -EINVAL);
        assert_int_equal(dm_io_client_put(client, 1025), -EINVAL);
        assert_int_equal(dm_io_client_put(client, UINT_MAX), -EINVAL);
        assert_int_equal(dm_io_client_get(client, UINT_MAX), -EINVAL);
        assert_int_equal(dm_io_client_get(client, 100000 - 1030), -EINVAL);
        assert_int_equal(pool_stats(f).reserved, 1031);
        assert_int_equal(client_stats(client).reserved, 1024);

        assert_int_equal(dm_io_client_put(client, 1024), 0);
        assert_int_equal(pool_stats(f).reserved, 7);
        assert_int_equal(dm_io_client_destroy(client), 0);
        assert_int_equal(dm_io_client_destroy(other), 0);
        assert_int_equal(pool_stats(f).reserved, 0);
        assert_int_equal(pool_stats(f).total, floor);
        assert_int_equal(pool_stats(f).waits, 0);
}

static void pages_are_lent_and_come_back(void **state)
{
        struct fixture *f = *state;
        struct dm_io_client *client;
        struct page_list *pages, *rest;
        unsigned char *before = NULL;

        assert_int_equal(dm_io_client_create(f->engine, 300, &client), 0);
        assert_null(dmio_pages_get(client, 0));
        assert_null(dmio_pages_get(client, DMIO_PAGES_MAX + 1));
        pages = dmio_pages_get(client, DMIO_PAGES_MAX);
        assert_int_equal(list_length(pages), DMIO_PAGES_MAX);
        for (struct page_list *link = pages; link; link = link->next) {
                unsigned char *at = page_address(link->page);

                assert_int_equal((uintptr_t)at % DMIO_PAGE_SIZE, 0);
                assert_true(at > before);
                memset(at, 0x5a, DMIO_PAGE_SIZE);
                before = at;
        }
        assert_int_equal(pool_stats(f).in_use, DMIO_PAGES_MAX);
        assert_int_equal(client_stats(client).in_use, DMIO_PAGES_MAX);
        assert_int_equal(dm_io_client_destroy(client), -EBUSY);

        /* A list may be cut and given back in parts. */
        rest = pages->next->next;
        pages->next->next = NULL;
        dmio_pages_put(client, rest);
        assert_int_equal(client_stats(client).in_use, 2);
        dmio_pages_put(client, pages);
        dmio_pages_put(client, NULL);
        assert_int_equal(pool_stats(f).in_use, 0);
        assert_int_equal(pool_stats(f).high_water, DMIO_PAGES_MAX);
        assert_int_equal(dm_io_client_destroy(client), 0);
}

/* The promise: who stays within its reservation never waits, whatever others take. */
static void a_reservation_is_kept_whatever_others_take(void **state)
{
        struct fixture *f = *state;
        struct page_list **greedy_lists = calloc(8 * CHUNK, sizeof(*greedy_lists));
        struct page_list **modest_lists = calloc(8 * CHUNK, sizeof(*modest_lists));
        struct dm_io_client *greedy, *modest;
        unsigned int n_greedy, n_modest = 0;

        assert_non_null(greedy_lists);
        assert_non_null(modest_lists);
        assert_int_equal(dm_io_client_create(f->engine, 0, &greedy), 0);
        assert_int_equal(dm_io_client_create(f->engine, 700, &modest), 0);
        for (unsigned int round = 0; round < 3; round++) {
                n_greedy = take_all(greedy, greedy_lists, 8 * CHUNK);
                assert_true(n_greedy > 0);
                assert_true(n_greedy <= pool_stats(f).total - 700);

                for (n_modest = 0; n_modest < 700; n_modest++) {
                        modest_lists[n_modest] = dmio_pages_get(modest, 1);
                        assert_non_null(modest_lists[n_modest]);
                }
                assert_int_equal(client_stats(modest).in_use, 700);
                assert_null(dmio_pages_get(greedy, 1));
                give_all(modest, modest_lists, n_modest);

                /* What the other one has given back is still its own. */
                assert_null(dmio_pages_get(greedy, 1));
                give_all(greedy, greedy_lists, n_greedy);
        }
        assert_int_equal(client_stats(modest).waits, 0);
        assert_int_equal(dm_io_client_destroy(greedy), 0);
        assert_int_equal(dm_io_client_destroy(modest), 0);
        free(greedy_lists);
        free(modest_lists);
}

struct waiter {
        struct dmio_page_wait wait;
        struct page_list *pages;
        unsigned int *order;
        unsigned int turn; /* 0: still waiting */
};

static void served(struct dmio_page_wait *wait, struct page_list *pages)
{
        struct waiter *waiter = (struct waiter *)wait;

        waiter->pages = pages;
        waiter->turn = ++*waiter->order;
}

static void wait_for_pages(struct waiter *waiter, struct fixture *f, struct dm_io_client *client,
                           unsigned int n_pages, unsigned int *order)
{
        *waiter = (struct waiter){
                .wait = { .client = client, .queue = f->queue, .n_pages = n_pages, .fn = served },
                .order = order,
        };
        assert_int_equal(dmio_pages_wait(&waiter->wait), 0);
}

static void run_queue(struct fixture *f)
{
        for (unsigned int i = 0; i < 10; i++)
                assert_true(dmio_queue_process(f->queue, 0, 0) >= 0);
}

static void waiters_are_served_in_order(void **state)
{
        struct fixture *f = *state;
        struct page_list **lists = calloc(4 * CHUNK, sizeof(*lists));
        struct dm_io_client *holder, *first, *second;
        struct waiter a, b, c, mine;
        unsigned int order = 0, n;

        assert_non_null(lists);
        assert_int_equal(dm_io_client_create(f->engine, 0, &holder), 0);
        assert_int_equal(dm_io_client_create(f->engine, 0, &first), 0);
        assert_int_equal(dm_io_client_create(f->engine, 4, &second), 0);
        n = take_all(holder, lists, 4 * CHUNK);
        assert_true(n > 16);

        wait_for_pages(&a, f, first, 8, &order);
        wait_for_pages(&b, f, first, 1, &order);
        wait_for_pages(&c, f, second, 8, &order);
        run_queue(f);
        assert_int_equal(order, 0);
        assert_true(pool_stats(f).waits >= 2);
        assert_true(client_stats(first).waits >= 2);

        /* b would fit, but a came before it. */
        give_all(holder, lists, 4);
        run_queue(f);
        assert_int_equal(b.turn, 0);

        give_all(holder, lists + 4, n - 4);
        run_queue(f);
        assert_int_equal(order, 3);
        assert_true(a.turn < b.turn);
        assert_int_equal(list_length(a.pages), 8);
        assert_int_equal(list_length(b.pages), 1);
        assert_int_equal(list_length(c.pages), 8);
        dmio_pages_put(first, a.pages);
        dmio_pages_put(first, b.pages);
        dmio_pages_put(second, c.pages);

        /* Nobody waits any more: served at once, but never inside the call. */
        order = 0;
        wait_for_pages(&mine, f, second, 2, &order);
        assert_int_equal(order, 0);
        run_queue(f);
        assert_int_equal(order, 1);
        dmio_pages_put(second, mine.pages);

        mine.wait.n_pages = DMIO_PAGES_MAX + 1;
        assert_int_equal(dmio_pages_wait(&mine.wait), -EINVAL);
        mine.wait.n_pages = 0;
        assert_int_equal(dmio_pages_wait(&mine.wait), -EINVAL);
        assert_int_equal(dm_io_client_destroy(holder), 0);
        assert_int_equal(dm_io_client_destroy(first), 0);
        assert_int_equal(dm_io_client_destroy(second), 0);
        free(lists);
}

static void pages_change_their_holder(void **state)
{
        struct fixture *f = *state;
        struct dm_io_client *from, *to;
        struct page_list *pages;

        assert_int_equal(dm_io_client_create(f->engine, 8, &from), 0);
        assert_int_equal(dm_io_client_create(f->engine, 8, &to), 0);
        pages = dmio_pages_get(from, 5);
        assert_non_null(pages);
        assert_int_equal(dmio_pages_move(from, to, pages), 0);
        assert_int_equal(client_stats(from).in_use, 0);
        assert_int_equal(client_stats(to).in_use, 5);
        assert_int_equal(pool_stats(f).in_use, 5);
        dmio_pages_put(to, pages);
        assert_int_equal(dm_io_client_destroy(from), 0);
        assert_int_equal(dm_io_client_destroy(to), 0);
}

#define MANY_PAGES 16384 /* 64 MiB */
#define LISTS (MANY_PAGES / DMIO_PAGES_MAX)

/* Once warm, a hundred megabytes come and go, and the process is as large as before. */
static void memory_goes_back_to_the_system(void **state)
{
        struct fixture *f = *state;
        struct page_list *lists[LISTS];
        struct dm_io_client *client;
        uint64_t before = 0, full, after;

        for (unsigned int round = 0; round < 4; round++) {
                assert_int_equal(dm_io_client_create(f->engine, 0, &client), 0);
                if (round == 1)
                        before = resident_bytes();
                assert_int_equal(dm_io_client_get(client, MANY_PAGES), 0);
                for (unsigned int i = 0; i < LISTS; i++) {
                        lists[i] = dmio_pages_get(client, DMIO_PAGES_MAX);
                        assert_non_null(lists[i]);
                        for (struct page_list *link = lists[i]; link; link = link->next)
                                memset(page_address(link->page), 1, DMIO_PAGE_SIZE);
                }
                full = resident_bytes();
                assert_true(full > (uint64_t)MANY_PAGES * DMIO_PAGE_SIZE);
                give_all(client, lists, LISTS);
                assert_int_equal(dm_io_client_put(client, MANY_PAGES), 0);
                assert_int_equal(dm_io_client_destroy(client), 0);
                assert_int_equal(pool_stats(f).total, CHUNK);
        }
        after = resident_bytes();
        assert_true(after < before + 4 * 1024 * 1024);
        assert_int_equal(pool_stats(f).waits, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(gets_and_puts_are_counted, setup, teardown),
                cmocka_unit_test_setup_teardown(pages_are_lent_and_come_back, setup, teardown),
                cmocka_unit_test_setup_teardown(a_reservation_is_kept_whatever_others_take, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(waiters_are_served_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(pages_change_their_holder, setup, teardown),
                cmocka_unit_test_setup_teardown(memory_goes_back_to_the_system, setup, teardown),
        };

        if (!test_backend_works())
                return 77;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
