/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What is written down about a unit between one daemon of it and the next: where its mount is,
 * because by the end the configuration may say otherwise; and when it has crashed.
 */

#include <stdint.h>
#include <sys/types.h>

struct record {
        char *mount;  /* canonical, or NULL if there is none */
        dev_t device; /* of the file system there, or 0 if that is not known */
};

#define RECORD_NULL                                                                                \
        {                                                                                          \
                0                                                                                  \
        }

/* Below @folder, which is made when it is written to. All errors are negative errnos, logged. */
int record_read(const char *folder, const char *unit, struct record *ret);
int record_write(const char *folder, const char *unit, const struct record *record);

/* The mount, and the crashes. */
void record_remove(const char *folder, const char *unit);

void record_deinit(struct record *record);

/* How many crashes are too many, and within what time. */
#define RECORD_CRASHES_MAX 10
#define RECORD_CRASHES_USEC (UINT64_C(60) * 1000 * 1000)

/* Note a crash at the time @now. Returns how many there were within RECORD_CRASHES_USEC. */
int record_crash(const char *folder, const char *unit, uint64_t now);
