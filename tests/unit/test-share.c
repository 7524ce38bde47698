/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who uses much of the main loop's time comes last, all of his connections and nobody else, and not
 * for ever. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/share.h"
#include "util/clock.h"

#define N 3
#define LIMIT_USEC UINT64_C(20000000)

static const struct peer root = { .uid = 0, .privileged = true };
static const struct peer alice = { .uid = 54321 };
static const struct peer bob = { .uid = 54322 };

struct fixture {
        sd_event *event;
        struct list users;
        sd_event_source *sources[N];
        struct share shares[N];
};

static int ignore(sd_event_source *source, void *userdata)
{
        return 0;
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        list_init(&f->users);
        assert_true(sd_event_new(&f->event) >= 0);
        for (size_t i = 0; i < N; i++) {
                assert_true(sd_event_add_defer(f->event, &f->sources[i], ignore, NULL) >= 0);
                assert_true(sd_event_source_set_enabled(f->sources[i], SD_EVENT_OFF) >= 0);
        }
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        for (size_t i = 0; i < N; i++) {
                share_leave(&f->shares[i]);
                sd_event_source_disable_unref(f->sources[i]);
        }
        share_forget(&f->users);
        assert_true(list_is_empty(&f->users));
        sd_event_unref(f->event);
        free(f);
        return 0;
}

static void join(struct fixture *f, size_t i, const struct peer *peer)
{
        assert_int_equal(share_join(&f->shares[i], &f->users, peer, f->sources[i]), 0);
}

static bool is_last(const struct fixture *f, size_t i)
{
        int64_t priority;

        assert_true(sd_event_source_get_priority(f->sources[i], &priority) >= 0);
        return priority > SD_EVENT_PRIORITY_NORMAL;
}

static void be_busy(struct share *share, uint64_t usec)
{
        struct share_user *user = share_begin(share);
        uint64_t end = now_usec() + usec;

        while (now_usec() < end)
                continue;
        share_end(user);
}

static void all_of_a_user_come_last_and_nobody_else(void **state)
{
        struct fixture *f = *state;

        join(f, 0, &alice);
        join(f, 1, &bob);
        be_busy(&f->shares[0], 1000);
        assert_false(is_last(f, 0));
        be_busy(&f->shares[0], SHARE_USEC);
        assert_true(is_last(f, 0));
        assert_false(is_last(f, 1));
        /* And who comes later. */
        join(f, 2, &alice);
        assert_true(is_last(f, 2));
}

static void it_ends(void **state)
{
        struct fixture *f = *state;
        uint64_t end = now_usec() + LIMIT_USEC;

        join(f, 0, &alice);
        be_busy(&f->shares[0], SHARE_USEC + 1);
        assert_true(is_last(f, 0));
        while (is_last(f, 0) && now_usec() < end)
                assert_true(sd_event_run(f->event, LIMIT_USEC) >= 0);
        assert_false(is_last(f, 0));
}

static void to_leave_and_to_come_back_helps_nobody(void **state)
{
        struct fixture *f = *state;
        uint64_t end = now_usec() + LIMIT_USEC;

        join(f, 0, &alice);
        be_busy(&f->shares[0], SHARE_USEC + 1);
        share_leave(&f->shares[0]);
        join(f, 1, &alice);
        assert_true(is_last(f, 1));
        share_leave(&f->shares[1]);
        /* In the end he is forgotten. */
        while (!list_is_empty(&f->users) && now_usec() < end)
                assert_true(sd_event_run(f->event, LIMIT_USEC) >= 0);
        assert_true(list_is_empty(&f->users));
}

/* As a connection does that its call has ended. */
static void one_may_leave_in_his_turn(void **state)
{
        struct fixture *f = *state;
        struct share_user *user;

        join(f, 0, &alice);
        user = share_begin(&f->shares[0]);
        share_leave(&f->shares[0]);
        share_end(user);
        join(f, 1, &alice);
        assert_false(is_last(f, 1));
}

static void the_privileged_keep_their_place(void **state)
{
        struct fixture *f = *state;

        join(f, 0, &root);
        be_busy(&f->shares[0], 2 * SHARE_USEC);
        assert_false(is_last(f, 0));
        assert_true(list_is_empty(&f->users));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(all_of_a_user_come_last_and_nobody_else), TEST(it_ends),
                TEST(to_leave_and_to_come_back_helps_nobody),  TEST(one_may_leave_in_his_turn),
                TEST(the_privileged_keep_their_place),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
