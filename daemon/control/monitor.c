/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Monitor: a call that is answered by each event, until its connection ends or the daemon stops.
 *
 * Events wait in the watcher's queue (model/event.h), never in the connection: one goes over only
 * when all before it has been taken by the socket. So a reader that does not read costs a full
 * socket and that queue, for as long as it likes, and loses the oldest events.
 */

#include <errno.h>
#include <stdlib.h>

#include "config.h"
#include "control/call.h"
#include "control/errors.h"
#include "control/methods.h"
#include "control/varlink.h"
#include "model/event.h"
#include "model/quota.h"
#include "util/list.h"

/* Events sent in one go, so that others get their turn. */
#define SEND_BATCH 16

struct monitor {
        struct event_watcher watcher;
        struct call *call;
        sd_event_source *source; /* runs once when there is something to send and room for it */
        bool sending;
        bool over; /* the connection has ended meanwhile */
};

static void monitor_end(struct monitor *monitor, json_t *answer)
{
        struct call *call = monitor->call;

        event_watcher_deinit(&monitor->watcher);
        (void)sd_event_source_disable_unref(monitor->source);
        free(monitor);
        quota_release(call->model, call->peer->uid, QUOTA_MONITORS, 1);
        call->listener = NULL;
        call->listener_data = NULL;
        call_answer(call, answer);
}

/* From within whatever happens: only remember. */
static void monitor_wake(struct event_watcher *watcher)
{
        struct monitor *monitor = container_of(watcher, struct monitor, watcher);

        if (monitor->call->has_room)
                (void)sd_event_source_set_enabled(monitor->source, SD_EVENT_ONESHOT);
}

static void monitor_room(struct call *call)
{
        struct monitor *monitor = call->listener_data;

        if (!monitor->sending && event_watcher_has_more(&monitor->watcher))
                monitor_wake(&monitor->watcher);
}

static int monitor_send(sd_event_source *source, void *userdata)
{
        struct monitor *monitor = userdata;
        json_t *parameters;

        monitor->sending = true;
        for (unsigned int i = 0; i < SEND_BATCH && !monitor->over && monitor->call->has_room; i++) {
                parameters = event_watcher_take(&monitor->watcher);
                if (!parameters)
                        break;
                call_continue(monitor->call, parameters);
        }
        monitor->sending = false;
        if (monitor->over)
                monitor_end(monitor, json_object());
        else
                monitor_room(monitor->call);
        return 0;
}

/* The connection has ended. */
static void monitor_abandon(struct call *call)
{
        struct monitor *monitor = call->listener_data;

        monitor->over = true;
        if (!monitor->sending)
                monitor_end(monitor, json_object());
}

/*
 * All that waits goes out, however much room there is: it is bounded, and so is the time that the
 * peer has to take it. The last one is the event that tells of the stop.
 */
static void monitor_stop(struct call *call)
{
        struct monitor *monitor = call->listener_data;
        json_t *last, *next;

        last = event_watcher_take(&monitor->watcher);
        monitor->sending = true;
        while (last && !monitor->over && (next = event_watcher_take(&monitor->watcher))) {
                call_continue(call, last);
                last = next;
        }
        monitor->sending = false;
        monitor_end(monitor, varlink_reply(last));
}

static const struct call_listener monitor_listener = {
        .room = monitor_room,
        .abandon = monitor_abandon,
        .stop = monitor_stop,
};

/* Returns 0 or a negative errno. */
static int monitor_new(struct call *call)
{
        struct monitor *monitor;
        int r;

        monitor = calloc(1, sizeof(*monitor));
        if (!monitor)
                return -ENOMEM;
        monitor->call = call;
        r = sd_event_add_defer(worker_event(call->model->worker), &monitor->source, monitor_send,
                               monitor);
        if (r >= 0)
                r = sd_event_source_set_enabled(monitor->source, SD_EVENT_OFF);
        if (r >= 0)
                r = event_watcher_init(&monitor->watcher, call->model, call->peer,
                                       (unsigned int)call->model->config->limit_events,
                                       monitor_wake);
        if (r < 0) {
                (void)sd_event_source_disable_unref(monitor->source);
                free(monitor);
                return r;
        }
        call->watch_peer = true;
        call->listener = &monitor_listener;
        call->listener_data = monitor;
        return 0;
}

void method_monitor(struct call *call)
{
        uint64_t limit;
        int r;

        if (!call->more || call->oneway) {
                call_answer(call, error_expected_more());
                return;
        }
        /* They would stay open for as long as the call lasts, which no limit allows for. */
        if (call->descriptors.n > 0) {
                call_answer(call, error_invalid_parameter("descriptors", "are not wanted here"));
                return;
        }
        r = quota_charge(call->model, call->peer->uid, QUOTA_MONITORS, 1, &limit);
        if (r > 0) {
                call_answer(call, error_limit_reached(quota_name(QUOTA_MONITORS), limit));
                return;
        }
        if (r == 0) {
                r = monitor_new(call);
                if (r < 0)
                        quota_release(call->model, call->peer->uid, QUOTA_MONITORS, 1);
        }
        if (r < 0)
                call_answer(call, error_internal(r));
}
