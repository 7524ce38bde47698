/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Clients and exports from the first to the last moment, on a real engine and a real main loop:
 * what is refused and why, that a removal waits for what is in flight, and that nothing is left.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "config.h"
#include "loop.h"
#include "model/client.h"
#include "model/describe.h"
#include "model/event.h"
#include "model/export.h"
#include "model/region-table.h"
#include "util/cleanup.h"
#include "worker.h"

#define MAX_PAGES 4096
#define SECTORS 64
#define WAIT_USEC UINT64_C(10000000)

static const struct peer root = { .uid = 0, .privileged = true };
static const struct peer alice = { .uid = 54321, .gid = 54321 };
static const struct peer bob = { .uid = 54322, .gid = 54322 };

struct fixture {
        struct config config;
        sd_event *event;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct loop *loop;
        struct worker *worker;
        struct model model;
        struct block_device *disks[2];
        struct model_refusal refusal;
};

static struct block_device *make_disk(unsigned int flags)
{
        struct block_device *bdev = NULL;
        int fd = memfd_create("disk", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, SECTORS * 512), 0);
        assert_int_equal(dmio_device_from_fd(fd, flags, &bdev), 0);
        close_fd(fd);
        return bdev;
}

static int setup(void **state)
{
        const struct dmio_engine_options options = {
                .flags = DMIO_ENGINE_NO_THREAD,
                .max_pages = MAX_PAGES,
        };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->config = (struct config){
                .limit_clients = 3,
                .limit_exports = 2,
                .limit_pages = 1000,
        };
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        assert_int_equal(loop_new(f->event, f->queue, &f->loop), 0);
        assert_int_equal(worker_new(f->event, &f->worker), 0);
        assert_int_equal(model_init(&f->model, f->engine, f->queue, &f->config, f->worker), 0);
        f->disks[0] = make_disk(0);
        f->disks[1] = make_disk(0);
        *state = f;
        return 0;
}

static void count(void *userdata)
{
        (*(unsigned int *)userdata)++;
}

/* Run the main loop until *@value is @wanted. */
static void run_until(struct fixture *f, const unsigned int *value, unsigned int wanted)
{
        uint64_t now, end;

        assert_true(sd_event_now(f->event, CLOCK_MONOTONIC, &now) >= 0);
        end = now + WAIT_USEC;
        while (*value != wanted && now < end) {
                assert_true(sd_event_run(f->event, end - now) >= 0);
                assert_true(sd_event_now(f->event, CLOCK_MONOTONIC, &now) >= 0);
        }
        assert_int_equal(*value, wanted);
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        struct dmio_pool_stats stats;
        struct client *client;

        list_for_each (client, &f->model.clients, link)
                (void)client_close(client, NULL, NULL);
        run_until(f, &f->model.n_clients, 0);
        loop_finish(f->queue);
        worker_free(f->worker);

        dmio_pool_stats(f->engine, &stats);
        assert_int_equal(stats.reserved, 0);
        assert_int_equal(stats.in_use, 0);
        assert_true(list_is_empty(&f->model.regions));
        assert_true(list_is_empty(&f->model.users));
        model_deinit(&f->model);

        loop_free(f->loop);
        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        dmio_device_close(f->disks[0]);
        dmio_device_close(f->disks[1]);
        sd_event_unref(f->event);
        free(f);
        return 0;
}

static int open_client(struct fixture *f, const char *name, const struct peer *peer, uint64_t pages,
                       struct client **ret)
{
        return client_new(&f->model, name, peer, pages, true, 0, ret, &f->refusal);
}

static struct client *get_client(struct fixture *f, const char *name, const struct peer *peer)
{
        struct client *client = NULL;

        assert_int_equal(open_client(f, name, peer, 8, &client), MODEL_OK);
        return client;
}

/* A region of disk @disk; taken by export_new() only if it is made. */
struct region {
        unsigned int disk;
        sector_t sector;
        sector_t count;
};

static int make_export_on(struct fixture *f, struct client *client, const char *name,
                          const struct region *regions, unsigned int n, bool read_only, bool shared,
                          struct export **ret)
{
        struct leg_spec legs[4];
        int r;

        for (unsigned int i = 0; i < n; i++)
                legs[i] = (struct leg_spec){
                        .device = strdup("disk"),
                        .bdev = dmio_device_ref(f->disks[regions[i].disk]),
                        .sector = regions[i].sector,
                        .count = regions[i].count,
                };
        r = export_new(client, name, legs, n, read_only, shared, EXPORT_CACHE_PAGE, ret,
                       &f->refusal);
        for (unsigned int i = 0; r != MODEL_OK && i < n; i++) {
                free(legs[i].device);
                dmio_device_close(legs[i].bdev);
        }
        return r;
}

static int make_export(struct fixture *f, struct client *client, const char *name, sector_t sector,
                       sector_t n_sectors, struct export **ret)
{
        const struct region region = { 0, sector, n_sectors };

        return make_export_on(f, client, name, &region, 1, false, false, ret);
}

static void a_client_is_found_until_it_is_gone(void **state)
{
        struct fixture *f = *state;
        struct client *client = get_client(f, "a", &alice);
        node_id_t id = client->node.id;
        unsigned int closed = 0;
        struct client *second;

        assert_ptr_equal(model_find_client(&f->model, "a"), client);
        assert_ptr_equal(model_find_node(&f->model, id)->client, client);
        assert_int_equal(open_client(f, "a", &bob, 0, &second), MODEL_E_EXISTS);
        assert_int_equal(open_client(f, ".a", &bob, 0, &second), MODEL_E_NAME);

        assert_int_equal(client_close(client, count, &closed), MODEL_OK);
        assert_int_equal(closed, 0);
        assert_int_equal(client_close(client, count, &closed), MODEL_E_CLOSING);
        assert_int_equal(open_client(f, "a", &bob, 0, &second), MODEL_E_EXISTS);
        run_until(f, &closed, 1);
        assert_null(model_find_client(&f->model, "a"));
        assert_null(model_find_node(&f->model, id));
        assert_true(get_client(f, "a", &bob)->node.id > id);
}

static void owners_and_root_see_a_client(void **state)
{
        struct fixture *f = *state;
        struct client *client = get_client(f, "a", &alice);

        assert_true(client_is_visible(client, &alice));
        assert_true(client_is_visible(client, &root));
        assert_false(client_is_visible(client, &bob));
}

static void pages_have_a_limit_for_each_and_for_all(void **state)
{
        struct fixture *f = *state;
        struct client *client = NULL;

        assert_int_equal(open_client(f, "a", &alice, 1001, &client), MODEL_E_LIMIT);
        assert_string_equal(f->refusal.limit, "pages");
        assert_int_equal(f->refusal.value, 1000);
        assert_int_equal(open_client(f, "a", &root, MAX_PAGES + 1, &client), MODEL_E_POOL);
        assert_int_equal(f->refusal.requested, MAX_PAGES + 1);
        assert_int_equal(f->refusal.available, MAX_PAGES);
        assert_int_equal(open_client(f, "a", &root, UINT64_MAX, &client), MODEL_E_POOL);
        assert_int_equal(f->model.n_clients, 0);

        assert_int_equal(open_client(f, "a", &alice, 600, &client), MODEL_OK);
        assert_int_equal(client_get(client, 401, &f->refusal), MODEL_E_LIMIT);
        assert_int_equal(client_get(client, 400, &f->refusal), MODEL_OK);
        assert_int_equal(client->pages, 1000);
        assert_int_equal(client_put(client, 1001), MODEL_E_NOT_RESERVED);
        assert_int_equal(client->pages, 1000);
        assert_int_equal(client_put(client, 1000), MODEL_OK);
        assert_int_equal(client->pages, 0);
}

static void the_number_of_clients_is_limited(void **state)
{
        struct fixture *f = *state;
        struct client *client;

        get_client(f, "a", &alice);
        get_client(f, "b", &alice);
        get_client(f, "c", &alice);
        assert_int_equal(open_client(f, "d", &alice, 0, &client), MODEL_E_LIMIT);
        assert_string_equal(f->refusal.limit, "clients");
        get_client(f, "d", &bob);
}

static void regions_are_checked(void **state)
{
        static const struct {
                struct region regions[2];
                unsigned int n, region;
                const char *reason;
        } rows[] = {
                { { { 0, 0, 0 } }, 1, 0, "is empty" },
                { { { 0, 0, SECTORS + 1 } }, 1, 0, "64 sectors" },
                { { { 0, SECTORS, 1 } }, 1, 0, "64 sectors" },
                { { { 0, UINT64_MAX, 8 } }, 1, 0, "64 sectors" },
                { { { 0, 0, 8 }, { 1, 0, 16 } }, 2, 1, "is 16 sectors long, region 0 is 8" },
                { { { 0, 0, 8 }, { 1, 60, 8 } }, 2, 1, "64 sectors" },
                { { { 0, 0, 16 }, { 0, 8, 16 } }, 2, 1, "overlaps region 0" },
        };
        struct fixture *f = *state;
        struct client *client = get_client(f, "a", &alice);
        struct export *export;

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                assert_int_equal(make_export_on(f, client, "x", rows[i].regions, rows[i].n, false,
                                                false, &export),
                                 MODEL_E_REGION);
                assert_int_equal(f->refusal.region, rows[i].region);
                if (!strstr(f->refusal.reason, rows[i].reason))
                        fail_msg("'%s' does not say '%s'", f->refusal.reason, rows[i].reason);
        }
        assert_int_equal(f->model.n_exports, 0);
}

static void a_device_that_is_read_only_takes_no_writable_export(void **state)
{
        struct fixture *f = *state;
        struct client *client = get_client(f, "a", &alice);
        const struct region region = { 0, 0, 8 };
        struct export *export;

        dmio_device_close(f->disks[0]);
        f->disks[0] = make_disk(DMIO_DEVICE_READ_ONLY);
        assert_int_equal(make_export(f, client, "x", 0, 8, &export), MODEL_E_REGION);
        assert_int_equal(make_export_on(f, client, "x", &region, 1, true, false, &export),
                         MODEL_OK);
}

static void sectors_have_one_holder_unless_all_share(void **state)
{
        struct fixture *f = *state;
        struct client *a = get_client(f, "a", &alice);
        struct client *b = get_client(f, "b", &bob);
        const struct region regions[] = { { 1, 0, 8 }, { 0, 7, 8 } };
        const struct region shared = { 1, 32, 8 };
        struct export *export;

        assert_int_equal(make_export(f, a, "x", 0, 8, &export), MODEL_OK);
        assert_int_equal(make_export_on(f, b, "y", regions, 2, false, false, &export),
                         MODEL_E_BUSY);
        assert_int_equal(f->refusal.region, 1);
        assert_string_equal(f->refusal.client, "a");
        assert_string_equal(f->refusal.export, "x");
        assert_int_equal(f->refusal.n_open, 0);

        assert_int_equal(make_export_on(f, a, "s", &shared, 1, false, true, &export), MODEL_OK);
        assert_int_equal(make_export_on(f, b, "s", &shared, 1, false, true, &export), MODEL_OK);
        assert_int_equal(make_export_on(f, b, "t", &shared, 1, false, false, &export),
                         MODEL_E_BUSY);
}

static void exports_are_limited_and_named_once(void **state)
{
        struct fixture *f = *state;
        struct client *a = get_client(f, "a", &alice);
        struct export *export;
        unsigned int removed = 0;

        assert_int_equal(make_export(f, a, ".x", 0, 8, &export), MODEL_E_NAME);
        assert_int_equal(make_export(f, a, "x", 0, 8, &export), MODEL_OK);
        assert_int_equal(make_export(f, a, "x", 8, 8, &export), MODEL_E_EXISTS);
        assert_int_equal(make_export(f, a, "y", 8, 8, &export), MODEL_OK);
        assert_int_equal(make_export(f, a, "z", 16, 8, &export), MODEL_E_LIMIT);
        assert_string_equal(f->refusal.limit, "exports");

        assert_int_equal(
                export_remove(client_find_export(a, "x"), false, count, &removed, &f->refusal),
                MODEL_OK);
        run_until(f, &removed, 1);
        assert_int_equal(make_export(f, a, "z", 0, 8, &export), MODEL_OK);
}

static void an_open_export_stays_unless_forced(void **state)
{
        struct fixture *f = *state;
        struct client *a = get_client(f, "a", &alice);
        struct export *export;
        unsigned int removed = 0;

        assert_int_equal(make_export(f, a, "x", 0, 8, &export), MODEL_OK);
        export_ref(export);
        assert_int_equal(export_open(export), 0);
        assert_int_equal(export_remove(export, false, count, &removed, &f->refusal), MODEL_E_BUSY);
        assert_int_equal(f->refusal.n_open, 1);
        assert_int_equal(export_begin(export), 0);
        export_end(export);

        assert_int_equal(export_remove(export, true, count, &removed, &f->refusal), MODEL_OK);
        assert_int_equal(removed, 0);
        assert_null(client_find_export(a, "x"));
        assert_int_equal(export_begin(export), -ENODEV);
        assert_int_equal(export_open(export), -ENODEV);
        assert_int_equal(export_n_open(export), 1);
        run_until(f, &removed, 1);

        /* The file is open still, the sectors are free. */
        assert_true(list_is_empty(&f->model.regions));
        assert_int_equal(export_begin(export), -ENODEV);
        export_close(export);
        export_unref(export);
}

static void a_removal_waits_for_what_is_in_flight(void **state)
{
        struct fixture *f = *state;
        struct client *a = get_client(f, "a", &alice);
        struct export *export, *second;
        unsigned int removed = 0, closed = 0;

        assert_int_equal(make_export(f, a, "x", 0, 8, &export), MODEL_OK);
        assert_int_equal(export_begin(export), 0);
        assert_int_equal(export_remove(export, false, count, &removed, &f->refusal), MODEL_OK);
        assert_int_equal(make_export(f, a, "y", 0, 8, &second), MODEL_E_BUSY);
        assert_string_equal(f->refusal.client, "a");

        /* So does the end of the client, and it waits for its calls as well. */
        assert_int_equal(client_begin_call(a), MODEL_OK);
        assert_int_equal(client_close(a, count, &closed), MODEL_OK);
        assert_int_equal(client_begin_call(a), MODEL_E_CLOSING);
        assert_int_equal(make_export(f, a, "y", 8, 8, &second), MODEL_E_CLOSING);
        assert_true(sd_event_run(f->event, 1000) >= 0);
        assert_int_equal(removed, 0);

        export_end(export);
        assert_int_equal(removed, 0);
        run_until(f, &removed, 1);
        assert_int_equal(closed, 0);
        assert_ptr_equal(model_find_client(&f->model, "a"), a);
        client_end_call(a);
        run_until(f, &closed, 1);
}

static void pages_that_are_held_delay_the_end(void **state)
{
        struct fixture *f = *state;
        struct client *a = get_client(f, "a", &alice);
        struct dm_io_client *io = a->io;
        struct page_list *pages = dmio_pages_get(io, 4);
        unsigned int closed = 0;
        json_t *object;

        assert_non_null(pages);
        object = describe_client(a);
        assert_int_equal(json_integer_value(json_object_get(object, "in_flight_pages")), 4);
        json_decref(object);

        assert_int_equal(client_close(a, count, &closed), MODEL_OK);
        assert_true(sd_event_run(f->event, 1000) >= 0);
        assert_int_equal(closed, 0);
        object = describe_client(a);
        assert_non_null(object);
        json_decref(object);
        dmio_pages_put(io, pages);
        run_until(f, &closed, 1);
}

static unsigned int n_events;

static void count_events(struct event_watcher *watcher)
{
        n_events++;
}

static void expect_event(struct event_watcher *watcher, const char *name, const char *error,
                         uint64_t n_errors)
{
        json_t *event = event_watcher_take(watcher), *details = json_object_get(event, "details");

        assert_string_equal(json_string_value(json_object_get(event, "event")), name);
        if (error) {
                assert_string_equal(json_string_value(json_object_get(details, "errno")), error);
                assert_int_equal(json_integer_value(json_object_get(details, "leg")), 1);
                assert_int_equal(json_integer_value(json_object_get(details, "errors")), n_errors);
        }
        json_decref(event);
}

/* From wherever they happen to the main loop: a failure once, errors as few. */
static void errors_of_legs_are_events(void **state)
{
        struct fixture *f = *state;
        struct client *a = get_client(f, "a", &alice);
        const struct region regions[] = { { 0, 0, 8 }, { 1, 0, 8 } };
        struct event_watcher watcher;
        struct export *export;

        n_events = 0;
        assert_int_equal(event_watcher_init(&watcher, &f->model, &alice, 8, count_events), 0);
        assert_int_equal(make_export_on(f, a, "x", regions, 2, false, false, &export), MODEL_OK);
        for (unsigned int i = 0; i < 100; i++)
                export_leg_error(export, 1, DM_IO_READ, EILSEQ, false);
        assert_int_equal(n_events, 2);
        run_until(f, &n_events, 3);
        export_leg_error(export, 1, DM_IO_WRITE, EIO, true);
        export_leg_error(export, 1, DM_IO_WRITE, ENOSPC, true);
        run_until(f, &n_events, 5);
        export_leg_error(export, 1, DM_IO_READ, ETIMEDOUT, false);
        assert_int_equal(export_remove(export, false, NULL, NULL, NULL), MODEL_OK);
        run_until(f, &n_events, 7);

        expect_event(&watcher, "watching", NULL, 0);
        expect_event(&watcher, "export-created", NULL, 0);
        expect_event(&watcher, "leg-error", "EILSEQ", 100);
        expect_event(&watcher, "leg-error", "ENOSPC", 1);
        expect_event(&watcher, "leg-failed", "EIO", 0);
        expect_event(&watcher, "leg-error", "ETIMEDOUT", 1);
        expect_event(&watcher, "export-removed", NULL, 0);
        assert_false(event_watcher_has_more(&watcher));
        event_watcher_deinit(&watcher);
}

static void a_failed_leg_stays_failed(void **state)
{
        struct fixture *f = *state;
        struct client *a = get_client(f, "a", &alice);
        const struct region regions[] = { { 0, 0, 8 }, { 1, 0, 8 } };
        struct export *export;
        json_t *object, *leg;

        assert_int_equal(make_export_on(f, a, "x", regions, 2, false, false, &export), MODEL_OK);
        export_leg_error(export, 1, DM_IO_READ, EAGAIN, false);
        assert_true(leg_is_active(&export->legs[1]));
        export_leg_error(export, 1, DM_IO_WRITE, EIO, true);
        assert_false(leg_is_active(&export->legs[1]));
        assert_true(leg_is_active(&export->legs[0]));

        object = describe_export(export);
        assert_int_equal(json_integer_value(json_object_get(object, "sectors")), 8);
        leg = json_array_get(json_object_get(object, "legs"), 0);
        assert_string_equal(json_string_value(json_object_get(leg, "state")), "active");
        assert_null(json_object_get(leg, "last_error"));
        leg = json_array_get(json_object_get(object, "legs"), 1);
        assert_string_equal(json_string_value(json_object_get(leg, "state")), "failed");
        assert_string_equal(json_string_value(json_object_get(leg, "last_error")), "EIO");
        assert_int_equal(json_integer_value(json_object_get(leg, "errors")), 2);
        json_decref(object);
}

static void status_shows_only_what_one_may_see(void **state)
{
        struct fixture *f = *state;
        struct client *a = get_client(f, "a", &alice);
        struct export *export;
        json_t *object;
        char *text;

        get_client(f, "b", &bob);
        assert_int_equal(make_export(f, a, "x", 0, 8, &export), MODEL_OK);

        text = describe_status_file(&f->model, &f->model.root_status, &bob);
        object = json_loads(text, 0, NULL);
        assert_int_equal(text[strlen(text) - 1], '\n');
        assert_int_equal(json_array_size(json_object_get(object, "clients")), 1);
        assert_int_equal(json_array_size(json_object_get(object, "exports")), 0);
        json_decref(object);
        free(text);

        text = describe_status_file(&f->model, &f->model.root_status, &root);
        object = json_loads(text, 0, NULL);
        assert_int_equal(json_array_size(json_object_get(object, "clients")), 2);
        assert_int_equal(json_array_size(json_object_get(object, "exports")), 1);
        json_decref(object);
        free(text);

        text = describe_status_file(&f->model, &a->status_node, &alice);
        object = json_loads(text, 0, NULL);
        assert_string_equal(
                json_string_value(json_object_get(json_object_get(object, "client"), "name")), "a");
        assert_int_equal(json_array_size(json_object_get(object, "exports")), 1);
        json_decref(object);
        free(text);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_client_is_found_until_it_is_gone),
                TEST(owners_and_root_see_a_client),
                TEST(pages_have_a_limit_for_each_and_for_all),
                TEST(the_number_of_clients_is_limited),
                TEST(regions_are_checked),
                TEST(a_device_that_is_read_only_takes_no_writable_export),
                TEST(sectors_have_one_holder_unless_all_share),
                TEST(exports_are_limited_and_named_once),
                TEST(an_open_export_stays_unless_forced),
                TEST(a_removal_waits_for_what_is_in_flight),
                TEST(pages_that_are_held_delay_the_end),
                TEST(errors_of_legs_are_events),
                TEST(a_failed_leg_stays_failed),
                TEST(status_shows_only_what_one_may_see),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
