/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A few threads that carry out operations by the plain system calls, each of which blocks as long
 * as it takes. The lines of what is to be done and of what is done are the only things they share
 * with the queue's thread, which hands over, collects, and is told of new results by an event
 * counter. Threads are started when there is work that nobody is free for.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "fifo.h"

#define WORKERS_MAX 8

struct workers {
        int event_fd;                   /* not ours */
        _Atomic(bool) has_done;         /* for a look without the lock */
        pthread_t threads[WORKERS_MAX]; /* the queue's thread's, as is n_threads */
        unsigned int n_threads;
        pthread_mutex_t lock;
        pthread_cond_t wanted;
        struct op_fifo jobs; /* under lock, as all that follows */
        struct op_fifo done;
        unsigned int n_jobs;
        unsigned int n_idle;
        bool stop;
};

/* @event_fd is written to when the line of results is not empty any more. */
void workers_init(struct workers *workers, int event_fd);

/* Ends the threads; nothing may be in flight. */
void workers_deinit(struct workers *workers);

/* Hand over all of @ops. */
void workers_submit(struct workers *workers, struct op_fifo *ops);

/* Take @op back. False if it has begun, or is not there at all. */
bool workers_take_back(struct workers *workers, struct dmio_op *op);

/* Append what is done to @ret; the result of each is in its field of that name. */
void workers_collect(struct workers *workers, struct op_fifo *ret);
