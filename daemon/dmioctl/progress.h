/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One line that tells how far something long is: on a terminal only, drawn over itself, never wider
 * than the terminal is at that moment. What does not fit is left out: first the bar, then the
 * bytes, the rate, and the time that is left.
 *
 *   job 7   42 %  [########------------]  430 MiB of 1 GiB  215 MiB/s  0:03 left
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRESS_LINE_MAX 256

struct progress {
        const char *name; /* "job 7" */
        uint64_t done;    /* bytes */
        uint64_t total;
        double rate;      /* bytes a second, of late; 0: not known yet */
        uint64_t at_usec; /* when done was that much; 0: never yet */
        bool shown;       /* there is a line, which progress_clear() takes away */
};

/* So far at @now_usec. The rate is that of the last few seconds. */
void progress_update(struct progress *progress, uint64_t done, uint64_t total, uint64_t now_usec);

/* The line for a terminal of @width columns, without an end, in @buffer; its last column is free.
 */
void progress_format(const struct progress *progress, unsigned int width,
                     char buffer[static PROGRESS_LINE_MAX]);

/* Nothing unless standard error is a terminal that can draw over a line. */
void progress_show(struct progress *progress);
void progress_clear(struct progress *progress);
