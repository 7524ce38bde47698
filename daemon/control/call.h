/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A call in progress: what was asked, by whom, and the one answer that it gets, now or later. A
 * connection has one at a time (connection.h). Main loop only.
 *
 * A call with more may have answers before that one (call_continue()). One that goes on until
 * somebody ends it sets a listener, so that it hears when that is.
 *
 * The answer goes out after everything that the call held is given back; whoever has the answer
 * finds no traces of the call.
 */

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "control/stream.h"
#include "model/client.h"
#include "worker.h"

struct method;
struct call;

struct call_listener {
        /* All that was answered so far has been sent: call->has_room is true again. */
        void (*room)(struct call *call);
        /* The connection has ended, perhaps in call_continue(); call_answer() is due, and may be
         * called at once. */
        void (*abandon)(struct call *call);
        /* The daemon stops: call_answer() now. NULL for what ends by itself then. */
        void (*stop)(struct call *call);
};

struct call {
        struct model *model;
        const struct peer *peer;
        uint64_t connection; /* its number, for clients that end with it */
        const struct method *method;
        void *arguments;  /* the struct that the method's table fills */
        uint64_t n_bytes; /* charged to the peer for them (QUOTA_BUFFERS) */
        const struct call_listener *listener;
        void *listener_data;
        struct descriptors descriptors;
        bool more;
        bool oneway;
        bool abandoned; /* its connection has ended */
        /* Set by a method that may last: see at once when the peer has closed the connection, which
         * then ends. Calls that were sent behind this one are lost. */
        bool watch_peer;

        /* Called once, with the answer, which is taken. Later than call_answer() if descriptors
         * have to be closed first. */
        void (*answered)(struct call *call, json_t *answer);

        /* The same for the answers before it. */
        void (*continued)(struct call *call, json_t *answer);
        bool has_room; /* nothing waits to be sent; kept by the connection */

        json_t *answer; /* private, as is what follows */
        struct worker_job job;
};

/* For whom its jobs run (worker.h). */
uid_t call_worker_uid(const struct call *call);

/* The end of @call, with an answer that is taken: varlink_reply() or an error. */
void call_answer(struct call *call, json_t *answer);

/* The same for the parameters of a reply, which are taken; NULL if there was no memory for them. */
void call_reply(struct call *call, json_t *parameters);

/* The parameters of one of several replies, but not the last, which are taken: only with
 * call->more. This may end the connection. */
void call_continue(struct call *call, json_t *parameters);

/* The client of that name, if the peer may use it. Returns NULL or an error. */
json_t *call_find_client(const struct call *call, const char *name, struct client **ret);
