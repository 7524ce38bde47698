/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The back-end without devices: for tests, and for measuring all the rest.
 *
 * Operations on a device act on a RAM disk in its place (device_ram()). They are carried out when
 * they are started and told at the next look, without a system call. Operations on descriptors go
 * to a real back-end underneath, and so does every wait; but with results of our own at hand its
 * turn comes only if it has something to do, or has not had it for a while.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend.h"
#include "device-internal.h"
#include "memory.h"
#include "queue-internal.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define TURNS_MAX 64

/* As the system calls have it. */
#define TRANSFER_MAX UINT64_C(0x7ffff000)

/* From there on zeroes are given back to the system, page by page, rather than written. */
#define FORGET_MIN ((uint64_t)64 * 1024)

struct memory_disks {
        struct dmio_queue *queue;
        const struct backend_ops *real;
        void *real_backend;
        struct op_fifo done;
        bool is_polled;       /* the real back-end's descriptor, which its wait puts to rest */
        unsigned int n_turns; /* since it was the real back-end's */
};

static int memory_probe(void)
{
        const struct backend_ops *real;

        return backend_find(NULL, &real);
}

static int memory_open(struct dmio_queue *queue, unsigned int depth, void **ret)
{
        DMIO_CLEANUP(freep) struct memory_disks *disks = NULL;
        int r;

        disks = calloc(1, sizeof(*disks));
        if (!disks)
                return -ENOMEM;
        disks->queue = queue;
        fifo_init(&disks->done);
        r = backend_find(NULL, &disks->real);
        if (r < 0)
                return r;
        r = disks->real->open(queue, depth, &disks->real_backend);
        if (r < 0)
                return r;
        *ret = DMIO_TAKE(disks);
        return 0;
}

static void memory_close(void *backend)
{
        struct memory_disks *disks = backend;

        disks->real->close(disks->real_backend);
        free(disks);
}

static int memory_fd(void *backend)
{
        struct memory_disks *disks = backend;

        disks->is_polled = true;
        return disks->real->fd(disks->real_backend);
}

static void memory_notify(void *backend)
{
        struct memory_disks *disks = backend;

        disks->real->notify(disks->real_backend);
}

static int ram_transfer(const struct dmio_op *op, char *ram, uint64_t size)
{
        bool write = op->type == DMIO_OP_WRITEV;
        uint64_t at = MIN(op->offset, size);
        uint64_t left = MIN(size - at, TRANSFER_MAX);
        size_t total = 0;

        if (write && op->bdev->read_only)
                return -EBADF;
        for (unsigned int i = 0; i < op->n_iov; i++) {
                size_t n = MIN(op->iov[i].iov_len, left);
                void *memory = op->iov[i].iov_base;
                int r = 0;

                if (op->iov[i].iov_len == 0)
                        continue;
                if (n == 0)
                        return write && total == 0 ? -ENOSPC : (int)total;
                if (op->shared)
                        r = write ? memory_copy_shared(ram + at, memory, n, false)
                                  : memory_copy_shared(memory, ram + at, n, true);
                else if (write)
                        memcpy(ram + at, memory, n);
                else
                        memcpy(memory, ram + at, n);
                if (r < 0)
                        return r;
                at += n;
                left -= n;
                total += n;
        }
        return (int)total;
}

static int ram_zero(const struct dmio_op *op, char *ram, uint64_t size)
{
        int mode = op->type == DMIO_OP_DISCARD ? FALLOC_FL_PUNCH_HOLE
                                               : op->mode & ~FALLOC_FL_KEEP_SIZE;
        uint64_t end = op->offset + op->length;
        uint64_t first = round_up(op->offset, DMIO_PAGE_SIZE);
        uint64_t last = round_down(end, DMIO_PAGE_SIZE);

        if (mode != FALLOC_FL_PUNCH_HOLE && mode != FALLOC_FL_ZERO_RANGE)
                return -EOPNOTSUPP;
        if (op->bdev->read_only)
                return -EBADF;
        if (op->length == 0 || !range_fits(op->offset, op->length, size))
                return -EINVAL;

        if (op->length < FORGET_MIN || madvise(ram + first, last - first, MADV_DONTNEED) < 0) {
                memset(ram + op->offset, 0, op->length);
                return 0;
        }
        memset(ram + op->offset, 0, first - op->offset);
        memset(ram + last, 0, end - last);
        return 0;
}

static int ram_carry_out(const struct dmio_op *op)
{
        uint64_t size;
        void *ram;
        int r;

        r = device_ram(op->bdev, &ram, &size);
        if (r < 0)
                return r;
        switch (op->type) {
        case DMIO_OP_READV:
        case DMIO_OP_WRITEV:
                return ram_transfer(op, ram, size);
        case DMIO_OP_FALLOCATE:
        case DMIO_OP_DISCARD:
                return ram_zero(op, ram, size);
        case DMIO_OP_FDATASYNC:
        case DMIO_OP_NOP:
                return 0;
        }
        return -EINVAL;
}

static bool memory_start(void *backend, struct dmio_op *op)
{
        struct memory_disks *disks = backend;

        if (!op->bdev)
                return disks->real->start(disks->real_backend, op);
        op->result = ram_carry_out(op);
        fifo_push(&disks->done, op);
        return true;
}

static bool memory_cancel(void *backend, struct dmio_op *op)
{
        struct memory_disks *disks = backend;

        return op->bdev || disks->real->cancel(disks->real_backend, op);
}

static unsigned int memory_tell(struct memory_disks *disks)
{
        struct dmio_op *op;
        unsigned int n = 0;

        while ((op = fifo_pop(&disks->done)) != NULL) {
                queue_complete(disks->queue, op, op->result);
                n++;
        }
        return n;
}

/* Who always has results of ours would never come to wait: now and then there are none. */
static unsigned int memory_reap(void *backend)
{
        struct memory_disks *disks = backend;
        unsigned int n = disks->real->reap(disks->real_backend);

        if (!disks->done.first || disks->n_turns >= TURNS_MAX)
                return n;
        disks->n_turns++;
        return n + memory_tell(disks);
}

/* Is it the real back-end's turn? Not only for a look at what can be seen from here. */
static bool memory_real_is_due(const struct memory_disks *disks, int64_t timeout_us)
{
        if (disks->n_turns >= TURNS_MAX || disks->real->has_unsubmitted(disks->real_backend) ||
            disks->real->is_due(disks->real_backend))
                return true;
        return !disks->done.first &&
               (timeout_us != 0 || disks->is_polled || disks->real->is_due_is_blind);
}

static int memory_wait(void *backend, int64_t timeout_us)
{
        struct memory_disks *disks = backend;
        int r = 0;

        if (memory_real_is_due(disks, timeout_us)) {
                r = disks->real->wait(disks->real_backend, disks->done.first ? 0 : timeout_us);
                disks->n_turns = 0;
        } else {
                disks->n_turns++;
        }
        (void)memory_tell(disks);
        return r;
}

static bool memory_is_due(void *backend)
{
        struct memory_disks *disks = backend;

        return disks->done.first || disks->real->is_due(disks->real_backend);
}

static bool memory_has_unsubmitted(void *backend)
{
        struct memory_disks *disks = backend;

        return disks->real->has_unsubmitted(disks->real_backend);
}

const struct backend_ops backend_memory = {
        .name = "memory",
        .probe = memory_probe,
        .open = memory_open,
        .close = memory_close,
        .fd = memory_fd,
        .notify = memory_notify,
        .start = memory_start,
        .cancel = memory_cancel,
        .reap = memory_reap,
        .wait = memory_wait,
        .is_due = memory_is_due,
        .has_unsubmitted = memory_has_unsubmitted,
};
