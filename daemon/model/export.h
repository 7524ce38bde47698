/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * An export: the file <mount>/<client>/<name>, a list of 1 to 64 legs of equal length.
 *
 * Life: made by export_new(), it is found through the model until export_remove(). Open files and
 * I/O in flight hold references, so the memory lasts as long as somebody uses it; export->gone
 * tells them that nothing more may be begun (ENODEV). A removal is complete when nothing is in
 * flight any more: its devices are closed and its sectors free for others, even if the file is
 * still open.
 *
 * Legs: a leg that failed a write misses data, so it takes part in nothing any more for as long as
 * the export lives. state and errors are written by queue threads and read by all.
 */

#include <stdatomic.h>
#include <stdbool.h>

#include <dmio/io.h>

#include "device-serial.h"
#include "model/client.h"
#include "model/model.h"
#include "model/record.h"
#include "model/statistics.h"
#include "mount/range-lock.h"
#include "worker.h"

struct grant;

enum leg_state {
        LEG_ACTIVE,
        LEG_FAILED,
        LEG_SYNCING, /* for healing, which does not exist yet */
};

/* What the kernel keeps of the export's data in its page cache. */
enum export_cache {
        EXPORT_CACHE_PAGE, /* all that is not read or written with O_DIRECT */
        EXPORT_CACHE_NONE,
        EXPORT_CACHE_MAPPED, /* the default: what is mapped and nothing else */
};

/* How its device was named, and so how it may be found again. */
enum leg_how {
        LEG_BY_PATH,       /* or by a descriptor of somebody who might have named the path */
        LEG_BY_NAME,       /* a name of the configuration */
        LEG_BY_DESCRIPTOR, /* not at all, unless somebody keeps the descriptor */
};

/* Which device it is, so that another one in its place is noticed. */
struct leg_identity {
        struct dmio_device_id id;
        bool block;
        sector_t capacity;
        int64_t born_sec; /* when the file was made, as far as its file system knows; else 0 */
        uint32_t born_nsec;
        char serial[DEVICE_SERIAL_SIZE]; /* of a block device; "" if that is not known */
};

/* One region of a request, opened. */
struct leg_spec {
        char *device; /* as it was named, for answers */
        struct block_device *bdev;
        sector_t sector;
        sector_t count;
        enum leg_how how;
        struct leg_identity identity;
        uint64_t kept; /* the number of the descriptor that is kept for it (commit.h); 0: none is */
};

struct leg {
        struct leg_spec spec;
        bool lasts_active; /* failed for want of all devices: it missed nothing, and may be back */
        _Atomic(enum leg_state) state;
        struct leg_errors *errors; /* of the export's counters */

        /* Private: what no event has told yet (export_tell_errors()). */
        _Atomic(uint64_t) untold_errors;
        _Atomic(uint32_t) untold_error;
        _Atomic(uint32_t) untold_failure;
};

struct export
{
        struct list link; /* client.exports, then client.draining */
        struct model *model;
        struct client *client; /* NULL once it is removed */
        struct client *owner;  /* main loop only: the same, until it is drained */
        char *name;
        char *path; /* <mount>/<client>/<name> */
        uid_t uid;
        gid_t gid;
        bool read_only;
        bool shared;
        enum export_cache cache;
        sector_t sectors;
        unsigned int logical_block; /* bytes: the largest of its legs */
        bool torn_reads;            /* a leg may show readers half of a write: it is a file */
        struct dm_io_client *io;    /* the client's; valid while something is in flight */
        struct node node;
        int64_t ctime_sec; /* when it was made: the file's times */

        _Atomic(unsigned int) refs;
        _Atomic(unsigned int) n_open;    /* open files; export_n_open() */
        _Atomic(unsigned int) n_writers; /* of them, those that may write (mount/holes.h) */
        _Atomic(unsigned int) in_flight; /* plus one until it is removed */
        _Atomic(bool) gone;
        bool leaving; /* main loop: is about to be removed, and lasts no longer */

        struct record record;            /* of failed legs, for the next daemon */
        struct list faults;              /* struct fault.link (fault.h); main loop */
        struct export_counters counters; /* counted in by the queue threads */

        struct range_lock ranges; /* writes in flight (mount/range-lock.h) */

        /*
         * Flushes that failed. A device reports what it could not keep once, to whoever flushes
         * first; but it may have been anybody's, so each open file is told at its next fsync.
         */
        _Atomic(unsigned int) flush_failures;

        struct grant *grants;          /* private: n_legs of them, until it is drained */
        struct dmio_task drained_task; /* private: in_flight reached 0 */
        struct worker_job close_job;   /* private: the devices are closed */
        struct dmio_task error_task;   /* private: legs have had errors */
        _Atomic(bool) error_posted;    /* private: error_task is on its way */
        void (*removed)(void *userdata);
        void *removed_userdata;

        bool legs_are_ours; /* private: their names were taken */
        unsigned int n_legs;
        struct leg legs[];
};

/*
 * Make an export of the given legs, whose names and device references are taken on success. Returns
 * MODEL_OK; MODEL_E_NAME, MODEL_E_EXISTS, MODEL_E_LIMIT ("exports"), MODEL_E_CLOSING;
 * MODEL_E_REGION for a region that is empty, does not fit its device or its logical block, differs
 * in length from the first, overlaps another one of the same writable export, or is read-only;
 * MODEL_E_BUSY for a region that overlaps an export unless both are shared; or a negative errno.
 */
int export_new(struct client *client, const char *name, struct leg_spec *legs, unsigned int n_legs,
               bool read_only, bool shared, enum export_cache cache, struct export **ret,
               struct model_refusal *refusal);

/*
 * The same for one that was there before, with the number that its file had. A leg may be without a
 * device; it has failed, and its region is held by nobody. Before anybody can open it.
 */
int export_restore(struct client *client, const char *name, struct leg_spec *legs,
                   unsigned int n_legs, bool read_only, bool shared, enum export_cache cache,
                   node_id_t node, struct export **ret, struct model_refusal *refusal);

/* Name the file anew, since the mount has a name now. Before anybody can open it. 0 or -ENOMEM. */
int export_name_path(struct export *export);

/*
 * Take the export out of the model and let what is in flight finish; then call @removed (may be
 * NULL) once, from the main loop, never inside this call. Returns MODEL_OK, or MODEL_E_BUSY if it
 * is open and @force is not given.
 */
int export_remove(struct export *export, bool force, void (*removed)(void *userdata),
                  void *userdata, struct model_refusal *refusal);

/*
 * What lasts is written before an export is removed that lasts: export_leave() closes it to opens
 * and takes it out of what lasts, with the outcomes of export_remove(); export_stay() is for when
 * that came to nothing. Main loop.
 */
int export_leave(struct export *export, bool force, struct model_refusal *refusal);
void export_stay(struct export *export);

struct export *export_ref(struct export *export);

/* Any thread. Returns NULL. */
struct export *export_unref(struct export *export);

/* Bracket of every operation on the data, any thread: 0 or -ENODEV. */
int export_begin(struct export *export);
void export_end(struct export *export);

/* The file of an open: counts n_open. -ENODEV if it is gone. */
int export_open(struct export *export);
void export_close(struct export *export);

/* The number of open files. */
unsigned int export_n_open(const struct export *export);

/*
 * Count an error of a leg in @op; with @fail the leg takes part in nothing any more. Any thread,
 * under whatever locks: it never waits and needs no memory. In the bracket of an operation, so that
 * the event of it (event.h) comes before that of the removal.
 */
void export_leg_error(struct export *export, unsigned int leg, enum dm_io_op op, int error,
                      bool fail);

/* The function of error_task. */
void export_tell_errors(struct dmio_task *task);

/* Have the main loop look at what has happened to the legs. Any thread, in the bracket. */
void export_post_errors(struct export *export);

static inline bool leg_is_active(const struct leg *leg)
{
        return atomic_load_explicit(&leg->state, memory_order_acquire) == LEG_ACTIVE;
}

/* True for errnos that speak of the request, not of the leg: they never fail it. */
bool export_error_is_harmless(int error);
