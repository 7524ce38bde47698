/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What others have left of an export's legs in the page cache of the machine (somebody made the
 * image with dd, or serves the same device without O_DIRECT) is thrown out when writing begins, and
 * not page by page by the writes themselves, which makes them slow (dmio_device_cached()).
 *
 * Writing begins with a write that comes UNCACHE_IDLE_USEC or more after the one before. It does
 * not wait; a worker thread does the work, for UNCACHE_LIMIT_USEC at most. Whoever uses the page
 * cache on purpose while the export is written to loses it once, not again and again.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <dmio/dmio.h>

#include "worker.h"

#define UNCACHE_IDLE_USEC UINT64_C(500000)
#define UNCACHE_LIMIT_USEC UINT64_C(2000000)
/* Of a leg; less than that is left to the writes. */
#define UNCACHE_BYTES_MIN (UINT64_C(1) << 20)

struct export;

struct uncache {
        _Atomic(uint64_t) wrote_usec; /* about when the latest write came */
        _Atomic(bool) busy;           /* private, like all that follows */
        struct dmio_task task;
        struct worker_job job;
};

void uncache_init(struct uncache *uncache);

/*
 * A write has come, or somebody has opened the file to write, at @now (CLOCK_MONOTONIC). Any thread
 * that has a reference.
 */
void uncache_writing(struct export *export, uint64_t now);
