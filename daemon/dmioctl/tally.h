/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * An Operation of the daemon's Statistics: numbers to add, to subtract (what has come since) and to
 * ask for percentiles.
 */

#include <stdint.h>

#include <jansson.h>

#include "model/statistics.h"

struct tally {
        uint64_t count;
        uint64_t errors;
        uint64_t bytes;
        uint64_t total_us;
        uint64_t buckets[LATENCY_BUCKETS];
};

/* What is missing in @operation (which may be NULL) is 0. */
void tally_read(struct tally *tally, const json_t *operation);

/* Read the one of that name in an array of them; 0 throughout if it is not there. */
void tally_find(struct tally *tally, const json_t *operations, const char *name);

void tally_add(struct tally *sum, const struct tally *part);

/* What has come since @before; all of it if that has more, and so is of something else. */
void tally_subtract(struct tally *tally, const struct tally *before);

/*
 * The time in microseconds that @part (0 to 1) of the operations did not exceed: somewhere in the
 * bucket where it lies, by how far into it. 0 without operations. What took longer than all bounds
 * counts as the last one.
 */
uint64_t tally_percentile(const struct tally *tally, double part);
