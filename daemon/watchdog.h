/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Tells the service manager that we are alive, if it wants to know ($WATCHDOG_USEC): four times
 * within the time that it allows.
 *
 * Alive is not what has not ended but what gets round: the main loop, whose timer this is, and the
 * threads of the queues that are watched. Each of them is posted a task, and only when all have run
 * theirs the next ping goes out. A request that waits for a slow or hung device keeps no thread
 * from that, so it gets nobody killed; a thread that is stuck in a system call or in a loop does.
 *
 * Main loop only. Queues are added before the loop runs, and outlive what is posted to them.
 */

#include <systemd/sd-event.h>

#include <dmio/engine.h>

struct watchdog;

/* Returns 0 or a negative errno. *@ret is NULL if nobody wants to know. */
int watchdog_new(sd_event *event, struct watchdog **ret);

/* Watch the thread that drives @queue. @watchdog may be NULL. Returns 0 or -ENOMEM. */
int watchdog_add(struct watchdog *watchdog, struct dmio_queue *queue);

/* When what was posted has run: after the threads have ended. Returns NULL. */
struct watchdog *watchdog_free(struct watchdog *watchdog);
