/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * To try something again on the main loop, every millisecond for a while: what is about to change
 * by itself need not be refused. No thread waits meanwhile.
 */

#include <stdbool.h>

#include <systemd/sd-event.h>

struct retry {
        sd_event_source *timer; /* private, as is what follows */
        unsigned int left;
        void (*attempt)(struct retry *retry, bool is_last);
};

/*
 * Call @attempt up to @times times, a millisecond apart, the first time not inside this call. Once
 * it has succeeded it calls retry_stop() and may free @retry; the last attempt need not. Returns 0,
 * or a negative errno, after which @attempt is never called.
 */
int retry_start(struct retry *retry, sd_event *event, unsigned int times,
                void (*attempt)(struct retry *retry, bool is_last));

void retry_stop(struct retry *retry);
