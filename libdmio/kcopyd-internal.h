/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The parts of the copier: the client (kcopyd.c), its jobs (kcopyd-job.c), their chunks
 * (kcopyd-sub-job.c) and the throttle (kcopyd-throttle.c).
 *
 * All of it belongs to the queue's thread and needs no lock, with two exceptions: what struct
 * dm_kcopyd_client keeps under its lock, and the atomic members.
 *
 * Nothing is done from within anything else. What has become possible is put in one of three lists
 * (jobs that are complete, sub-jobs that want pages, sub-jobs that want I/O), and kcopyd_run()
 * works these off in a loop, so neither a thousand chunks that fail at once nor a callback that
 * submits makes the stack grow.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <dmio/dmio.h>

#include "slab.h"
#include "util/list.h"

struct kcopyd_throttle {
        _Atomic(unsigned int) percent; /* 100: no limit */
        unsigned int used_percent;     /* that the books are kept by */
        unsigned int n_ios;            /* in flight */
        bool due;                      /* nothing is begun until the debt is paid */
        bool paused;                   /* somebody wanted to, meanwhile */
        uint64_t last_us;              /* up to when the time is booked */
        uint64_t debt_us;              /* rest that is still to be taken */
        _Atomic(uint64_t) busy_us;
        _Atomic(uint64_t) idle_us;
        _Atomic(uint64_t) pauses;
};

/* Wakes the worker after a while: a read of a timerfd, which is in flight only when needed. */
struct kcopyd_timer {
        int fd;
        bool is_pending;
        uint64_t value;
        struct iovec iov;
        struct dmio_op op;
};

struct dm_kcopyd_client {
        struct dmio_queue *queue;
        struct dm_io_client *io;
        bool owns_io;
        sector_t sub_job_sectors;
        struct kcopyd_throttle throttle;
        struct kcopyd_timer timer;

        struct list complete; /* struct dm_kcopyd_job.link */
        struct list pages;    /* struct sub_job.link: wait for pages, in order */
        struct list ios;      /* struct sub_job.link: want to read or write, in order */
        unsigned int n_with_pages;
        bool waits_for_pages;
        struct dmio_page_wait page_wait;
        struct page_list zeroes; /* a circular list of one page */
        _Atomic(uint64_t) n_sub_jobs;

        struct slab jobs;
        struct slab_account jobs_account;
        _Atomic(unsigned int) refs; /* the owner's, and one for each job */
        struct dmio_task poke_task;

        pthread_mutex_t lock; /* also guards what jobs tell: see struct dm_kcopyd_job */
        pthread_cond_t changed;
        uint64_t n_jobs; /* not yet called back */
        uint64_t n_busy; /* the same, and what else is on its way to the queue's thread */
        bool poked;      /* poke_task is posted */
        bool closing;
};

enum sub_job_place {
        SUB_JOB_IDLE,
        SUB_JOB_WAITING, /* in one of the client's lists */
        SUB_JOB_PARKED,  /* read, and not yet its turn to be written */
        SUB_JOB_IN_FLIGHT,
};

/* One of the chunks of a job that are under way; afterwards it is used for the next. */
struct sub_job {
        struct list link;
        struct dm_kcopyd_job *job;
        enum sub_job_place place;
        bool started;    /* it has been in flight: it finishes */
        bool writing;    /* wants to write, or is writing; else to read */
        bool zeroing;    /* ...by DM_IO_WRITE_ZEROES */
        sector_t offset; /* in the job */
        sector_t count;
        struct page_list *pages;
        struct dm_io_leg_error leg_errors[DM_KCOPYD_MAX_REGIONS];
};

struct dm_kcopyd_job {
        struct list link; /* dm_kcopyd_client.complete */
        struct dmio_task task;
        struct dmio_task cancel_task;
        struct dm_kcopyd_client *client;
        _Atomic(unsigned int) refs;
        dm_kcopyd_notify_fn fn;
        void *context;

        bool copies; /* from a source; else it zeroes, or is a prepared callback */
        bool plain;  /* zeroes by plain writes */
        unsigned int flags;
        struct io_region from;
        unsigned int num_dests;
        struct io_region dests[DM_KCOPYD_MAX_REGIONS];
        sector_t chunk; /* sectors of a sub-job */
        /* Regions that do not fit: bit i is destination i's, and this the source's. */
        unsigned long unfit;
        bool unfit_source;

        sector_t next;       /* where the next chunk begins */
        sector_t next_write; /* with DM_KCOPYD_WRITE_SEQ: where the next write begins */
        unsigned int n_active;
        _Atomic(bool) cancelled;
        /* Written by the queue's thread, under the client's lock, and read by anybody under it. */
        struct dm_kcopyd_job_status status;

        struct sub_job subs[DM_KCOPYD_SUB_JOBS];
};

/* --- kcopyd.c; on the queue's thread */

/* Do what can be done. */
void kcopyd_run(struct dm_kcopyd_client *kc);

/* Count in, if @is_job a job, and out; any thread. The former says -ESHUTDOWN to late jobs. */
int kcopyd_enter(struct dm_kcopyd_client *kc, bool is_job);
void kcopyd_leave(struct dm_kcopyd_client *kc, bool is_job);

void kcopyd_unref(struct dm_kcopyd_client *kc);

/* --- kcopyd-job.c */

/* False if no new chunk is to be begun, because of an error or a cancellation. */
bool job_goes_on(const struct dm_kcopyd_job *job);

/* Note errors of a chunk, read or written, and stop what they stop. */
void job_note_read_error(struct dm_kcopyd_job *job, const struct dm_io_leg_error *error);
void job_note_write_errors(struct dm_kcopyd_job *job, unsigned long bits,
                           const struct dm_io_leg_error *errors);

/* One that was active is not any more; the last one completes the job. */
void job_put_active(struct dm_kcopyd_job *job);

/* Call back and let go. */
void job_complete(struct dm_kcopyd_job *job);

/* --- kcopyd-sub-job.c */

/* Begin the next chunk, if there is one. */
void sub_job_begin(struct sub_job *sub);

/* The job has been stopped: give up what is not in flight, as far as that may be. */
void sub_job_stop(struct sub_job *sub);

/* Work off the client's lists. Returns true if something has happened. */
bool sub_jobs_run_pages(struct dm_kcopyd_client *kc);
bool sub_jobs_run_ios(struct dm_kcopyd_client *kc);

/* --- kcopyd-throttle.c */

int kcopyd_timer_init(struct dm_kcopyd_client *kc);
void kcopyd_timer_deinit(struct dm_kcopyd_client *kc);

/* kcopyd_run() in @us microseconds, or before. */
void kcopyd_timer_arm(struct dm_kcopyd_client *kc, uint64_t us);

/* From any thread: at once, if it is armed. */
void kcopyd_timer_expire(struct dm_kcopyd_client *kc);

void kcopyd_throttle_init(struct dm_kcopyd_client *kc, unsigned int percent);

/* From now on time is booked by what the throttle says now. */
void kcopyd_throttle_changed(struct dm_kcopyd_client *kc);

/* May I/O begin now? If not it is seen to that kcopyd_run() comes when it may. */
bool kcopyd_throttle_allows(struct dm_kcopyd_client *kc);

/* I/O has begun, or ended. */
void kcopyd_throttle_begin(struct dm_kcopyd_client *kc);
void kcopyd_throttle_end(struct dm_kcopyd_client *kc);
