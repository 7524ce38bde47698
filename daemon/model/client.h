/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A client: a named holder of a reservation and of exports, owned by a uid.
 *
 * A client made without linger belongs to a connection and ends with it. Its end is a process: no
 * new work, exports drained and gone, pages put; then the name is free again (client_close()).
 */

#include <stdbool.h>
#include <sys/types.h>

#include "model/model.h"
#include "model/statistics.h"
#include "worker.h"

/* Positive outcomes of the functions that change the model; each belongs to one error reply. */
enum model_outcome {
        MODEL_OK = 0,
        MODEL_E_NAME = 1, /* the name is not a valid one */
        MODEL_E_EXISTS,   /* there is one of that name */
        MODEL_E_LIMIT,    /* a limit of the uid: see struct model_refusal */
        MODEL_E_POOL,     /* the pool may not grow that far: see struct model_refusal */
        MODEL_E_NOT_RESERVED,
        MODEL_E_BUSY,   /* open, or a region is held by somebody: see struct model_refusal */
        MODEL_E_REGION, /* a region is not usable: see struct model_refusal */
        MODEL_E_CLOSING,
};

/* Why, for outcomes that have something to tell. Strings belong to the model or are constants. */
struct model_refusal {
        const char *limit;   /* MODEL_E_LIMIT: its name, for example "clients" */
        uint64_t value;      /* MODEL_E_LIMIT: its value */
        uint64_t requested;  /* MODEL_E_POOL: pages */
        uint64_t available;  /* MODEL_E_POOL: pages */
        unsigned int region; /* MODEL_E_BUSY, MODEL_E_REGION: which one */
        char reason[160];    /* MODEL_E_REGION */
        const char *client;  /* MODEL_E_BUSY: who holds it */
        const char *export;  /* MODEL_E_BUSY */
        unsigned int n_open; /* MODEL_E_BUSY of an export that is open; 0 for a region */
};

struct client {
        struct list link; /* model.clients */
        struct model *model;
        char *name;
        uid_t uid;
        gid_t gid;
        bool linger;
        uint64_t connection;     /* which one it ends with; 0 if it lingers */
        bool closing;            /* no new work */
        bool leaving;            /* is about to be closed, and lasts no longer; main loop */
        struct dm_io_client *io; /* NULL at the very end of a close */
        uint64_t pages;          /* the reservation; main loop */
        uint64_t pages_leaving;  /* of it, those that are about to be put, and last no longer */
        struct list exports;
        struct list draining; /* struct export.link: removed, with something in flight */
        unsigned int n_exports;
        unsigned int n_draining; /* as many as there are in draining */
        unsigned int n_calls;    /* Io calls and jobs in progress; main loop */
        struct list jobs;        /* struct job.link (job.h); main loop */
        struct list requests;    /* struct request.link (request.h); main loop */
        struct list waits;       /* struct request_wait.link; main loop */

        struct client_counters *counters;
        int counters_block; /* of model.counters, where they lie; -1: they end with the process */
        uint64_t waits_before; /* for pages, in earlier processes */

        struct node node;        /* the directory */
        struct node status_node; /* its .status */

        void (*closed)(void *userdata); /* set by client_close() */
        void *closed_userdata;
        struct worker_job destroy_job; /* private: the engine's client goes */
        struct dm_io_client *destroy_io;
        int destroy_result;
};

/*
 * Make a client with a reservation of @pages. Returns MODEL_OK and the client, MODEL_E_NAME,
 * MODEL_E_EXISTS, MODEL_E_LIMIT ("clients", "pages"), MODEL_E_POOL, or a negative errno.
 */
int client_new(struct model *model, const char *name, const struct peer *owner, uint64_t pages,
               bool linger, uint64_t connection, struct client **ret,
               struct model_refusal *refusal);

/* The same for one that lingers and was there before, with the numbers that its files had. */
int client_restore(struct model *model, const char *name, const struct peer *owner, uint64_t pages,
                   node_id_t node, node_id_t status_node, struct client **ret,
                   struct model_refusal *refusal);

/*
 * Begin the end: refuse new work, cancel the jobs, wait for them, for Io calls and for what is in
 * flight on the exports, remove these, put the pages, free the client, then call @closed (may be
 * NULL) once, from the main loop, never inside this call. Returns MODEL_OK or MODEL_E_CLOSING if
 * that has begun already.
 */
int client_close(struct client *client, void (*closed)(void *userdata), void *userdata);

/* False for one that is closed, or is about to be. Main loop. */
static inline bool client_takes_work(const struct client *client)
{
        return !client->closing && !client->leaving;
}

/* Bracket of an Io call or a job: begin refuses with MODEL_E_CLOSING; end may complete a close.
 * Main loop.
 */
int client_begin_call(struct client *client);
void client_end_call(struct client *client);

/* dm_io_get: MODEL_OK, MODEL_E_LIMIT ("pages"), MODEL_E_POOL, MODEL_E_CLOSING or a negative errno.
 */
int client_get(struct client *client, uint64_t pages, struct model_refusal *refusal);

/* dm_io_put: MODEL_OK, MODEL_E_NOT_RESERVED, MODEL_E_CLOSING or a negative errno. */
int client_put(struct client *client, uint64_t pages);

/* A close may be able to go on: for export.c, when an export has drained. */
void client_continue_close(struct client *client);

/* What the client has done has ended, in one of its own sets. Main loop. */
void client_count(struct client *client, struct counters *set, uint64_t usec, uint64_t bytes,
                  bool failed);

/* How often it has waited for pages. Any thread, under the lock or on the main loop. */
uint64_t client_waits(const struct client *client, const struct dm_io_client_stats *stats);

/* There were so many in earlier processes, if not more. Before anybody can ask. */
void client_raise_waits(struct client *client, uint64_t waits);

/* The export of that name or NULL. */
struct export *client_find_export(struct client *client, const char *name);
