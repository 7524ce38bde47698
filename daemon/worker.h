/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Worker threads for calls that may block: opening and closing devices, asking a passed descriptor
 * what it is. The main loop never makes such a call itself, because whoever serves the file (a
 * hung NFS or FUSE server) would stop everybody's control channel.
 *
 * A job's @run is executed on a worker thread; its @done afterwards on the main loop. Threads are
 * started as needed, up to WORKER_THREADS_MAX, and end when the worker is freed.
 *
 * Whoever has files that hang must not have all threads: of one user's jobs only so many run at a
 * time, and those of others overtake the rest of them.
 */

#include <sys/types.h>

#include <systemd/sd-event.h>

#define WORKER_THREADS_MAX 16

/* Jobs of one unprivileged user that run at a time. */
#define WORKER_JOBS_PER_UID 4

struct worker;

struct worker_job {
        void (*run)(struct worker_job *job);  /* on a worker thread */
        void (*done)(struct worker_job *job); /* on the main loop; may free the job; may be NULL */
        uid_t uid;                            /* for whom; 0: for root or for ourselves, no limit */
        struct worker_job *next;              /* private */
};

int worker_new(sd_event *event, struct worker **ret);

/* The main loop that it belongs to. */
sd_event *worker_event(const struct worker *worker);

/* Waits for the jobs that are running, runs what is queued, calls every done. Returns NULL. */
struct worker *worker_free(struct worker *worker);

/* The caller keeps @job until done is called (or run, if there is no done). Main loop only. */
void worker_submit(struct worker *worker, struct worker_job *job);
