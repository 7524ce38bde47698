/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The back-end for places where io_uring is denied: the plain system calls.
 *
 * What ends by itself (regular files, block devices) goes to a few worker threads (workers.h). What
 * may wait for somebody else (pipes, sockets, /dev/fuse) must not hold up one of them: the queue's
 * thread tries it without blocking, and if that is not to be yet the operation waits in a line,
 * and its descriptor in an epoll instance. That instance is also what the queue's thread sleeps
 * in, and what a program polls; an event counter in it tells of the workers' results.
 *
 * Each kind of descriptor has a way to be tried without blocking. Where there is none (a terminal
 * without O_NONBLOCK) a worker makes the call once poll has said that it is ready, but only one at
 * a time for each direction of a descriptor: with one request there, a second call would block.
 *
 * A descriptor is armed (EPOLLONESHOT) for as long as somebody waits for it. So one that its owner
 * closes afterwards leaves nothing behind that could wake us for ever.
 *
 * RWF_* flags are honoured, I/O priorities are not: they belong to threads here.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "backend.h"
#include "op-call.h"
#include "queue-internal.h"
#include "util/cleanup.h"
#include "util/macros.h"
#include "workers.h"

#define LINES 64
#define EVENTS_MAX 16

/* dmio_op.how: how an operation on a descriptor that may have to wait is tried. */
enum {
        HOW_NONBLOCK = 1,  /* the descriptor has O_NONBLOCK */
        HOW_NOWAIT,        /* RWF_NOWAIT */
        HOW_SOCKET,        /* MSG_DONTWAIT */
        HOW_BLOCKING,      /* by a worker, once it is ready */
        HOW_BLOCKING_HERE, /* the same, and that is where it is */
};

struct threads {
        struct dmio_queue *queue;
        struct op_fifo submitted;       /* taken, not yet looked at */
        struct op_fifo done;            /* by this thread, to be told */
        struct dmio_op *waiting[LINES]; /* by descriptor; linked by next_waiting, oldest first */
        struct workers workers;
        int epoll_fd;
        int event_fd;
};

static int threads_open(struct dmio_queue *queue, unsigned int depth, void **ret)
{
        DMIO_CLEANUP(freep) struct threads *threads = NULL;
        DMIO_CLEANUP(close_fdp) int epoll_fd = -EBADF, event_fd = -EBADF;
        struct epoll_event event = { .events = EPOLLIN };

        threads = calloc(1, sizeof(*threads));
        if (!threads)
                return -ENOMEM;
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (epoll_fd < 0)
                return -errno;
        event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (event_fd < 0)
                return -errno;
        event.data.fd = event_fd;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &event) < 0)
                return -errno;
        threads->queue = queue;
        fifo_init(&threads->submitted);
        fifo_init(&threads->done);
        workers_init(&threads->workers, event_fd);
        threads->epoll_fd = DMIO_TAKE_FD(epoll_fd);
        threads->event_fd = DMIO_TAKE_FD(event_fd);
        *ret = DMIO_TAKE(threads);
        return 0;
}

static void threads_close(void *backend)
{
        struct threads *threads = backend;

        workers_deinit(&threads->workers);
        close_fd(threads->epoll_fd);
        close_fd(threads->event_fd);
        free(threads);
}

/* Whatever a sandbox may deny is asked for here. */
static int threads_probe(void)
{
        void *threads;
        int r = threads_open(NULL, 1, &threads);

        if (r == 0)
                threads_close(threads);
        return r;
}

static int threads_fd(void *backend)
{
        struct threads *threads = backend;

        return threads->epoll_fd;
}

static void threads_notify(void *backend)
{
        struct threads *threads = backend;

        (void)eventfd_write(threads->event_fd, 1);
}

static void threads_done(struct threads *threads, struct dmio_op *op, int result)
{
        op->result = result;
        fifo_push(&threads->done, op);
}

/* --- descriptors that may have to be waited for */

static struct dmio_op **line_of(struct threads *threads, int fd)
{
        return &threads->waiting[(unsigned int)fd % LINES];
}

static void line_append(struct threads *threads, struct dmio_op *op)
{
        struct dmio_op **p = line_of(threads, op->fd);

        while (*p)
                p = &(*p)->next_waiting;
        op->next_waiting = NULL;
        *p = op;
}

static bool line_remove(struct threads *threads, const struct dmio_op *op)
{
        for (struct dmio_op **p = line_of(threads, op->fd); *p; p = &(*p)->next_waiting) {
                if (*p != op)
                        continue;
                *p = op->next_waiting;
                return true;
        }
        return false;
}

/* Does somebody wait for the same direction of the same descriptor? */
static bool line_has(struct threads *threads, const struct dmio_op *like)
{
        for (const struct dmio_op *op = *line_of(threads, like->fd); op; op = op->next_waiting)
                if (op->fd == like->fd && op->type == like->type)
                        return true;
        return false;
}

/* What is waited for: EPOLLIN, EPOLLOUT. Not for what a worker is busy with. */
static uint32_t line_events(struct threads *threads, int fd)
{
        uint32_t events = 0, busy = 0;

        for (const struct dmio_op *op = *line_of(threads, fd); op; op = op->next_waiting) {
                uint32_t event = op->type == DMIO_OP_READV ? EPOLLIN : EPOLLOUT;

                if (op->fd != fd)
                        continue;
                events |= event;
                if (op->how == HOW_BLOCKING_HERE)
                        busy |= event;
        }
        return events & ~busy;
}

static int descriptor_arm(struct threads *threads, int fd)
{
        struct epoll_event event = {
                .events = line_events(threads, fd),
                .data.fd = fd,
        };

        if (!event.events)
                return 0;
        event.events |= EPOLLONESHOT;
        if (epoll_ctl(threads->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
                return 0;
        if (errno == ENOENT && epoll_ctl(threads->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
                return 0;
        return -errno;
}

/* The same for those who wait already: they hear of it if that cannot be. */
static void descriptor_arm_again(struct threads *threads, int fd)
{
        struct dmio_op **p = line_of(threads, fd);
        int r = descriptor_arm(threads, fd);

        while (r < 0 && *p) {
                struct dmio_op *op = *p;

                if (op->fd != fd || op->how == HOW_BLOCKING_HERE) {
                        p = &op->next_waiting;
                        continue;
                }
                *p = op->next_waiting;
                threads_done(threads, op, r);
        }
}

/* How @op is to be tried; 0 if it need not wait for anybody; or a negative errno. */
static int op_how(const struct dmio_op *op)
{
        size_t bytes = 0;
        struct stat st;
        int flags;

        if (fstat(op->fd, &st) < 0)
                return -errno;
        for (unsigned int i = 0; i < op->n_iov; i++)
                bytes += op->iov[i].iov_len;
        /* Nothing at all is read at once, where a message of no bytes would be waited for. */
        if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode) || bytes == 0)
                return 0;
        if (S_ISSOCK(st.st_mode))
                return HOW_SOCKET;
        flags = fcntl(op->fd, F_GETFL);
        if (flags < 0)
                return -errno;
        return flags & O_NONBLOCK ? HOW_NONBLOCK : HOW_NOWAIT;
}

static int op_try(struct dmio_op *op)
{
        struct msghdr message = { .msg_iov = op->iov, .msg_iovlen = op->n_iov };
        ssize_t n;
        int r;

        switch (op->how) {
        case HOW_SOCKET:
                n = op->type == DMIO_OP_WRITEV ? sendmsg(op->fd, &message, MSG_DONTWAIT)
                                               : recvmsg(op->fd, &message, MSG_DONTWAIT);
                return n < 0 ? -errno : (int)n;
        case HOW_NONBLOCK:
                return op_call(op, 0);
        case HOW_NOWAIT:
                r = op_call(op, RWF_NOWAIT);
                if (r != -EOPNOTSUPP)
                        return r;
                op->how = HOW_BLOCKING;
                return -EAGAIN;
        default:
                return -EAGAIN;
        }
}

/* @op may have to wait. False if it is one for the workers after all. */
static bool stream_start(struct threads *threads, struct dmio_op *op)
{
        bool is_first = false;
        int r = op_how(op);

        if (r == 0)
                return false;
        if (r > 0) {
                op->how = (unsigned int)r;
                is_first = !line_has(threads, op);
                r = is_first ? op_try(op) : -EAGAIN;
        }
        if (r != -EAGAIN) {
                threads_done(threads, op, r);
                return true;
        }

        line_append(threads, op);
        r = is_first ? descriptor_arm(threads, op->fd) : 0;
        if (r == 0)
                return true;
        (void)line_remove(threads, op);
        op->how = 0;
        if (r == -EPERM)
                return false; /* it cannot be polled, so it makes nobody wait */
        threads_done(threads, op, r);
        return true;
}

static void stream_event(struct threads *threads, int fd, uint32_t events, struct op_fifo *jobs)
{
        bool may_read = events & ~(uint32_t)EPOLLOUT, may_write = events & ~(uint32_t)EPOLLIN;
        struct dmio_op **p = line_of(threads, fd);

        while (*p) {
                struct dmio_op *op = *p;
                bool *may = op->type == DMIO_OP_READV ? &may_read : &may_write;
                int r;

                if (op->fd != fd || !*may) {
                        p = &op->next_waiting;
                        continue;
                }
                r = op_try(op);
                if (r != -EAGAIN) {
                        *p = op->next_waiting;
                        threads_done(threads, op, r);
                        continue;
                }
                *may = false;
                if (op->how == HOW_BLOCKING) {
                        op->how = HOW_BLOCKING_HERE;
                        fifo_push(jobs, op);
                }
        }
        descriptor_arm_again(threads, fd);
}

/* --- the queue's side */

static bool threads_start(void *backend, struct dmio_op *op)
{
        struct threads *threads = backend;

        op->how = 0;
        fifo_push(&threads->submitted, op);
        return true;
}

static bool threads_cancel(void *backend, struct dmio_op *op)
{
        struct threads *threads = backend;
        bool waits;

        if (fifo_remove(&threads->submitted, op)) {
                threads_done(threads, op, -ECANCELED);
        } else if (op->how == 0 || op->how == HOW_BLOCKING_HERE) {
                if (!workers_take_back(&threads->workers, op))
                        return true; /* it is being done, or is */
                waits = op->how == HOW_BLOCKING_HERE && line_remove(threads, op);
                threads_done(threads, op, -ECANCELED);
                if (waits)
                        descriptor_arm_again(threads, op->fd);
        } else if (line_remove(threads, op)) {
                threads_done(threads, op, -ECANCELED);
                if (!line_events(threads, op->fd))
                        (void)epoll_ctl(threads->epoll_fd, EPOLL_CTL_DEL, op->fd, NULL);
        }
        return true;
}

/* Everything is told by wait, which also takes what the callbacks have submitted meanwhile. */
static unsigned int threads_reap(void *backend)
{
        return 0;
}

static void threads_hand_over(struct threads *threads)
{
        struct op_fifo jobs;
        struct dmio_op *op;

        fifo_init(&jobs);
        while ((op = fifo_pop(&threads->submitted)) != NULL) {
                bool transfers = op->type == DMIO_OP_READV || op->type == DMIO_OP_WRITEV;

                if (op->type == DMIO_OP_NOP || op_is_brief(op))
                        threads_done(threads, op, op_call(op, 0));
                else if (op->bdev || !transfers || !stream_start(threads, op))
                        fifo_push(&jobs, op);
        }
        workers_submit(&threads->workers, &jobs);
}

static bool threads_is_due(void *backend)
{
        struct threads *threads = backend;

        return threads->done.first ||
               atomic_load_explicit(&threads->workers.has_done, memory_order_relaxed);
}

/* See what is ready, sleeping for it if need be. epoll_wait(2) knows milliseconds only. */
static int threads_look(struct threads *threads, int64_t timeout_us)
{
        struct epoll_event events[EVENTS_MAX];
        struct op_fifo jobs;
        eventfd_t count;
        int n = 1;

        if (timeout_us > 0) {
                struct pollfd pollfd = { .fd = threads->epoll_fd, .events = POLLIN };
                struct timespec ts = {
                        .tv_sec = timeout_us / 1000000,
                        .tv_nsec = timeout_us % 1000000 * 1000,
                };

                n = ppoll(&pollfd, 1, &ts, NULL);
                if (n == 0)
                        return 0;
        }
        if (n >= 0)
                n = epoll_wait(threads->epoll_fd, events, EVENTS_MAX, timeout_us < 0 ? -1 : 0);
        if (n < 0)
                return errno == EINTR ? 0 : -errno;

        fifo_init(&jobs);
        for (int i = 0; i < n; i++) {
                if (events[i].data.fd == threads->event_fd)
                        (void)eventfd_read(threads->event_fd, &count);
                else
                        stream_event(threads, events[i].data.fd, events[i].events, &jobs);
        }
        workers_submit(&threads->workers, &jobs);
        return 0;
}

static int threads_wait(void *backend, int64_t timeout_us)
{
        struct threads *threads = backend;
        struct dmio_op *op;
        struct op_fifo done;
        int r;

        threads_hand_over(threads);
        r = threads_look(threads, threads_is_due(threads) ? 0 : timeout_us);

        /* After the event counter was read: what comes now makes it readable again. */
        fifo_init(&done);
        workers_collect(&threads->workers, &done);
        for (op = done.first; op; op = op->next) {
                if (op->how != HOW_BLOCKING_HERE)
                        continue;
                (void)line_remove(threads, op);
                descriptor_arm_again(threads, op->fd);
        }
        fifo_append(&done, &threads->done);
        while ((op = fifo_pop(&done)) != NULL)
                queue_complete(threads->queue, op, op->result);
        return r;
}

static bool threads_has_unsubmitted(void *backend)
{
        struct threads *threads = backend;

        return threads->submitted.first;
}

const struct backend_ops backend_threads = {
        .name = "threads",
        .probe = threads_probe,
        .open = threads_open,
        .close = threads_close,
        .fd = threads_fd,
        .notify = threads_notify,
        .start = threads_start,
        .cancel = threads_cancel,
        .reap = threads_reap,
        .wait = threads_wait,
        .is_due = threads_is_due,
        .is_due_is_blind = true,
        .has_unsubmitted = threads_has_unsubmitted,
};
