/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A request in flight: struct io, with a leg for each region (leg.c).
 *
 * It is made by the caller's thread (io.c) and from then on belongs to its queue's thread alone,
 * so nothing in it needs a lock. n_pending counts the legs that are not done, plus one while they
 * are being started.
 */

#include <dmio/dmio.h>

#include "memory.h"
#include "util/list.h"

#define IO_INLINE_LEGS 4

struct io;

enum leg_stage {
        LEG_FLUSH_DUE, /* the flush that goes before the data */
        LEG_FLUSHING,
        LEG_DATA,
        LEG_DONE, /* nothing more is begun */
};

struct leg {
        struct io *io;
        struct block_device *bdev;
        sector_t sector;
        uint64_t bytes;  /* to transfer */
        uint64_t issued; /* of them, handed to pieces */
        struct memory_cursor cursor;
        struct list starved; /* queue.starved */
        enum leg_stage stage;
        unsigned int n_pieces; /* in flight, and one more while the leg is worked on */
        int error;             /* the first one, positive */
        sector_t error_sector;
        uint64_t done_usec; /* if somebody wants to know */
};

struct io {
        struct dmio_task task; /* the way to the queue's thread, and to the callback */
        struct dm_io_client *client;
        struct dmio_queue *queue;
        enum dm_io_op op;
        unsigned int flags;
        uint16_t ioprio;
        io_notify_fn fn;
        void *context;
        struct dm_io_leg_error *leg_errors;
        unsigned int n_legs;
        unsigned int n_pending;
        struct memory memory;
        uint64_t memory_bytes;
        bool is_sync;     /* it lies on its caller's stack, legs and all */
        bool has_array;   /* legs is from the slab */
        struct leg *legs; /* inline_legs, or an array of DM_IO_MAX_REGIONS */
        struct leg inline_legs[IO_INLINE_LEGS];
};

/* Begin a leg; on the queue's thread. Calls io_leg_done() once, perhaps before it returns. */
void leg_start(struct leg *leg);

/* Legs that could not get memory try again. */
void leg_retry_starved(struct dmio_queue *queue);

/*
 * Begin what can be begun; with nothing left, tell the request. The caller has counted one in
 * n_pieces, for the piece that has just ended or for itself: it keeps the leg alive until here.
 */
void leg_run(struct leg *leg);

/* An error at byte @offset of the leg; the first one counts. */
void leg_fail(struct leg *leg, int error, uint64_t offset);

/* How many sectors one operation of the leg's kind may have, as far as is known. */
sector_t leg_limit(const struct leg *leg);

/* For leg.c: @leg is done, leg->error tells how. */
void io_leg_done(struct leg *leg);

static inline bool io_op_writes(enum dm_io_op op)
{
        return op & 1;
}

/* Operations with memory. */
static inline bool io_op_transfers(enum dm_io_op op)
{
        return op == DM_IO_READ || op == DM_IO_WRITE;
}
