/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The copier: one region of a device to up to 8 regions at once, or zeroes to them, asynchronously.
 *
 * A copy is cut into sub-jobs (chunks), up to 8 of which are under way at a time: each takes pages,
 * reads its part of the source and writes it to all destinations in one request. All of a client's
 * work is done on one queue, its worker: nothing there sleeps, and callbacks come one at a time.
 *
 * What holds for every copy:
 * - A negative return means that nothing was begun and the callback never runs; 0 means that it
 *   runs exactly once, later, on the queue's thread, never inside the call.
 * - @read_err is 0 or 1, bit i of @write_err speaks of destination i; both are what all chunks have
 *   met together. A job handle tells the errno and the sector as well.
 * - After an error no new chunk is begun; those that are under way finish. A chunk that could not
 *   be read is not written.
 * - With DM_KCOPYD_IGNORE_ERROR all chunks are tried, and a chunk that could not be read is written
 *   all the same, with zeroes in place of exactly what could not be read. The errors are told. (A
 *   chunk that can never have pages, see io_client below, is neither read nor written.)
 * - A region that does not fit its device fails whole, as it does in dm_io(): nothing of it is
 *   read or written (EIO for the source, ENOSPC for a destination).
 * - Chunks are done in any order, unless DM_KCOPYD_WRITE_SEQ is given.
 * - Nothing is flushed: see DM_IO_FLUSH for that.
 * - Regions are copied in at the call; the caller keeps their devices open until the callback.
 *
 * A client with several copies always gets on: it has reserved the pages of one full chunk, and
 * takes more only where nobody else is promised them.
 *
 * Functions may be called from any thread, callbacks included, where nothing else is said.
 */

#include <dmio/io.h>
#include <dmio/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Most destinations of a copy. */
#define DM_KCOPYD_MAX_REGIONS 8

/* Most chunks of one copy that are under way at a time. */
#define DM_KCOPYD_SUB_JOBS 8

/* Go on after errors, see above. */
#define DM_KCOPYD_IGNORE_ERROR (1u << 1)
/*
 * Begin the writes in the order of their sectors (reads may come in any, and zeroes that a device
 * refused are written when that shows). After an error nothing
 * more is written, so DM_KCOPYD_IGNORE_ERROR has no effect beside it.
 */
#define DM_KCOPYD_WRITE_SEQ (1u << 2)

struct dm_kcopyd_client;
struct dm_kcopyd_job;

struct dm_kcopyd_options {
        unsigned int sub_job_sectors; /* at most 2048, rounded up to pages; 0 means 1024 */
        /*
         * Of the time, in percent, that I/O of this client may be in flight; 0 and 100 mean that
         * there is no limit. Short bursts are let through (50 ms' worth), longer ones are followed
         * by a rest without I/O, of 10 s at most.
         */
        unsigned int throttle;
        /*
         * Whose account the pages and requests go on. NULL: a client of the copier's own, with the
         * pages of one chunk reserved. Otherwise the reservation is the caller's business: a chunk
         * that its client can never have the pages for (see dmio_pages_wait()) fails with ENOMEM.
         */
        struct dm_io_client *io_client;
        struct dmio_queue *queue; /* NULL: the caller's own queue, or the engine's */
};

/*
 * Create a client. @options may be NULL for the defaults. Returns 0 and the client in *@ret;
 * -EINVAL for options out of range, a client or queue of another engine, no queue, or if the
 * engine's limit forbids the reservation; -ENOMEM; or what timerfd_create(2) returns.
 */
int dm_kcopyd_client_create(struct dmio_engine *engine, const struct dm_kcopyd_options *options,
                            struct dm_kcopyd_client **ret);

/*
 * Wait until every callback has returned, also those that are prepared, and no pages are waited for
 * any more on somebody else's account; then free the client. Later calls get -ESHUTDOWN. A program
 * that drives the client's queue drives it here. Job handles may be kept. Returns 0; -EDEADLK from
 * a callback, with nothing changed; or what dmio_queue_process() returns. NULL is allowed.
 */
int dm_kcopyd_client_destroy(struct dm_kcopyd_client *kc);

/*
 * Wait until the queue has taken up what was asked of the client before (copies, prepared callbacks
 * that were done, cancellations), not until copies are done. Returns 0; -EDEADLK from a callback;
 * or what dmio_queue_process() returns.
 */
int dm_kcopyd_client_flush(struct dm_kcopyd_client *kc);

/*
 * Change the throttle, also of copies that are under way; it acts at once. Returns 0, or -EINVAL
 * for more than 100.
 */
int dm_kcopyd_client_set_throttle(struct dm_kcopyd_client *kc, unsigned int percent);

struct dm_kcopyd_client_stats {
        uint64_t jobs;         /* accepted and not yet called back, prepared callbacks included */
        uint64_t sub_jobs;     /* chunks begun so far */
        uint64_t busy_us;      /* time with I/O in flight */
        uint64_t idle_us;      /* time without, that the throttle had asked for */
        uint64_t pauses;       /* times that chunks had to wait for that */
        unsigned int throttle; /* percent; 100 means that there is no limit */
};

void dm_kcopyd_client_stats(struct dm_kcopyd_client *kc, struct dm_kcopyd_client_stats *ret);

typedef void (*dm_kcopyd_notify_fn)(int read_err, unsigned long write_err, void *context);

/*
 * Copy @from to each of the @num_dests (1 to 8) regions @dests. A count of 0 is allowed: nothing is
 * done, and @fn is called.
 *
 * With @ret_job it gets a handle, set before @fn can run, to be given back with
 * dm_kcopyd_job_unref().
 *
 * Returns 0, or
 * -EINVAL    no or too many destinations, a count other than the source's, a region that its
 *            device's logical block does not divide, a logical block larger than a chunk, a
 *            destination that shares sectors with the source, an unknown flag, a missing pointer
 * -ESHUTDOWN the client is being destroyed
 * -ENOMEM    no memory for the job
 *
 * Of destinations that share sectors with each other, those sectors get either's bytes.
 */
int dm_kcopyd_copy(struct dm_kcopyd_client *kc, const struct io_region *from,
                   unsigned int num_dests, const struct io_region *dests, unsigned int flags,
                   dm_kcopyd_notify_fn fn, void *context, struct dm_kcopyd_job **ret_job);

/*
 * Fill each of the regions with zeroes; the rest as dm_kcopyd_copy(). DM_IO_WRITE_ZEROES is tried
 * first, unless one of the devices says that it has no such operation (struct dmio_device_info).
 * Of others that shows when it is tried: a chunk that one of the destinations answers with
 * EOPNOTSUPP is written to all of them, as zeroes in plain writes, and so are the chunks that
 * follow. No pages are taken.
 */
int dm_kcopyd_zero(struct dm_kcopyd_client *kc, unsigned int num_dests,
                   const struct io_region *dests, unsigned int flags, dm_kcopyd_notify_fn fn,
                   void *context, struct dm_kcopyd_job **ret_job);

/*
 * A callback in line with those of copies, on the same thread, for work that the program does
 * itself: prepare takes the memory for it, and dm_kcopyd_do_callback(), once, with what prepare
 * returned, has @fn called with these errors. Prepare returns NULL if there is no memory or the
 * client is being destroyed.
 */
void *dm_kcopyd_prepare_callback(struct dm_kcopyd_client *kc, dm_kcopyd_notify_fn fn,
                                 void *context);
void dm_kcopyd_do_callback(void *job, int read_err, unsigned long write_err);

/* --- jobs: a handle is a counted reference, good for as long as it is held */

enum dm_kcopyd_job_state {
        DM_KCOPYD_JOB_RUNNING,
        DM_KCOPYD_JOB_DONE,      /* everything was copied */
        DM_KCOPYD_JOB_FAILED,    /* something was not, see the errors */
        DM_KCOPYD_JOB_CANCELLED, /* stopped before its end, by dm_kcopyd_job_cancel() */
};

struct dm_kcopyd_job_status {
        enum dm_kcopyd_job_state state;
        /*
         * Sectors of the chunks that are written. Chunks that met an error count only with
         * DM_KCOPYD_IGNORE_ERROR; so a job that was not stopped ends with @done == @total.
         */
        sector_t done;
        sector_t total;
        int read_err; /* as the callback has it, as far as is known now */
        unsigned long write_err;
        unsigned int num_dests;
        struct dm_io_leg_error source; /* the first error, as in <dmio/io.h> */
        struct dm_io_leg_error dests[DM_KCOPYD_MAX_REGIONS];
};

/* How far a job is. In its callback, and ever after, this is the result. */
void dm_kcopyd_job_status(struct dm_kcopyd_job *job, struct dm_kcopyd_job_status *ret);

/*
 * Begin no new chunk. What has been read by now is written, then the callback comes, with the
 * errors that were met; that the job was cancelled is told by its state. Does nothing to a job
 * whose end has come.
 */
void dm_kcopyd_job_cancel(struct dm_kcopyd_job *job);

/* One more reference; returns @job. */
struct dm_kcopyd_job *dm_kcopyd_job_ref(struct dm_kcopyd_job *job);

/* Give a reference back. The job goes on all the same. NULL is allowed. */
void dm_kcopyd_job_unref(struct dm_kcopyd_job *job);

#ifdef __cplusplus
}
#endif
