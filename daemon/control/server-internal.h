/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The server as its connections see it. */

#include <sys/stat.h>

#include "control/server.h"
#include "peer.h"
#include "util/list.h"

struct connection;

struct server {
        struct model *model;
        sd_event *event;
        int fd;
        char *path; /* of the socket file that we made; NULL otherwise */
        struct stat path_stat;
        sd_event_source *accept_source;
        sd_event_source *retry_timer; /* after accept(2) found no descriptor to be had */
        bool starved;                 /* ... which has been logged; until all are accepted */
        uint64_t next_id;             /* of a connection */
        struct list connections;
        struct list share_users; /* share.h */
        bool draining;
        void (*drained)(void *userdata);
        void *drained_userdata;
        sd_event_source *drained_source;
        sd_event_source *trim_source; /* runs once when it is on */
};

/*
 * Descriptors of this number and above are not for @peer. The kernel gives out the lowest one that
 * is free, so the last few of the process are kept for those who are privileged: they get in
 * whatever others have opened.
 */
uint64_t server_descriptors_for(const struct peer *peer);

/* Give memory back to the system, once before the main loop waits again, however often asked. */
void server_trim(struct server *server);

/* A connection has become idle, or has ended. */
void server_connection_idle(struct server *server);
void server_connection_ended(struct server *server);
