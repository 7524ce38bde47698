/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Events and who watches them: numbers, what is lost, who sees what, and that the texts are true.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/event.h"
#include "model/model.h"
#include "util/cleanup.h"

static const struct peer root = { .uid = 0, .privileged = true };
static const struct peer alice = { .uid = 54321 };
static const struct peer bob = { .uid = 54322 };

static unsigned int n_wakes;
static bool no_memory;

static void *allocate(size_t size)
{
        return no_memory ? NULL : malloc(size);
}

static void wake(struct event_watcher *watcher)
{
        n_wakes++;
}

static struct model *make_model(void)
{
        static struct model model;

        model = (struct model){};
        list_init(&model.watchers);
        return &model;
}

static void watch(struct event_watcher *watcher, struct model *model, const struct peer *peer,
                  unsigned int size)
{
        n_wakes = 0;
        assert_int_equal(event_watcher_init(watcher, model, peer, size, wake), 0);
        assert_int_equal(n_wakes, 1);
}

/* Take one: its name and number must be these. Returns "lost" of the details. */
static uint64_t expect_event(struct event_watcher *watcher, const char *name, uint64_t seq)
{
        json_t *event = event_watcher_take(watcher);
        uint64_t lost;

        assert_non_null(event);
        assert_string_equal(json_string_value(json_object_get(event, "event")), name);
        assert_int_equal(json_integer_value(json_object_get(event, "seq")), seq);
        assert_true(json_is_object(json_object_get(event, "details")));
        lost = (uint64_t)json_integer_value(
                json_object_get(json_object_get(event, "details"), "lost"));
        json_decref(event);
        return lost;
}

static void expect_none(struct event_watcher *watcher)
{
        assert_false(event_watcher_has_more(watcher));
        assert_null(event_watcher_take(watcher));
}

static void numbers_go_up_by_one(void **state)
{
        struct model *model = make_model();
        struct client client = { .model = model, .name = (char *)"a", .uid = alice.uid };
        struct event_watcher watcher;

        /* Unseen, but counted. */
        event_daemon(EVENT_CONFIGURATION_RELOADED, model);
        watch(&watcher, model, &root, 8);
        event_client(EVENT_CLIENT_OPENED, &client);
        client.pages = 5;
        event_pages(&client, 5);
        event_pages(&client, 4);
        event_client(EVENT_CLIENT_CLOSED, &client);
        expect_event(&watcher, "watching", 1);
        expect_event(&watcher, "client-opened", 2);
        expect_event(&watcher, "pages-changed", 3);
        expect_event(&watcher, "client-closed", 4);
        expect_none(&watcher);
        assert_int_equal(n_wakes, 4);
        event_watcher_deinit(&watcher);
        assert_true(list_is_empty(&model->watchers));
}

static void what_is_lost_adds_up(void **state)
{
        struct model *model = make_model();
        struct event_watcher watcher;

        for (unsigned int size = 1; size < 6; size++) {
                uint64_t seq = model->n_events + 1;

                watch(&watcher, model, &root, size);
                expect_event(&watcher, "watching", seq - 1);
                for (unsigned int n = 0; n < size + 10; n++)
                        event_daemon(EVENT_CONFIGURATION_RELOADED, model);
                assert_int_equal(expect_event(&watcher, "overrun", seq + 9), 10);
                for (unsigned int n = 0; n < size; n++)
                        expect_event(&watcher, "configuration-reloaded", seq + 10 + n);
                expect_none(&watcher);

                /* Taking one makes room for one. */
                for (unsigned int n = 0; n < size; n++)
                        event_daemon(EVENT_CONFIGURATION_RELOADED, model);
                expect_event(&watcher, "configuration-reloaded", seq + size + 10);
                event_daemon(EVENT_STOPPING, model);
                for (unsigned int n = 1; n < size; n++)
                        expect_event(&watcher, "configuration-reloaded", seq + size + 10 + n);
                expect_event(&watcher, "stopping", seq + 2 * size + 10);
                expect_none(&watcher);
                event_daemon(EVENT_STOPPING, model);
                event_watcher_deinit(&watcher);
        }
}

static void others_see_their_own(void **state)
{
        struct model *model = make_model();
        struct client clients[] = {
                { .model = model, .name = (char *)"a", .uid = alice.uid },
                { .model = model, .name = (char *)"b", .uid = bob.uid },
        };
        struct event_watcher watchers[3];

        event_daemon(EVENT_CONFIGURATION_RELOADED, model);
        watch(&watchers[0], model, &root, 8);
        watch(&watchers[1], model, &alice, 8);
        watch(&watchers[2], model, &bob, 2);
        event_client(EVENT_CLIENT_OPENED, &clients[0]);
        event_client(EVENT_CLIENT_OPENED, &clients[1]);
        event_client(EVENT_CLIENT_CLOSED, &clients[0]);
        event_daemon(EVENT_CONFIGURATION_RELOADED, model);
        event_daemon(EVENT_STOPPING, model);

        expect_event(&watchers[0], "watching", 1);
        expect_event(&watchers[0], "client-opened", 2);
        expect_event(&watchers[0], "client-opened", 3);
        expect_event(&watchers[0], "client-closed", 4);
        expect_event(&watchers[0], "configuration-reloaded", 5);
        expect_event(&watchers[0], "stopping", 6);
        expect_none(&watchers[0]);
        expect_event(&watchers[1], "watching", 0);
        expect_event(&watchers[1], "client-opened", 1);
        expect_event(&watchers[1], "client-closed", 2);
        expect_event(&watchers[1], "stopping", 3);
        expect_none(&watchers[1]);
        assert_int_equal(expect_event(&watchers[2], "overrun", 0), 1);
        expect_event(&watchers[2], "client-opened", 1);
        expect_event(&watchers[2], "stopping", 2);
        expect_none(&watchers[2]);
        for (unsigned int i = 0; i < 3; i++)
                event_watcher_deinit(&watchers[i]);
}

static void without_memory_it_is_an_overrun(void **state)
{
        struct model *model = make_model();
        struct event_watcher watcher;

        watch(&watcher, model, &root, 8);
        event_daemon(EVENT_CONFIGURATION_RELOADED, model);
        no_memory = true;
        event_daemon(EVENT_CONFIGURATION_RELOADED, model);
        assert_null(event_watcher_take(&watcher));
        assert_true(event_watcher_has_more(&watcher));
        no_memory = false;
        event_daemon(EVENT_STOPPING, model);
        assert_int_equal(expect_event(&watcher, "overrun", 2), 3);
        no_memory = true;
        assert_null(event_watcher_take(&watcher));
        no_memory = false;
        expect_event(&watcher, "stopping", 3);
        expect_none(&watcher);
        event_watcher_deinit(&watcher);
}

static char *read_source(const char *name)
{
        DMIO_CLEANUP(freep) char *path = NULL;
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        char *text = calloc(1, 65536);

        assert_true(asprintf(&path, "%s/%s", getenv("DMIO_SOURCE"), name) > 0);
        file = fopen(path, "re");
        assert_non_null(file);
        assert_non_null(text);
        assert_in_range(fread(text, 1, 65535, file), 1, 65534);
        return text;
}

static void every_event_is_in_the_texts(void **state)
{
        DMIO_CLEANUP(freep) char *interface = read_source("daemon/control/io.dmiod.varlink");
        DMIO_CLEANUP(freep) char *manual = read_source("docs/man/dmioctl.1.scd");
        DMIO_CLEANUP(freep) char *shown = read_source("daemon/dmioctl/verbs-monitor.c");

        for (enum event event = 0; event < _EVENT_MAX; event++) {
                char name[64];

                (void)snprintf(name, sizeof(name), "#   %s ", event_name(event));
                assert_non_null(strstr(interface, name));
                assert_non_null(strstr(interface, event_meaning(event)));
                (void)snprintf(name, sizeof(name), "*%s*", event_name(event));
                assert_non_null(strstr(manual, name));
                (void)snprintf(name, sizeof(name), "\"%s\"", event_name(event));
                assert_non_null(strstr(shown, name));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers_go_up_by_one),
                cmocka_unit_test(what_is_lost_adds_up),
                cmocka_unit_test(others_see_their_own),
                cmocka_unit_test(without_memory_it_is_an_overrun),
                cmocka_unit_test(every_event_is_in_the_texts),
        };

        json_set_alloc_funcs(allocate, free);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
