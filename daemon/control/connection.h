/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A connection: one peer, one call at a time. Its states:
 *
 *   READING     waits for a message, or for the rest of one
 *   CALLING     a call is in progress; nothing is read
 *   WRITING     nothing is read until the peer has taken more of its answers
 *   DISCARDING  told why we part, waiting for the peer to have read it
 *   ENDED       closed; waits only for a call in progress
 *
 * Answers go out in order, whenever the peer takes them. So that calls can be sent ahead of reading
 * the answers, the next one is taken while some answers wait; no more than CONNECTION_UNSENT_MAX
 * and one answer. So a peer that sends without reading is held up by itself, and no other. Clients
 * that belong to the connection end with it. Main loop only.
 *
 * A call that listens (call.h) sends only when there is room, so that nothing piles up here; its
 * peer may take as long as it likes, and is watched for having hung up, since nothing else would
 * end the call.
 */

#include <stdbool.h>

#include "control/call.h"
#include "control/share.h"
#include "peer.h"
#include "util/list.h"

/* Bytes of answers that may wait to be sent while another call is taken. */
#define CONNECTION_UNSENT_MAX ((size_t)1024 * 1024)

struct server;

enum connection_state {
        CONNECTION_READING,
        CONNECTION_CALLING,
        CONNECTION_WRITING,
        CONNECTION_DISCARDING,
        CONNECTION_ENDED,
};

struct connection {
        struct list link;      /* server.connections */
        struct server *server; /* NULL once it has ended */
        struct peer peer;
        struct stream stream;
        enum connection_state state;
        bool stopping;    /* takes no more calls */
        bool parting;     /* ends after the answer */
        bool large;       /* its message or its answer is */
        bool dispatching; /* a call is being started: not yet to be freed */
        char terminator;  /* of its first message; what ends its answers */
        bool terminator_known;
        uint64_t n_bytes;       /* charged for the stream (QUOTA_BUFFERS) */
        uint64_t n_descriptors; /* charged for the stream or the call (QUOTA_DESCRIPTORS) */
        sd_event_source *source;
        struct share share;
        sd_event_source *timer; /* of a peer that does not read */
        struct call call;
};

/* Takes over @fd and @peer, whose connection has been charged. Returns 0 or a negative errno, with
 * nothing taken. */
int connection_new(struct server *server, int fd, struct peer *peer, uint64_t id,
                   struct connection **ret);

/* Close it and end its clients; a call in progress goes on, its answer is thrown away. */
void connection_end(struct connection *connection);

/* Take no more calls, and give the peer a short time to take its answer. May end the connection. */
void connection_stop(struct connection *connection);

/* True if an answer is to come or to be sent. */
bool connection_is_busy(const struct connection *connection);
