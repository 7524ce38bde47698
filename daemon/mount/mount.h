/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The FUSE mount and the threads that serve it.
 *
 * Each queue thread owns one queue of the engine and one descriptor of /dev/fuse; requests, device
 * I/O and replies all pass through that queue (see queue-thread.h). The functions here belong to
 * the main loop.
 */

#include <stdbool.h>

#include "config.h"
#include "model/model.h"
#include "watchdog.h"

struct descriptor_store;
struct mount;

/* How many queue threads a mount with this configuration wants; some may not start. */
unsigned int mount_n_threads(const struct config *config);

/*
 * Mount at config->mount (made if it is not there) and start the queue threads. Returns 0, or a
 * negative errno after logging what failed. Sets model->mount, model->own_io and model->transport.
 *
 * If @store has a mount that is kept for us it is gone on with (resume.h), and stays where it is at
 * the end; one that is made here is kept in @store, if that is there. @store must last.
 */
int mount_new(struct model *model, const struct config *config, struct descriptor_store *store,
              struct mount **ret);

/* True if the mount outlasts the process. */
bool mount_is_kept(const struct mount *mount);
/* Have the threads watched: before the main loop runs. Returns 0 or -ENOMEM. */
int mount_watch(struct mount *mount, struct watchdog *watchdog);

/*
 * Take no more requests and let those in flight finish; then call @drained once on the main loop,
 * never inside this call. Requests that come afterwards stay in the kernel until mount_free().
 */
void mount_drain(struct mount *mount, void (*drained)(void *userdata), void *userdata);

/*
 * Unmount, end the threads, free. What is still in flight is waited for, so not from a callback of
 * the engine; exports are given back through model->queue, which must still be driven afterwards.
 * Returns NULL.
 */
struct mount *mount_free(struct mount *mount);
