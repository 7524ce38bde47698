/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is counted, as JSON: the answer of Statistics. */

#include <errno.h>

#include "model/describe.h"
#include "model/job.h"
#include "model/statistics.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

static void json_decrefp_(json_t **object)
{
        json_decref(*object);
}

#define JSON DMIO_CLEANUP(json_decrefp_) json_t

const char *const counted_operations[_OPERATION_IO_MAX + 1] = {
        [OPERATION_READ] = "read",       [OPERATION_WRITE] = "write",
        [OPERATION_FLUSH] = "flush",     [OPERATION_WRITE_ZEROES] = "write_zeroes",
        [OPERATION_DISCARD] = "discard",
};

const char *const counted_jobs[] = {
        [JOB_COPY] = "copy",
        [JOB_ZERO] = "zero",
        NULL,
};

static json_t *integer(uint64_t value)
{
        return json_integer((json_int_t)value);
}

static json_t *describe_latency(const struct counters *counters)
{
        JSON *latency = json_array();

        for (unsigned int i = 0; i < LATENCY_BUCKETS; i++) {
                uint64_t n = atomic_load_explicit(&counters->buckets[i], memory_order_relaxed);
                JSON *bucket = NULL;

                if (n == 0)
                        continue;
                bucket = json_pack("{so}", "count", integer(n));
                if (latency_bound(i) != UINT64_MAX &&
                    json_object_set_new(bucket, "upto_us", integer(latency_bound(i))) < 0)
                        return NULL;
                if (json_array_append(latency, bucket) < 0)
                        return NULL;
        }
        return DMIO_TAKE(latency);
}

/* What has not been done even once is not told of. */
static int append_counters(json_t *operations, const char *name, const struct counters *counters)
{
        uint64_t n = counters_count(counters);

        if (n == 0)
                return 0;
        return json_array_append_new(
                operations,
                json_pack("{ss so so so so so}", "operation", name, "count", integer(n), "errors",
                          integer(counters->errors), "bytes", integer(counters->bytes), "total_us",
                          integer(counters->total_usec), "latency", describe_latency(counters)));
}

static json_t *describe_all(const struct counters *counters, const char *const *names,
                            unsigned int n)
{
        JSON *operations = json_array();

        for (unsigned int i = 0; i < n; i++)
                if (append_counters(operations, names[i], &counters[i]) < 0)
                        return NULL;
        return DMIO_TAKE(operations);
}

static void fold_row(struct counters *sums, const struct export *export, unsigned int row)
{
        for (unsigned int i = 0; i < _OPERATION_EXPORT_MAX; i++)
                export_counters_fold(&sums[i], &export->counters, row, (enum operation)i);
}

static json_t *describe_row(const struct export *export, unsigned int row)
{
        struct counters sums[_OPERATION_EXPORT_MAX] = {};

        fold_row(sums, export, row);
        return describe_all(sums, counted_operations, ARRAY_SIZE(sums));
}

static json_t *describe_export_statistics(const struct export *export)
{
        JSON *legs = json_array();

        for (unsigned int i = 0; i < export->n_legs; i++)
                if (json_array_append_new(
                            legs, json_pack("{so so}", "leg", describe_leg(&export->legs[i]),
                                            "operations", describe_row(export, ROW_LEG(i)))) < 0)
                        return NULL;
        return json_pack("{ss ss so sO}", "client", export->client->name, "name", export->name,
                         "operations", describe_row(export, ROW_EXPORT), "legs", legs);
}

/* All exports that it has and has had, so that its counters never shrink. */
static json_t *describe_client_statistics(const struct client *client)
{
        struct counters sums[_OPERATION_EXPORT_MAX] = {};
        const struct export *export;

        for (unsigned int i = 0; i < ARRAY_SIZE(sums); i++)
                counters_fold(&sums[i], &client->counters->removed[i]);
        list_for_each (export, &client->exports, link)
                fold_row(sums, export, ROW_EXPORT);
        list_for_each (export, &client->draining, link)
                fold_row(sums, export, ROW_EXPORT);

        return json_pack("{so so so so}", "client", describe_client(client), "exports",
                         describe_all(sums, counted_operations, ARRAY_SIZE(sums)), "calls",
                         describe_all(client->counters->calls, counted_operations,
                                      ARRAY_SIZE(client->counters->calls)),
                         "jobs",
                         describe_all(client->counters->jobs, counted_jobs,
                                      ARRAY_SIZE(client->counters->jobs)));
}

static int append_client(json_t *clients, json_t *exports, const struct client *client)
{
        const struct export *export;

        if (json_array_append_new(clients, describe_client_statistics(client)) < 0)
                return -ENOMEM;
        list_for_each (export, &client->exports, link)
                if (json_array_append_new(exports, describe_export_statistics(export)) < 0)
                        return -ENOMEM;
        return 0;
}

json_t *describe_statistics(struct model *model, const struct client *only, const struct peer *peer)
{
        JSON *clients = json_array();
        JSON *exports = json_array();
        const struct client *client;

        list_for_each (client, &model->clients, link)
                if ((!only || client == only) && client_is_visible(client, peer) &&
                    append_client(clients, exports, client) < 0)
                        return NULL;
        return json_pack("{so so sO sO}", "uptime_us", integer(now_usec() - model->start_usec),
                         "pool", describe_pool(model), "clients", clients, "exports", exports);
}

/* --- what of it outlasts the daemon */

static json_t *describe_lasting_export(const struct export *export)
{
        JSON *legs = json_array();

        for (unsigned int i = 0; i < export->n_legs; i++)
                if (json_array_append_new(legs, json_pack("{so}", "operations",
                                                          describe_row(export, ROW_LEG(i)))) < 0)
                        return NULL;
        return json_pack("{so so sO}", "node", integer(export->node.id), "operations",
                         describe_row(export, ROW_EXPORT), "legs", legs);
}

static json_t *describe_lasting_client(const struct client *client)
{
        const struct client_counters *counters = client->counters;
        struct dm_io_client_stats stats = {};
        const struct export *export;
        JSON *exports = json_array();

        list_for_each (export, &client->exports, link)
                if (json_array_append_new(exports, describe_lasting_export(export)) < 0)
                        return NULL;
        if (client->io)
                dm_io_client_stats(client->io, &stats);
        return json_pack(
                "{so so so so so sO}", "node", integer(client->node.id), "waits",
                integer(client_waits(client, &stats)), "removed",
                describe_all(counters->removed, counted_operations, ARRAY_SIZE(counters->removed)),
                "calls",
                describe_all(counters->calls, counted_operations, ARRAY_SIZE(counters->calls)),
                "jobs", describe_all(counters->jobs, counted_jobs, ARRAY_SIZE(counters->jobs)),
                "exports", exports);
}

json_t *describe_lasting_counters(const struct model *model)
{
        JSON *clients = json_array();
        const struct client *client;

        list_for_each (client, &model->clients, link)
                if (client->linger &&
                    json_array_append_new(clients, describe_lasting_client(client)) < 0)
                        return NULL;
        return DMIO_TAKE(clients);
}
