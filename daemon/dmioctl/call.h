/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A connection to the control socket, and one call at a time on it. Messages are JSON objects that
 * end with a NUL byte; descriptors travel with the first byte of a message.
 */

#include <stdbool.h>

#include <jansson.h>

#include "util/cleanup.h"

#define CONTROL_MAX_DESCRIPTORS 64

struct control;

/* Returns 0 or the negative errno of connect(2); -ENAMETOOLONG if @path does not fit an address. */
int control_connect(const char *path, struct control **ret);

/* The same; it and whatever else waits fails with -EAGAIN after @limit_msec, unless that is 0. */
int control_connect_within(const char *path, unsigned int limit_msec, struct control **ret);

struct control *control_free(struct control *control);

DMIO_DEFINE_CLEANUP(struct control, control_free)

/* To poll for the end of the connection; nothing comes between calls. */
int control_get_fd(const struct control *control);

/*
 * Call @method with @parameters (NULL for none). With @more the daemon may reply several times.
 * Returns 0, also if the daemon hangs up half way, as it does when it refuses what comes: the reply
 * tells; or a negative errno.
 */
int control_send(struct control *control, const char *method, json_t *parameters, bool more,
                 const int *fds, unsigned int n_fds);

/*
 * Wait for a reply, an object with "parameters" or "error". Returns 0; -ECONNRESET if the
 * connection ended before it; -EBADMSG if what came is no reply; or another negative errno.
 */
int control_receive(struct control *control, json_t **ret);

/* True if one has come in full: control_receive() would not wait. */
bool control_has_reply(const struct control *control);

/* The two of them, for one reply. */
int control_call(struct control *control, const char *method, json_t *parameters, const int *fds,
                 unsigned int n_fds, json_t **ret);
