/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdlib.h>

#include "control/errors.h"
#include "control/lasting.h"
#include "model/export.h"
#include "util/cleanup.h"

static void lasting_written(struct commit *commit, int error)
{
        struct lasting *lasting = container_of(commit, struct lasting, commit);

        lasting->then(lasting, error);
}

json_t *lasting_new(struct call *call, struct client *client, struct export *export,
                    void (*then)(struct lasting *lasting, int error), struct lasting **ret)
{
        struct lasting *lasting;

        if (client_begin_call(client) != MODEL_OK)
                return error_no_such_client(client->name);
        lasting = malloc(sizeof(*lasting));
        if (!lasting) {
                client_end_call(client);
                return ERROR_NO_MEMORY;
        }
        *lasting = (struct lasting){
                .commit.done = lasting_written,
                .call = call,
                .client = client,
                .export = export ? export_ref(export) : NULL,
                .then = then,
        };
        *ret = lasting;
        return NULL;
}

void lasting_commit(struct lasting *lasting)
{
        commit_begin(lasting->client->model, &lasting->commit);
}

void lasting_let_go(struct lasting *lasting)
{
        client_end_call(DMIO_TAKE(lasting->client));
}

void lasting_end(struct lasting *lasting)
{
        struct client *client = lasting->client;

        export_unref(lasting->export);
        free(lasting);
        if (client)
                client_end_call(client);
}
