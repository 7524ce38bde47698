/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "model/describe.h"
#include "util/cleanup.h"

/* No error of the system has a number from here on. */
#define ERRNO_END 4096

static void json_decrefp_(json_t **object)
{
        json_decref(*object);
}

#define JSON DMIO_CLEANUP(json_decrefp_) json_t

static const char *leg_state_name(enum leg_state state)
{
        static const char *const names[] = {
                [LEG_ACTIVE] = "active",
                [LEG_FAILED] = "failed",
                [LEG_SYNCING] = "syncing",
        };

        return names[state];
}

const char *errno_name(int error)
{
        static __thread char number[24];
        const char *name = strerrorname_np(error);

        if (name)
                return name;
        (void)snprintf(number, sizeof(number), "errno %d", error);
        return number;
}

int errno_number(const char *name)
{
        for (int error = 1; error < ERRNO_END; error++)
                if (strerrorname_np(error) && strcmp(strerrorname_np(error), name) == 0)
                        return error;
        return 0;
}

static json_t *integer(uint64_t value)
{
        return json_integer((json_int_t)value);
}

json_t *describe_client(const struct client *client)
{
        struct dm_io_client_stats stats = {};
        const struct export *export;
        JSON *exports = json_array();

        list_for_each (export, &client->exports, link)
                if (json_array_append_new(exports, json_string(export->name)) < 0)
                        return NULL;
        if (client->io)
                dm_io_client_stats(client->io, &stats);

        return json_pack("{ss so so sb sO so so}", "name", client->name, "uid",
                         integer(client->uid), "pages", integer(client->pages), "linger",
                         (int)client->linger, "exports", exports, "in_flight_pages",
                         integer(stats.in_use), "waits", integer(client_waits(client, &stats)));
}

json_t *describe_leg(const struct leg *leg)
{
        int error = atomic_load(&leg->errors->last);
        JSON *object = NULL;

        object = json_pack("{s{ss so so} ss so}", "region", "device", leg->spec.device, "sector",
                           integer(leg->spec.sector), "count", integer(leg->spec.count), "state",
                           leg_state_name(atomic_load(&leg->state)), "errors",
                           integer(atomic_load(&leg->errors->count)));
        if (error > 0 &&
            json_object_set_new(object, "last_error", json_string(errno_name(error))) < 0)
                return NULL;
        return DMIO_TAKE(object);
}

json_t *describe_export(const struct export *export)
{
        JSON *legs = json_array();

        for (unsigned int i = 0; i < export->n_legs; i++)
                if (json_array_append_new(legs, describe_leg(&export->legs[i])) < 0)
                        return NULL;

        return json_pack("{ss ss ss so sb so sO}", "client", export->client->name, "name",
                         export->name, "path", export->path, "sectors", integer(export->sectors),
                         "read_only", (int)export->read_only, "open_count",
                         integer(export_n_open(export)), "legs", legs);
}

static uint64_t without(uint64_t all, uint64_t own)
{
        return all > own ? all - own : 0;
}

/*
 * As the clients see it: what the mount keeps for receiving requests is part of the total, like the
 * floor, but no client has reserved it or uses it.
 */
json_t *describe_pool(struct model *model)
{
        struct dm_io_client_stats own = {};
        struct dmio_pool_stats stats;

        dmio_pool_stats(model->engine, &stats);
        if (model->own_io)
                dm_io_client_stats(model->own_io, &own);
        return json_pack("{so so so so so so}", "reserved", integer(model->pages), "total",
                         integer(stats.total), "in_use", integer(without(stats.in_use, own.in_use)),
                         "high_water", integer(without(stats.high_water, own.in_use)), "waits",
                         integer(without(stats.waits, own.waits)), "limit",
                         integer(model->page_limit));
}

json_t *describe_daemon(struct model *model, const struct peer *peer)
{
        uint64_t n_clients = 0, n_exports = 0;
        const struct client *client;
        struct timespec now;

        list_for_each (client, &model->clients, link) {
                if (!client_is_visible(client, peer))
                        continue;
                n_clients++;
                n_exports += client->n_exports;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);

        return json_pack("{ss so ss so so so ss ss}", "version", DMIO_VERSION, "uptime_s",
                         integer((uint64_t)now.tv_sec - model->start_usec / 1000000), "mount",
                         model->mount ?: "", "pool", describe_pool(model), "clients",
                         integer(n_clients), "exports", integer(n_exports), "backend",
                         dmio_engine_backend(model->engine), "transport",
                         model->transport ?: "none");
}

static int append_exports(json_t *array, const struct client *client)
{
        const struct export *export;

        list_for_each (export, &client->exports, link)
                if (json_array_append_new(array, describe_export(export)) < 0)
                        return -ENOMEM;
        return 0;
}

static json_t *describe_root_status(struct model *model, const struct peer *peer)
{
        JSON *clients = json_array();
        JSON *exports = json_array();
        const struct client *client;

        list_for_each (client, &model->clients, link) {
                if (!client_is_visible(client, peer))
                        continue;
                if (json_array_append_new(clients, describe_client(client)) < 0 ||
                    append_exports(exports, client) < 0)
                        return NULL;
        }
        return json_pack("{so sO sO}", "daemon", describe_daemon(model, peer), "clients", clients,
                         "exports", exports);
}

static json_t *describe_client_status(const struct client *client)
{
        JSON *exports = json_array();

        if (append_exports(exports, client) < 0)
                return NULL;
        return json_pack("{so sO}", "client", describe_client(client), "exports", exports);
}

char *describe_status_file(struct model *model, const struct node *node, const struct peer *peer)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        JSON *object = NULL;
        char *line = NULL;

        if (node->type == NODE_TYPE_ROOT_STATUS)
                object = describe_root_status(model, peer);
        else if (node->type == NODE_TYPE_CLIENT_STATUS)
                object = describe_client_status(node->client);
        if (!object)
                return NULL;

        text = json_dumps(object, JSON_INDENT(2));
        if (!text || asprintf(&line, "%s\n", text) < 0)
                return NULL;
        return line;
}
