/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Output for people. What comes from elsewhere (names, paths, reasons) may hold anything; control
 * characters are shown as question marks, so that nobody's file name can talk to a terminal.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

/* One line on standard error, behind "dmioctl: ". */
void complain(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* The same, and a pointer to the verb's --help. Returns STATUS_USAGE. */
int complain_usage(const char *verb, const char *format, ...)
        __attribute__((__format__(__printf__, 2, 3)));

/* One line is enough. */
bool has_complained(void);

/* Returns STATUS_REFUSED. */
int complain_memory(void);

/* Print with control characters replaced. */
void show_text(FILE *stream, const char *text);

/*
 * Print @rows, an array of arrays of strings, below @heads. A head that begins with '>' aligns its
 * column to the right. An empty cell is shown as "-", so that every line has as many words.
 */
void show_table(const char *const *heads, size_t n_columns, const json_t *rows);

/* The same, but @nothing alone if there are no rows. Takes @rows; returns an exit status. */
int show_list(const char *const *heads, size_t n_columns, json_t *rows, const char *nothing);

/* --no-header: no heads, and nothing instead of @nothing. */
void show_without_header(void);

#define SHOW_SIZE_MAX 32

/* "8 MiB", "1.5 GiB", "513 B" in @buffer, which is returned. */
const char *show_size(uint64_t bytes, char buffer[static SHOW_SIZE_MAX]);

/* The same for a time in microseconds: "850 us", "20.5 ms", "1.2 s". */
const char *show_time(uint64_t usec, char buffer[static SHOW_SIZE_MAX]);

/* Members of a reply: "" or 0 if they are missing. */
const char *show_string(const json_t *object, const char *key);
uint64_t show_integer(const json_t *object, const char *key);

/* One line of JSON on standard output. */
void show_json(const json_t *value);

/*
 * Hand over to the system what has been printed. Returns 0, or the negative errno of the first time
 * that failed: what is written after it goes nowhere.
 */
int show_flush(void);
