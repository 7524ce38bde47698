/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the two files of a connection share: connection.c has its life and its answers, and
 * connection-message.c what comes in. */

#include <stdint.h>

#include "control/connection.h"

/* connection-message.c: read what there is, and begin the call. May end and free the connection. */
void connection_read(struct connection *connection);

/* A message has come, as far as anything has: begin the call that it will be. */
struct call *connection_begin_call(struct connection *connection);

/* No call is in progress: on to the next message, or to the end. */
void connection_go_on(struct connection *connection);

/* Watch for what can be done something about, and for nothing else: a peer that has hung up is
 * always an event. */
void connection_watch(struct connection *connection);

/* Charge what it holds of its user's share, in bytes or descriptors. As quota_charge(). */
int connection_charge_bytes(struct connection *connection, uint64_t *ret_limit);
int connection_charge_descriptors(struct connection *connection, uint64_t n, uint64_t *ret_limit);

/* Nothing more, or less: that cannot fail. */
void connection_charge_less(struct connection *connection);

/* Free it if it has ended and no call needs it any more. */
void connection_free_if_over(struct connection *connection);
