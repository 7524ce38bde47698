/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the mount share. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include <dmio/dmio.h>

#include "model/model.h"
#include "mount/counted.h"
#include "mount/handle-table.h"
#include "mount/memory-file.h"
#include "mount/mount-point.h"
#include "mount/mount.h"
#include "mount/orphan.h"
#include "mount/queue-thread.h"

struct descriptor_store;

struct mount {
        struct model *model;
        struct descriptor_store *store;
        bool kept; /* its descriptor is in the store: it outlasts the process */
        struct mount_point point;
        struct memory_file memory;
        struct orphans orphans;
        struct counted counted;
        struct handle_table handles;
        struct dm_io_client *io; /* holds the receive windows */
        unsigned int spin_usec;
        time_t start;
        pthread_mutex_t judge_lock; /* mirror.c: one verdict at a time */

        pthread_mutex_t start_lock;
        pthread_cond_t start_changed; /* the state of a thread */
        bool resumed;                 /* another process has served it */
        bool resends;                 /* and the kernel sends its requests again */
        void *early_init;             /* INIT, if it was received before there was a thread */
        size_t early_init_size;
        int clones[MEMORY_QUEUES]; /* descriptors that other queue threads had, or -EBADF */

        void (*drained)(void *userdata);
        void *drained_userdata;
        struct dmio_task drained_task; /* runs on the main loop */
        bool draining;
        bool drained_told;
        _Atomic(unsigned int) n_undrained; /* threads that still have something under way */

        unsigned int n_threads;
        struct queue_thread *threads;
};

/* From a thread: it serves now (1), or cannot (a negative errno). */
void mount_thread_started(struct queue_thread *thread, int state);

/* From a thread that drains: nothing is under way any more. */
void mount_thread_drained(struct mount *mount);
