/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * wait: what became of submitted requests, a line each, as they complete.
 *
 * Which regions a request had is not known on this side any more; those that failed have numbers.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/cleanup.h"

/* The ids on the command line, or NULL in *@ret for all that are outstanding. */
static int parse_ids(const struct invocation *invocation, json_t **ret)
{
        json_t *ids = invocation->n_args > 1 ? json_array() : NULL;
        uint64_t id;

        for (unsigned int i = 1; i < invocation->n_args; i++) {
                const char *text = invocation->args[i];

                if (text[strspn(text, "0123456789")] || size_parse(text, 1, &id) != LEG_OK) {
                        json_decref(ids);
                        return complain_usage(invocation->verb, "'%s' is not the id of a request",
                                              text);
                }
                json_array_append_new(ids, json_integer((json_int_t)id));
        }
        *ret = ids;
        return STATUS_OK;
}

/* "3: done", with what a read without a file has read; "4: region 1 failed: EIO at sector 8; ..."
 */
static int show_result(const struct invocation *invocation, const json_t *result)
{
        const json_t *errors = json_object_get(result, "errors"), *error;
        uint64_t id = show_integer(result, "id");
        DMIO_CLEANUP(freep) char *text = NULL;
        size_t length, i;
        FILE *stream;

        if (strcmp(show_string(result, "error_bits"), "0x0") == 0) {
                if (!invocation->given[OPTION_JSON])
                        printf("%" PRIu64 ": done%s%s\n", id,
                               json_object_get(result, "data") ? ", in base64: " : "",
                               show_string(result, "data"));
                return STATUS_OK;
        }
        stream = open_memstream(&text, &length);
        if (!stream)
                return complain_memory();
        fprintf(stream, "request %" PRIu64, id);
        json_array_foreach (errors, i, error) {
                const json_t *sector = json_object_get(error, "sector");

                fprintf(stream, "%s region %" PRIu64 " failed: %s", i > 0 ? ";" : ":",
                        show_integer(error, "region"), show_string(error, "errno"));
                if (json_is_integer(sector))
                        fprintf(stream, " at sector %" PRIu64,
                                (uint64_t)json_integer_value(sector));
        }
        fputs("; see to these devices, then submit it again for their regions", stream);
        if (fclose(stream) != 0)
                return complain_memory();
        complain("%s", text);
        return STATUS_PARTLY;
}

int verb_wait(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        int worst = STATUS_OK, r;
        const json_t *result;
        json_t *ids = NULL;
        bool more = true;

        request_init(&request, invocation);
        r = parse_ids(invocation, &ids);
        if (r != STATUS_OK)
                return r;
        r = request_send(&request, "io.dmiod.WaitIo",
                         json_pack("{s:s, s:o*}", "client", invocation->args[0], "ids", ids), true);
        while (r == STATUS_OK && more) {
                r = request_receive(&request, &result, &more);
                if (r != STATUS_OK)
                        return r;
                if (show_result(invocation, result) != STATUS_OK)
                        worst = STATUS_PARTLY;
                /* What is not asked for stays to be fetched by another. */
                if (show_flush() < 0)
                        return STATUS_REFUSED;
        }
        return r == STATUS_OK ? worst : r;
}
