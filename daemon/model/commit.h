/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Making changes of the model last beyond the process. Whoever changed something that is to last
 * waits for its commit before he tells anybody.
 *
 * What is written is always the whole, as it is when the write begins; one write serves everybody
 * who waits by then, and whoever comes meanwhile waits for the next one. It is done by a thread of
 * its own, so that a slow disk holds up those who wait for it and nobody else. How it is written is
 * the keeper's matter (state/); the model does not know. Main loop only.
 */

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "util/list.h"
#include "worker.h"

struct model;
struct keeper;

struct commit {
        struct list link; /* private, as is the next */
        uint64_t number;
        void (*done)(struct commit *commit, int error); /* 0 or a negative errno */
};

/* What the keeper does. */
struct keeper_class {
        /* What is to last of the model, as of now; NULL without memory. */
        json_t *(*describe)(struct keeper *keeper);
        /* Make that last. On the thread. Returns 0 or a negative errno. */
        int (*write)(struct keeper *keeper, const json_t *content);
        /* Have a descriptor of that number kept for the next daemon; -EOPNOTSUPP if nobody does.
         * Any thread. */
        int (*keep)(struct keeper *keeper, uint64_t number, int fd);
        /* It is not wanted any more. */
        void (*forget)(struct keeper *keeper, uint64_t number);
};

/* model->keeper; NULL: nothing lasts. */
struct keeper {
        const struct keeper_class *class;
        struct worker *worker; /* its one thread */
        struct list waiting;   /* struct commit.link: private, as is what follows */
        struct worker_job job;
        bool writing;
        bool closed;      /* commits are done at once */
        bool last;        /* what is written from now on is the last */
        bool frozen;      /* the model is being taken apart: nothing is written */
        uint64_t number;  /* of the latest commit */
        uint64_t covered; /* by the write in progress */
        json_t *content;
        int result;
        sd_event_source *later;
        bool failing; /* the latest write failed */
        uint64_t next_descriptor;
};

/* Returns 0 or a negative errno. */
int keeper_init(struct keeper *keeper, const struct keeper_class *class, sd_event *event);

/* Waits for a write in progress. Those who wait hear of it, or of -ESHUTDOWN. */
void keeper_deinit(struct keeper *keeper);

/* True if what is made now can outlast the daemon. */
bool model_can_last(const struct model *model);

/*
 * Have the model as it is now written, and call @commit->done; inside this call once the last
 * commit has been. The caller keeps @commit until then. Only where model_can_last().
 */
void commit_begin(struct model *model, struct commit *commit);

/* The same in a while, for what nobody waits for. */
void commit_later(struct model *model);

/* The first of @n numbers for descriptors, which are never used twice. */
uint64_t keeper_take_numbers(struct keeper *keeper, unsigned int n);

/* The descriptor that was kept goes with its export, unless that is only taken apart. */
void keeper_forget(struct keeper *keeper, uint64_t number);

/* The last commit, when all is quiet. Those that come later come to nothing: -ESHUTDOWN. */
void commit_last(struct model *model, struct commit *commit);

/* What happens to the model from now on is its taking apart, and no write must see it. */
void commit_freeze(struct model *model);

/* What is freed now goes from the process, and not from what lasts: its taking apart, or a start
 * that has failed. */
bool model_is_taken_apart(const struct model *model);
