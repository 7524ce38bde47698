/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "dmioctl/progress.h"
#include "dmioctl/show.h"
#include "util/macros.h"

#define BAR_MIN 10
#define BAR_MAX 40
#define PART_MAX 80

/* Of what is shown, how much is older than this does not count for much. */
#define RATE_USEC 2000000.0

void progress_update(struct progress *progress, uint64_t done, uint64_t total, uint64_t now_usec)
{
        if (progress->at_usec > 0 && now_usec > progress->at_usec && done >= progress->done) {
                double usec = (double)(now_usec - progress->at_usec);
                double rate = (double)(done - progress->done) / usec * 1e6;
                double weight = progress->rate > 0 ? MIN(usec / RATE_USEC, 1.0) : 1.0;

                progress->rate += (rate - progress->rate) * weight;
        }
        progress->done = done;
        progress->total = total;
        progress->at_usec = now_usec;
}

/* "0:07", "12:34", "3:05:09", or nothing if it cannot be known. */
static void format_left(const struct progress *progress, char *buffer, size_t size)
{
        double left = progress->rate >= 1
                              ? (double)(progress->total - progress->done) / progress->rate
                              : 1e9;
        uint64_t s = (uint64_t)MIN(left + 0.5, 1e9);

        buffer[0] = 0;
        if (s >= 100 * 3600)
                return;
        if (s >= 3600)
                snprintf(buffer, size, "  %" PRIu64 ":%02" PRIu64 ":%02" PRIu64 " left", s / 3600,
                         s / 60 % 60, s % 60);
        else
                snprintf(buffer, size, "  %" PRIu64 ":%02" PRIu64 " left", s / 60, s % 60);
}

static void append_bar(char *line, size_t columns, double part)
{
        size_t width = MIN(columns - 4, (size_t)BAR_MAX), full = (size_t)((double)width * part);
        char *end = line + strlen(line);

        end = stpcpy(end, "  [");
        memset(end, '#', full);
        memset(end + full, '-', width - full);
        strcpy(end + width, "]");
}

void progress_format(const struct progress *progress, unsigned int width,
                     char buffer[static PROGRESS_LINE_MAX])
{
        char done[SHOW_SIZE_MAX], total[SHOW_SIZE_MAX], rate[SHOW_SIZE_MAX];
        char sizes[PART_MAX], speed[PART_MAX] = "", left[PART_MAX], head[PART_MAX];
        double part = progress->total > 0 ? (double)MIN(progress->done, progress->total) /
                                                    (double)progress->total
                                          : 0;
        size_t room = MIN(width > 0 ? width - 1 : 0, (unsigned int)PROGRESS_LINE_MAX - 1), used;
        bool with_left, with_speed, with_sizes;

        snprintf(head, sizeof(head), "%s  %3u %%", progress->name, (unsigned int)(part * 100));
        snprintf(sizes, sizeof(sizes), "  %s of %s", show_size(progress->done, done),
                 show_size(progress->total, total));
        if (progress->rate >= 1)
                snprintf(speed, sizeof(speed), "  %s/s", show_size((uint64_t)progress->rate, rate));
        format_left(progress, left, sizeof(left));

        used = strlen(head);
        with_left = used + strlen(left) <= room;
        used += with_left ? strlen(left) : 0;
        with_speed = used + strlen(speed) <= room;
        used += with_speed ? strlen(speed) : 0;
        with_sizes = used + strlen(sizes) <= room;
        used += with_sizes ? strlen(sizes) : 0;

        snprintf(buffer, PROGRESS_LINE_MAX, "%.*s", (int)room, head);
        if (room >= used + BAR_MIN + 4)
                append_bar(buffer, room - used, part);
        strcat(buffer, with_sizes ? sizes : "");
        strcat(buffer, with_speed ? speed : "");
        strcat(buffer, with_left ? left : "");
}

static bool progress_is_wanted(void)
{
        const char *terminal = getenv("TERM");

        return isatty(STDERR_FILENO) && !(terminal && strcmp(terminal, "dumb") == 0);
}

void progress_show(struct progress *progress)
{
        char line[PROGRESS_LINE_MAX];
        struct winsize size = {};

        if (!progress_is_wanted())
                return;
        (void)ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
        progress_format(progress, size.ws_col > 0 ? size.ws_col : 80, line);
        fprintf(stderr, "\r%s\33[K", line);
        progress->shown = true;
}

void progress_clear(struct progress *progress)
{
        if (progress->shown)
                fputs("\r\33[K", stderr);
        progress->shown = false;
}
