/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The io_uring back-end: one ring, driven by one thread.
 *
 * SINGLE_ISSUER and DEFER_TASKRUN let completions be worked off when the thread asks for them and
 * not in the middle of something else; that is worth a factor of two at depth 32. TASKRUN_FLAG
 * shows in shared memory whether asking is worth a system call, so polling costs none. Where the
 * kernel does not know a flag the ring is set up without it.
 *
 * What the ring would hand to a thread of the kernel's although it is brief (op-call.h) is carried
 * out when it is started, and told at the next look, unless the ring has something to be seen to.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>

#include "backend.h"
#include "device-internal.h"
#include "engine-internal.h"
#include "op-call.h"
#include "queue-internal.h"
#include "uring-buffers.h"
#include "util/cleanup.h"
#include "util/macros.h"

struct uring {
        struct io_uring ring;
        struct dmio_queue *queue;
        struct uring_buffers buffers;
        struct op_fifo done; /* carried out when they were started, to be told */
        int event_fd;        /* for who polls; -EBADF until somebody asks for it */
};

/* From the best to the least. */
static const unsigned int setup_flags[] = {
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
};

/*
 * Rings of ordinary users count against RLIMIT_MEMLOCK (again since about Linux 6.13), and one that
 * has been closed until a worker of the kernel's has taken it apart, which on a busy machine takes
 * a while. So a refusal may be about rings that are no more: it is asked again for that long.
 */
#define RING_RETRIES 100
#define RING_RETRY_MSEC 10

static int ring_try(struct io_uring *ring, unsigned int entries)
{
        int r = -EINVAL;

        for (size_t i = 0; i < ARRAY_SIZE(setup_flags) && r == -EINVAL; i++) {
                struct io_uring_params params = {
                        .flags = setup_flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
                        .cq_entries = 4 * entries,
                };

                r = io_uring_queue_init_params(entries, ring, &params);
        }
        return r;
}

static int ring_init(struct io_uring *ring, unsigned int entries)
{
        const struct timespec pause = { .tv_nsec = RING_RETRY_MSEC * 1000000L };
        int r = ring_try(ring, entries);

        for (unsigned int i = 0; i < RING_RETRIES && r == -ENOMEM; i++) {
                (void)nanosleep(&pause, NULL);
                r = ring_try(ring, entries);
        }
        return r;
}

static int uring_probe(void)
{
        struct io_uring ring;
        int r = ring_init(&ring, 1);

        if (r == 0)
                io_uring_queue_exit(&ring);
        return r;
}

static int uring_open(struct dmio_queue *queue, unsigned int depth, void **ret)
{
        DMIO_CLEANUP(freep) struct uring *uring = NULL;
        int r;

        uring = calloc(1, sizeof(*uring));
        if (!uring)
                return -ENOMEM;
        uring->queue = queue;
        fifo_init(&uring->done);
        uring->event_fd = -EBADF;
        r = ring_init(&uring->ring, depth);
        if (r < 0)
                return r;
        /* A ring lets go of its files when everything that was in flight is done. */
        if (queue->engine->held_fd >= 0) {
                r = io_uring_register_files(&uring->ring, &queue->engine->held_fd, 1);
                if (r < 0) {
                        io_uring_queue_exit(&uring->ring);
                        return r;
                }
        }
        (void)io_uring_ring_dontfork(&uring->ring);
        (void)io_uring_register_ring_fd(&uring->ring);
        uring_buffers_init(&uring->buffers, &uring->ring, &queue->engine->pool.arena);
        *ret = DMIO_TAKE(uring);
        return 0;
}

static void uring_close(void *backend)
{
        struct uring *uring = backend;

        io_uring_queue_exit(&uring->ring);
        uring_buffers_deinit(&uring->buffers);
        close_fd(uring->event_fd);
        free(uring);
}

/*
 * The ring's own descriptor does not do: with DEFER_TASKRUN nobody who polls it is woken by a
 * completion that waits to be worked off (seen up to Linux 6.18). A registered event counter is.
 */
static int uring_fd(void *backend)
{
        struct uring *uring = backend;
        int fd, r;

        if (uring->event_fd >= 0)
                return uring->event_fd;
        fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0)
                return -errno;
        r = io_uring_register_eventfd(&uring->ring, fd);
        if (r < 0) {
                close_fd(fd);
                return r;
        }
        uring->event_fd = fd;
        return fd;
}

static void uring_notify(void *backend)
{
        struct uring *uring = backend;

        if (uring->event_fd >= 0)
                (void)eventfd_write(uring->event_fd, 1);
}

/* What one read or write transfers at most; a longer length does not fit the ring's 32 bits. */
#define MAX_RW_COUNT ((size_t)0x7ffff000)

/*
 * Memory in one piece of the pool goes by the buffer that is registered for it. Only to devices:
 * /dev/fuse refuses such memory (EINVAL).
 */
static void prep_rw(struct uring *uring, struct io_uring_sqe *sqe, const struct dmio_op *op, int fd,
                    bool write)
{
        int buffer = -1;

        if (op->n_iov == 1 && op->bdev)
                buffer = uring_buffers_find(&uring->buffers, &uring->ring, op->iov->iov_base,
                                            op->iov->iov_len);
        if (buffer >= 0 && write)
                io_uring_prep_write_fixed(sqe, fd, op->iov->iov_base,
                                          (unsigned int)op->iov->iov_len, op->offset, buffer);
        else if (buffer >= 0)
                io_uring_prep_read_fixed(sqe, fd, op->iov->iov_base, (unsigned int)op->iov->iov_len,
                                         op->offset, buffer);
        else if (op->n_iov == 1 && write)
                io_uring_prep_write(sqe, fd, op->iov->iov_base,
                                    (unsigned int)MIN(op->iov->iov_len, MAX_RW_COUNT), op->offset);
        else if (op->n_iov == 1)
                io_uring_prep_read(sqe, fd, op->iov->iov_base,
                                   (unsigned int)MIN(op->iov->iov_len, MAX_RW_COUNT), op->offset);
        else if (write)
                io_uring_prep_writev(sqe, fd, op->iov, op->n_iov, op->offset);
        else
                io_uring_prep_readv(sqe, fd, op->iov, op->n_iov, op->offset);
        sqe->rw_flags = op->rw_flags;
        sqe->ioprio = op->ioprio;
}

/* Linux 6.12; not yet in the headers of Debian 12. */
#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

static void prep_discard(struct io_uring_sqe *sqe, const struct dmio_op *op, int fd)
{
        io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
        sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
        sqe->addr = op->offset;
        sqe->addr3 = op->length;
}

static bool uring_start(void *backend, struct dmio_op *op)
{
        struct uring *uring = backend;
        int fd = op->bdev ? op->bdev->fd : op->fd;
        struct io_uring_sqe *sqe;

        if (op_is_brief(op)) {
                op->result = op_call(op, 0);
                fifo_push(&uring->done, op);
                return true;
        }
        sqe = io_uring_get_sqe(&uring->ring);
        if (!sqe)
                return false;
        switch (op->type) {
        case DMIO_OP_READV:
        case DMIO_OP_WRITEV:
                prep_rw(uring, sqe, op, fd, op->type == DMIO_OP_WRITEV);
                break;
        case DMIO_OP_FDATASYNC:
                io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
                break;
        case DMIO_OP_FALLOCATE:
                /* The prep function of liburing 2.3 takes an off_t, which is the same width. */
                io_uring_prep_fallocate(sqe, fd, op->mode, (off_t)op->offset, (off_t)op->length);
                break;
        case DMIO_OP_DISCARD:
                prep_discard(sqe, op, fd);
                break;
        case DMIO_OP_NOP:
                io_uring_prep_nop(sqe);
                break;
        }
        /*
         * Before it hands a file without NOWAIT to a worker thread, the submission asks the file
         * whether it is ready, and a server that hangs keeps it from returning. So do not ask.
         */
        if (op->bdev && op->bdev->far)
                sqe->flags |= IOSQE_ASYNC;
        io_uring_sqe_set_data(sqe, op);
        return true;
}

static bool uring_cancel(void *backend, struct dmio_op *op)
{
        struct uring *uring = backend;
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

        if (!sqe)
                return false;
        io_uring_prep_cancel(sqe, op, 0);
        io_uring_sqe_set_data(sqe, NULL);
        return true;
}

/* Is there anything for the ring to do, or to tell? In doubt there is. */
static bool ring_is_due(const struct uring *uring)
{
        unsigned int flags = IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN;

        return io_uring_cq_ready(&uring->ring) > 0 ||
               !(uring->ring.flags & IORING_SETUP_TASKRUN_FLAG) ||
               IO_URING_READ_ONCE(*uring->ring.sq.kflags) & flags;
}

static unsigned int uring_tell_done(struct uring *uring)
{
        struct dmio_op *op;
        unsigned int n = 0;

        while ((op = fifo_pop(&uring->done)) != NULL) {
                queue_complete(uring->queue, op, op->result);
                n++;
        }
        return n;
}

static unsigned int uring_reap(void *backend)
{
        struct uring *uring = backend;
        struct io_uring_cqe *cqe;
        unsigned int head, n = 0;

        io_uring_for_each_cqe(&uring->ring, head, cqe)
        {
                struct dmio_op *op = io_uring_cqe_get_data(cqe);

                if (op)
                        queue_complete(uring->queue, op, cqe->res);
                n++;
        }
        io_uring_cq_advance(&uring->ring, n);
        /* Whoever always has results here would never come to wait, so the ring goes first. */
        if (uring->done.first && io_uring_sq_ready(&uring->ring) == 0 && !ring_is_due(uring))
                n += uring_tell_done(uring);
        return n;
}

/* Hand over and wait. */
static int ring_wait(struct uring *uring, int64_t timeout_us)
{
        struct io_uring_cqe *cqe;
        eventfd_t count;
        int r;

        /* Before looking, so that what comes afterwards makes it readable again. */
        if (uring->event_fd >= 0)
                (void)eventfd_read(uring->event_fd, &count);
        if (timeout_us == 0) {
                r = io_uring_submit_and_get_events(&uring->ring);
        } else if (timeout_us < 0) {
                r = io_uring_submit_and_wait(&uring->ring, 1);
        } else {
                struct __kernel_timespec ts = {
                        .tv_sec = timeout_us / 1000000,
                        .tv_nsec = timeout_us % 1000000 * 1000,
                };

                r = io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1, &ts, NULL);
        }
        /* EBUSY: completions must be collected first. All of these are answered by coming again. */
        switch (r) {
        case -ETIME:
        case -EINTR:
        case -EAGAIN:
        case -EBUSY:
        case -ENOMEM:
                return 0;
        default:
                return MIN(r, 0);
        }
}

static int uring_wait(void *backend, int64_t timeout_us)
{
        struct uring *uring = backend;
        int r = 0;

        if (!uring->done.first)
                return ring_wait(uring, timeout_us);
        if (io_uring_sq_ready(&uring->ring) > 0 || ring_is_due(uring))
                r = ring_wait(uring, 0);
        (void)uring_tell_done(uring);
        return r;
}

static bool uring_is_due(void *backend)
{
        const struct uring *uring = backend;

        return uring->done.first || ring_is_due(uring);
}

static bool uring_has_unsubmitted(void *backend)
{
        struct uring *uring = backend;

        return io_uring_sq_ready(&uring->ring) > 0;
}

static void uring_trim(void *backend)
{
        struct uring *uring = backend;

        uring_buffers_trim(&uring->buffers, &uring->ring);
}

const struct backend_ops backend_uring = {
        .name = "uring",
        .probe = uring_probe,
        .open = uring_open,
        .close = uring_close,
        .fd = uring_fd,
        .notify = uring_notify,
        .start = uring_start,
        .cancel = uring_cancel,
        .reap = uring_reap,
        .wait = uring_wait,
        .is_due = uring_is_due,
        .has_unsubmitted = uring_has_unsubmitted,
        .trim = uring_trim,
};
