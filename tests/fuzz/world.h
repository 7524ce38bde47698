/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A daemon without a mount and a socket file, for targets: an engine with the back-end "memory", a
 * model, a main loop. Made once in a process. Two disks may be named by the user WORLD_UID; they
 * are files in memory, and what is written to them goes to RAM disks in their place.
 */

#include <systemd/sd-event.h>

#include "config.h"
#include "loop.h"
#include "model/client.h"
#include "model/export.h"
#include "worker.h"

#define WORLD_UID 54321
#define WORLD_SECTORS 2048
#define WORLD_DISKS 2

struct world {
        struct config config;
        struct device_grant grants[WORLD_DISKS]; /* "disk0", "disk1" */
        uid_t users[1];
        char paths[WORLD_DISKS][32];
        int disk_fds[WORLD_DISKS];
        sd_event *event;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct loop *loop;
        struct worker *worker;
        struct model model;
};

struct world *world_get(void);

/* One turn of the main loop, of at most @usec. True if there was something to do. */
bool world_run(struct world *world, uint64_t usec);

/* End every client, and wait for it. Nothing must be left then. */
void world_end_clients(struct world *world);
