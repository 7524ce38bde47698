/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A queue of the engine as a source of the main loop: its callbacks run between the loop's other
 * work. Before the loop sleeps, the queue is given its turn in any case, so what was submitted or
 * posted from other sources goes out at once.
 */

#include <systemd/sd-event.h>

#include <dmio/engine.h>

struct loop;

/* @queue belongs to the calling thread, the one that runs @event. Returns 0 or a negative errno. */
int loop_new(sd_event *event, struct dmio_queue *queue, struct loop **ret);

/* Returns NULL. The queue stays the caller's. */
struct loop *loop_free(struct loop *loop);

/* Run callbacks until there is nothing more to do, without waiting for anything: at the end. */
void loop_finish(struct dmio_queue *queue);
