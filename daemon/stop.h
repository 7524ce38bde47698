/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The clean stop: one step after the other, each on the main loop, none of which blocks.
 *
 *   calls     no more connections and calls; those in progress answer
 *   mount     no more requests are taken from the mount; those in flight finish
 *   flush     every device that exports have written to
 *   state     what is to last is written: the legs that failed, and the clients that linger
 *   clients   exports go, pages are put, clients are gone
 *
 * Then the main loop ends with status 0, and what is left is to free everything.
 *
 * Calls and requests that do not end, because a device hangs, must not keep us from the flush of
 * the others: these steps have a limit of their own, after which the stop goes on without them
 * and will end with status 1. A limit of time rules it all: when it has passed, or somebody is
 * impatient, what was not finished is logged, the mount is detached, and the process ends with
 * status 1. A mount that is kept for the next process (mount_is_kept()) is not detached.
 */

#include <systemd/sd-event.h>

#include "control/server.h"
#include "model/model.h"
#include "mount/mount.h"

struct stop;

/* Begin. Returns 0 or a negative errno. */
int stop_new(sd_event *event, struct model *model, struct server *server, struct mount *mount,
             struct stop **ret);

/* Returns NULL. */
struct stop *stop_free(struct stop *stop);

/* Do not wait for anything any more. */
void stop_now(struct stop *stop) __attribute__((__noreturn__));

/* From here on the limit holds without the main loop, too: for the freeing that may block. */
void stop_guard(const struct stop *stop, const struct config *config, const struct mount *mount);
