/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/fields.h"
#include "model/client.h"
#include "model/describe.h"
#include "model/export.h"
#include "state/saved-counters.h"
#include "state/saved.h"
#include "util/cleanup.h"
#include "util/macros.h"

struct saved_bucket {
        int64_t count;
        int64_t upto_us; /* absent: the last one */
};

struct saved_operation {
        int operation;
        int64_t count;
        int64_t errors;
        int64_t bytes;
        int64_t total_us;
        struct field_array latency; /* struct saved_bucket */
};

struct saved_row {
        struct field_array operations; /* struct saved_operation */
};

struct saved_export_counters {
        int64_t node;
        struct field_array operations;
        struct field_array legs; /* struct saved_row */
};

struct saved_client_counters {
        int64_t node;
        int64_t waits;
        struct field_array removed, calls, jobs; /* struct saved_operation */
        struct field_array exports;              /* struct saved_export_counters */
};

struct saved_counters {
        int64_t epoch;
        struct field_array clients; /* struct saved_client_counters */
};

#define INT(structure, member)                                                                     \
        FIELD(structure, member, FIELD_INT, .required = true, .max = INT64_MAX)
#define OBJECTS(structure, member, of, type)                                                       \
        FIELD(structure, member, FIELD_OBJECTS, .required = true, .fields = (of),                  \
              .size = sizeof(type))
#define OPERATIONS(structure, member)                                                              \
        OBJECTS(structure, member, operation_fields, struct saved_operation)

static const struct field bucket_fields[] = {
        INT(struct saved_bucket, count),
        FIELD(struct saved_bucket, upto_us, FIELD_INT, .max = INT64_MAX),
        FIELD_END,
};

#define OPERATION_FIELDS(of_names)                                                                 \
        FIELD(struct saved_operation, operation, FIELD_ENUM, .required = true,                     \
              .names = (of_names)),                                                                \
                INT(struct saved_operation, count), INT(struct saved_operation, errors),           \
                INT(struct saved_operation, bytes), INT(struct saved_operation, total_us),         \
                OBJECTS(struct saved_operation, latency, bucket_fields, struct saved_bucket),      \
                FIELD_END

static const struct field operation_fields[] = { OPERATION_FIELDS(counted_operations) };
static const struct field job_fields[] = { OPERATION_FIELDS(counted_jobs) };

static const struct field row_fields[] = {
        OPERATIONS(struct saved_row, operations),
        FIELD_END,
};

static const struct field export_fields[] = {
        INT(struct saved_export_counters, node),
        OPERATIONS(struct saved_export_counters, operations),
        OBJECTS(struct saved_export_counters, legs, row_fields, struct saved_row),
        FIELD_END,
};

static const struct field client_fields[] = {
        INT(struct saved_client_counters, node),
        INT(struct saved_client_counters, waits),
        OPERATIONS(struct saved_client_counters, removed),
        OPERATIONS(struct saved_client_counters, calls),
        OBJECTS(struct saved_client_counters, jobs, job_fields, struct saved_operation),
        OBJECTS(struct saved_client_counters, exports, export_fields, struct saved_export_counters),
        FIELD_END,
};

static const struct field saved_fields[] = {
        INT(struct saved_counters, epoch),
        OBJECTS(struct saved_counters, clients, client_fields, struct saved_client_counters),
        FIELD_END,
};

json_t *describe_saved_counters(const struct model *model, uint64_t epoch)
{
        return json_pack("{so so}", "epoch", json_integer((json_int_t)epoch), "clients",
                         describe_lasting_counters(model));
}

/* Into sets by the operation; those from @n_sets on there are none of. */
static void read_operations(const struct field_array *from, struct counters *sets,
                            unsigned int n_sets)
{
        const struct saved_operation *operations = from->items;

        for (size_t i = 0; i < from->n; i++) {
                const struct saved_operation *operation = &operations[i];
                const struct saved_bucket *buckets = operation->latency.items;
                struct counters *set;

                if ((unsigned int)operation->operation >= n_sets)
                        continue;
                set = &sets[operation->operation];
                counter_add(&set->errors, (uint64_t)operation->errors);
                counter_add(&set->bytes, (uint64_t)operation->bytes);
                counter_add(&set->total_usec, (uint64_t)operation->total_us);
                for (size_t j = 0; j < operation->latency.n; j++) {
                        unsigned int bucket = LATENCY_BUCKETS - 1;

                        if (buckets[j].upto_us != FIELD_ABSENT)
                                bucket = latency_bucket((uint64_t)buckets[j].upto_us);
                        counter_add(&set->buckets[bucket], (uint64_t)buckets[j].count);
                }
        }
}

static void apply_row(struct export *export, unsigned int row, const struct field_array *operations)
{
        struct counters floor[_OPERATION_EXPORT_MAX] = {};

        read_operations(operations, floor, ARRAY_SIZE(floor));
        for (int i = 0; i < _OPERATION_EXPORT_MAX; i++)
                export_counters_raise(&export->counters, row, (enum operation)i, &floor[i]);
}

static struct export *find_export(struct client *client, int64_t node)
{
        struct export *export;

        list_for_each (export, &client->exports, link)
                if (export->node.id == (node_id_t)node)
                        return export;
        return NULL;
}

static void apply_client(const struct saved_client_counters *saved, struct client *client)
{
        const struct saved_export_counters *exports = saved->exports.items;
        struct counters removed[_OPERATION_EXPORT_MAX] = {};
        struct counters calls[_OPERATION_IO_MAX] = {};
        struct counters jobs[ARRAY_SIZE(client->counters->jobs)] = {};

        read_operations(&saved->removed, removed, ARRAY_SIZE(removed));
        read_operations(&saved->calls, calls, ARRAY_SIZE(calls));
        read_operations(&saved->jobs, jobs, ARRAY_SIZE(jobs));
        for (size_t i = 0; i < saved->exports.n; i++) {
                struct export *export = find_export(client, exports[i].node);
                const struct saved_row *legs = exports[i].legs.items;

                if (!export) {
                        read_operations(&exports[i].operations, removed, ARRAY_SIZE(removed));
                        continue;
                }
                apply_row(export, ROW_EXPORT, &exports[i].operations);
                for (size_t j = 0; j < exports[i].legs.n && j < export->n_legs; j++)
                        apply_row(export, ROW_LEG((unsigned int)j), &legs[j].operations);
        }

        for (unsigned int i = 0; i < ARRAY_SIZE(removed); i++)
                counters_raise(&client->counters->removed[i], &removed[i]);
        for (unsigned int i = 0; i < ARRAY_SIZE(calls); i++)
                counters_raise(&client->counters->calls[i], &calls[i]);
        for (unsigned int i = 0; i < ARRAY_SIZE(jobs); i++)
                counters_raise(&client->counters->jobs[i], &jobs[i]);
        client_raise_waits(client, (uint64_t)saved->waits);
}

static int reject(char **ret_message, const char *what)
{
        *ret_message = strdup(what);
        return *ret_message ? -EBADMSG : -ENOMEM;
}

int saved_counters_apply(const json_t *content, struct model *model, uint64_t epoch,
                         char **ret_message)
{
        const struct saved_client_counters *clients;
        struct saved_counters saved;
        struct client *client;
        json_t *error;
        int r = 0;

        error = fields_read(saved_fields, content, &saved, sizeof(saved));
        if (error) {
                const json_t *parameters = json_object_get(error, "parameters");
                const char *place = json_string_value(json_object_get(parameters, "parameter"));

                r = place ? reject(ret_message, place) : -ENOMEM;
                json_decref(error);
                return r;
        }
        clients = saved.clients.items;
        if ((uint64_t)saved.epoch > epoch)
                r = reject(ret_message, "it is of a later state than the folder");
        for (size_t i = 0; r == 0 && i < saved.clients.n; i++)
                list_for_each (client, &model->clients, link)
                        if (client->node.id == (node_id_t)clients[i].node)
                                apply_client(&clients[i], client);
        fields_clear(saved_fields, &saved, sizeof(saved));
        return r;
}
