/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* call: any method, with parameters in JSON. interface: the text that says which ones there are. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/cleanup.h"

#define INTERFACE "io.dmiod"

/* The second argument; "-" is standard input, none an empty object. */
static int parse_parameters(const struct invocation *invocation, json_t **ret)
{
        const char *text = invocation->n_args > 1 ? invocation->args[1] : "{}";
        json_error_t error;
        json_t *value;

        value = strcmp(text, "-") == 0 ? json_loadf(stdin, JSON_REJECT_DUPLICATES, &error)
                                       : json_loads(text, JSON_REJECT_DUPLICATES, &error);
        if (!value)
                return complain_usage(invocation->verb,
                                      "the parameters are not JSON: %s (line %d, column %d)",
                                      error.text, error.line, error.column);
        if (!json_is_object(value)) {
                json_decref(value);
                return complain_usage(invocation->verb, "the parameters are not a JSON object");
        }
        *ret = value;
        return STATUS_OK;
}

int verb_call(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const char *name = invocation->args[0];
        struct invocation in_json = *invocation;
        DMIO_CLEANUP(freep) char *method = NULL;
        bool more = invocation->given[OPTION_MORE];
        json_t *parameters = NULL;
        const json_t *result;
        int r;

        /* There is no other form to show what only the caller knows. */
        in_json.given[OPTION_JSON] = true;
        request_init(&request, &in_json);
        if (asprintf(&method, "%s%s", strchr(name, '.') ? "" : INTERFACE ".", name) < 0) {
                method = NULL;
                return complain_memory();
        }
        r = parse_parameters(invocation, &parameters);
        for (unsigned int i = 2; r == STATUS_OK && i < invocation->n_args; i++)
                r = devices_open(&request.devices, invocation->args[i]);
        if (r != STATUS_OK) {
                json_decref(parameters);
                return r;
        }

        r = request_send(&request, method, parameters, more);
        do {
                if (r == STATUS_OK)
                        r = request_receive(&request, &result, &more);
                if (show_flush() < 0)
                        return STATUS_REFUSED;
        } while (r == STATUS_OK && more);
        return r;
}

int verb_interface(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const char *name = invocation->n_args > 0 ? invocation->args[0] : INTERFACE;
        const json_t *result;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "org.varlink.service.GetInterfaceDescription",
                         json_pack("{s:s}", "interface", name), &result);
        if (r == STATUS_OK && !invocation->given[OPTION_JSON])
                fputs(show_string(result, "description"), stdout);
        return r;
}
