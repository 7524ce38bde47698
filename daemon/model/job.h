/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A job: a copy, or zeroes, of a client. It has a copier of its own on the client's account, so
 * that a throttle is its own, and its pages are those that the client has reserved.
 *
 * Life: job_start() begins it; its sectors are claimed in the region table, and its client does not
 * end, until it has ended: the copier is gone and the devices are closed. What became of it is kept
 * until the client goes, or JOB_HISTORY later ones have ended. A client that is being closed
 * cancels its jobs. Main loop only.
 */

#include <limits.h>

#include <dmio/dmio.h>

#include "model/client.h"
#include "model/region-table.h"

/* Ended jobs that are kept, of each client. */
#define JOB_HISTORY 16

/* Destinations are numbered from 0; for struct model_refusal this is the source. */
#define JOB_SOURCE UINT_MAX

enum job_kind {
        JOB_COPY,
        JOB_ZERO,
};

struct job_spec {
        enum job_kind kind;
        unsigned int n_dests;
        struct io_region source; /* JOB_COPY */
        struct io_region dests[DM_KCOPYD_MAX_REGIONS];
        unsigned int flags;    /* DM_KCOPYD_* */
        unsigned int throttle; /* percent; 0: no limit */
};

struct job {
        struct list link; /* client.jobs, in the order of their beginning */
        struct client *client;
        uint64_t number;
        struct job_spec spec; /* the devices are the job's, and are closed when it has ended */
        uint64_t start_usec;  /* CLOCK_MONOTONIC */
        bool ended;

        /* Called once, when it has ended and holds nothing any more; may be NULL. */
        void (*on_end)(struct job *job, void *userdata);
        void *on_end_userdata;

        struct dm_kcopyd_client *copier; /* private, as is what follows */
        struct dm_kcopyd_job *handle;
        struct dm_kcopyd_job_status result; /* once the copier has called back */
        struct grant claims[1 + DM_KCOPYD_MAX_REGIONS];
        unsigned int n_claims;
        struct worker_job close_job;
};

/*
 * Begin a job. With MODEL_OK it has taken over the devices of @spec (one may be there twice, opened
 * twice) and the caller's client_begin_call(). Otherwise nothing is taken: MODEL_E_CLOSING,
 * MODEL_E_LIMIT ("jobs"), MODEL_E_REGION, MODEL_E_BUSY, or a negative errno.
 */
int job_start(struct client *client, const struct job_spec *spec, struct job **ret,
              struct model_refusal *refusal);

/* How far it is, or its result. */
void job_status(const struct job *job, struct dm_kcopyd_job_status *ret);

/* Begin no more of it. Does nothing to one that has ended. */
void job_cancel(struct job *job);

/* The job of that number that @peer can see, or NULL. */
struct job *job_find(struct model *model, uint64_t number, const struct peer *peer);

/* Cancel all jobs of a client; of all clients, for good: what begins later is cancelled at once. */
void jobs_cancel(struct client *client);
void jobs_stop(struct model *model);

/* Forget the jobs of a client, all of which have ended. */
void jobs_forget(struct client *client);
