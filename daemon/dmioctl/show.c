/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/dmioctl.h"
#include "dmioctl/show.h"
#include "util/cleanup.h"
#include "util/macros.h"

static bool without_header;
static bool complained;

void show_without_header(void)
{
        without_header = true;
}

void show_text(FILE *stream, const char *text)
{
        for (; *text; text++) {
                unsigned char c = (unsigned char)*text;

                fputc(c < 0x20 || c == 0x7f ? '?' : c, stream);
        }
}

static void __attribute__((__format__(__printf__, 1, 0)))
complain_args(const char *format, va_list args)
{
        DMIO_CLEANUP(freep) char *text = NULL;

        complained = true;
        fputs("dmioctl: ", stderr);
        if (vasprintf(&text, format, args) < 0) {
                text = NULL;
                fputs("out of memory", stderr);
        } else {
                show_text(stderr, text);
        }
}

void complain(const char *format, ...)
{
        va_list args;

        va_start(args, format);
        complain_args(format, args);
        va_end(args);
        fputc('\n', stderr);
}

bool has_complained(void)
{
        return complained;
}

int complain_usage(const char *verb, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        complain_args(format, args);
        va_end(args);
        if (verb)
                fprintf(stderr, "; see 'dmioctl %s --help'\n", verb);
        else
                fputs("; see 'dmioctl --help'\n", stderr);
        return STATUS_USAGE;
}

int complain_memory(void)
{
        complain("out of memory; try again when there is some");
        return STATUS_REFUSED;
}

/* On a terminal; bytes that continue a character of UTF-8 take no room. */
static size_t text_width(const char *text)
{
        size_t width = 0;

        for (; *text; text++)
                width += ((unsigned char)*text & 0xc0) != 0x80;
        return width;
}

static const char *cell_text(const json_t *row, size_t column)
{
        const char *text = json_string_value(json_array_get(row, column));

        return text && *text ? text : "-";
}

static void show_cell(const char *text, size_t width, bool right, bool last)
{
        int blanks = (int)(width - MIN(width, text_width(text)));

        if (right)
                printf("%*s", blanks, "");
        show_text(stdout, text);
        if (!right && !last)
                printf("%*s", blanks, "");
        fputs(last ? "\n" : "  ", stdout);
}

void show_table(const char *const *heads, size_t n_columns, const json_t *rows)
{
        DMIO_CLEANUP(freep) size_t *widths = calloc(n_columns, sizeof(*widths));
        const json_t *row;
        size_t i, k;

        if (!widths) {
                complain_memory();
                return;
        }
        for (k = 0; k < n_columns; k++) {
                widths[k] = without_header ? 0 : strlen(heads[k]) - (heads[k][0] == '>');
                json_array_foreach (rows, i, row)
                        widths[k] = MAX(widths[k], text_width(cell_text(row, k)));
        }

        for (k = 0; k < n_columns && !without_header; k++) {
                bool right = heads[k][0] == '>';

                show_cell(heads[k] + right, widths[k], right, k == n_columns - 1);
        }
        json_array_foreach (rows, i, row)
                for (k = 0; k < n_columns; k++)
                        show_cell(cell_text(row, k), widths[k], heads[k][0] == '>',
                                  k == n_columns - 1);
}

int show_list(const char *const *heads, size_t n_columns, json_t *rows, const char *nothing)
{
        if (!rows)
                return complain_memory();
        if (json_array_size(rows) > 0)
                show_table(heads, n_columns, rows);
        else if (!without_header)
                puts(nothing);
        json_decref(rows);
        return STATUS_OK;
}

const char *show_size(uint64_t bytes, char buffer[static SHOW_SIZE_MAX])
{
        static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        unsigned int unit = 0;

        while (unit + 1 < ARRAY_SIZE(names) && bytes >> (10 * (unit + 1)) > 0)
                unit++;

        if (is_aligned(bytes, UINT64_C(1) << (10 * unit)))
                snprintf(buffer, SHOW_SIZE_MAX, "%llu %s",
                         (unsigned long long)(bytes >> (10 * unit)), names[unit]);
        else
                snprintf(buffer, SHOW_SIZE_MAX, "%.1f %s",
                         (double)bytes / (double)(UINT64_C(1) << (10 * unit)), names[unit]);
        return buffer;
}

const char *show_time(uint64_t usec, char buffer[static SHOW_SIZE_MAX])
{
        if (usec < 1000)
                snprintf(buffer, SHOW_SIZE_MAX, "%llu us", (unsigned long long)usec);
        else if (usec < 1000000)
                snprintf(buffer, SHOW_SIZE_MAX, "%.1f ms", (double)usec / 1e3);
        else
                snprintf(buffer, SHOW_SIZE_MAX, "%.1f s", (double)usec / 1e6);
        return buffer;
}

const char *show_string(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

uint64_t show_integer(const json_t *object, const char *key)
{
        json_int_t value = json_integer_value(json_object_get(object, key));

        return value > 0 ? (uint64_t)value : 0;
}

void show_json(const json_t *value)
{
        /* What cannot be written is told of by show_flush(). */
        (void)json_dumpf(value, stdout, JSON_COMPACT);
        fputc('\n', stdout);
}

int show_flush(void)
{
        static int error;

        errno = 0;
        if ((fflush(stdout) != 0 || ferror(stdout)) && error == 0)
                error = errno ? -errno : -EIO;
        return error;
}
