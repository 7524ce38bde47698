/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How people write sizes and legs: "8", "4KiB", "disk.img:0+1GiB". Pure functions; nothing here
 * looks at a device or prints.
 *
 * A plain number counts units (sectors, pages); one with KiB, MiB, GiB or TiB behind it counts
 * bytes and must be a multiple of the unit. Only decimal digits count as a number: no sign, no
 * blanks, no hexadecimal. Nothing reaches LEG_MAX, because the control channel's integers stay
 * below it.
 */

#include <stdint.h>

#define LEG_MAX (UINT64_C(1) << 53)

/* Positive outcomes of the parsers. */
enum leg_outcome {
        LEG_OK = 0,
        LEG_E_EMPTY = 1, /* nothing there */
        LEG_E_NEGATIVE,
        LEG_E_NUMBER,   /* does not begin with a digit */
        LEG_E_UNIT,     /* something follows the digits that is no unit */
        LEG_E_MULTIPLE, /* not a whole number of sectors or pages */
        LEG_E_RANGE,    /* too large */
        LEG_E_COLON,    /* no colon between device and sector */
        LEG_E_TIME,     /* something follows the digits that is no unit of time */
        LEG_E_PLUS,     /* no plus between sector and count */
};

/* A region as it was written. */
struct leg {
        const char *text; /* the whole argument; borrowed */
        char *device;     /* what stands before the last colon */
        uint64_t sector;
        uint64_t count;
};

/*
 * Parse a number of units of @unit bytes each. Returns LEG_OK and the number of units, or one of
 * LEG_E_EMPTY to LEG_E_RANGE.
 */
int size_parse(const char *text, uint64_t unit, uint64_t *ret);

/*
 * Parse a time: "20ms", "500us", "2s", or seconds without a unit. Returns LEG_OK and microseconds,
 * or LEG_E_EMPTY, LEG_E_NEGATIVE, LEG_E_NUMBER, LEG_E_TIME or LEG_E_RANGE.
 */
int time_parse(const char *text, uint64_t *ret);

/*
 * Parse DEVICE:SECTOR+COUNT; @text must outlive the leg. Returns LEG_OK, -ENOMEM, or another
 * outcome with the name of the part that is wrong in *@ret_part (a constant).
 */
int leg_parse(const char *text, struct leg *ret, const char **ret_part);
void leg_deinit(struct leg *leg);

/* What is wrong, to be put behind the name of the part: "is empty". */
const char *leg_outcome_text(int outcome);
