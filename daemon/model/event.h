/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Events: what happens to clients, exports and the daemon, for those who watch. Main loop only.
 *
 * A watcher has a queue of the events that it has not taken yet. When the queue is full the oldest
 * one goes, since what matters to somebody who is late is how things are now; how many have gone it
 * is told by an "overrun" in their place. All queues share the events, so that what waits for all
 * watchers of a user together is little more than what waits for one.
 *
 * Each event that somebody may see has a number, one more than that of the event before. Those who
 * see everything have the daemon's own count. For others that would have gaps where nothing is
 * lost, and tell how much goes on at other people's; they have a count of their own, from the
 * moment they began to watch.
 */

#include <stdbool.h>
#include <stdint.h>

#include <dmio/io.h>
#include <jansson.h>

#include "model/client.h"
#include "util/list.h"

struct export;

enum event {
        EVENT_WATCHING,
        EVENT_CLIENT_OPENED,
        EVENT_CLIENT_CLOSED,
        EVENT_PAGES_CHANGED,
        EVENT_EXPORT_CREATED,
        EVENT_EXPORT_REMOVED,
        EVENT_LEG_FAILED,
        EVENT_LEG_ERROR,
        EVENT_CONFIGURATION_RELOADED,
        EVENT_STOPPING,
        EVENT_OVERRUN,
        _EVENT_MAX,
};

/* As replies call it: "client-opened". */
const char *event_name(enum event event);

/* What it says, in a sentence of the interface text. */
const char *event_meaning(enum event event);

/* An error of a leg, or several of which this is the last. */
struct event_leg_error {
        unsigned int leg;
        int error; /* positive errno */
        enum dm_io_op op;
        uint64_t n; /* EVENT_LEG_ERROR: how many there were since the last such event */
};

void event_client(enum event event, const struct client *client);
void event_pages(const struct client *client, uint64_t before);
void event_export(enum event event, const struct export *export);
void event_leg(enum event event, const struct export *export, const struct event_leg_error *error);
void event_daemon(enum event event, struct model *model);

struct event_entry {
        uint64_t seq;
        json_t *event;
};

struct event_watcher {
        struct list link; /* model.watchers */
        const struct model *model;
        const struct peer *peer;
        void (*wake)(struct event_watcher *watcher);
        struct event_entry *entries; /* a ring of @size */
        unsigned int size;
        unsigned int first;
        unsigned int n;
        uint64_t seen;     /* the count of a peer that does not see everything */
        uint64_t lost;     /* events that were before the first entry */
        uint64_t lost_seq; /* ... and the number of the last of them */
};

/*
 * Watch what @peer may see, with room for @size events. The first one is EVENT_WATCHING: whatever
 * happens afterwards is told. @wake is called when there is something to take, from within whatever
 * happens, so that it must do no more than remember that. Returns 0 or -ENOMEM.
 */
int event_watcher_init(struct event_watcher *watcher, struct model *model, const struct peer *peer,
                       unsigned int size, void (*wake)(struct event_watcher *watcher));
void event_watcher_deinit(struct event_watcher *watcher);

/* True if there is something to take. */
static inline bool event_watcher_has_more(const struct event_watcher *watcher)
{
        return watcher->n > 0 || watcher->lost > 0;
}

/* The next event, {"seq", "event", "details"}; NULL if there is none, or no memory for it now. */
json_t *event_watcher_take(struct event_watcher *watcher);
