/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "model/quota.h"
#include "model/request.h"

int request_new(struct client *client, struct request **ret, struct model_refusal *refusal)
{
        struct model *model = client->model;
        struct request *request;
        int r;

        if (!client_takes_work(client))
                return MODEL_E_CLOSING;
        r = quota_charge_or_refuse(model, client->uid, QUOTA_REQUESTS, 1, refusal);
        if (r != MODEL_OK)
                return r;
        request = calloc(1, sizeof(*request));
        if (!request) {
                quota_release(model, client->uid, QUOTA_REQUESTS, 1);
                return -ENOMEM;
        }
        request->client = client;
        request->id = ++model->last_request;
        list_append(&client->requests, &request->link);
        *ret = request;
        return MODEL_OK;
}

void request_complete(struct request *request, json_t *result)
{
        struct client *client = request->client;
        struct request_wait *wait, *after;

        request->result = result;
        /* Whoever takes it may be the end of other waits, so there is no going on after that. */
        list_for_each_safe (wait, after, &client->waits, link)
                if (wait->completed(wait, request))
                        return;
}

json_t *request_take(struct request *request)
{
        struct client *client = request->client;
        struct request_wait *wait, *after;
        json_t *result = request->result;

        assert(result);
        list_unlink(&request->link);
        list_for_each_safe (wait, after, &client->waits, link)
                wait->taken(wait, request);
        quota_release(client->model, client->uid, QUOTA_REQUESTS, 1);
        free(request);
        return result;
}

struct request *request_find(struct client *client, uint64_t id)
{
        struct request *request;

        list_for_each (request, &client->requests, link)
                if (request->id == id)
                        return request;
        return NULL;
}

void requests_forget(struct client *client)
{
        struct request *request;

        while ((request = list_first(&client->requests, struct request, link)) != NULL)
                json_decref(request_take(request));
}
