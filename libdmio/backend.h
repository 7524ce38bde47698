/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Back-ends: how a queue's operations reach the kernel. One table each, behind one door: queue.c
 * calls the table, nobody else does.
 */

#include <stdbool.h>
#include <stdint.h>

#include <dmio/engine.h>

struct backend_ops {
        const char *name;

        /* Does it work here? 0 or a negative errno. */
        int (*probe)(void);

        /* Make what a queue of @depth operations needs in *@ret; on the queue's thread. */
        int (*open)(struct dmio_queue *queue, unsigned int depth, void **ret);
        void (*close)(void *backend);

        /*
         * A descriptor that becomes readable when there may be something for wait, and from notify
         * on. Made at the first call; a negative errno if it cannot be had. From then on notify may
         * be called by any thread.
         */
        int (*fd)(void *backend);
        void (*notify)(void *backend);

        /*
         * Take @op, whose private fields are the back-end's until it is done. False if
         * there is no room just now: submit, and offer it again. Completion is told by
         * queue_complete(), from within reap or wait.
         */
        bool (*start)(void *backend, struct dmio_op *op);

        /* Ask for @op to be given up; false as for start. */
        bool (*cancel)(void *backend, struct dmio_op *op);

        /*
         * Tell completions that are there already, without a system call. Returns their number.
         */
        unsigned int (*reap)(void *backend);

        /*
         * Hand over what start has taken; then wait for a completion for up to @timeout_us
         * (negative: as long as it takes; 0: not at all). Returns 0 or a negative errno.
         */
        int (*wait)(void *backend, int64_t timeout_us);

        /* A look without a system call: could wait find something? True when in doubt. */
        bool (*is_due)(void *backend);
        /* But it does not see descriptors become ready: polling it instead of sleeping is no use.
         */
        bool is_due_is_blind;

        /* Is something taken by start not handed over yet? */
        bool (*has_unsubmitted)(void *backend);

        /* Chunks of the pool have gone: give up what was registered of them. NULL: nothing ever is.
         */
        void (*trim)(void *backend);
};

extern const struct backend_ops backend_uring;
extern const struct backend_ops backend_threads;
extern const struct backend_ops backend_memory;

/*
 * The back-end called @name, or for NULL the best real one that works here. Returns 0, or
 * -EOPNOTSUPP for one that is not known or does not work.
 */
int backend_find(const char *name, const struct backend_ops **ret);
