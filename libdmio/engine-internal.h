/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the parts of an engine share. */

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include <dmio/dmio.h>

#include "backend.h"
#include "fault.h"
#include "pool-internal.h"
#include "slab.h"

struct dmio_engine {
        const struct backend_ops *backend;
        unsigned int depth;
        int held_fd; /* for rings to keep open, or -EBADF */
        struct pool pool;

        /* What requests are made of; reserved by clients and queues (slab.h). */
        struct slab requests;   /* struct io (io-internal.h) */
        struct slab leg_arrays; /* struct leg [DM_IO_MAX_REGIONS], for more than a few regions */
        struct slab pieces;     /* struct piece (piece.c) */
        struct slab blocks;     /* struct memory_block (memory.h) */

        struct faults faults;

        pthread_mutex_t queues_lock;
        struct list queues; /* struct dmio_queue.link; under queues_lock */
        _Atomic(unsigned int) n_queues;
        _Atomic(unsigned int) n_clients;

        /* The engine's own thread, without DMIO_ENGINE_NO_THREAD. */
        bool has_thread;
        bool stop; /* the thread's */
        pthread_t thread;
        struct dmio_queue *queue;
        struct dmio_task stop_task;
        sem_t stop_posted;
};

struct dm_io_client {
        struct dmio_engine *engine;
        struct pool_account account;
        struct slab_account requests, leg_arrays, pieces, blocks;
        pthread_mutex_t reserve_lock; /* these and the pool's are changed together */
        pthread_mutex_t lock;
        pthread_cond_t idle;
        uint64_t n_requests;     /* under lock, as all that follows */
        uint64_t n_in_flight;    /* accepted, result not yet told */
        uint64_t n_in_callbacks; /* told, callback still running */
        bool closing;
};

/* Count a request in: 0, or -ESHUTDOWN. */
int client_begin(struct dm_io_client *client);
/* It has come to nothing. */
void client_abandon(struct dm_io_client *client);
/* Count it out, in two steps around its callback. */
void client_told(struct dm_io_client *client);
void client_end(struct dm_io_client *client);

/* Nothing in flight, no callback running. */
bool client_is_idle(struct dm_io_client *client);

/* Wait for the callbacks that are running to return; not from one of them. */
void client_wait_callbacks(struct dm_io_client *client);
