/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * copy, zero, job list, job cancel.
 *
 * A daemon may not offer these; it says so itself, and errors.c puts that into words. What one that
 * does offer them answers is shown as it comes.
 */

#include <stdio.h>
#include <string.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"

static int call(struct request *request, const char *method, json_t *parameters)
{
        const json_t *result;
        int r;

        r = request_call(request, method, parameters, &result);
        if (r == STATUS_OK && !request->invocation->given[OPTION_JSON])
                show_json(result);
        return r;
}

int verb_copy(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        json_t *source = NULL, *destinations = NULL;
        int r;

        request_init(&request, invocation);
        r = request_parse_legs(&request, 1);
        if (r == STATUS_OK)
                r = request_connect(&request);
        /* Destinations first: a source on the same device then shares a writable descriptor. */
        if (r == STATUS_OK)
                r = request_regions(&request, 1, request.n_legs - 1, false, &destinations);
        if (r == STATUS_OK)
                r = request_regions(&request, 0, 1, true, &source);
        if (r == STATUS_OK)
                r = call(&request, "io.dmiod.Copy",
                         json_pack("{s:s, s:O, s:O}", "client", invocation->args[0], "source",
                                   json_array_get(source, 0), "destinations", destinations));
        json_decref(source);
        json_decref(destinations);
        return r;
}

int verb_zero(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        json_t *destinations;
        int r;

        request_init(&request, invocation);
        r = request_parse_legs(&request, 1);
        if (r == STATUS_OK)
                r = request_connect(&request);
        if (r == STATUS_OK)
                r = request_regions(&request, 0, request.n_legs, false, &destinations);
        if (r == STATUS_OK)
                r = call(&request, "io.dmiod.Zero",
                         json_pack("{s:s, s:o}", "client", invocation->args[0], "destinations",
                                   destinations));
        return r;
}

int verb_job_list(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;

        request_init(&request, invocation);
        return call(&request, "io.dmiod.ListJobs", json_object());
}

int verb_job_cancel(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const char *text = invocation->args[0];
        uint64_t job;

        request_init(&request, invocation);
        if (text[strspn(text, "0123456789")] || size_parse(text, 1, &job) != LEG_OK)
                return complain_usage(invocation->verb, "'%s' is not the number of a job", text);
        return call(&request, "io.dmiod.CancelJob", json_pack("{s:I}", "job", (json_int_t)job));
}
