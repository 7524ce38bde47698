/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "log.h"
#include "model/export.h"
#include "mount/interrupt.h"
#include "mount/mount-internal.h"
#include "mount/transfer.h"
#include "util/clock.h"
#include "util/macros.h"

/* A second is long for a device and short for a person. */
#define GRACE_USEC UINT64_C(1000000)
/* How often it is looked for those whose time has come, while there are any. */
#define LOOK_USEC 100000

/* Returns false if the thread has no such request. */
static bool mark(struct queue_thread *thread, uint64_t unique)
{
        struct transfer *transfer;

        list_for_each (transfer, &thread->active, link) {
                if (transfer->unique != unique || !transfer->req)
                        continue;
                if (transfer->interrupted_usec == 0) {
                        transfer->interrupted_usec = now_usec();
                        thread->interrupts.n_waiting++;
                }
                return true;
        }
        return false;
}

/* It may be about to come: the request has been received and is not decoded yet. */
static void keep(struct interrupts *interrupts, uint64_t unique)
{
        interrupts->early[interrupts->n_early++ % INTERRUPTS_KEPT] = unique;
}

static void read_inbox(struct dmio_task *task)
{
        struct interrupts *interrupts = container_of(task, struct interrupts, task);
        struct queue_thread *thread = container_of(interrupts, struct queue_thread, interrupts);
        uint64_t inbox[INTERRUPTS_KEPT];
        unsigned int n;

        pthread_mutex_lock(&interrupts->lock);
        n = interrupts->n_inbox;
        memcpy(inbox, interrupts->inbox, n * sizeof(*inbox));
        interrupts->n_inbox = 0;
        pthread_mutex_unlock(&interrupts->lock);

        for (unsigned int i = 0; i < n; i++)
                if (!mark(thread, inbox[i]))
                        keep(interrupts, inbox[i]);
}

/* One too many is lost: its request waits for the device. */
static void send(struct queue_thread *thread, uint64_t unique)
{
        struct interrupts *interrupts = &thread->interrupts;

        pthread_mutex_lock(&interrupts->lock);
        if (interrupts->open && interrupts->n_inbox < INTERRUPTS_KEPT) {
                interrupts->inbox[interrupts->n_inbox++] = unique;
                if (interrupts->n_inbox == 1)
                        dmio_queue_post(thread->queue, &interrupts->task);
        }
        pthread_mutex_unlock(&interrupts->lock);
}

void interrupts_init(struct interrupts *interrupts)
{
        pthread_mutex_init(&interrupts->lock, NULL);
        interrupts->task.fn = read_inbox;
}

void interrupts_deinit(struct interrupts *interrupts)
{
        pthread_mutex_destroy(&interrupts->lock);
}

void interrupts_open(struct queue_thread *thread)
{
        pthread_mutex_lock(&thread->interrupts.lock);
        thread->interrupts.open = true;
        pthread_mutex_unlock(&thread->interrupts.lock);
}

void interrupts_close(struct queue_thread *thread)
{
        pthread_mutex_lock(&thread->interrupts.lock);
        thread->interrupts.open = false;
        pthread_mutex_unlock(&thread->interrupts.lock);
}

void interrupts_received(struct queue_thread *thread, uint64_t unique)
{
        struct mount *mount = thread->mount;

        if (mark(thread, unique))
                return;
        keep(&thread->interrupts, unique);
        for (unsigned int i = 0; i < mount->n_threads; i++)
                if (&mount->threads[i] != thread)
                        send(&mount->threads[i], unique);
}

void interrupts_transfer_begins(struct transfer *transfer)
{
        struct interrupts *interrupts = &transfer->thread->interrupts;

        transfer->interrupted_usec = 0;
        for (unsigned int i = 0; i < MIN(interrupts->n_early, INTERRUPTS_KEPT); i++) {
                if (interrupts->early[i] != transfer->unique)
                        continue;
                transfer->interrupted_usec = now_usec();
                interrupts->n_waiting++;
        }
}

void interrupts_transfer_ends(struct transfer *transfer)
{
        if (transfer->interrupted_usec > 0)
                transfer->thread->interrupts.n_waiting--;
        transfer->interrupted_usec = 0;
}

int64_t interrupts_timeout(const struct queue_thread *thread)
{
        return thread->interrupts.n_waiting > 0 ? LOOK_USEC : -1;
}

/*
 * Of the page cache, to which EINTR would be an error of the page, nobody is answered: it waits in
 * a way that ends when a program is killed.
 */
static void answer(struct transfer *transfer)
{
        fuse_req_t req = transfer->req;

        interrupts_transfer_ends(transfer);
        if (transfer->of_cache)
                return;
        transfer->req = NULL;
        if (transfer->slot && memory_slot_state(transfer->slot) == SLOT_BEGUN)
                memory_slot_set(transfer->slot, SLOT_ANSWERED);
        else if (transfer->slot)
                memory_slot_clear(transfer->slot);
        log_debug("A request to '%s' hangs and is interrupted", transfer->export->path);
        fuse_reply_err(req, EINTR);
}

void interrupts_answer(struct queue_thread *thread)
{
        struct transfer *transfer;
        uint64_t now;

        if (thread->interrupts.n_waiting == 0)
                return;
        now = now_usec();
        list_for_each (transfer, &thread->active, link)
                if (transfer->interrupted_usec > 0 && transfer->req &&
                    now - transfer->interrupted_usec >= GRACE_USEC)
                        answer(transfer);
}
