/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* export create, remove and list. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"

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

static void show_export(const json_t *export)
{
        uint64_t sectors = show_integer(export, "sectors");
        char size[SHOW_SIZE_MAX];
        const json_t *leg;
        size_t i;

        show_text(stdout, show_string(export, "client"));
        putchar('/');
        show_text(stdout, show_string(export, "name"));
        printf(": %" PRIu64 " sectors (%s), %s, %" PRIu64 " open, at ", sectors,
               show_size(sectors * DMIO_SECTOR_SIZE, size),
               json_is_true(json_object_get(export, "read_only")) ? "read-only" : "writable",
               show_integer(export, "open_count"));
        show_text(stdout, show_string(export, "path"));
        putchar('\n');

        json_array_foreach (json_object_get(export, "legs"), i, leg) {
                const json_t *region = json_object_get(leg, "region");
                const char *error = show_string(leg, "last_error");
                uint64_t errors = show_integer(leg, "errors");

                printf("  leg %zu: ", i);
                show_text(stdout, show_string(region, "device"));
                printf(":%" PRIu64 "+%" PRIu64 ", ", show_integer(region, "sector"),
                       show_integer(region, "count"));
                show_text(stdout, show_string(leg, "state"));
                if (errors > 0)
                        printf(", %" PRIu64 " error%s", errors, errors == 1 ? "" : "s");
                if (*error) {
                        fputs(", last ", stdout);
                        show_text(stdout, error);
                }
                putchar('\n');
        }
}

int verb_export_list(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result, *exports, *export;
        const char *client = invocation->n_args > 0 ? invocation->args[0] : NULL;
        size_t i;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "io.dmiod.ListExports", json_pack("{s:s*}", "client", client),
                         &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;

        exports = json_object_get(result, "exports");
        json_array_foreach (exports, i, export)
                show_export(export);
        if (json_array_size(exports) == 0)
                puts("no exports");
        return STATUS_OK;
}
