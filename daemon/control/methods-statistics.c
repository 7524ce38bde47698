/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What has been counted (model/statistics.h). */

#include "control/call.h"
#include "control/methods.h"
#include "model/describe.h"

const struct field statistics_fields[] = {
        FIELD(struct statistics_arguments, client, FIELD_STRING),
        FIELD_END,
};

void method_statistics(struct call *call)
{
        const struct statistics_arguments *arguments = call->arguments;
        struct client *client = NULL;
        json_t *error = NULL;

        if (arguments->client)
                error = call_find_client(call, arguments->client, &client);
        if (error)
                call_answer(call, error);
        else
                call_reply(call, describe_statistics(call->model, client, call->peer));
}
