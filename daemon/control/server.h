/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The control socket: listens, accepts, and owns the connections (connection.h). Main loop only.
 */

#include <systemd/sd-event.h>

#include "config.h"
#include "model/model.h"

struct descriptor_store;
struct server;

/*
 * Serve on @listen_fd, a listening Unix stream socket that is taken over (from the service
 * manager), or, if that is negative, on a new socket at config->control. A socket file that nobody
 * listens on any more is replaced; one that somebody serves is -EADDRINUSE. Returns 0, or a
 * negative errno after logging what failed.
 */
int server_new(struct model *model, sd_event *event, int listen_fd, struct server **ret);

/*
 * Accept no more connections, take no more calls, let the calls in progress answer; then call
 * @drained once from the main loop, never inside this call.
 */
void server_drain(struct server *server, void (*drained)(void *userdata), void *userdata);

/* Log the calls that server_drain() waits for. */
void server_log_busy(const struct server *server);

/*
 * Have the socket kept in @store, if it is our own: who connects while there is no daemon waits for
 * the next one. It is left where it is at the end.
 */
void server_keep(struct server *server, const struct descriptor_store *store);

/* Close every connection and the socket (and remove its file, if server_new() made it). NULL. */
struct server *server_free(struct server *server);
