/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <stdlib.h>

#include "control/call.h"
#include "control/dispatch.h"
#include "control/errors.h"
#include "control/fields.h"
#include "control/varlink.h"
#include "model/quota.h"
#include "util/cleanup.h"
#include "util/list.h"

static void close_descriptors(struct worker_job *job)
{
        descriptors_close(&container_of(job, struct call, job)->descriptors);
}

static void descriptors_closed(struct worker_job *job)
{
        struct call *call = container_of(job, struct call, job);

        call->answered(call, DMIO_TAKE(call->answer));
}

uid_t call_worker_uid(const struct call *call)
{
        return call->peer->privileged ? 0 : call->peer->uid;
}

void call_answer(struct call *call, json_t *answer)
{
        assert(answer);

        if (call->method && call->arguments)
                fields_clear(call->method->fields, call->arguments, call->method->size);
        free(call->arguments);
        call->arguments = NULL;
        quota_release(call->model, call->peer->uid, QUOTA_BUFFERS, call->n_bytes);
        call->n_bytes = 0;
        call->method = NULL;

        if (call->descriptors.n == 0) {
                call->answered(call, answer);
                return;
        }
        /* close(2) asks whoever serves the file, who may take his time. */
        call->answer = answer;
        call->job = (struct worker_job){ .run = close_descriptors,
                                         .done = descriptors_closed,
                                         .uid = call_worker_uid(call) };
        worker_submit(call->model->worker, &call->job);
}

void call_reply(struct call *call, json_t *parameters)
{
        call_answer(call, varlink_reply(parameters));
}

void call_continue(struct call *call, json_t *parameters)
{
        json_t *answer = varlink_reply(parameters);

        if (json_is_object(answer))
                (void)json_object_set_new(answer, "continues", json_true());
        call->continued(call, answer);
}

json_t *call_find_client(const struct call *call, const char *name, struct client **ret)
{
        struct client *client = model_find_client(call->model, name);

        if (!client || !client_is_visible(client, call->peer))
                return error_no_such_client(name);
        *ret = client;
        return NULL;
}
