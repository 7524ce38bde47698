/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdint.h>
#include <time.h>

#include "control/retry.h"

#define RETRY_USEC UINT64_C(1000)
#define ACCURACY_USEC UINT64_C(200)

static int retry_event(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct retry *retry = userdata;
        bool is_last = --retry->left == 0;

        /* Before the attempt, after which there may be no retry any more. */
        if (!is_last && (sd_event_source_set_time_relative(source, RETRY_USEC) < 0 ||
                         sd_event_source_set_enabled(source, SD_EVENT_ONESHOT) < 0))
                is_last = true;
        if (is_last)
                retry_stop(retry);
        retry->attempt(retry, is_last);
        return 0;
}

int retry_start(struct retry *retry, sd_event *event, unsigned int times,
                void (*attempt)(struct retry *retry, bool is_last))
{
        sd_event_source *timer;
        int r;

        r = sd_event_add_time_relative(event, &timer, CLOCK_MONOTONIC, RETRY_USEC, ACCURACY_USEC,
                                       retry_event, retry);
        if (r < 0)
                return r;
        *retry = (struct retry){ .timer = timer, .left = times, .attempt = attempt };
        return 0;
}

void retry_stop(struct retry *retry)
{
        retry->timer = sd_event_source_disable_unref(retry->timer);
}
