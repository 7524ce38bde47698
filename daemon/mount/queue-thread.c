/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mount/mount-internal.h"
#include "mount/page-list.h"
#include "mount/queue-thread.h"
#include "mount/transfer.h"
#include "util/clock.h"
#include "util/macros.h"

/*
 * The largest request but a WRITE: SETXATTR, with a value of 64 KiB and a name. Needed only when a
 * window is not in one piece.
 */
#define SCRATCH_SIZE ((size_t)68 * 1024)

/*
 * Spinning: polling for a while before going to sleep spares the client the time that it takes to
 * wake us, which is longer than many devices need. It is worth it while something arrives within
 * that time; how often it did lately is the score. A sleep that was shorter than the spin and the
 * waking together counts as one that spinning would have spared.
 */
#define SPIN_SCORE_MAX 8U
#define SPIN_MISS 2U
#define WAKE_USEC 30

static void window_receive(struct window *window);

static bool thread_is_idle(const struct queue_thread *thread)
{
        if (thread->n_transfers > 0)
                return false;
        for (unsigned int i = 0; i < thread->n_windows; i++)
                if (thread->windows[i].receiving || thread->windows[i].waiting)
                        return false;
        return true;
}

/* Windows */

/* The request that is in the window, in one piece; NULL if there is none that makes sense. */
static const struct fuse_in_header *window_request(struct window *window, size_t length)
{
        struct queue_thread *thread = window->thread;
        const struct fuse_in_header *in = window->iov[0].iov_base;

        if (length < sizeof(*in))
                return NULL;

        /* Of a WRITE nobody looks at the payload by its address. */
        if (length <= window->iov[0].iov_len || in->opcode == FUSE_WRITE)
                return in;
        if (length > SCRATCH_SIZE)
                return NULL;
        page_list_read(window->pages, DMIO_PAGE_SIZE - SESSION_HEADER, thread->scratch, length);
        return (const struct fuse_in_header *)thread->scratch;
}

/* The kernel says what session we are going to have: later threads need to hear it, too. */
static void thread_process_init(struct queue_thread *thread, const struct fuse_in_header *in,
                                size_t length)
{
        struct mount *mount = thread->mount;
        bool answered = false;
        int r = -EBADMSG;

        if (length <= sizeof(mount->init)) {
                memcpy(mount->init, in, length);
                mount->init_size = length;
                r = session_process(&thread->session, in, length, &answered);
        }
        if (r == 0)
                mount_thread_started(thread, 1);
        else
                mount_thread_started(thread, log_error_errno(r, "The kernel's FUSE does not agree "
                                                                "with us: %m"));
}

static void thread_process_interrupt(struct queue_thread *thread, const struct fuse_in_header *in,
                                     size_t length)
{
        const struct fuse_interrupt_in *interrupt = (const void *)(in + 1);

        if (length >= sizeof(*in) + sizeof(*interrupt))
                interrupts_received(thread, interrupt->unique);
}

/*
 * INTERRUPT and FORGET are not answered, and libfuse does not get to see them. An INTERRUPT of a
 * request that it does not know, for example because another thread has it, would be kept and
 * refused at every later request, for the kernel to send again. Nobody counts lookups, so nobody
 * counts FORGETs.
 */
static void thread_process_request(struct queue_thread *thread, struct window *window,
                                   size_t length)
{
        const struct fuse_in_header *in;
        bool ignored;
        int r;

        in = window_request(window, length);
        if (!in) {
                log_debug("Received a request of %zu bytes that makes no sense", length);
                return;
        }
        if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET)
                return;
        if (in->opcode == FUSE_INTERRUPT) {
                thread_process_interrupt(thread, in, length);
                return;
        }
        if (in->opcode == FUSE_INIT) {
                thread_process_init(thread, in, length);
                return;
        }

        thread->current = window;
        thread->current_unique = in->unique;
        r = session_process(&thread->session, in, length, &ignored);
        thread->current = NULL;
        if (r < 0)
                log_debug_errno(r, "Cannot process a request of %zu bytes: %m", length);
}

static void thread_ended(struct queue_thread *thread, int error)
{
        if (!thread->ended && thread->index == 0)
                log_warning_errno(error,
                                  "%s has been unmounted by somebody else, "
                                  "not serving it any more (%m)",
                                  thread->mount->point.path);
        thread->ended = true;
}

static void window_received(struct dmio_op *op, int result)
{
        struct window *window = container_of(op, struct window, op);
        struct queue_thread *thread = window->thread;

        window->receiving = false;
        switch (result) {
        case -ECANCELED:
        case -EAGAIN: /* another one was faster */
        case -EINTR:
        case -ENOENT: /* the request was taken back while we received it */
        case -EIO:    /* the kernel has answered it itself */
                break;
        case -ENODEV:
        case -ECONNABORTED:
                thread_ended(thread, result);
                break;
        default:
                if (result < 0) {
                        log_error_errno(result, "Cannot receive requests: %m");
                        thread_ended(thread, result);
                } else {
                        thread_process_request(thread, window, (size_t)result);
                }
        }
        window_receive(window);
}

static void window_granted(struct dmio_page_wait *wait, struct page_list *pages)
{
        struct window *window = container_of(wait, struct window, wait);

        window->waiting = false;
        window->pages = pages;
        window->n_iov = 0;
        window_receive(window);
}

/* See to it that the window has pages. Returns true if it has, false if they will come. */
static bool window_fill(struct window *window)
{
        struct mount *mount = window->thread->mount;
        int r;

        if (window->pages)
                return true;

        window->pages = dmio_pages_get(mount->io, WINDOW_PAGES);
        window->n_iov = 0;
        if (window->pages)
                return true;

        window->wait = (struct dmio_page_wait){
                .client = mount->io,
                .queue = window->thread->queue,
                .n_pages = WINDOW_PAGES,
                .fn = window_granted,
        };
        window->waiting = true;
        r = dmio_pages_wait(&window->wait);
        assert(r == 0); /* it has reserved more than that */
        return false;
}

static void window_receive(struct window *window)
{
        struct queue_thread *thread = window->thread;

        if (window->renew && window->pages) {
                dmio_pages_put(thread->mount->io, window->pages);
                window->pages = NULL;
        }
        window->renew = false;
        if (thread->draining || thread->ended || !window_fill(window))
                return;

        if (window->n_iov == 0)
                window->n_iov = (unsigned int)page_list_to_iovec(
                        window->pages, DMIO_PAGE_SIZE - SESSION_HEADER,
                        SESSION_HEADER + SESSION_MAX_WRITE, window->iov);
        window->op = (struct dmio_op){
                .type = DMIO_OP_READV,
                .fd = thread->session.fd,
                .iov = window->iov,
                .n_iov = window->n_iov,
                .fn = window_received,
        };
        window->receiving = true;
        dmio_queue_submit(thread->queue, &window->op);
}

struct page_list *queue_thread_take_payload(struct queue_thread *thread, unsigned int n_pages)
{
        struct window *window = thread->current;
        struct page_list *header = window->pages;
        struct page_list *payload = header->next;

        header->next = page_list_cut(payload, n_pages);
        dmio_pages_put(thread->mount->io, header);
        window->pages = NULL;
        return payload;
}

void queue_thread_parked(struct queue_thread *thread)
{
        thread->n_parked++;
}

void queue_thread_unparked(struct queue_thread *thread)
{
        thread->stalled_usec = 0;
        if (--thread->n_parked > 0 || thread->extra_pages == 0)
                return;
        (void)dm_io_client_put(thread->mount->io, thread->extra_pages);
        thread->extra_pages = 0;

        /* The windows lie where there was room at the worst of times: scattered over all chunks. */
        for (unsigned int i = 0; i < thread->n_windows; i++) {
                thread->windows[i].renew = true;
                if (thread->windows[i].receiving)
                        dmio_queue_cancel(thread->queue, &thread->windows[i].op);
        }
}

const struct page_list *queue_thread_payload(const struct queue_thread *thread)
{
        return thread->current->pages->next;
}

/* The thread */

/* Payloads are parked wherever there is room, and nobody can be received any more. */
static bool thread_is_full(const struct queue_thread *thread)
{
        if (thread->n_parked == 0 || thread->extra_pages >= PARKED_PAGES_MAX)
                return false;
        for (unsigned int i = 0; i < thread->n_windows; i++)
                if (!thread->windows[i].waiting)
                        return false;
        return true;
}

/* More room for parked payloads, if nothing has moved for a while. The windows wait for it. */
static void thread_look_at_stall(struct queue_thread *thread, uint64_t now)
{
        if (!thread_is_full(thread)) {
                thread->stalled_usec = 0;
        } else if (thread->stalled_usec == 0) {
                thread->stalled_usec = now;
        } else if (now - thread->stalled_usec >= STALL_USEC &&
                   dm_io_client_get(thread->mount->io, DMIO_POOL_CHUNK_PAGES) == 0) {
                thread->extra_pages += DMIO_POOL_CHUNK_PAGES;
                thread->stalled_usec = 0;
        }
}

/* For how long the thread may sleep, in microseconds, or -1. */
static int64_t thread_timeout(const struct queue_thread *thread)
{
        int64_t timeout = interrupts_timeout(thread);

        return timeout < 0 && thread->stalled_usec > 0 ? STALL_USEC : timeout;
}

static int thread_process(struct queue_thread *thread)
{
        unsigned int spin = thread->spin_score > 0 ? thread->mount->spin_usec : 0;
        uint64_t begin, end, elapsed;
        int r;

        begin = now_usec();
        r = dmio_queue_process(thread->queue, thread_timeout(thread), spin);
        interrupts_answer(thread);
        end = now_usec();
        thread_look_at_stall(thread, end);
        elapsed = end - begin;

        if (elapsed <= thread->mount->spin_usec + (spin > 0 ? 0 : WAKE_USEC))
                thread->spin_score = MIN(thread->spin_score + 1, SPIN_SCORE_MAX);
        else
                thread->spin_score -= MIN(thread->spin_score, SPIN_MISS);
        return r;
}

static void thread_drain_begin(struct queue_thread *thread)
{
        if (thread->draining)
                return;
        thread->draining = true;
        for (unsigned int i = 0; i < thread->n_windows; i++)
                if (thread->windows[i].receiving)
                        dmio_queue_cancel(thread->queue, &thread->windows[i].op);
}

static void drain_task(struct dmio_task *task)
{
        struct queue_thread *thread = container_of(task, struct queue_thread, drain_task);

        thread_drain_begin(thread);
        thread->drained = false;
}

static void stop_task(struct dmio_task *task)
{
        struct queue_thread *thread = container_of(task, struct queue_thread, stop_task);

        thread_drain_begin(thread);
        thread->stopping = true;
}

static int thread_set_up(struct queue_thread *thread)
{
        struct mount *mount = thread->mount;
        int r;

        thread->scratch = malloc(SCRATCH_SIZE);
        if (!thread->scratch)
                return -ENOMEM;

        r = dmio_queue_create(mount->model->engine, &thread->queue);
        if (r < 0)
                return log_error_errno(r, "Cannot create a queue: %m");
        interrupts_open(thread);

        if (thread->index > 0) {
                r = session_replay_init(&thread->session, mount->init, mount->init_size);
                if (r < 0)
                        return log_error_errno(r, "Cannot set up one more session: %m");
        }

        for (unsigned int i = 0; i < thread->n_windows; i++) {
                thread->windows[i].thread = thread;
                window_receive(&thread->windows[i]);
        }
        return 0;
}

static void thread_clean_up(struct queue_thread *thread)
{
        for (unsigned int i = 0; i < thread->n_windows; i++)
                dmio_pages_put(thread->mount->io, thread->windows[i].pages);
        transfers_free(thread);
        interrupts_close(thread);
        (void)dmio_queue_destroy(thread->queue);
        free(thread->scratch);
}

static void *thread_main(void *userdata)
{
        struct queue_thread *thread = userdata;
        int r;

        r = thread_set_up(thread);
        if (r < 0) {
                thread_clean_up(thread);
                mount_thread_started(thread, r);
                return NULL;
        }
        if (thread->index > 0)
                mount_thread_started(thread, 1);

        while (!thread->stopping || !thread_is_idle(thread)) {
                r = thread_process(thread);
                if (r < 0) {
                        /* Requests can be neither finished nor answered: let go of them all. */
                        log_error_errno(r, "The ring of a queue thread failed: %m");
                        abort();
                }
                if (thread->draining && !thread->drained && thread_is_idle(thread)) {
                        thread->drained = true;
                        mount_thread_drained(thread->mount);
                }
        }

        thread_clean_up(thread);
        return NULL;
}

int queue_thread_start(struct queue_thread *thread)
{
        char name[16];
        sigset_t all, previous;
        int r;

        list_init(&thread->active);
        list_init(&thread->spare);
        thread->drained = true; /* nobody has asked */
        thread->drain_task.fn = drain_task;
        thread->stop_task.fn = stop_task;

        /* Signals are the main loop's. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &previous);
        r = pthread_create(&thread->id, NULL, thread_main, thread);
        pthread_sigmask(SIG_SETMASK, &previous, NULL);
        if (r != 0)
                return -r;

        thread->running = true;
        (void)snprintf(name, sizeof(name), "dmiod-queue-%u", thread->index);
        (void)pthread_setname_np(thread->id, name);
        return 0;
}

void queue_thread_drain(struct queue_thread *thread)
{
        dmio_queue_post(thread->queue, &thread->drain_task);
}

void queue_thread_stop(struct queue_thread *thread)
{
        if (!thread->running)
                return;
        if (thread->state >= 0)
                dmio_queue_post(thread->queue, &thread->stop_task);
        (void)pthread_join(thread->id, NULL);
        thread->running = false;
}
