/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include <systemd/sd-daemon.h>

#include "log.h"
#include "util/list.h"
#include "util/macros.h"
#include "watchdog.h"

#define PINGS 4

/* One thread. Its task is on the way, or has run. */
struct watched {
        struct list link;
        struct dmio_queue *queue;
        struct dmio_task task;
        atomic_bool answered;
};

struct watchdog {
        sd_event_source *timer;
        uint64_t period_usec;
        struct list threads;
        bool barked; /* it is said once that a thread does not answer */
};

static void answer(struct dmio_task *task)
{
        atomic_store(&container_of(task, struct watched, task)->answered, true);
}

static bool all_have_answered(const struct watchdog *watchdog)
{
        const struct watched *watched;

        list_for_each (watched, &watchdog->threads, link)
                if (!atomic_load(&watched->answered))
                        return false;
        return true;
}

static void watchdog_round(struct watchdog *watchdog)
{
        struct watched *watched;

        if (!all_have_answered(watchdog)) {
                if (!watchdog->barked)
                        log_warning("A thread that serves the mount does not get round; without "
                                    "it the service manager is not told that we are alive");
                watchdog->barked = true;
                return;
        }
        watchdog->barked = false;
        (void)sd_notify(0, "WATCHDOG=1");
        list_for_each (watched, &watchdog->threads, link) {
                atomic_store(&watched->answered, false);
                dmio_queue_post(watched->queue, &watched->task);
        }
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct watchdog *watchdog = userdata;
        int r;

        watchdog_round(watchdog);
        r = sd_event_source_set_time_relative(source, watchdog->period_usec);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int watchdog_new(sd_event *event, struct watchdog **ret)
{
        struct watchdog *watchdog;
        uint64_t limit_usec;
        int r;

        r = sd_watchdog_enabled(0, &limit_usec);
        if (r <= 0) {
                *ret = NULL;
                return r;
        }

        watchdog = calloc(1, sizeof(*watchdog));
        if (!watchdog)
                return -ENOMEM;
        list_init(&watchdog->threads);
        watchdog->period_usec = MAX(limit_usec / PINGS, UINT64_C(1));
        r = sd_event_add_time_relative(event, &watchdog->timer, CLOCK_MONOTONIC, 0,
                                       MAX(watchdog->period_usec / 4, UINT64_C(1)), on_timer,
                                       watchdog);
        if (r < 0) {
                watchdog_free(watchdog);
                return r;
        }
        *ret = watchdog;
        return 0;
}

int watchdog_add(struct watchdog *watchdog, struct dmio_queue *queue)
{
        struct watched *watched;

        if (!watchdog)
                return 0;
        watched = calloc(1, sizeof(*watched));
        if (!watched)
                return -ENOMEM;
        watched->queue = queue;
        watched->task.fn = answer;
        atomic_init(&watched->answered, true);
        list_append(&watchdog->threads, &watched->link);
        return 0;
}

struct watchdog *watchdog_free(struct watchdog *watchdog)
{
        struct watched *watched, *next;

        if (!watchdog)
                return NULL;
        list_for_each_safe (watched, next, &watchdog->threads, link)
                free(watched);
        sd_event_source_disable_unref(watchdog->timer);
        free(watchdog);
        return NULL;
}
