/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The fault rules of an engine, between a leg and its queue; see <dmio/fault.h>. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <dmio/engine.h>
#include <dmio/fault.h>

#include "util/list.h"

struct leg;

struct faults {
        _Atomic(unsigned int) n_rules; /* so that nobody looks without need */
        pthread_mutex_t lock;
        struct list rules;   /* struct dmio_fault.link; under lock, as all that follows */
        struct list delayed; /* struct fault_state.link, the earliest first */
        pthread_cond_t timer;
        pthread_t thread;
        bool has_thread;
        bool stop;
};

/* What a piece needs to be cut short, to wait, or to know who failed it. */
struct fault_state {
        struct list link;
        struct dmio_task task;
        struct dmio_queue *queue;
        struct dmio_op *op;
        const struct dmio_fault *fault; /* that it waits for */
        uint64_t due_us;                /* CLOCK_MONOTONIC */
        unsigned int cut_n_iov;         /* entries before the cut; 0 if there was none */
        size_t cut_length;              /* of the last entry that is left */
        bool is_refused;                /* the error is a rule's, not the device's */
};

void faults_init(struct faults *faults);

/* Nothing may be in flight. */
void faults_deinit(struct faults *faults);

/* Submit the operation of a piece of @leg, after what the rules do to it. */
void fault_submit(struct leg *leg, struct dmio_op *op, struct fault_state *state);

/* When it is done: put back what a cut has taken from the iovec array. */
void fault_mend(struct dmio_op *op, struct fault_state *state);
