/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The ranges of an export that writes are in flight on. A write that overlaps one that came before
 * waits for it; writes that overlap nothing never wait. So overlapping writes reach all legs in
 * the same order, and a read-modify-write sees no half of another one.
 *
 * Reads enter only where a device would show them half of a write. Their ranges are shared: they
 * wait for writes, and writes for them, but they do not wait for each other.
 *
 * Ranges are in bytes. Waiting costs no thread: the owner's task is posted to its queue when its
 * turn has come. Waiters are served in the order in which they came; a range waits for earlier
 * waiters that it overlaps, too, so nobody is overtaken for ever.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <dmio/engine.h>

#include "util/list.h"

struct range_lock {
        pthread_mutex_t lock;
        struct list ranges; /* struct range.link, in the order in which they came */
};

struct range {
        struct list link;
        uint64_t offset;
        uint64_t length;
        bool shared;
        unsigned int n_before; /* earlier ranges in the way that are not yet unlocked */
        struct dmio_queue *queue;
        struct dmio_task task; /* task.fn is set by the caller: the range is now held */
};

void range_lock_init(struct range_lock *lock);
void range_lock_deinit(struct range_lock *lock);

/*
 * Enter @range, whose offset, length, shared, queue and task.fn are set. Returns true if it is held
 * at once; false if task.fn will be run on the queue when it is.
 */
bool range_lock_acquire(struct range_lock *lock, struct range *range);

/* @range takes the place of @held, which is held and has the same bounds, and holds it. */
void range_lock_replace(struct range_lock *lock, struct range *held, struct range *range);

/* Leave, and post those whose turn has come. */
void range_lock_release(struct range_lock *lock, struct range *range);
