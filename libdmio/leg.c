/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A leg: one region's part of a request, cut into pieces (piece.c), a few of which are in flight at
 * a time.
 *
 * All pieces are tried, also after one has failed: what can be written is written, and of a read
 * exactly the pieces that failed are filled with zeroes. The leg remembers the first error.
 *
 * Progress without memory: pieces are reserved by clients and queues. A leg that gets none waits in
 * its queue's list of starved legs until another piece is done; there must be one, because the
 * queue's own reservation is in use then.
 */
#include <assert.h>
#include <errno.h>

#include "device-internal.h"
#include "engine-internal.h"
#include "io-internal.h"
#include "piece.h"
#include "queue-internal.h"
#include "util/macros.h"

#define LEG_PIECES 4

void leg_fail(struct leg *leg, int error, uint64_t offset)
{
        if (leg->error)
                return;
        leg->error = error;
        leg->error_sector = leg->sector + (offset >> DMIO_SECTOR_SHIFT);
}

sector_t leg_limit(const struct leg *leg)
{
        if (leg->io->op == DM_IO_DISCARD || leg->io->op == DM_IO_WRITE_ZEROES)
                device_limits_need(leg->bdev);
        switch (leg->io->op) {
        case DM_IO_DISCARD:
                return atomic_load(&leg->bdev->limits.discard_max);
        case DM_IO_WRITE_ZEROES:
                return atomic_load(&leg->bdev->limits.write_zeroes_max);
        default:
                return DMIO_DEVICE_LIMIT_UNKNOWN;
        }
}

/* A region that does not fit fails whole; returns a positive errno or 0. */
static int leg_check(const struct leg *leg)
{
        sector_t count = leg->bytes >> DMIO_SECTOR_SHIFT;
        const struct io *io = leg->io;

        if (io_op_writes(io->op) && leg->bdev->read_only)
                return EROFS;
        if (!device_fits(leg->bdev, leg->sector, count, io_op_writes(io->op)))
                return io_op_writes(io->op) ? ENOSPC : EIO;
        if (!is_aligned(leg->sector << DMIO_SECTOR_SHIFT, leg->bdev->logical_block) ||
            !is_aligned(leg->bytes, leg->bdev->logical_block))
                return EINVAL;
        if (leg_limit(leg) == 0)
                return EOPNOTSUPP;
        return 0;
}

/* A read that is not carried out leaves zeroes behind. */
static void leg_zero_rest(struct leg *leg)
{
        const struct io *io = leg->io;

        if (io->op == DM_IO_READ && io->memory_bytes > leg->issued)
                (void)memory_zero(&leg->cursor, MIN(io->memory_bytes - leg->issued,
                                                    memory_once_around(&io->memory)));
}

void leg_start(struct leg *leg)
{
        const struct io *io = leg->io;
        int error = 0;

        leg->cursor = memory_begin(&io->memory);
        leg->stage = LEG_DATA;
        if (io->op == DM_IO_FLUSH || io->flags & DM_IO_PREFLUSH)
                leg->stage = LEG_FLUSH_DUE;
        if (io->op == DM_IO_FLUSH)
                leg->bytes = 0;
        else if (leg->bytes > 0)
                error = leg_check(leg);

        if (error) {
                leg_fail(leg, error, 0);
                leg_zero_rest(leg);
                leg->stage = LEG_DONE;
        }
        leg->n_pieces++;
        leg_run(leg);
}

/* The next step of a leg. False if there is no piece for it: it starves. */
static bool leg_step(struct leg *leg)
{
        struct dmio_queue *queue = leg->io->queue;
        struct piece *piece = piece_new(leg);

        if (!piece) {
                assert(queue->n_pieces > 0);
                list_append(&queue->starved, &leg->starved);
                return false;
        }

        if (leg->stage == LEG_FLUSH_DUE)
                piece_start_flush(piece);
        else if (io_op_transfers(leg->io->op))
                piece_start_transfer(piece);
        else
                piece_start_change(piece);
        return true;
}

void leg_run(struct leg *leg)
{
        /* The data goes after the flush, and not at all if that has failed. */
        if (leg->stage == LEG_FLUSHING)
                leg->stage = leg->error ? LEG_DONE : LEG_DATA;
        if (leg->stage == LEG_FLUSH_DUE && leg_step(leg))
                leg->stage = LEG_FLUSHING;

        while (leg->stage == LEG_DATA && leg->issued < leg->bytes && leg->n_pieces <= LEG_PIECES &&
               list_is_empty(&leg->starved))
                if (!leg_step(leg))
                        break;

        leg->n_pieces--;
        if (leg->n_pieces == 0 && list_is_empty(&leg->starved))
                io_leg_done(leg);
}

void leg_retry_starved(struct dmio_queue *queue)
{
        struct leg *leg;

        do {
                leg = list_first(&queue->starved, struct leg, starved);
                list_unlink(&leg->starved);
                leg->n_pieces++;
                leg_run(leg);
        } while (queue->n_pieces == 0 && !list_is_empty(&queue->starved));
}
