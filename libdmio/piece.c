/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A piece of a leg: at most PIECE_BYTES, one operation of the queue at a time, started again for
 * what a short transfer left over. A piece uses the caller's memory in place if the device can, and
 * pages of the pool in between (bounce) if O_DIRECT demands an alignment that the memory does not
 * have.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/uio.h>

#include "device-internal.h"
#include "engine-internal.h"
#include "io-internal.h"
#include "piece.h"
#include "queue-internal.h"
#include "util/macros.h"

#define PIECE_BYTES (UINT64_C(1) << 20)
#define PIECE_BOUNCE_PAGES 64
#define PIECE_INLINE_IOV 8
/* Operations without memory may be larger; the bound keeps them cancellable and fair. */
#define PIECE_BYTES_NO_DATA (UINT64_C(1) << 30)

struct piece {
        struct dmio_op op;
        struct leg *leg;
        uint64_t offset; /* in the leg */
        uint64_t length;
        uint64_t done;
        struct memory_cursor cursor;     /* at the piece's first byte */
        struct page_list *bounce;        /* or NULL: the caller's memory is used in place */
        struct memory_block *iov_block;  /* or NULL: inline_iov is enough */
        struct slab_account *account;    /* that the piece is from */
        struct dmio_page_wait page_wait; /* for bounce pages */
        struct fault_state fault;
        struct iovec inline_iov[PIECE_INLINE_IOV];
};

size_t piece_size(void)
{
        return sizeof(struct piece);
}

struct piece *piece_new(struct leg *leg)
{
        struct slab_account *account = &leg->io->client->pieces;
        struct dmio_queue *queue = leg->io->queue;
        struct piece *piece = slab_get(&queue->engine->pieces, account);

        if (!piece) {
                account = &queue->pieces;
                piece = slab_get(&queue->engine->pieces, account);
        }
        if (!piece)
                return NULL;
        piece->account = account;
        piece->op = (struct dmio_op){
                .bdev = leg->bdev,
                .fd = -EBADF,
                .iov = piece->inline_iov,
                .ioprio = leg->io->ioprio,
        };
        piece->leg = leg;
        piece->offset = leg->issued;
        piece->length = 0;
        piece->done = 0;
        piece->bounce = NULL;
        piece->iov_block = NULL;
        leg->n_pieces++;
        queue->n_pieces++;
        return piece;
}

static void piece_free(struct piece *piece)
{
        struct dmio_queue *queue = piece->leg->io->queue;

        dmio_pages_put(piece->leg->io->client, piece->bounce);
        slab_put(&queue->engine->blocks, &queue->blocks, piece->iov_block);
        queue->n_pieces--;
        slab_put(&queue->engine->pieces, piece->account, piece);
}

/* Note how the piece went and release it. */
static void piece_finish(struct piece *piece, int error)
{
        struct leg *leg = piece->leg;

        if (error) {
                leg_fail(leg, error, piece->offset + piece->done);
                if (leg->io->op == DM_IO_READ) {
                        struct memory_cursor cursor = piece->cursor;

                        (void)memory_zero(&cursor, piece->length);
                }
        }
        piece_free(piece);
}

/* The same from a completion: the leg goes on, and those that waited for memory. */
static void piece_end(struct piece *piece, int error)
{
        struct leg *leg = piece->leg;
        struct dmio_queue *queue = leg->io->queue;

        piece_finish(piece, error);
        leg_run(leg);
        if (!list_is_empty(&queue->starved))
                leg_retry_starved(queue);
}

/* The same before it was submitted: the leg is just being worked on. */
static void piece_abort(struct piece *piece, int error)
{
        struct leg *leg = piece->leg;

        piece_finish(piece, error);
        leg->n_pieces--;
}

/* The one door to the queue. */
static void piece_submit(struct piece *piece)
{
        fault_submit(piece->leg, &piece->op, &piece->fault);
}

static void iov_advance(struct dmio_op *op, size_t bytes)
{
        while (bytes > 0 && bytes >= op->iov->iov_len) {
                bytes -= op->iov->iov_len;
                op->iov++;
                op->n_iov--;
        }
        if (bytes > 0) {
                op->iov->iov_base = (char *)op->iov->iov_base + bytes;
                op->iov->iov_len -= bytes;
        }
}

static void piece_transferred(struct dmio_op *op, int result)
{
        struct piece *piece = container_of(op, struct piece, op);
        struct leg *leg = piece->leg;
        int r = 0;

        fault_mend(op, &piece->fault);
        if (result == -EAGAIN || result == -EINTR) {
                piece_submit(piece);
                return;
        }
        /* Nothing transferred inside the device: it has shrunk. Trying again would never end. */
        if (result <= 0) {
                piece_end(piece, result < 0 ? -result : EIO);
                return;
        }

        piece->done += (uint64_t)result;
        if (piece->done < piece->length) {
                iov_advance(op, (size_t)result);
                op->offset += (uint64_t)result;
                piece_submit(piece);
                return;
        }
        if (piece->bounce && leg->io->op == DM_IO_READ) {
                struct memory_cursor cursor = piece->cursor;
                uint64_t left = piece->length;

                for (struct page_list *p = piece->bounce; p && r == 0; p = p->next) {
                        r = memory_copy_to(&cursor, page_address(p->page),
                                           MIN(left, DMIO_PAGE_SIZE));
                        left -= MIN(left, DMIO_PAGE_SIZE);
                }
        }
        piece_end(piece, -r);
}

static void piece_submit_transfer(struct piece *piece)
{
        struct leg *leg = piece->leg;

        piece->op.type = leg->io->op == DM_IO_WRITE ? DMIO_OP_WRITEV : DMIO_OP_READV;
        piece->op.rw_flags = leg->io->flags & DM_IO_FUA ? RWF_DSYNC : 0;
        piece->op.shared = leg->io->memory.shared && !piece->bounce;
        piece->op.offset = (leg->sector << DMIO_SECTOR_SHIFT) + piece->offset;
        piece->op.fn = piece_transferred;
        piece_submit(piece);
}

/* The iovec array of a piece: in the piece, or a block of its own. Returns how many fit. */
static size_t piece_iov(struct piece *piece, bool large, struct iovec **ret)
{
        struct dmio_queue *queue = piece->leg->io->queue;

        if (large && !piece->iov_block)
                piece->iov_block = slab_get(&queue->engine->blocks, &queue->blocks);
        *ret = piece->iov_block ? piece->iov_block->iov : piece->inline_iov;
        piece->op.iov = *ret;
        return piece->iov_block ? MEMORY_BLOCK_IOV : PIECE_INLINE_IOV;
}

/* The pages are there: fill them if need be, and go. Returns 0 or a negative errno. */
static int piece_bounce(struct piece *piece)
{
        struct memory_cursor cursor = piece->cursor;
        struct leg *leg = piece->leg;
        uint64_t left = piece->length;
        struct iovec *iov;
        int r = 0;

        (void)piece_iov(piece, false, &iov);
        piece->op.n_iov = 0;
        for (struct page_list *p = piece->bounce; p; p = p->next) {
                struct iovec *last = &iov[piece->op.n_iov - 1];
                size_t n = MIN(left, DMIO_PAGE_SIZE);

                if (leg->io->op == DM_IO_WRITE && r == 0)
                        r = memory_copy_from(&cursor, page_address(p->page), n);
                if (piece->op.n_iov > 0 &&
                    (char *)last->iov_base + last->iov_len == page_address(p->page))
                        last->iov_len += n;
                else
                        iov[piece->op.n_iov++] = (struct iovec){ page_address(p->page), n };
                left -= n;
        }
        if (r == 0)
                piece_submit_transfer(piece);
        return r;
}

static void piece_got_pages(struct dmio_page_wait *wait, struct page_list *pages)
{
        struct piece *piece = container_of(wait, struct piece, page_wait);

        int r;

        piece->bounce = pages;
        r = piece_bounce(piece);
        if (r < 0)
                piece_end(piece, -r);
}

/*
 * Take pages for as much of the piece as can be had at once, and has room in its iovec; if that is
 * nothing, wait for what one block of the device needs.
 */
static void piece_start_bounce(struct piece *piece, uint64_t bytes)
{
        struct leg *leg = piece->leg;
        uint64_t min = MAX((uint64_t)leg->bdev->logical_block, DMIO_PAGE_SIZE);
        struct iovec *iov;
        uint64_t max;
        int r;

        max = piece_iov(piece, bytes > PIECE_INLINE_IOV * DMIO_PAGE_SIZE, &iov);
        max = MIN(max, (uint64_t)PIECE_BOUNCE_PAGES) * DMIO_PAGE_SIZE;
        piece->length = MIN(bytes, max);
        for (;;) {
                piece->bounce = dmio_pages_get(
                        leg->io->client, (unsigned int)DIV_ROUND_UP(piece->length, DMIO_PAGE_SIZE));
                if (piece->bounce || piece->length <= min)
                        break;
                piece->length = MAX(round_down(piece->length / 2, min), min);
        }
        memory_skip(&leg->cursor, piece->length);
        leg->issued += piece->length;
        if (piece->bounce) {
                r = piece_bounce(piece);
        } else {
                piece->page_wait = (struct dmio_page_wait){
                        .client = leg->io->client,
                        .queue = leg->io->queue,
                        .n_pages = (unsigned int)DIV_ROUND_UP(piece->length, DMIO_PAGE_SIZE),
                        .fn = piece_got_pages,
                };
                r = dmio_pages_wait(&piece->page_wait);
        }
        if (r < 0)
                piece_abort(piece, -r);
}

static bool iov_is_aligned(const struct iovec *iov, size_t n, unsigned int align)
{
        for (size_t i = 0; i < n; i++)
                if (!is_aligned((uintptr_t)iov[i].iov_base | iov[i].iov_len, align))
                        return false;
        return true;
}

void piece_start_transfer(struct piece *piece)
{
        struct leg *leg = piece->leg;
        uint64_t want = MIN(leg->bytes - leg->issued, PIECE_BYTES);
        struct memory_cursor cursor = leg->cursor;
        struct iovec *iov;
        size_t n, got, max;

        piece->cursor = leg->cursor;
        max = piece_iov(piece, false, &iov);
        n = memory_take(&cursor, iov, max, want, &got);
        if (got < want) {
                cursor = leg->cursor;
                max = piece_iov(piece, true, &iov);
                n = memory_take(&cursor, iov, max, want, &got);
        }

        /* A row of ranges that ends within a block must give the rest back. */
        if (!is_aligned(got, leg->bdev->logical_block)) {
                cursor = leg->cursor;
                got = round_down(got, leg->bdev->logical_block);
                n = memory_take(&cursor, iov, max, got, &got);
        }
        if (got == 0 || !iov_is_aligned(iov, n, leg->bdev->memory_align)) {
                piece_start_bounce(piece, want);
                return;
        }
        piece->op.n_iov = (unsigned int)n;
        piece->length = got;
        leg->cursor = cursor;
        leg->issued += got;
        piece_submit_transfer(piece);
}

/*
 * Where the device has another operation that does the same @op becomes that one: a hole for zeroes
 * in files (tmpfs), and for a discard where the kernel knows of the device's, but not of the
 * command to the ring (before Linux 6.12, which says EOPNOTSUPP; EINVAL before 5.19).
 */
static bool op_try_otherwise(struct dmio_op *op, int result)
{
        if (op->type == DMIO_OP_FALLOCATE && op->mode & FALLOC_FL_ZERO_RANGE) {
                if (result != -EOPNOTSUPP)
                        return false;
        } else if (op->type == DMIO_OP_DISCARD) {
                if (result != -EOPNOTSUPP && result != -EINVAL)
                        return false;
                device_limits_look_again(op->bdev);
                if (atomic_load(&op->bdev->limits.discard_max) == 0)
                        return false;
        } else {
                return false;
        }
        op->type = DMIO_OP_FALLOCATE;
        op->mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        return true;
}

static void piece_changed(struct dmio_op *op, int result)
{
        struct piece *piece = container_of(op, struct piece, op);

        /* The fault rules have had their say. */
        if (!piece->fault.is_refused && op_try_otherwise(op, result)) {
                dmio_queue_submit(piece->leg->io->queue, op);
        } else if (result == -EAGAIN || result == -EINTR) {
                piece_submit(piece);
        } else {
                piece_end(piece, result < 0 ? -result : 0);
        }
}

static bool is_of_device(int result)
{
        return result < 0 && result != -EAGAIN && result != -EINTR && result != -EOPNOTSUPP &&
               result != -EINVAL;
}

static void piece_flushed(struct dmio_op *op, int result)
{
        const struct piece *piece = container_of(op, struct piece, op);

        if (is_of_device(result) && !piece->fault.is_refused)
                atomic_fetch_add(&op->bdev->flush_failures, 1);
        piece_changed(op, result);
}

void piece_start_flush(struct piece *piece)
{
        piece->op.type = DMIO_OP_FDATASYNC;
        piece->op.fn = piece_flushed;
        piece_submit(piece);
}

/*
 * How much of @bytes from @offset of the device on may be one operation without memory. Where it is
 * not all of it a piece ends where a unit of discarding does: parts of units would be left over.
 */
static uint64_t piece_bytes(const struct leg *leg, uint64_t offset, uint64_t bytes)
{
        sector_t limit = MIN(leg_limit(leg), PIECE_BYTES_NO_DATA >> DMIO_SECTOR_SHIFT);
        uint64_t unit = MAX(leg->bdev->limits.discard_granularity, leg->bdev->logical_block);
        uint64_t max = round_down(limit << DMIO_SECTOR_SHIFT, leg->bdev->logical_block);
        uint64_t rest = (offset + max) % unit;

        max = MAX(max, (uint64_t)leg->bdev->logical_block);
        if (bytes > max && rest < max && is_aligned(rest, leg->bdev->logical_block))
                return max - rest;
        return MIN(bytes, max);
}

/*
 * Discard, and write zeroes:
 *
 *               block device             file
 *      discard  discard                  hole
 *      zeroes   hole                     zero range, or a hole where there is none (tmpfs), or if
 *                                        the space need not be kept
 *
 * A hole in a block device is what the kernel calls writing zeroes: refused where the device has no
 * operation for it, while ZERO_RANGE would be written out. In files ZERO_RANGE keeps the space.
 */
void piece_start_change(struct piece *piece)
{
        bool discards = piece->leg->io->op == DM_IO_DISCARD, block = piece->leg->bdev->block;
        bool unmaps = discards || block || piece->leg->io->flags & DM_IO_UNMAP;
        struct leg *leg = piece->leg;

        piece->op.type = discards && block ? DMIO_OP_DISCARD : DMIO_OP_FALLOCATE;
        piece->op.mode = unmaps ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
        piece->op.mode |= FALLOC_FL_KEEP_SIZE;
        piece->op.offset = (leg->sector << DMIO_SECTOR_SHIFT) + piece->offset;
        piece->length = piece_bytes(leg, piece->op.offset, leg->bytes - leg->issued);
        piece->op.length = piece->length;
        piece->op.fn = piece_changed;
        leg->issued += piece->length;
        piece_submit(piece);
}
