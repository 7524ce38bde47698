/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdlib.h>

#include "control/lasting.h"
#include "model/export.h"
#include "util/cleanup.h"

static void lasting_written(struct commit *commit, int error)
{
        struct lasting *lasting = container_of(commit, struct lasting, commit);

        lasting->then(lasting, error);
}

struct lasting *lasting_new(struct call *call, struct client *client, struct export *export,
                            void (*then)(struct lasting *lasting, int error))
{
        struct lasting *lasting = calloc(1, sizeof(*lasting));

        if (!lasting || client_begin_call(client) != MODEL_OK) {
                free(lasting);
                return NULL;
        }
        *lasting = (struct lasting){
                .commit.done = lasting_written,
                .call = call,
                .client = client,
                .export = export ? export_ref(export) : NULL,
                .then = then,
        };
        return lasting;
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
