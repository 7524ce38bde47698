/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The range lock: who overlaps waits, in order; who does not, does not. Grants that come later are
 * tasks on a queue, so each test drives one.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dmio/dmio.h>

#include "model/range-lock.h"
#include "util/macros.h"

#define LIMIT_USEC 5000000

struct fixture {
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct range_lock lock;
};

struct waiter {
        struct range range;
        unsigned int n_granted;
};

static int set_up(void **state)
{
        static const struct dmio_engine_options options = { .flags = DMIO_ENGINE_NO_THREAD };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        range_lock_init(&f->lock);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        range_lock_deinit(&f->lock);
        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        free(f);
        return 0;
}

static void granted(struct dmio_task *task)
{
        container_of(task, struct waiter, range.task)->n_granted++;
}

static bool enter_as(struct fixture *f, struct waiter *waiter, uint64_t offset, uint64_t length,
                     bool shared)
{
        *waiter = (struct waiter){
                .range = { .offset = offset,
                           .length = length,
                           .shared = shared,
                           .queue = f->queue,
                           .task.fn = granted },
        };
        return range_lock_acquire(&f->lock, &waiter->range);
}

static bool enter(struct fixture *f, struct waiter *waiter, uint64_t offset, uint64_t length)
{
        return enter_as(f, waiter, offset, length, false);
}

static void leave(struct fixture *f, struct waiter *waiter)
{
        range_lock_release(&f->lock, &waiter->range);
}

/* Run what has been posted so far. */
static void run_posted(struct fixture *f)
{
        while (dmio_queue_process(f->queue, 0, 0) > 0)
                ;
}

static void wait_granted(struct fixture *f, const struct waiter *waiter)
{
        while (waiter->n_granted == 0)
                assert_true(dmio_queue_process(f->queue, LIMIT_USEC, 0) > 0);
        assert_int_equal(waiter->n_granted, 1);
}

static void ranges_that_only_touch_do_not_wait(void **state)
{
        struct fixture *f = *state;
        struct waiter a, b, c;

        assert_true(enter(f, &a, 4096, 4096));
        assert_true(enter(f, &b, 0, 4096));
        assert_true(enter(f, &c, 8192, 512));
        leave(f, &a);
        leave(f, &b);
        leave(f, &c);
        run_posted(f);
        assert_int_equal(a.n_granted + b.n_granted + c.n_granted, 0);
}

static void an_overlap_of_one_byte_waits(void **state)
{
        struct fixture *f = *state;
        struct waiter a, b;

        assert_true(enter(f, &a, 1000, 100));
        assert_false(enter(f, &b, 1099, 100));
        run_posted(f);
        assert_int_equal(b.n_granted, 0);
        leave(f, &a);
        wait_granted(f, &b);
        leave(f, &b);
}

static void a_range_waits_for_all_that_it_overlaps(void **state)
{
        struct fixture *f = *state;
        struct waiter a, b, all;

        assert_true(enter(f, &a, 0, 512));
        assert_true(enter(f, &b, 512, 512));
        assert_false(enter(f, &all, 0, 1024));
        leave(f, &b);
        run_posted(f);
        assert_int_equal(all.n_granted, 0);
        leave(f, &a);
        wait_granted(f, &all);
        leave(f, &all);
}

static void waiters_are_served_in_the_order_in_which_they_came(void **state)
{
        struct fixture *f = *state;
        struct waiter first, second, third;

        assert_true(enter(f, &first, 0, 512));
        assert_false(enter(f, &second, 0, 512));
        assert_false(enter(f, &third, 0, 512));
        leave(f, &first);
        wait_granted(f, &second);
        run_posted(f);
        assert_int_equal(third.n_granted, 0);
        leave(f, &second);
        wait_granted(f, &third);
        leave(f, &third);
}

/* Otherwise small ranges could keep a large one waiting for ever. */
static void nobody_overtakes_a_waiter_that_it_overlaps(void **state)
{
        struct fixture *f = *state;
        struct waiter small, large, late, aside;

        assert_true(enter(f, &small, 0, 512));
        assert_false(enter(f, &large, 0, 8192));
        assert_false(enter(f, &late, 4096, 512));
        assert_true(enter(f, &aside, 8192, 512));
        leave(f, &small);
        wait_granted(f, &large);
        run_posted(f);
        assert_int_equal(late.n_granted, 0);
        leave(f, &large);
        wait_granted(f, &late);
        leave(f, &late);
        leave(f, &aside);
}

static void leaving_lets_all_go_on_that_waited_for_nobody_else(void **state)
{
        struct fixture *f = *state;
        struct waiter large, parts[8];

        assert_true(enter(f, &large, 0, 8 * 512));
        for (unsigned int i = 0; i < 8; i++)
                assert_false(enter(f, &parts[i], i * 512, 512));
        leave(f, &large);
        for (unsigned int i = 0; i < 8; i++)
                wait_granted(f, &parts[i]);
        for (unsigned int i = 0; i < 8; i++)
                leave(f, &parts[i]);
}

static void shared_ranges_wait_for_others_and_others_for_them(void **state)
{
        struct fixture *f = *state;
        struct waiter reader, second, writer, late;

        assert_true(enter_as(f, &reader, 0, 512, true));
        assert_true(enter_as(f, &second, 0, 1024, true));
        assert_false(enter(f, &writer, 511, 512));
        assert_false(enter_as(f, &late, 512, 512, true));
        leave(f, &reader);
        run_posted(f);
        assert_int_equal(writer.n_granted, 0);
        leave(f, &second);
        wait_granted(f, &writer);
        run_posted(f);
        assert_int_equal(late.n_granted, 0);
        leave(f, &writer);
        wait_granted(f, &late);
        leave(f, &late);
}

/* Random traffic against the rule itself: no two that hold overlap, unless both are
 * shared, and all get their turn. */
static void no_two_holders_overlap(void **state)
{
        enum { N = 32, ROUNDS = 20000, BLOCKS = 128 };
        struct fixture *f = *state;
        static struct waiter waiters[N];
        static bool in[N];
        uint32_t seed = 1;
        unsigned int n_left = 0;

        for (unsigned int round = 0; round < ROUNDS; round++) {
                unsigned int i;

                seed = seed * 1664525 + 1013904223;
                i = seed >> 16 & (N - 1);
                if (!in[i]) {
                        uint64_t offset = seed >> 8 & (BLOCKS - 1);
                        uint64_t length = 1 + (seed >> 28);

                        waiters[i].n_granted = 0;
                        in[i] = true;
                        if (enter_as(f, &waiters[i], offset, length, i % 4 == 0))
                                waiters[i].n_granted = 1;
                } else if (waiters[i].n_granted > 0) {
                        leave(f, &waiters[i]);
                        in[i] = false;
                        n_left++;
                }
                run_posted(f);

                for (unsigned int a = 0; a < N; a++) {
                        if (!in[a] || waiters[a].n_granted == 0)
                                continue;
                        assert_int_equal(waiters[a].n_granted, 1);
                        for (unsigned int b = a + 1; b < N; b++)
                                if (in[b] && waiters[b].n_granted > 0 &&
                                    !(waiters[a].range.shared && waiters[b].range.shared))
                                        assert_false(ranges_overlap(
                                                waiters[a].range.offset, waiters[a].range.length,
                                                waiters[b].range.offset, waiters[b].range.length));
                }
        }
        assert_true(n_left > ROUNDS / 20); /* it was traffic, not a standstill */

        for (unsigned int left = N; left > 0;) {
                unsigned int before = left;

                left = 0;
                for (unsigned int i = 0; i < N; i++) {
                        if (in[i] && waiters[i].n_granted > 0) {
                                leave(f, &waiters[i]);
                                in[i] = false;
                        }
                        left += in[i];
                }
                run_posted(f);
                assert_true(left < before || left == 0);
        }
}

/* Who waited for the one that is replaced waits for the one in its place. */
static void a_place_can_be_taken_over(void **state)
{
        struct fixture *f = *state;
        struct waiter first = { .range = { .offset = 0, .length = 10 } };
        struct waiter second = { .range = { .offset = 5, .length = 10 } };
        struct waiter heir = { .range = { .offset = 0, .length = 10 } };

        first.range.queue = second.range.queue = heir.range.queue = f->queue;
        first.range.task.fn = second.range.task.fn = heir.range.task.fn = granted;
        assert_true(range_lock_acquire(&f->lock, &first.range));
        assert_false(range_lock_acquire(&f->lock, &second.range));
        range_lock_replace(&f->lock, &first.range, &heir.range);
        assert_true(list_is_empty(&first.range.link));
        assert_int_equal(dmio_queue_process(f->queue, 0, 0), 0);
        assert_int_equal(second.n_granted, 0);
        range_lock_release(&f->lock, &heir.range);
        assert_true(dmio_queue_process(f->queue, LIMIT_USEC, 0) > 0);
        assert_int_equal(second.n_granted, 1);
        range_lock_release(&f->lock, &second.range);
        assert_int_equal(first.n_granted + heir.n_granted, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(ranges_that_only_touch_do_not_wait, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(an_overlap_of_one_byte_waits, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_range_waits_for_all_that_it_overlaps, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(waiters_are_served_in_the_order_in_which_they_came,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(nobody_overtakes_a_waiter_that_it_overlaps, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(leaving_lets_all_go_on_that_waited_for_nobody_else,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(shared_ranges_wait_for_others_and_others_for_them,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(no_two_holders_overlap, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_place_can_be_taken_over, set_up, tear_down),
        };

        return cmocka_run_group_tests_name("range-lock", tests, NULL, NULL);
}
