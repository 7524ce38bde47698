/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Calls that may never return, each on a thread of its own, side by side: opening a device whose
 * file server is dead. Who waits for them may have enough of it (worker.h waits for every one).
 * What has come back by then is his; what has not is let go: when it does come back, nobody is
 * told, and what it got is dropped on its own thread.
 *
 * So many run at a time, but those that have not come back for a while do not count: they may never
 * do, and the others must get their turn. So what hangs costs threads, one each.
 *
 * A call that hangs where not even SIGKILL ends it keeps the process from ending, too: that is the
 * kernel's doing, and a thread more or less makes no difference to it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many run at a time at first, and at most. */
#define ASIDE_WIDTH 16
#define ASIDE_WIDTH_MAX 1024

/* One that takes longer makes room for another. */
#define ASIDE_SLOW_USEC 20000

/* When one is tried again. */
#define ASIDE_AGAIN_USEC 20000

struct aside;

struct aside_call {
        int (*run)(struct aside_call *call); /* on its thread: the result, 0 or a negative errno */
        void (*drop)(struct aside_call *call); /* undo what run did, free it. On some thread */
        struct aside *aside;                   /* private, as is the next */
        size_t index;
};

/*
 * @again: true for results with which the call is to be run again after a while; or NULL. Returns 0
 * or a negative errno.
 */
int aside_new(bool (*again)(int result), struct aside **ret);

/* Takes @call, and numbers it from 0 on. Before the first wait. Returns 0 or -ENOMEM. */
int aside_add(struct aside *aside, struct aside_call *call);

/* Let them run until all are back, or for so long. Returns how many are not back. */
size_t aside_wait(struct aside *aside, uint64_t usec);

/* True if the turn of each has come. */
bool aside_all_begun(struct aside *aside);

/* Wait no longer: those that are under way are let go. */
void aside_end(struct aside *aside);

enum aside_outcome {
        ASIDE_BACK,      /* with its result, which may be one of those that are tried again */
        ASIDE_LET_GO,    /* it has not come back */
        ASIDE_NOT_BEGUN, /* its turn has not come, or there was no thread for it */
};

/*
 * After aside_end(). The call, which stays ours, or NULL if it has been let go; and its latest
 * result, or 0.
 */
enum aside_outcome aside_get(const struct aside *aside, size_t index, struct aside_call **ret,
                             int *ret_result);

/* Drops, on a thread, what is here. Returns NULL. */
struct aside *aside_free(struct aside *aside);

/* The threads that have not come back, of all groups. While there are any, a process ends by
 * _exit(2): nothing that they use may be taken from under them. */
size_t aside_n_threads(void);

/* Close descriptors, which asks their file servers; those that answer at once have closed when this
 * returns. Without memory they stay open. */
void aside_close_fds(const int *fds, size_t n);
