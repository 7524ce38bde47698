/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A line of operations, linked by their next: an operation is in one line at a time. */

#include <stdbool.h>

#include <dmio/engine.h>

struct op_fifo {
        struct dmio_op *first;
        struct dmio_op **last;
};

static inline void fifo_init(struct op_fifo *fifo)
{
        fifo->first = NULL;
        fifo->last = &fifo->first;
}

static inline void fifo_push(struct op_fifo *fifo, struct dmio_op *op)
{
        op->next = NULL;
        *fifo->last = op;
        fifo->last = &op->next;
}

/* The other end: @op is the next one to be popped. */
static inline void fifo_push_first(struct op_fifo *fifo, struct dmio_op *op)
{
        op->next = fifo->first;
        if (!fifo->first)
                fifo->last = &op->next;
        fifo->first = op;
}

static inline struct dmio_op *fifo_pop(struct op_fifo *fifo)
{
        struct dmio_op *op = fifo->first;

        if (op) {
                fifo->first = op->next;
                if (!fifo->first)
                        fifo->last = &fifo->first;
        }
        return op;
}

/* Move all of @from to the end of @fifo. */
static inline void fifo_append(struct op_fifo *fifo, struct op_fifo *from)
{
        if (!from->first)
                return;
        *fifo->last = from->first;
        fifo->last = from->last;
        fifo_init(from);
}

/* False if @op is not in it. */
static inline bool fifo_remove(struct op_fifo *fifo, const struct dmio_op *op)
{
        for (struct dmio_op **p = &fifo->first; *p; p = &(*p)->next) {
                if (*p != op)
                        continue;
                *p = op->next;
                if (!*p)
                        fifo->last = p;
                return true;
        }
        return false;
}
