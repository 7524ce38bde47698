/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls that may never return: those that do are not held up, and late ones touch nothing. */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "aside.h"
#include "util/clock.h"
#include "util/list.h"

#define SECOND UINT64_C(1000000)
#define LIMIT_USEC (20 * SECOND)
#define N_HANG 64
#define N_QUICK 300

struct test_call {
        struct aside_call call;
        sem_t *hang; /* waited for, if there is one */
        int passing; /* so many times it is to be run again */
};

static atomic_uint n_run, n_dropped, n_dropped_elsewhere;
static pthread_t main_thread;

static int test_run(struct aside_call *call)
{
        struct test_call *test = container_of(call, struct test_call, call);

        if (test->hang)
                while (sem_wait(test->hang) < 0)
                        ;
        if (test->passing > 0) {
                test->passing--;
                return -EMFILE;
        }
        atomic_fetch_add(&n_run, 1);
        return test->passing < 0 ? -EMFILE : -EXDEV;
}

static void test_drop(struct aside_call *call)
{
        atomic_fetch_add(&n_dropped, 1);
        if (!pthread_equal(pthread_self(), main_thread))
                atomic_fetch_add(&n_dropped_elsewhere, 1);
        free(container_of(call, struct test_call, call));
}

static struct aside *add(struct aside *aside, unsigned int n, sem_t *hang, int passing)
{
        while (n-- > 0) {
                struct test_call *test = malloc(sizeof(*test));

                assert_non_null(test);
                *test = (struct test_call){
                        .call = { .run = test_run, .drop = test_drop },
                        .hang = hang,
                        .passing = passing,
                };
                assert_int_equal(aside_add(aside, &test->call), 0);
        }
        return aside;
}

static bool is_passing(int result)
{
        return result == -EMFILE;
}

static struct aside *new_group(void)
{
        struct aside *aside;

        assert_int_equal(aside_new(is_passing, &aside), 0);
        return aside;
}

static int begin(void **state)
{
        main_thread = pthread_self();
        atomic_store(&n_run, 0);
        atomic_store(&n_dropped, 0);
        atomic_store(&n_dropped_elsewhere, 0);
        return 0;
}

static void wait_until_gone(void)
{
        uint64_t end = now_usec() + LIMIT_USEC;

        while (aside_n_threads() > 0 && now_usec() < end)
                (void)usleep(1000);
        assert_int_equal(aside_n_threads(), 0);
}

static void what_hangs_holds_up_nobody(void **state)
{
        struct aside *aside = new_group();
        struct aside_call *call;
        uint64_t begun;
        sem_t hang;
        int result;

        assert_int_equal(sem_init(&hang, 0, 0), 0);
        add(aside, N_HANG, &hang, 0);
        add(aside, N_QUICK, NULL, 0);
        begun = now_usec();
        while (aside_wait(aside, SECOND / 10) > N_HANG && now_usec() - begun < LIMIT_USEC)
                ;
        assert_int_equal(atomic_load(&n_run), N_QUICK);
        assert_int_equal(aside_n_threads(), N_HANG);
        aside_end(aside);
        for (size_t i = 0; i < N_HANG + N_QUICK; i++) {
                enum aside_outcome outcome = aside_get(aside, i, &call, &result);

                assert_int_equal(outcome, i < N_HANG ? ASIDE_LET_GO : ASIDE_BACK);
                if (i >= N_HANG)
                        assert_int_equal(result, -EXDEV);
                else
                        assert_null(call);
        }
        assert_null(aside_free(aside));

        /* They come back when nobody knows of them any more. */
        for (unsigned int i = 0; i < N_HANG; i++)
                assert_int_equal(sem_post(&hang), 0);
        wait_until_gone();
        assert_int_equal(atomic_load(&n_dropped), N_HANG + N_QUICK);
        assert_int_equal(atomic_load(&n_dropped_elsewhere), N_HANG + N_QUICK);
        sem_destroy(&hang);
}

static void all_that_return_are_waited_for_no_longer(void **state)
{
        struct aside *aside = add(new_group(), N_QUICK, NULL, 0);

        assert_int_equal(aside_wait(aside, 100 * LIMIT_USEC), 0);
        aside_free(aside);
        wait_until_gone();
        assert_int_equal(atomic_load(&n_dropped), N_QUICK);
}

static void what_passes_is_tried_again(void **state)
{
        struct aside *aside = add(new_group(), 1, NULL, 3);
        struct aside_call *call;
        int result;

        add(aside, 1, NULL, INT32_MAX);
        assert_int_equal(aside_wait(aside, 0), 2);
        while (atomic_load(&n_run) < 1)
                assert_in_range(aside_wait(aside, SECOND / 100), 1, 2);
        assert_int_equal(aside_wait(aside, 2 * ASIDE_AGAIN_USEC), 1);
        aside_end(aside);
        assert_int_equal(aside_get(aside, 0, &call, &result), ASIDE_BACK);
        assert_int_equal(result, -EXDEV);
        /* The other one is here, too: it was pausing. Or it was let go at that very moment. */
        if (aside_get(aside, 1, &call, &result) == ASIDE_BACK)
                assert_int_equal(result, -EMFILE);
        aside_free(aside);
        wait_until_gone();
        assert_int_equal(atomic_load(&n_dropped), 2);
}

static void what_was_never_begun_is_dropped(void **state)
{
        struct aside *aside = add(new_group(), 3, NULL, 0);
        struct aside_call *call;
        int result;

        aside_end(aside);
        assert_int_equal(aside_get(aside, 2, &call, &result), ASIDE_NOT_BEGUN);
        assert_non_null(call);
        aside_free(aside);
        wait_until_gone();
        assert_int_equal(atomic_load(&n_run), 0);
        assert_int_equal(atomic_load(&n_dropped), 3);
}

static void descriptors_are_closed(void **state)
{
        int fds[2];
        char byte;

        assert_int_equal(pipe(fds), 0);
        aside_close_fds(&fds[1], 1);
        assert_int_equal(read(fds[0], &byte, 1), 0);
        assert_int_equal(close(fds[0]), 0);
        wait_until_gone();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(what_hangs_holds_up_nobody, begin),
                cmocka_unit_test_setup(all_that_return_are_waited_for_no_longer, begin),
                cmocka_unit_test_setup(what_passes_is_tried_again, begin),
                cmocka_unit_test_setup(what_was_never_begun_is_dropped, begin),
                cmocka_unit_test_setup(descriptors_are_closed, begin),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
