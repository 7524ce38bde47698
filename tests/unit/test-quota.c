/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a uid uses against what it may use. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "model/quota.h"

/* Neither root nor, in all likelihood, who runs this. */
#define ALICE ((uid_t)54321)
#define BOB ((uid_t)54322)

struct fixture {
        struct config config;
        struct model model;
};

static int setup(void **state)
{
        static struct fixture f;

        f.config = (struct config){
                .max_pages = 1000,
                .limit_clients = 2,
                .limit_exports = 0,
                .limit_connections = 1,
                .limit_pages = 100,
                .limit_jobs = 1,
        };
        if (model_init(&f.model, NULL, NULL, &f.config, NULL) < 0)
                return -1;
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        /* Whoever has nothing any more is forgotten. */
        assert_true(list_is_empty(&f->model.users));
        model_deinit(&f->model);
        return 0;
}

static void the_limit_can_be_reached_and_not_passed(void **state)
{
        struct fixture *f = *state;
        uint64_t limit = 0;

        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, 60, &limit), 0);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, 41, &limit), 1);
        assert_int_equal(limit, 100);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, 40, NULL), 0);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, 1, NULL), 1);

        quota_release(&f->model, ALICE, QUOTA_PAGES, 1);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, 1, NULL), 0);
        quota_release(&f->model, ALICE, QUOTA_PAGES, 100);
}

static void jobs_have_a_limit_of_their_own(void **state)
{
        struct fixture *f = *state;
        uint64_t limit = 0;

        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_JOBS, 1, NULL), 0);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_JOBS, 1, &limit), 1);
        assert_int_equal(limit, 1);
        assert_int_equal(quota_charge(&f->model, BOB, QUOTA_JOBS, 1, NULL), 0);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_CONNECTIONS, 1, NULL), 0);
        quota_release(&f->model, ALICE, QUOTA_CONNECTIONS, 1);
        quota_release(&f->model, ALICE, QUOTA_JOBS, 1);
        quota_release(&f->model, BOB, QUOTA_JOBS, 1);
}

static void what_is_charged_can_be_set(void **state)
{
        struct fixture *f = *state;
        uint64_t charged = 0, limit = 0;

        f->config.limit_buffers = 100;
        assert_int_equal(quota_set(&f->model, ALICE, QUOTA_BUFFERS, &charged, 70, &limit), 0);
        assert_int_equal(quota_set(&f->model, ALICE, QUOTA_BUFFERS, &charged, 101, &limit), 1);
        assert_int_equal(limit, 100);
        assert_int_equal(charged, 70);
        assert_int_equal(quota_set(&f->model, ALICE, QUOTA_BUFFERS, &charged, 100, NULL), 0);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_BUFFERS, 1, NULL), 1);
        assert_int_equal(quota_set(&f->model, ALICE, QUOTA_BUFFERS, &charged, 0, NULL), 0);
        assert_int_equal(charged, 0);
}

static void a_huge_number_does_not_wrap(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, 10, NULL), 0);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, UINT64_MAX - 5, NULL), 1);
        quota_release(&f->model, ALICE, QUOTA_PAGES, 10);
}

static void a_limit_of_zero_forbids(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_EXPORTS, 1, NULL), 1);
}

static void users_and_quotas_are_apart(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_CONNECTIONS, 1, NULL), 0);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_CONNECTIONS, 1, NULL), 1);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_CLIENTS, 2, NULL), 0);
        assert_int_equal(quota_charge(&f->model, BOB, QUOTA_CONNECTIONS, 1, NULL), 0);

        quota_release(&f->model, BOB, QUOTA_CONNECTIONS, 1);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_CONNECTIONS, 1, NULL), 1);
        quota_release(&f->model, ALICE, QUOTA_CONNECTIONS, 1);
        quota_release(&f->model, ALICE, QUOTA_CLIENTS, 2);
}

static void the_privileged_are_counted_only(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(quota_charge(&f->model, 0, QUOTA_EXPORTS, 1000, NULL), 0);
        assert_int_equal(quota_charge(&f->model, geteuid(), QUOTA_CLIENTS, 1000, NULL), 0);
        assert_false(list_is_empty(&f->model.users));
        quota_release(&f->model, 0, QUOTA_EXPORTS, 1000);
        quota_release(&f->model, geteuid(), QUOTA_CLIENTS, 1000);
}

static void a_reload_can_lower_a_limit_below_what_is_used(void **state)
{
        struct fixture *f = *state;
        struct config lower = f->config;

        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, 80, NULL), 0);
        lower.limit_pages = 50;
        model_set_config(&f->model, &lower);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, 1, NULL), 1);

        quota_release(&f->model, ALICE, QUOTA_PAGES, 40);
        assert_int_equal(quota_charge(&f->model, ALICE, QUOTA_PAGES, 10, NULL), 0);
        quota_release(&f->model, ALICE, QUOTA_PAGES, 50);
}

static void names_are_those_of_the_configuration(void **state)
{
        assert_string_equal(quota_name(QUOTA_CLIENTS), "clients");
        assert_string_equal(quota_name(QUOTA_EXPORTS), "exports");
        assert_string_equal(quota_name(QUOTA_CONNECTIONS), "connections");
        assert_string_equal(quota_name(QUOTA_PAGES), "pages");
        assert_string_equal(quota_name(QUOTA_JOBS), "jobs");
        assert_string_equal(quota_name(QUOTA_REQUESTS), "requests");
        assert_string_equal(quota_name(QUOTA_BUFFERS), "buffers");
        assert_string_equal(quota_name(QUOTA_DESCRIPTORS), "held-descriptors");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(the_limit_can_be_reached_and_not_passed),
                TEST(what_is_charged_can_be_set),
                TEST(a_huge_number_does_not_wrap),
                TEST(jobs_have_a_limit_of_their_own),
                TEST(a_limit_of_zero_forbids),
                TEST(users_and_quotas_are_apart),
                TEST(the_privileged_are_counted_only),
                TEST(a_reload_can_lower_a_limit_below_what_is_used),
                TEST(names_are_those_of_the_configuration),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
