/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/show.h"
#include "dmioctl/tally.h"
#include "dmioctl/top-frame.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* The name gets what the figures leave, within limits. */
#define NAME_MIN 16
#define NAME_MAX_WIDTH 40
#define FIGURES_WIDTH 89

struct frame {
        FILE *stream;
        int name_width;
        bool is_narrow; /* no room for P50 and what is neither read nor write */
        double seconds; /* between the samples; 0: there is only one */
        const json_t *before;
        const json_t *now;
};

/* What one line is about: reads, writes and the rest. */
struct line {
        struct tally read, write, rest;
};

/* --- two samples of the same thing */

static const json_t *find_client(const json_t *sample, const char *name)
{
        const json_t *client;
        size_t i;

        json_array_foreach (json_object_get(sample, "clients"), i, client)
                if (strcmp(show_string(json_object_get(client, "client"), "name"), name) == 0)
                        return client;
        return NULL;
}

static const json_t *find_export(const json_t *sample, const char *client, const char *name)
{
        const json_t *export;
        size_t i;

        json_array_foreach (json_object_get(sample, "exports"), i, export)
                if (strcmp(show_string(export, "client"), client) == 0 &&
                    strcmp(show_string(export, "name"), name) == 0)
                        return export;
        return NULL;
}

static void add_difference(struct tally *sum, const json_t *before, const json_t *now,
                           const char *name)
{
        struct tally tally, old;

        tally_find(&tally, now, name);
        tally_find(&old, before, name);
        tally_subtract(&tally, &old);
        tally_add(sum, &tally);
}

/* Add what has come from one array of operations to the other. */
static void line_add(struct line *line, const json_t *before, const json_t *now)
{
        static const char *const rest[] = { "flush", "write_zeroes", "discard", "copy", "zero" };

        add_difference(&line->read, before, now, "read");
        add_difference(&line->write, before, now, "write");
        for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
                add_difference(&line->rest, before, now, rest[i]);
}

/* --- text */

static void put_name(const struct frame *frame, int indent, const char *name)
{
        int width = frame->name_width - indent;

        fprintf(frame->stream, "%*s", indent, "");
        /* A character is a column, which is only known of ASCII. */
        for (int i = 0; i < width; i++) {
                unsigned char c = (unsigned char)*name;

                if (c)
                        name++;
                fputc(!c ? ' ' : c < 0x20 || c >= 0x7f ? '?' : c, frame->stream);
        }
}

static void put_tally(const struct frame *frame, const struct tally *tally)
{
        char p50[SHOW_SIZE_MAX] = "-", p99[SHOW_SIZE_MAX] = "-";

        if (tally->count > 0) {
                (void)show_time(tally_percentile(tally, 0.5), p50);
                (void)show_time(tally_percentile(tally, 0.99), p99);
        }
        fprintf(frame->stream, " %7.0f %7.1f", (double)tally->count / frame->seconds,
                (double)tally->bytes / frame->seconds / (1 << 20));
        if (!frame->is_narrow)
                fprintf(frame->stream, " %8s", p50);
        fprintf(frame->stream, " %8s", p99);
}

static void put_line(const struct frame *frame, int indent, const char *name, const char *state,
                     const struct line *line)
{
        uint64_t errors = line->read.errors + line->write.errors + line->rest.errors;

        put_name(frame, indent, name);
        fprintf(frame->stream, " %-7s", state);
        if (frame->seconds > 0) {
                put_tally(frame, &line->read);
                put_tally(frame, &line->write);
                if (!frame->is_narrow)
                        fprintf(frame->stream, " %6.0f", (double)line->rest.count / frame->seconds);
                fprintf(frame->stream, " %5.0f", (double)errors / frame->seconds);
        }
        fputc('\n', frame->stream);
}

static void put_heads(const struct frame *frame)
{
        fprintf(frame->stream, "%-*s %-7s", frame->name_width, "NAME", "STATE");
        if (frame->seconds > 0 && frame->is_narrow)
                fprintf(frame->stream, " %7s %7s %8s %7s %7s %8s %5s", "READ/s", "MiB/s", "P99",
                        "WRITE/s", "MiB/s", "P99", "ERR/s");
        else if (frame->seconds > 0)
                fprintf(frame->stream, " %7s %7s %8s %8s %7s %7s %8s %8s %6s %5s", "READ/s",
                        "MiB/s", "P50", "P99", "WRITE/s", "MiB/s", "P50", "P99", "REST/s", "ERR/s");
        fputc('\n', frame->stream);
}

static void put_pages(const struct frame *frame, const char *before, const json_t *object,
                      const char *key)
{
        char size[SHOW_SIZE_MAX];

        fprintf(frame->stream, "%s%s", before, show_size(show_integer(object, key) * 4096, size));
}

static void put_summary(const struct frame *frame)
{
        const json_t *pool = json_object_get(frame->now, "pool");
        uint64_t uptime = show_integer(frame->now, "uptime_us") / 1000000;

        fprintf(frame->stream,
                "dmiod: up %" PRIu64 "d %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64
                ", clients %zu, exports %zu\n",
                uptime / 86400, uptime / 3600 % 24, uptime / 60 % 60, uptime % 60,
                json_array_size(json_object_get(frame->now, "clients")),
                json_array_size(json_object_get(frame->now, "exports")));
        put_pages(frame, "pool: ", pool, "reserved");
        put_pages(frame, " reserved of ", pool, "limit");
        put_pages(frame, ", ", pool, "in_use");
        put_pages(frame, " in use, high water ", pool, "high_water");
        fprintf(frame->stream, ", waits %" PRIu64 "\n", show_integer(pool, "waits"));
}

static void put_export(const struct frame *frame, const json_t *export)
{
        const json_t *before = find_export(frame->before, show_string(export, "client"),
                                           show_string(export, "name"));
        const json_t *legs_before = json_object_get(before, "legs");
        struct line line = {};
        const json_t *entry;
        size_t i;

        line_add(&line, json_object_get(before, "operations"),
                 json_object_get(export, "operations"));
        put_line(frame, 2, show_string(export, "name"), "", &line);
        json_array_foreach (json_object_get(export, "legs"), i, entry) {
                const json_t *leg = json_object_get(entry, "leg");
                DMIO_CLEANUP(freep) char *name = NULL;

                if (asprintf(&name, "%zu: %s", i,
                             show_string(json_object_get(leg, "region"), "device")) < 0)
                        name = NULL;
                line = (struct line){};
                line_add(&line, json_object_get(json_array_get(legs_before, i), "operations"),
                         json_object_get(entry, "operations"));
                put_line(frame, 4, name ?: "", show_string(leg, "state"), &line);
        }
}

/* Its files, calls and jobs together; then each of its exports. */
static void put_client(const struct frame *frame, const json_t *client)
{
        static const char *const parts[] = { "exports", "calls", "jobs" };
        const char *name = show_string(json_object_get(client, "client"), "name");
        const json_t *before = find_client(frame->before, name);
        struct line line = {};
        const json_t *export;
        size_t i;

        for (i = 0; i < ARRAY_SIZE(parts); i++)
                line_add(&line, json_object_get(before, parts[i]),
                         json_object_get(client, parts[i]));
        put_line(frame, 0, name, "", &line);
        json_array_foreach (json_object_get(frame->now, "exports"), i, export)
                if (strcmp(show_string(export, "client"), name) == 0)
                        put_export(frame, export);
}

char *frame_text(const json_t *before, const json_t *now, unsigned int columns)
{
        struct frame frame = { .before = before, .now = now };
        uint64_t until = show_integer(now, "uptime_us"), from = show_integer(before, "uptime_us");
        const json_t *client;
        char *text = NULL;
        size_t length, i;

        /* Of another daemon it says nothing. */
        if (before && until > from)
                frame.seconds = (double)(until - from) / 1e6;
        else
                frame.before = NULL;
        frame.is_narrow = columns < FIGURES_WIDTH + NAME_MIN;
        frame.name_width = NAME_MIN;
        if (columns > FIGURES_WIDTH + NAME_MIN)
                frame.name_width = (int)MIN(columns - FIGURES_WIDTH, (unsigned int)NAME_MAX_WIDTH);
        frame.stream = open_memstream(&text, &length);
        if (!frame.stream)
                return NULL;
        put_summary(&frame);
        fputc('\n', frame.stream);
        put_heads(&frame);
        json_array_foreach (json_object_get(now, "clients"), i, client)
                put_client(&frame, client);
        if (fclose(frame.stream) != 0) {
                free(text);
                return NULL;
        }
        return text;
}
