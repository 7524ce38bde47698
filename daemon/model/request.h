/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Submitted requests of a client, from their beginning until their result has been fetched, and who
 * waits for them. Each result goes to one who waits, or is kept; what is kept goes with the client.
 * Main loop only.
 */

#include <jansson.h>

#include "model/client.h"

struct request {
        struct list link; /* client.requests, in the order of their beginning */
        struct client *client;
        uint64_t id;
        json_t *result; /* NULL while it is in flight */
};

/* Somebody who waits. Each function may end the wait, but no other. */
struct request_wait {
        struct list link; /* client.waits */
        /* A result has come: take it (request_take()) and return true, or false. */
        bool (*completed)(struct request_wait *wait, struct request *request);
        /* A request is there no more: its result has been taken, perhaps by this wait itself. */
        void (*taken)(struct request_wait *wait, const struct request *request);
};

/* Returns MODEL_OK, MODEL_E_CLOSING, MODEL_E_LIMIT ("requests") or -ENOMEM. */
int request_new(struct client *client, struct request **ret, struct model_refusal *refusal);

/* It is over; @result is taken. */
void request_complete(struct request *request, json_t *result);

/* Hand the result over. The request is gone. */
json_t *request_take(struct request *request);

/* The request of that number, or NULL. */
struct request *request_find(struct client *client, uint64_t id);

/* Drop all that is kept; nothing is in flight. */
void requests_forget(struct client *client);
