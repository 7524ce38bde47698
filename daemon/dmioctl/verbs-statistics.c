/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* statistics: what has been done, and how long it took. */

#include <inttypes.h>
#include <stdio.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "dmioctl/tally.h"
#include "util/macros.h"

/* A row for each of the operations of one part of something. */
static int append_rows(json_t *rows, const char *name, const char *part, const json_t *operations)
{
        char bytes[SHOW_SIZE_MAX], mean[SHOW_SIZE_MAX], p50[SHOW_SIZE_MAX], p99[SHOW_SIZE_MAX];
        const json_t *operation;
        struct tally tally;
        json_t *row;
        size_t i;

        json_array_foreach (operations, i, operation) {
                tally_read(&tally, operation);
                if (tally.count == 0)
                        continue;
                row = json_pack(
                        "[s, s, s, o, o, s, s, s, s]", name, part,
                        show_string(operation, "operation"), json_sprintf("%" PRIu64, tally.count),
                        json_sprintf("%" PRIu64, tally.errors), show_size(tally.bytes, bytes),
                        show_time(tally.total_us / tally.count, mean),
                        show_time(tally_percentile(&tally, 0.5), p50),
                        show_time(tally_percentile(&tally, 0.99), p99));
                if (json_array_append_new(rows, row) < 0)
                        return -1;
        }
        return 0;
}

static int append_client(json_t *rows, const json_t *client)
{
        const char *name = show_string(json_object_get(client, "client"), "name");

        if (append_rows(rows, name, "exports", json_object_get(client, "exports")) < 0 ||
            append_rows(rows, name, "calls", json_object_get(client, "calls")) < 0)
                return -1;
        return append_rows(rows, name, "jobs", json_object_get(client, "jobs"));
}

static int append_export(json_t *rows, const json_t *export)
{
        DMIO_CLEANUP(freep) char *name = NULL;
        char part[32];
        const json_t *leg;
        size_t i;

        if (asprintf(&name, "%s/%s", show_string(export, "client"), show_string(export, "name")) <
            0) {
                name = NULL;
                return -1;
        }
        if (append_rows(rows, name, "file", json_object_get(export, "operations")) < 0)
                return -1;
        json_array_foreach (json_object_get(export, "legs"), i, leg) {
                snprintf(part, sizeof(part), "leg %zu", i);
                if (append_rows(rows, name, part, json_object_get(leg, "operations")) < 0)
                        return -1;
        }
        return 0;
}

static int fill_rows(json_t *rows, const json_t *result)
{
        const json_t *item;
        size_t i;

        json_array_foreach (json_object_get(result, "clients"), i, item)
                if (append_client(rows, item) < 0)
                        return -1;
        json_array_foreach (json_object_get(result, "exports"), i, item)
                if (append_export(rows, item) < 0)
                        return -1;
        return 0;
}

int verb_statistics(const struct invocation *invocation)
{
        static const char *const heads[] = { "NAME",   "PART",  "OPERATION", ">COUNT", ">ERRORS",
                                             ">BYTES", ">MEAN", ">P50",      ">P99" };
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result;
        json_t *rows;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "io.dmiod.Statistics", client_parameters(invocation), &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;

        rows = json_array();
        if (fill_rows(rows, result) < 0) {
                complain("out of memory");
                r = STATUS_REFUSED;
        } else if (json_array_size(rows) > 0) {
                show_table(heads, ARRAY_SIZE(heads), rows);
        } else {
                puts("nothing has been done yet");
        }
        json_decref(rows);
        return r;
}
