/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Interrupts: the kernel says that whoever waits for a request has got a signal.
 *
 * Devices are quick, and a signal is no reason for a program to hear of EINTR from a file; so
 * nothing happens for a while. A request that is not done by then hangs, and is answered with
 * EINTR: a program that has been killed cannot go before that. What the devices have begun is not
 * stopped and keeps its place in the range lock, so that later writes come after it; what has not
 * been begun is not done at all.
 *
 * An INTERRUPT may be received by another queue thread than the one that has the request, and even
 * before the request is; each thread has a table of those that it has heard of.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <dmio/engine.h>

struct queue_thread;
struct transfer;

#define INTERRUPTS_KEPT 16U

struct interrupts {
        unsigned int n_waiting;          /* transfers of the thread that are to be answered */
        uint64_t early[INTERRUPTS_KEPT]; /* of requests that are not known, the latest ones */
        unsigned int n_early;

        pthread_mutex_t lock;            /* of what follows: other threads write it */
        uint64_t inbox[INTERRUPTS_KEPT]; /* heard of by other threads */
        unsigned int n_inbox;
        bool open; /* the queue may be posted to */
        struct dmio_task task;
};

void interrupts_init(struct interrupts *interrupts);
void interrupts_deinit(struct interrupts *interrupts);

/* The thread's queue is there, or is about to go. On the thread. */
void interrupts_open(struct queue_thread *thread);
void interrupts_close(struct queue_thread *thread);

/* An INTERRUPT of the request @unique has been received, on this thread. */
void interrupts_received(struct queue_thread *thread, uint64_t unique);

/* A transfer begins: perhaps its INTERRUPT is here already. And it ends. */
void interrupts_transfer_begins(struct transfer *transfer);
void interrupts_transfer_ends(struct transfer *transfer);

/* For how long the thread may sleep, in microseconds, or -1. */
int64_t interrupts_timeout(const struct queue_thread *thread);

/* Answer those that have waited long enough. */
void interrupts_answer(struct queue_thread *thread);
