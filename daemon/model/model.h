/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The model: every client and export of the daemon, and who holds which sectors.
 *
 * Two kinds of thread meet here. The main loop is the only one that changes the model, and holds
 * model->lock while it does; it may read without the lock. Queue threads take the lock to look
 * something up. Nobody blocks on anything else while holding it.
 *
 * Reads and writes of an export take no lock of the model: an open file holds a reference to its
 * export (export.h).
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <dmio/dmio.h>

#include "peer.h"
#include "util/list.h"

struct client;
struct config;
struct counters_file;
struct export;
struct keeper;
struct worker;

/* Numbers of files in the mount. Never used twice, so a stale one cannot mean something else. */
typedef uint64_t node_id_t;

#define NODE_ROOT ((node_id_t)1)        /* <mount>; FUSE fixes this number */
#define NODE_ROOT_STATUS ((node_id_t)2) /* <mount>/.status */
#define NODE_FIRST_FREE ((node_id_t)3)

enum node_type {
        NODE_TYPE_ROOT,
        NODE_TYPE_ROOT_STATUS,
        NODE_TYPE_CLIENT,        /* <mount>/<client> */
        NODE_TYPE_CLIENT_STATUS, /* <mount>/<client>/.status */
        NODE_TYPE_EXPORT,        /* <mount>/<client>/<export> */
};

struct node {
        node_id_t id;
        enum node_type type;
        struct client *client; /* of NODE_TYPE_CLIENT, _CLIENT_STATUS and _EXPORT */
        struct export *export; /* of NODE_TYPE_EXPORT */
};

struct model {
        pthread_mutex_t lock;
        struct dmio_engine *engine;
        struct dmio_queue *queue;    /* the main loop's own */
        const struct config *config; /* main loop only; replaced as a whole by a reload */
        struct worker *worker;       /* closes devices */
        struct keeper *keeper;       /* makes things last (commit.h); NULL: nothing does */
        char *mount;                 /* where the mount is, for paths in answers; may be NULL */
        dev_t mount_device;          /* of its file system; 0 if it cannot be told */
        struct dm_io_client *own_io; /* the mount's own share of the pool; NULL without a mount */
        unsigned int n_lanes; /* queue threads that the mount may have; each counts for itself */
        char *transport;      /* how FUSE is spoken, for Status: "dev-fuse" */
        uint64_t start_usec;  /* CLOCK_MONOTONIC */
        struct list clients;  /* struct client.link, in the order of creation */
        unsigned int n_clients;
        unsigned int n_exports;
        uint64_t pages;                 /* reserved by the clients, together */
        uint64_t page_limit;            /* most that they may reserve */
        struct list users;              /* struct user.link (quota.h) */
        struct list regions;            /* struct grant.link (region-table.h) */
        uint64_t last_job;              /* the number of the latest one */
        uint64_t last_request;          /* the same of submitted requests */
        uint64_t last_fault;            /* the same of faults */
        bool jobs_stopped;              /* those that begin are cancelled at once */
        _Atomic(uint32_t) *calls_noted; /* so many are in progress, for who comes next; or NULL */
        void *nodes;                    /* tsearch(3) tree of struct node by id */
        node_id_t next_node;
        bool restoring; /* what was granted before is granted again, whatever the limits are now */
        struct node root; /* the two that belong to no client */
        struct node root_status;

        /* Counters that outlast the process; NULL: none do. Where it is, main loop. */
        struct counters_file *counters;

        /* Main loop only. */
        struct list watchers; /* struct event_watcher.link (event.h) */
        uint64_t n_events;    /* so many there have been */

        /* Called on the main loop when the last client is gone; may be NULL. */
        void (*emptied)(void *userdata);
        void *emptied_userdata;
};

int model_init(struct model *model, struct dmio_engine *engine, struct dmio_queue *queue,
               const struct config *config, struct worker *worker);

/* Every client must be gone. */
void model_deinit(struct model *model);

/* The mount has a name: exports are named by it. Before anybody can open one. 0 or -ENOMEM. */
int model_set_mount(struct model *model, const char *path);

/* Replace the configuration; the old one is the caller's again. Main loop. */
void model_set_config(struct model *model, const struct config *config);

/*
 * Enter @node, by the number that it has, or the next free one if that is 0. Returns 0 or -ENOMEM.
 * Under the lock.
 */
int model_add_node(struct model *model, struct node *node);
void model_remove_node(struct model *model, struct node *node);

/* The node of that number or NULL. Under the lock. */
struct node *model_find_node(struct model *model, node_id_t id);

/* 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot: the names of clients and exports. */
bool model_name_is_valid(const char *name);

/* Visible and usable: the peer is privileged or the owner. */
bool client_is_visible(const struct client *client, const struct peer *peer);

/* The client of that name, visible or not, or NULL. */
struct client *model_find_client(struct model *model, const char *name);
