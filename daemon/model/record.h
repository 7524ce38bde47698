/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The record of an export's failed legs: a leg that has missed something must never be read again,
 * not by the next daemon either. So when a leg has failed, nothing on the export ends, well or
 * badly, before the failure has been written; else somebody might have heard of data that the next
 * daemon, after a kill, would not find.
 *
 * If it cannot be written (the disk is full), writes get EIO until it can. Reads go on: they may
 * then show what such a write brought to the legs that work, which is more than it was told of.
 *
 * The leg is marked in the record's bracket; record_wait() is what every request passes before it
 * ends. Where nothing has failed that is one look at a flag.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <dmio/engine.h>

#include "model/commit.h"
#include "util/list.h"

struct export;

/* Waiting costs no thread: when it is over, @task, whose function is the caller's, is posted. */
struct record_wait {
        struct list link; /* private, as is the next */
        uint64_t number;
        struct dmio_queue *queue;
        struct dmio_task task;
        int error; /* when the task runs: 0, or a negative errno: it could not be written */
};

struct record {
        bool lasts;            /* false: the export ends with the daemon, and nobody waits */
        _Atomic(bool) pending; /* a leg has failed, and that is not written */
        pthread_mutex_t lock;  /* of what follows */
        uint64_t number;       /* of the latest failure */
        uint64_t covered;      /* the latest one that the commit in progress sees */
        bool committing;
        struct list waits; /* struct record_wait.link */
        struct commit commit;
};

void record_init(struct record *record, bool lasts);
void record_deinit(struct record *record);

/* Around the marking of a leg: whoever sees the mark finds that it is to be waited for. Any thread.
 */
void record_begin_failure(struct record *record);
void record_end_failure(struct record *record);

/* Something has failed that is not written down. Any thread. */
static inline bool record_is_pending(const struct record *record)
{
        return atomic_load(&record->pending);
}

/*
 * Wait until what has failed is written, or cannot be. Returns false if there is nothing to wait
 * for. Any thread, in the bracket of an operation.
 */
bool record_wait(struct export *export, struct record_wait *wait);

/* Write what has failed, unless that is done or under way. Main loop. */
void record_commit(struct export *export);
