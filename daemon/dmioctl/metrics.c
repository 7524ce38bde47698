/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * metrics: Statistics as Prometheus reads them, in the text format 0.0.4.
 *
 * A family is a row of a table: where its samples come from, and what of them it shows. The bounds
 * of histograms are every second one of the daemon's, the powers of two, and always the same ones.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "dmioctl/tally.h"
#include "util/macros.h"

/* 2^26 us is a minute; what takes longer is in +Inf. */
#define BOUND_LOG_MAX 26

/* Where samples come from. */
enum source {
        SOURCE_DAEMON,
        SOURCE_POOL,
        SOURCE_CLIENT,  /* a label: client */
        SOURCE_LEG,     /* client, export, leg, device */
        SOURCE_EXPORTS, /* client, operation: all exports of a client */
        SOURCE_CALLS,   /* the same: Io and SubmitIo */
        SOURCE_JOBS,    /* the same: Copy and Zero */
        SOURCE_FILES,   /* client, export, operation */
        SOURCE_LEGS,    /* client, export, leg, device, operation */
};

enum show {
        SHOW_VALUE, /* an integer as it is */
        SHOW_PAGES, /* in bytes */
        SHOW_USEC,  /* in seconds */
        SHOW_ACTIVE,
        SHOW_ERRORS, /* those of operations */
        SHOW_BYTES,
        SHOW_HISTOGRAM,
};

struct family {
        const char *name;
        const char *type;
        const char *help;
        enum source source;
        enum show show;
        const char *key; /* of the object at the source, for what is no operation */
};

#define OPERATIONS(prefix, source, what)                                                           \
        { prefix "_duration_seconds",                                                              \
          "histogram",                                                                             \
          "How long " what " took, those with errors included.",                                   \
          source,                                                                                  \
          SHOW_HISTOGRAM,                                                                          \
          NULL },                                                                                  \
                { prefix "_bytes_total",                                                           \
                  "counter",                                                                       \
                  "Bytes of " what " without errors.",                                             \
                  source,                                                                          \
                  SHOW_BYTES,                                                                      \
                  NULL },                                                                          \
        {                                                                                          \
                prefix "_errors_total", "counter", "Errors of " what ".", source, SHOW_ERRORS,     \
                        NULL                                                                       \
        }

static const struct family families[] = {
        { "dmiod_uptime_seconds", "gauge", "Time since the daemon's start.", SOURCE_DAEMON,
          SHOW_USEC, "uptime_us" },
        { "dmiod_pool_reserved_bytes", "gauge", "Memory that clients have reserved.", SOURCE_POOL,
          SHOW_PAGES, "reserved" },
        { "dmiod_pool_size_bytes", "gauge", "Memory that the pool has.", SOURCE_POOL, SHOW_PAGES,
          "total" },
        { "dmiod_pool_in_use_bytes", "gauge", "Memory that is in use.", SOURCE_POOL, SHOW_PAGES,
          "in_use" },
        { "dmiod_pool_high_water_bytes", "gauge", "Most memory ever in use at once.", SOURCE_POOL,
          SHOW_PAGES, "high_water" },
        { "dmiod_pool_limit_bytes", "gauge", "Most memory that may be reserved.", SOURCE_POOL,
          SHOW_PAGES, "limit" },
        { "dmiod_pool_waits_total", "counter", "Times that somebody waited for memory.",
          SOURCE_POOL, SHOW_VALUE, "waits" },

        { "dmiod_client_reserved_bytes", "gauge", "The client's reservation.", SOURCE_CLIENT,
          SHOW_PAGES, "pages" },
        { "dmiod_client_in_use_bytes", "gauge", "Memory of the client that is in use.",
          SOURCE_CLIENT, SHOW_PAGES, "in_flight_pages" },
        { "dmiod_client_waits_total", "counter", "Times that the client waited for memory.",
          SOURCE_CLIENT, SHOW_VALUE, "waits" },
        OPERATIONS("dmiod_client_operation", SOURCE_EXPORTS, "operations on all files of a client"),
        OPERATIONS("dmiod_call", SOURCE_CALLS, "Io and SubmitIo"),
        OPERATIONS("dmiod_job", SOURCE_JOBS, "copies and zeroing"),

        OPERATIONS("dmiod_export_operation", SOURCE_FILES, "operations on an export's file"),
        { "dmiod_leg_active", "gauge", "1 if the leg takes part, 0 if it has failed.", SOURCE_LEG,
          SHOW_ACTIVE, "state" },
        OPERATIONS("dmiod_leg_operation", SOURCE_LEGS, "what a leg was asked for"),
};

/* --- labels: those of one sample, from the outside in */

struct labels {
        const char *client;
        const char *export;
        const char *device;
        size_t leg;
        const char *operation;
};

static void put_label(const char *name, const char *value, const char **separator)
{
        if (!value)
                return;
        printf("%s%s=\"", *separator, name);
        for (; *value; value++) {
                if (*value == '\n') {
                        fputs("\\n", stdout);
                        continue;
                }
                if (*value == '\\' || *value == '"')
                        putchar('\\');
                putchar(*value);
        }
        putchar('"');
        *separator = ",";
}

/* The beginning of a sample, up to its value. */
static void put_name(const char *name, const char *suffix, const struct labels *labels,
                     const char *bound)
{
        const char *separator = "{";
        char leg[24];

        snprintf(leg, sizeof(leg), "%zu", labels->leg);
        printf("%s%s", name, suffix);
        put_label("client", labels->client, &separator);
        put_label("export", labels->export, &separator);
        put_label("leg", labels->device ? leg : NULL, &separator);
        put_label("device", labels->device, &separator);
        put_label("operation", labels->operation, &separator);
        put_label("le", bound, &separator);
        fputs(*separator == '{' ? " " : "} ", stdout);
}

/* --- samples */

static void put_histogram(const char *name, const struct labels *labels, const struct tally *tally)
{
        uint64_t below = 0;
        unsigned int bucket = 0;
        char bound[32];

        for (unsigned int log = 0; log <= BOUND_LOG_MAX; log++) {
                for (; latency_bound(bucket) <= UINT64_C(1) << log; bucket++)
                        below += tally->buckets[bucket];
                snprintf(bound, sizeof(bound), "%.9g", (double)(UINT64_C(1) << log) / 1e6);
                put_name(name, "_bucket", labels, bound);
                printf("%" PRIu64 "\n", below);
        }
        for (; bucket < LATENCY_BUCKETS; bucket++)
                below += tally->buckets[bucket];
        put_name(name, "_bucket", labels, "+Inf");
        printf("%" PRIu64 "\n", below);
        put_name(name, "_sum", labels, NULL);
        printf("%.6f\n", (double)tally->total_us / 1e6);
        put_name(name, "_count", labels, NULL);
        printf("%" PRIu64 "\n", below);
}

static void put_value(const struct family *family, const struct labels *labels,
                      const json_t *object)
{
        uint64_t value = show_integer(object, family->key);

        put_name(family->name, "", labels, NULL);
        if (family->show == SHOW_ACTIVE)
                printf("%d\n", strcmp(show_string(object, family->key), "active") == 0);
        else if (family->show == SHOW_USEC)
                printf("%.6f\n", (double)value / 1e6);
        else
                printf("%" PRIu64 "\n",
                       family->show == SHOW_PAGES ? value * DMIO_PAGE_SIZE : value);
}

static void put_operations(const struct family *family, struct labels labels,
                           const json_t *operations)
{
        const json_t *operation;
        struct tally tally;
        size_t i;

        json_array_foreach (operations, i, operation) {
                tally_read(&tally, operation);
                labels.operation = show_string(operation, "operation");
                if (family->show == SHOW_HISTOGRAM) {
                        put_histogram(family->name, &labels, &tally);
                        continue;
                }
                put_name(family->name, "", &labels, NULL);
                printf("%" PRIu64 "\n", family->show == SHOW_ERRORS ? tally.errors : tally.bytes);
        }
}

static void put_clients(const struct family *family, const json_t *result)
{
        static const char *const parts[] = {
                [SOURCE_EXPORTS] = "exports",
                [SOURCE_CALLS] = "calls",
                [SOURCE_JOBS] = "jobs",
        };
        const json_t *client;
        size_t i;

        json_array_foreach (json_object_get(result, "clients"), i, client) {
                const json_t *itself = json_object_get(client, "client");
                const struct labels labels = { .client = show_string(itself, "name") };

                if (family->source == SOURCE_CLIENT)
                        put_value(family, &labels, itself);
                else
                        put_operations(family, labels,
                                       json_object_get(client, parts[family->source]));
        }
}

static void put_legs(const struct family *family, struct labels labels, const json_t *export)
{
        const json_t *entry;

        json_array_foreach (json_object_get(export, "legs"), labels.leg, entry) {
                const json_t *leg = json_object_get(entry, "leg");

                labels.device = show_string(json_object_get(leg, "region"), "device");
                if (family->source == SOURCE_LEG)
                        put_value(family, &labels, leg);
                else
                        put_operations(family, labels, json_object_get(entry, "operations"));
        }
}

static void put_exports(const struct family *family, const json_t *result)
{
        const json_t *export;
        size_t i;

        json_array_foreach (json_object_get(result, "exports"), i, export) {
                const struct labels labels = { .client = show_string(export, "client"),
                                               .export = show_string(export, "name") };

                if (family->source == SOURCE_FILES)
                        put_operations(family, labels, json_object_get(export, "operations"));
                else
                        put_legs(family, labels, export);
        }
}

static void put_family(const struct family *family, const json_t *result)
{
        const struct labels none = {};

        printf("# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
               family->type);
        switch (family->source) {
        case SOURCE_DAEMON:
                put_value(family, &none, result);
                break;
        case SOURCE_POOL:
                put_value(family, &none, json_object_get(result, "pool"));
                break;
        case SOURCE_CLIENT:
        case SOURCE_EXPORTS:
        case SOURCE_CALLS:
        case SOURCE_JOBS:
                put_clients(family, result);
                break;
        case SOURCE_LEG:
        case SOURCE_FILES:
        case SOURCE_LEGS:
                put_exports(family, result);
                break;
        }
}

int verb_metrics(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "io.dmiod.Statistics", client_parameters(invocation), &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(families); i++)
                put_family(&families[i], result);
        return STATUS_OK;
}
