/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Counters in the state folder: what is saved comes back, and only what is not less. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "config.h"
#include "loop.h"
#include "model/client.h"
#include "model/describe.h"
#include "model/export.h"
#include "state/saved-counters.h"
#include "util/cleanup.h"
#include "worker.h"

#define EPOCH 3

static const struct peer root = { .uid = 0, .privileged = true };

struct fixture {
        struct config config;
        sd_event *event;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct loop *loop;
        struct worker *worker;
        struct model model;
        struct client *client;
        struct export *export;
};

static struct export *make_export(struct fixture *f, const char *name)
{
        struct model_refusal refusal;
        struct leg_spec leg = { .device = strdup("disk"), .count = 8 };
        struct export *export;
        int fd = memfd_create("disk", MFD_CLOEXEC);

        assert_int_equal(ftruncate(fd, 4096), 0);
        assert_int_equal(dmio_device_from_fd(fd, 0, &leg.bdev), 0);
        close_fd(fd);
        assert_int_equal(export_new(f->client, name, &leg, 1, false, false, EXPORT_CACHE_NONE,
                                    &export, &refusal),
                         MODEL_OK);
        return export;
}

static int set_up(void **state)
{
        const struct dmio_engine_options options = { .flags = DMIO_ENGINE_NO_THREAD,
                                                     .max_pages = 64 };
        struct model_refusal refusal;
        struct fixture *f = calloc(1, sizeof(*f));

        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        assert_int_equal(loop_new(f->event, f->queue, &f->loop), 0);
        assert_int_equal(worker_new(f->event, &f->worker), 0);
        assert_int_equal(model_init(&f->model, f->engine, f->queue, &f->config, f->worker), 0);
        f->model.n_lanes = 2;
        assert_int_equal(client_new(&f->model, "alice", &root, 4, true, 0, &f->client, &refusal),
                         MODEL_OK);
        f->export = make_export(f, "vol");
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        (void)client_close(f->client, NULL, NULL);
        while (f->model.n_clients > 0)
                assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
        loop_finish(f->queue);
        worker_free(f->worker);
        model_deinit(&f->model);
        loop_free(f->loop);
        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        sd_event_unref(f->event);
        free(f);
        return 0;
}

static void count_all(struct fixture *f, uint64_t n)
{
        struct client_counters *of = f->client->counters;

        for (unsigned int lane = 0; lane < 2; lane++) {
                counters_add(
                        export_counters_of(&f->export->counters, lane, ROW_EXPORT, OPERATION_WRITE),
                        n, n, false);
                counters_add(
                        export_counters_of(&f->export->counters, lane, ROW_LEG(0), OPERATION_READ),
                        UINT64_C(1) << 40, n, true);
        }
        counters_add(&of->removed[OPERATION_FLUSH], n, 0, false);
        counters_add(&of->calls[OPERATION_DISCARD], n, n, false);
        counters_add(&of->jobs[1], n, n, false);
        client_raise_waits(f->client, n);
}

static void clear_all(struct fixture *f)
{
        memset((void *)f->export->counters.sets, 0,
               2 * 2 * _OPERATION_EXPORT_MAX * sizeof(struct counters));
        memset((void *)f->client->counters, 0, sizeof(*f->client->counters));
        f->client->waits_before = 0;
}

static void apply(struct fixture *f, const json_t *content, int wanted)
{
        char *message = NULL;

        assert_int_equal(saved_counters_apply(content, &f->model, EPOCH, &message), wanted);
        assert_int_equal(message != NULL, wanted == -EBADMSG);
        free(message);
}

static void expect_same(struct fixture *f, const json_t *wanted)
{
        json_t *now = describe_saved_counters(&f->model, EPOCH);

        assert_true(json_equal(now, wanted));
        json_decref(now);
}

static void what_is_saved_comes_back(void **state)
{
        struct fixture *f = *state;
        json_t *little, *much;

        count_all(f, 5);
        little = describe_saved_counters(&f->model, EPOCH);
        count_all(f, 700);
        much = describe_saved_counters(&f->model, EPOCH);
        assert_false(json_equal(little, much));

        apply(f, little, 0);
        expect_same(f, much);
        clear_all(f);
        apply(f, little, 0);
        expect_same(f, little);
        apply(f, much, 0);
        expect_same(f, much);
        json_decref(little);
        json_decref(much);
}

static void an_export_that_is_gone_is_its_clients(void **state)
{
        struct fixture *f = *state;
        json_t *content;
        json_t *client;

        count_all(f, 5);
        content = describe_saved_counters(&f->model, EPOCH);
        client = json_array_get(json_object_get(content, "clients"), 0);
        json_object_set_new(json_array_get(json_object_get(client, "exports"), 0), "node",
                            json_integer((json_int_t)f->export->node.id + 1000));
        clear_all(f);
        apply(f, content, 0);
        assert_int_equal(counters_count(&f->client->counters->removed[OPERATION_WRITE]), 2);
        assert_int_equal(f->client->counters->removed[OPERATION_WRITE].bytes, 10);
        assert_int_equal(counters_count(&f->client->counters->removed[OPERATION_FLUSH]), 1);

        json_object_set_new(client, "node", json_integer(4711));
        clear_all(f);
        apply(f, content, 0);
        assert_int_equal(counters_count(&f->client->counters->removed[OPERATION_WRITE]), 0);
        json_decref(content);
}

/* Each member of each object in turn, missing and of another type. */
static unsigned int damage(struct fixture *f, json_t *part, const json_t *content)
{
        unsigned int n = 0, n_names = 0;
        char *names[16];
        const char *key;
        json_t *value;
        size_t i;

        json_array_foreach (part, i, value)
                n += damage(f, value, content);
        json_object_foreach (part, key, value)
                names[n_names++] = strdup(key);
        for (i = 0; i < n_names; i++, n++) {
                value = json_incref(json_object_get(part, names[i]));
                n += damage(f, value, content);
                json_object_set_new(part, names[i], json_real(0.5));
                apply(f, content, -EBADMSG);
                json_object_del(part, names[i]);
                if (strcmp(names[i], "upto_us") != 0)
                        apply(f, content, -EBADMSG);
                json_object_set_new(part, names[i], value);
                free(names[i]);
        }
        return n;
}

static void what_is_damaged_changes_nothing(void **state)
{
        struct fixture *f = *state;
        json_t *content, *nothing;

        nothing = describe_saved_counters(&f->model, EPOCH);
        count_all(f, 5);
        content = describe_saved_counters(&f->model, EPOCH);
        clear_all(f);
        assert_in_range(damage(f, content, content), 30, 100);
        expect_same(f, nothing);
        json_object_set_new(content, "epoch", json_integer(EPOCH + 1));
        apply(f, content, -EBADMSG);
        expect_same(f, nothing);
        json_decref(content);
        json_decref(nothing);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_is_saved_comes_back, set_up, tear_down),
                cmocka_unit_test_setup_teardown(an_export_that_is_gone_is_its_clients, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(what_is_damaged_changes_nothing, set_up, tear_down),
        };

        return cmocka_run_group_tests_name("saved-counters", tests, NULL, NULL);
}
