/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Orphans: requests that a killed process had begun (memory-file.h). An orphan held its range when
 * the process ended, so nothing that was begun later had touched the same bytes. That range is
 * entered here before anything is served, so nothing will: not until the request, which the kernel
 * sends again, has taken its place over and has been done. If nobody waits for it any more the legs
 * are made equal instead, or what it was going to make zero becomes zero.
 *
 * But what the dead process had handed over to the kernel may still be on its way to a device. The
 * ends of pipes that its rings held (DMIO_ENGINE_HELD_FD) tell when all of that is over: the fence.
 * Until then orphans keep their ranges and nothing is done about them; all else is served.
 *
 * Orphans are taken over in pages of their own account: those that wait for an orphan's range may
 * have all pages of its client.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <dmio/dmio.h>

#include "model/range-lock.h"
#include "mount/memory-file.h"
#include "util/list.h"

struct export;
struct mount;
struct queue_thread;
struct transfer;

enum orphan_kind {
        ORPHAN_WRITE,
        ORPHAN_ZERO,
        ORPHAN_CHUNK, /* of a copy */
        ORPHAN_COPY,  /* the copy itself, of which nothing had been finished: it has no range */
};

struct orphan {
        struct list link; /* orphans.list */
        struct mount *mount;
        enum orphan_kind kind;
        uint64_t unique;
        struct memory_slot *slot; /* of the dead process */
        _Atomic(uint32_t) *chunk; /* in it, or NULL */
        struct export *export;    /* in an operation; NULL for ORPHAN_COPY */
        uint64_t offset, length;  /* as they were asked for */
        struct range range;
        bool in_range;
        struct transfer *transfer; /* that is taking it over */
};

/* Of processes before this one that may have left something on its way. */
#define ORPHAN_FENCES 16

struct fence {
        struct orphans *orphans;
        int fd;
        char name[64]; /* in the descriptor store */
        bool reading;
        struct dmio_op op;
        struct iovec iov;
        char byte;
};

struct orphans {
        pthread_mutex_t lock; /* of the lists and what is in them */
        struct list list;
        struct list waiting; /* struct transfer.fence_link: for the fence */
        _Atomic(bool) fence_open;
        bool finished;           /* whoever was to come has come */
        unsigned int n_list;     /* orphans, and transfers that have pages of the account */
        struct dm_io_client *io; /* the account; NULL without orphans */
        struct mount *mount;
        struct queue_thread *thread; /* that sees to those nobody waits for */
        struct dmio_task finish_task;
        _Atomic(bool) finish_posted;
        struct fence fences[ORPHAN_FENCES];
        unsigned int n_fences;
        unsigned int n_fences_closed; /* on the thread */
};

void orphans_init(struct orphans *orphans, struct mount *mount);
void orphans_deinit(struct orphans *orphans);

/* What is to be waited for: takes @fd. Before anything is served, like the next three. */
void orphans_add_fence(struct orphans *orphans, int fd, const char *name);

/* Wait for the fence for @usec at most; what is closed is forgotten. Returns true if it is open. */
bool orphans_wait_fence(struct orphans *orphans, uint64_t usec);

/*
 * Enter what was begun on [offset, offset + length) of @export; @export is NULL for ORPHAN_COPY.
 * Returns 0; -EEXIST if it is entered already; -EBADMSG if another one has some of its range, which
 * cannot be; or another negative errno.
 */
int orphans_add(struct orphans *orphans, enum orphan_kind kind, struct memory_slot *slot,
                _Atomic(uint32_t) *chunk, struct export *export, uint64_t offset, uint64_t length);

/* True if the slot is an orphan's. */
bool orphans_have_slot(struct orphans *orphans, const struct memory_slot *slot);

/* On the first queue thread: watch the fence; and stop that before it ends. */
void orphans_start(struct queue_thread *thread);
void orphans_stop(struct queue_thread *thread);

/* All that was to come has: orphans whose request has not are nobody's. */
void orphans_finish(struct orphans *orphans);

/* A transfer that is about to write: if it is an orphan's, it will take it over. */
void orphan_claim(struct transfer *transfer, uint64_t unique);

/* True for a copy of which the dead process had not finished its first chunk. */
bool orphan_is_copy(struct orphans *orphans, uint64_t unique);

/* And now this process has begun it. */
void orphan_copy_taken_over(struct orphans *orphans, uint64_t unique);

/*
 * The transfer, which has an orphan, enters its range: true if it has got the orphan's, and goes on
 * by its have_range() when the fence is open, perhaps inside this call.
 */
bool orphan_take_range(struct transfer *transfer);

/* It has begun, so that a next process would find it: the orphan is no more. */
void orphan_taken_over(struct transfer *transfer);

/* It has come to an end without that. */
void orphan_not_taken_over(struct transfer *transfer);

/* It has the range, but nobody waits for it any more. */
void orphan_settle(struct transfer *transfer);

/* A transfer with pages of the account has given them back. */
void orphan_account_left(struct orphans *orphans);
