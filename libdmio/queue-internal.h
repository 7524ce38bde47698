/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A queue: a back-end, the thread that drives it, a mailbox for the other threads.
 *
 * What a completion calls may submit, and must not be called from within a submission. So results
 * are only collected by the back-end (queue_complete()) and the callbacks run from one place,
 * dmio_queue_process().
 */

#include <pthread.h>
#include <stdatomic.h>

#include <dmio/engine.h>

#include "backend.h"
#include "fifo.h"
#include "slab.h"
#include "util/list.h"

/*
 * What a queue can always have, be memory as short as it may: so there is always one piece in
 * flight that ends, or that can be begun.
 */
#define QUEUE_PIECES_MIN 16

struct dmio_queue {
        struct dmio_engine *engine;
        struct list link; /* engine.queues */
        const struct backend_ops *ops;
        void *backend;
        pthread_t owner;
        unsigned int depth;
        unsigned int n_started;   /* taken by the back-end, not yet completed; without the wakeup */
        unsigned int n_in_flight; /* the same with what waits in the fifos */
        unsigned int n_pieces;    /* pieces of requests that are in flight here (piece.c) */
        struct slab_account pieces;
        struct slab_account blocks; /* for their iovecs */
        struct op_fifo waiting;     /* the back-end has no room for them yet */
        struct op_fifo done;        /* results there, callbacks due */
        struct list starved;        /* legs that wait for memory: struct leg.starved (leg.c) */
        bool processing;
        bool wakeup_due; /* the read of the event counter found no room yet */

        _Atomic(struct dmio_task *) mailbox; /* newest first */
        _Atomic(unsigned int) n_posting;     /* threads inside of dmio_queue_post() */
        _Atomic(bool) must_trim;
        _Atomic(int) poll_fd; /* what dmio_queue_fd() gave out, or -EBADF */
        int wakeup_fd;
        uint64_t wakeup_value;
        struct iovec wakeup_iov;
        struct dmio_op wakeup_op;
};

/* For back-ends: @op is done. */
void queue_complete(struct dmio_queue *queue, struct dmio_op *op, int result);

/* From any thread: let the back-end give up what it has of chunks that are gone. */
void queue_ask_to_trim(struct dmio_queue *queue);

/* On the queue's thread: tell @op as done with @result, without carrying it out. */
void queue_finish(struct dmio_queue *queue, struct dmio_op *op, int result);

/*
 * Make sure that what was submitted by the queue's own thread goes out, and that
 * dmio_queue_process() has something to find: called at the end of a submission from outside of
 * dmio_queue_process().
 */
void queue_kick(struct dmio_queue *queue);

/* The queue of @engine that the calling thread drives, or NULL. */
struct dmio_queue *queue_of_thread(const struct dmio_engine *engine);

/*
 * Drive the queues of @engine that the calling thread has, if any, for a moment: for who waits for
 * something else. Returns how many there are, or a negative errno; outside of callbacks.
 */
int queue_drive_own(const struct dmio_engine *engine);

/* In the child of a fork(): the queues that the thread drove are the parent's. */
void queue_forget_thread(void);

/* True while the calling thread runs a callback of any queue. */
bool queue_in_callback(void);

/* Drive the queue until *@done is set; from its own thread, outside of callbacks. */
void queue_process_until(struct dmio_queue *queue, const bool *done);
