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
struct control *control_free(struct control *control);

DMIO_DEFINE_CLEANUP(struct control, control_free)

/* To poll: for replies, or for the end of the connection; nothing else comes between calls. */
int control_get_fd(const struct control *control);

/*
 * Call @method with @parameters (NULL for none) and wait for the reply, an object with "parameters"
 * or "error". Returns 0; -ECONNRESET if the connection ended before the reply; -EBADMSG if what
 * came is no reply; or another negative errno.
 */
int control_call(struct control *control, const char *method, json_t *parameters, const int *fds,
                 unsigned int n_fds, json_t **ret);

/*
 * A call that is answered many times, whenever something happens: send it; whenever the descriptor
 * is readable receive, which waits otherwise; then take all replies that are complete. Errors as
 * above, those of a reply in *@ret_error.
 */
int control_call_more(struct control *control, const char *method);
int control_receive_some(struct control *control);
bool control_take(struct control *control, json_t **ret, int *ret_error);
