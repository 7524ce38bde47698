/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The fence of orphan.h: one end of a pipe for each process before this one, which reads nothing
 * until everything that had the other end is gone, and then the end of the file.
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>

#include "descriptor-store.h"
#include "log.h"
#include "mount/mount-internal.h"
#include "mount/orphan.h"
#include "mount/transfer.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

void orphans_add_fence(struct orphans *orphans, int fd, const char *name)
{
        struct fence *fence = &orphans->fences[orphans->n_fences];

        if (orphans->n_fences == ORPHAN_FENCES) {
                log_warning("More than %d processes before this one have left something",
                            ORPHAN_FENCES);
                (void)close_fd(fd);
                return;
        }
        *fence = (struct fence){ .orphans = orphans, .fd = fd };
        (void)snprintf(fence->name, sizeof(fence->name), "%s", name);
        orphans->n_fences++;
        atomic_store(&orphans->fence_open, false);
}

static void fence_forget(struct fence *fence)
{
        (void)descriptor_store_remove(fence->orphans->mount->store, fence->name);
        fence->fd = close_fd(fence->fd);
}

bool orphans_wait_fence(struct orphans *orphans, uint64_t usec)
{
        uint64_t end = now_usec() + usec;

        for (unsigned int i = 0; i < orphans->n_fences; i++) {
                struct pollfd pollfd = { .fd = orphans->fences[i].fd, .events = POLLIN };
                uint64_t now = now_usec();

                if (pollfd.fd >= 0 &&
                    poll(&pollfd, 1, now < end ? (int)((end - now) / 1000) : 0) <= 0)
                        return false;
                if (pollfd.fd >= 0) {
                        fence_forget(&orphans->fences[i]);
                        orphans->n_fences_closed++;
                }
        }
        atomic_store(&orphans->fence_open, true);
        return true;
}

/* On the first queue thread. */
static void fence_opened(struct orphans *orphans)
{
        struct transfer *transfer, *after;

        pthread_mutex_lock(&orphans->lock);
        atomic_store(&orphans->fence_open, true);
        list_for_each_safe (transfer, after, &orphans->waiting, fence_link) {
                list_unlink(&transfer->fence_link);
                dmio_queue_post(transfer->thread->queue, &transfer->range.task);
        }
        pthread_mutex_unlock(&orphans->lock);
        log_info("Everything that was on its way to devices has arrived");
}

static void fence_read(struct dmio_op *op, int result)
{
        struct fence *fence = container_of(op, struct fence, op);
        struct orphans *orphans = fence->orphans;

        fence->reading = false;
        if (result == -ECANCELED)
                return;
        if (result != 0)
                log_warning_errno(MIN(result, 0), "A pipe that tells when devices are done says "
                                                  "something else: %m");
        fence_forget(fence);
        if (++orphans->n_fences_closed == orphans->n_fences)
                fence_opened(orphans);
}

void orphans_start(struct queue_thread *thread)
{
        struct orphans *orphans = &thread->mount->orphans;

        orphans->thread = thread;
        for (unsigned int i = 0; i < orphans->n_fences; i++) {
                struct fence *fence = &orphans->fences[i];

                if (fence->fd < 0)
                        continue;
                fence->iov = (struct iovec){ &fence->byte, sizeof(fence->byte) };
                fence->op = (struct dmio_op){
                        .type = DMIO_OP_READV,
                        .fd = fence->fd,
                        .iov = &fence->iov,
                        .n_iov = 1,
                        .fn = fence_read,
                };
                fence->reading = true;
                dmio_queue_submit(thread->queue, &fence->op);
        }
}

void orphans_stop(struct queue_thread *thread)
{
        struct orphans *orphans = &thread->mount->orphans;

        for (unsigned int i = 0; i < orphans->n_fences; i++) {
                struct fence *fence = &orphans->fences[i];

                if (fence->reading)
                        dmio_queue_cancel(thread->queue, &fence->op);
                while (fence->reading)
                        if (dmio_queue_process(thread->queue, -1, 0) < 0)
                                return;
        }
}
