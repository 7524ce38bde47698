/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* export create, remove and list. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/macros.h"

int verb_export_create(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        bool read_only = invocation->given[OPTION_READ_ONLY];
        const char *cache = invocation->values[OPTION_CACHE];
        DMIO_CLEANUP(freep) char *client = NULL;
        const char *name = NULL, *path;
        const json_t *result;
        json_t *regions;
        int r;

        request_init(&request, invocation);
        r = parse_export_name(invocation, invocation->args[0], &client, &name);
        if (r != STATUS_OK)
                return r;
        if (cache && strcmp(cache, "page") != 0 && strcmp(cache, "none") != 0)
                return complain_usage(invocation->verb, "--cache is 'page' or 'none', not '%s'",
                                      cache);
        r = request_parse_legs(&request, 1);
        if (r != STATUS_OK)
                return r;

        r = request_connect(&request);
        if (r != STATUS_OK)
                return r;
        r = request_regions(&request, 0, request.n_legs, read_only, &regions);
        if (r != STATUS_OK)
                return r;
        r = request_call(&request, "io.dmiod.CreateExport",
                         json_pack("{s:s, s:s, s:o, s:b, s:b, s:s*}", "client", client, "name",
                                   name, "regions", regions, "read_only", read_only, "shared",
                                   invocation->given[OPTION_SHARED], "cache", cache),
                         &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;

        /* Only the path, so that a script can use it. */
        path = show_string(json_object_get(result, "export"), "path");
        show_text(stdout, *path ? path : invocation->args[0]);
        putchar('\n');
        return STATUS_OK;
}

int verb_export_remove(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        DMIO_CLEANUP(freep) char *client = NULL;
        const json_t *result;
        const char *name = NULL;
        int r;

        request_init(&request, invocation);
        r = parse_export_name(invocation, invocation->args[0], &client, &name);
        if (r != STATUS_OK)
                return r;
        r = request_call(&request, "io.dmiod.RemoveExport",
                         json_pack("{s:s, s:s, s:b}", "client", client, "name", name, "force",
                                   invocation->given[OPTION_FORCE]),
                         &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;
        printf("%s/%s: removed\n", client, name);
        return STATUS_OK;
}

/* A row of the table for each leg, so that each line stands alone. */
static void add_legs(json_t *rows, const json_t *export)
{
        const char *access = json_is_true(json_object_get(export, "read_only")) ? "ro" : "rw";
        uint64_t bytes = show_integer(export, "sectors") * DMIO_SECTOR_SIZE;
        char size[SHOW_SIZE_MAX];
        const json_t *leg;
        size_t i;

        show_size(bytes, size);
        json_array_foreach (json_object_get(export, "legs"), i, leg) {
                const json_t *region = json_object_get(leg, "region");

                json_array_append_new(
                        rows,
                        json_pack("[o, s, s, o, o, o, s, o, s]",
                                  json_sprintf("%s/%s", show_string(export, "client"),
                                               show_string(export, "name")),
                                  size, access,
                                  json_sprintf("%" PRIu64, show_integer(export, "open_count")),
                                  json_sprintf("%zu", i),
                                  json_sprintf("%s:%" PRIu64 "+%" PRIu64,
                                               show_string(region, "device"),
                                               show_integer(region, "sector"),
                                               show_integer(region, "count")),
                                  show_string(leg, "state"),
                                  json_sprintf("%" PRIu64, show_integer(leg, "errors")),
                                  show_string(leg, "last_error")));
        }
}

int verb_export_list(const struct invocation *invocation)
{
        static const char *const heads[] = {
                "EXPORT", ">SIZE", "ACCESS",  ">OPEN",      ">LEG",
                "REGION", "STATE", ">ERRORS", "LAST-ERROR",
        };
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result, *export;
        const char *client = invocation->n_args > 0 ? invocation->args[0] : NULL;
        json_t *rows;
        size_t i;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "io.dmiod.ListExports", json_pack("{s:s*}", "client", client),
                         &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;

        rows = json_array();
        json_array_foreach (json_object_get(result, "exports"), i, export)
                add_legs(rows, export);
        return show_list(heads, ARRAY_SIZE(heads), rows, "no exports");
}
