/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Windows: how requests come in, and are handed to libfuse's decoder, to our own INTERRUPT table,
 * or to nobody. A window needs pages for a payload and a slot for the headers before it can
 * receive; what keeps one of them for itself (a transfer that goes on) leaves the window to get
 * another.
 */

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "log.h"
#include "mount/mount-internal.h"
#include "mount/page-list.h"
#include "mount/queue-thread-internal.h"
#include "mount/resume.h"
#include "mount/transfer.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

/* How long a thread that is taking over waits for room before it looks again. */
#define RESENT_WAIT_USEC 100000

/* The request that is in the window, in one piece; NULL if there is none that makes sense. */
static const struct fuse_in_header *window_request(struct window *window, size_t length)
{
        struct queue_thread *thread = window->thread;
        struct memory_slot *slot = window->slot;

        if (length < sizeof(slot->in))
                return NULL;
        if (window->copies_headers)
                memcpy(slot->request, window->iov[0].iov_base, SLOT_HEADER);

        /* Of a WRITE nobody looks at the payload by its address. */
        if (slot->in.opcode == FUSE_WRITE)
                return &slot->in;
        if (length <= SLOT_HEADER) {
                slot->whole = 1;
                return &slot->in;
        }
        if (length <= SLOT_REQUEST) {
                page_list_read(window->pages->next, 0, slot->request + SLOT_HEADER,
                               length - SLOT_HEADER);
                atomic_store_explicit(&slot->whole, 1, memory_order_release);
                return &slot->in;
        }
        if (length > SCRATCH_SIZE)
                return NULL;
        memcpy(thread->scratch, slot->request, SLOT_HEADER);
        page_list_read(window->pages->next, 0, thread->scratch + SLOT_HEADER, length - SLOT_HEADER);
        return (const struct fuse_in_header *)thread->scratch;
}

/* It will not serve: the thread ends, and is waited for. */
static void thread_give_up(struct queue_thread *thread, int error)
{
        queue_thread_drain_begin(thread);
        thread->stopping = true;
        mount_thread_started(thread, error);
}

void queue_thread_choose_layout(struct queue_thread *thread)
{
        const void *init;
        size_t size = memory_file_init(&thread->mount->memory, &init);

        thread->copies_headers = session_can_resend(init, size) && !getenv(RESUME_NO_RESEND);
}

/* The kernel says what session we are going to have: later threads need to hear it, too. */
void queue_thread_process_init(struct queue_thread *thread, const struct fuse_in_header *in,
                               size_t length)
{
        struct mount *mount = thread->mount;
        bool answered = false;
        int r = -EBADMSG;

        /* Before it is answered: whoever comes after us would not hear of it any more. */
        if (length <= MEMORY_INIT_SIZE) {
                memory_file_set_init(&mount->memory, in, length);
                r = session_process(&thread->session, in, length, &answered);
        }
        if (r == 0) {
                queue_thread_choose_layout(thread);
                mount_thread_started(thread, 1);
        } else {
                thread_give_up(thread, log_error_errno(r, "The kernel's FUSE does not agree with "
                                                          "us: %m"));
        }
}

static void thread_process_interrupt(struct queue_thread *thread, const struct fuse_in_header *in,
                                     size_t length)
{
        const struct fuse_interrupt_in *interrupt = (const void *)(in + 1);

        if (length >= sizeof(*in) + sizeof(*interrupt))
                interrupts_received(thread, interrupt->unique);
}

bool queue_thread_has_init(const struct queue_thread *thread)
{
        const void *init;

        return memory_file_init(&thread->mount->memory, &init) > 0;
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
                queue_thread_process_init(thread, in, length);
                return;
        }
        if (!queue_thread_has_init(thread)) {
                thread_give_up(thread, -ESTALE);
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
        if (!window->thread->resuming)
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

/* A place for the headers. There are as many as anybody's requests are likely to need. */
static bool window_fill_slot(struct window *window)
{
        struct queue_thread *thread = window->thread;

        if (!window->slot)
                window->slot = slots_take(&thread->slots);
        if (!window->slot && !window->without_slot)
                thread->n_without_slot++;
        window->without_slot = !window->slot;
        return window->slot != NULL;
}

/*
 * Where the headers go. A kernel that sends requests again may lay them in front of the payload, in
 * one piece, which is quicker (by a twentieth of what a small read takes), and we copy them: what
 * we have not copied yet when we are killed comes again. Any other lays them into the slot itself.
 */
static void window_describe(struct window *window)
{
        bool copies = window->thread->copies_headers;

        if (window->n_iov > 0 && copies && window->copies_headers)
                return;
        window->copies_headers = copies;
        if (copies) {
                window->n_iov = (unsigned int)page_list_to_iovec(
                        window->pages, DMIO_PAGE_SIZE - SLOT_HEADER,
                        SLOT_HEADER + SESSION_MAX_WRITE, window->iov);
                return;
        }
        window->iov[0] = (struct iovec){ window->slot->request, SLOT_HEADER };
        window->n_iov = 1 + (unsigned int)page_list_to_iovec(window->pages->next, 0,
                                                             SESSION_MAX_WRITE, window->iov + 1);
}

void window_receive(struct window *window)
{
        struct queue_thread *thread = window->thread;

        if (window->renew && window->pages) {
                dmio_pages_put(thread->mount->io, window->pages);
                window->pages = NULL;
        }
        window->renew = false;
        if (window->slot)
                memory_slot_clear(window->slot);
        if (thread->draining || thread->ended || !window_fill_slot(window) || !window_fill(window))
                return;

        window_describe(window);
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

/* Requests that were received before, and those that never are, tell nothing about the order. */
static bool is_new(uint64_t unique, uint32_t opcode)
{
        return !(unique & MEMORY_UNIQUE_RESENT) && opcode != FUSE_INTERRUPT &&
               opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET;
}

/* One request, if there is one. Returns false when all that is sent again has come. */
static bool receive_resent(struct queue_thread *thread, struct window *window)
{
        const struct fuse_in_header *in;
        uint64_t unique;
        uint32_t opcode;
        ssize_t n;

        if (window->slot)
                memory_slot_clear(window->slot);
        if (window->waiting || !window_fill_slot(window) || !window_fill(window)) {
                (void)dmio_queue_process(thread->queue, RESENT_WAIT_USEC, 0);
                queue_thread_look_at_stall(thread, now_usec());
                return true;
        }
        window_describe(window);
        n = readv(thread->session.fd, window->iov, (int)window->n_iov);
        if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EIO))
                return true;
        if (n < 0) {
                if (errno != EAGAIN)
                        thread_ended(thread, -errno);
                return false;
        }
        in = window->iov[0].iov_base;
        unique = in->unique;
        opcode = in->opcode;
        thread_process_request(thread, window, (size_t)n);
        (void)dmio_queue_process(thread->queue, 0, 0);
        return !is_new(unique, opcode);
}

void queue_thread_receive_resent(struct queue_thread *thread)
{
        thread->resuming = true;
        while (receive_resent(thread, &thread->windows[0]))
                ;
        thread->resuming = false;
}

void queue_thread_process_slot(struct queue_thread *thread, struct memory_slot *slot, bool keep)
{
        struct window window = { .thread = thread, .slot = slots_take(&thread->slots) };
        bool ignored;

        if (!window.slot)
                return;
        memcpy(window.slot->request, slot->request, sizeof(slot->request));
        atomic_store(&window.slot->whole, 1);
        if (!keep) {
                slots_adopt(&thread->slots);
                slots_put(&thread->slots, slot);
        }

        thread->current = &window;
        thread->current_unique = window.slot->in.unique;
        (void)session_process(&thread->session, &window.slot->in, window.slot->in.len, &ignored);
        thread->current = NULL;
        if (window.slot)
                slots_put(&thread->slots, window.slot);
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

struct memory_slot *queue_thread_take_slot(struct queue_thread *thread)
{
        return DMIO_TAKE(thread->current->slot);
}

void queue_thread_put_slot(struct queue_thread *thread, struct memory_slot *slot)
{
        slots_put(&thread->slots, slot);
        if (thread->n_without_slot == 0)
                return;
        for (unsigned int i = 0; i < thread->n_windows; i++) {
                struct window *window = &thread->windows[i];

                if (!window->without_slot)
                        continue;
                window->without_slot = false;
                thread->n_without_slot--;
                /* A thread that is taking over looks again by itself. */
                if (!thread->resuming)
                        window_receive(window);
                return;
        }
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
