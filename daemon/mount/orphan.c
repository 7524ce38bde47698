/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "descriptor-store.h"
#include "log.h"
#include "model/export.h"
#include "mount/io-ops.h"
#include "mount/mount-internal.h"
#include "mount/orphan.h"
#include "mount/transfer.h"
#include "mount/write-steps.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

/* For one request of the largest kind, so that one can always go on. */
#define ACCOUNT_PAGES DMIO_PAGES_MAX

static void finish_task(struct dmio_task *task);
static void settled(void *owner, int error);

void orphans_init(struct orphans *orphans, struct mount *mount)
{
        pthread_mutex_init(&orphans->lock, NULL);
        list_init(&orphans->list);
        list_init(&orphans->waiting);
        orphans->mount = mount;
        orphans->finish_task.fn = finish_task;
        atomic_init(&orphans->fence_open, true);
}

/* Out of the list: what is left of it goes back to whoever it belongs to. */
static void orphan_free(struct orphan *orphan)
{
        if (orphan->in_range)
                range_lock_release(&orphan->export->ranges, &orphan->range);
        if (orphan->export) {
                export_end(orphan->export);
                export_unref(orphan->export);
        }
        free(orphan);
}

void orphans_deinit(struct orphans *orphans)
{
        struct orphan *orphan;

        /* They stay in the memory file, for the next process. */
        while ((orphan = list_first(&orphans->list, struct orphan, link))) {
                list_unlink(&orphan->link);
                orphan_free(orphan);
        }
        for (unsigned int i = 0; i < orphans->n_fences; i++)
                (void)close_fd(orphans->fences[i].fd);
        (void)dm_io_client_destroy(orphans->io);
        pthread_mutex_destroy(&orphans->lock);
}

/* The fence */

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

/* Orphans */

static bool has_overlap(const struct orphans *orphans, const struct export *export, uint64_t offset,
                        uint64_t length, uint64_t unique, bool *ret_same)
{
        const struct orphan *other;

        list_for_each (other, &orphans->list, link) {
                if (other->export != export ||
                    !ranges_overlap(other->range.offset, other->range.length, offset, length))
                        continue;
                *ret_same = other->unique == unique && other->range.offset == offset &&
                            other->range.length == length;
                return true;
        }
        return false;
}

static int get_account(struct orphans *orphans)
{
        int r;

        if (orphans->io)
                return 0;
        r = dm_io_client_create(orphans->mount->model->engine, ACCOUNT_PAGES, &orphans->io);
        if (r < 0)
                log_error_errno(r, "Cannot reserve pages to go on with what was begun: %m");
        return r;
}

int orphans_add(struct orphans *orphans, enum orphan_kind kind, struct memory_slot *slot,
                _Atomic(uint32_t) *chunk, struct export *export, uint64_t offset, uint64_t length)
{
        uint64_t block = export ? MAX(export->logical_block, DMIO_SECTOR_SIZE) : 1;
        uint64_t begin = round_down(offset, block), end = round_up(offset + length, block);
        uint64_t unique = memory_slot_unique(slot);
        struct orphan *orphan;
        bool same = false;
        int r;

        if (export && has_overlap(orphans, export, begin, end - begin, unique, &same))
                return same ? -EEXIST : -EBADMSG;
        r = get_account(orphans);
        if (r < 0)
                return r;
        orphan = calloc(1, sizeof(*orphan));
        if (!orphan)
                return -ENOMEM;
        r = export ? export_begin(export) : 0;
        if (r < 0) {
                free(orphan);
                return r;
        }

        *orphan = (struct orphan){
                .mount = orphans->mount,
                .kind = kind,
                .unique = unique,
                .slot = slot,
                .chunk = chunk,
                .export = export ? export_ref(export) : NULL,
                .offset = offset,
                .length = length,
                .range = { .offset = begin, .length = end - begin },
                .in_range = export != NULL,
        };
        list_init(&orphan->range.link);
        list_append(&orphans->list, &orphan->link);
        orphans->n_list++;
        if (export) {
                bool held = range_lock_acquire(&export->ranges, &orphan->range);

                assert(held);
                (void)held;
        }
        return 0;
}

bool orphans_have_slot(struct orphans *orphans, const struct memory_slot *slot)
{
        const struct orphan *orphan;
        bool found = false;

        pthread_mutex_lock(&orphans->lock);
        list_for_each (orphan, &orphans->list, link)
                found |= orphan->slot == slot;
        pthread_mutex_unlock(&orphans->lock);
        return found;
}

/* Under the lock. The reservation goes with the last one who needs it. */
static void leave(struct orphans *orphans)
{
        if (--orphans->n_list == 0 && orphans->finished)
                (void)dm_io_client_put(orphans->io, ACCOUNT_PAGES);
}

void orphan_account_left(struct orphans *orphans)
{
        pthread_mutex_lock(&orphans->lock);
        leave(orphans);
        pthread_mutex_unlock(&orphans->lock);
}

/* It is no more; nor is its slot, when nothing else of it is. */
static void orphan_end(struct orphan *orphan)
{
        struct orphans *orphans = &orphan->mount->orphans;
        const struct orphan *other;
        bool shared = false;

        pthread_mutex_lock(&orphans->lock);
        list_unlink(&orphan->link);
        if (orphan->chunk)
                atomic_store(orphan->chunk, 0);
        list_for_each (other, &orphans->list, link)
                shared |= other->slot == orphan->slot;
        if (!shared)
                memory_slot_clear(orphan->slot);
        leave(orphans);
        pthread_mutex_unlock(&orphans->lock);
        orphan_free(orphan);
}

/* Takes over */

static struct orphan *find(struct orphans *orphans, uint64_t unique, const struct export *export,
                           uint64_t offset)
{
        struct orphan *orphan;

        unique &= ~MEMORY_UNIQUE_RESENT;
        list_for_each (orphan, &orphans->list, link)
                if (orphan->unique == unique && orphan->export == export && !orphan->transfer &&
                    (!export || orphan->offset == offset))
                        return orphan;
        return NULL;
}

void orphan_claim(struct transfer *transfer, uint64_t unique)
{
        struct orphans *orphans = &transfer->thread->mount->orphans;
        struct orphan *orphan;

        /* The account is made before anything is served, if it is at all. */
        if (!orphans->io)
                return;
        pthread_mutex_lock(&orphans->lock);
        orphan = find(orphans, unique, transfer->export, transfer->offset);
        if (orphan) {
                orphan->transfer = transfer;
                orphans->n_list++;
                transfer->orphan = orphan;
                transfer->account = orphans->io;
        }
        pthread_mutex_unlock(&orphans->lock);
}

bool orphan_is_copy(struct orphans *orphans, uint64_t unique)
{
        bool found;

        pthread_mutex_lock(&orphans->lock);
        found = find(orphans, unique, NULL, 0);
        pthread_mutex_unlock(&orphans->lock);
        return found;
}

void orphan_copy_taken_over(struct orphans *orphans, uint64_t unique)
{
        struct orphan *orphan;

        pthread_mutex_lock(&orphans->lock);
        orphan = find(orphans, unique, NULL, 0);
        pthread_mutex_unlock(&orphans->lock);
        if (orphan)
                orphan_end(orphan);
}

bool orphan_take_range(struct transfer *transfer)
{
        struct orphans *orphans = &transfer->thread->mount->orphans;
        struct orphan *orphan = transfer->orphan;
        bool open;

        if (orphan->range.offset != transfer->range.offset ||
            orphan->range.length != transfer->range.length) {
                orphan_not_taken_over(transfer);
                return false;
        }

        pthread_mutex_lock(&orphans->lock);
        range_lock_replace(&orphan->export->ranges, &orphan->range, &transfer->range);
        orphan->in_range = false;
        open = atomic_load(&orphans->fence_open);
        if (!open)
                list_append(&orphans->waiting, &transfer->fence_link);
        pthread_mutex_unlock(&orphans->lock);
        if (open)
                transfer->have_range(transfer);
        return true;
}

void orphan_taken_over(struct transfer *transfer)
{
        orphan_end(DMIO_TAKE(transfer->orphan));
}

void orphan_not_taken_over(struct transfer *transfer)
{
        struct orphans *orphans = &transfer->thread->mount->orphans;
        struct orphan *orphan = DMIO_TAKE(transfer->orphan);
        bool finished;

        pthread_mutex_lock(&orphans->lock);
        assert(orphan->in_range);
        orphan->transfer = NULL;
        finished = orphans->finished;
        pthread_mutex_unlock(&orphans->lock);
        if (finished)
                orphans_finish(orphans);
}

/* Those that nobody waits for */

static unsigned int active_legs(const struct export *export)
{
        unsigned int n = 0;

        for (unsigned int i = 0; i < export->n_legs; i++)
                n += leg_is_active(&export->legs[i]);
        return n;
}

static void settle_end(struct transfer *transfer, int error)
{
        transfer_reply_error(transfer, error);
}

static void settle_write(struct transfer *transfer, int error)
{
        if (error < 0)
                settle_end(transfer, error);
        else
                mirror_write(transfer, transfer->begin, transfer->end - transfer->begin,
                             transfer->data, 0, settle_end);
}

/* What had been begun has ended, or what it left behind has been put in order. */
static void settled(void *owner, int error)
{
        struct orphan *orphan = owner;

        if (error < 0 && error != -ENODEV)
                log_warning_errno(error,
                                  "Cannot put in order what a killed daemon left in '%s': %m",
                                  orphan->export->path);
        orphan_end(orphan);
}

void orphan_settle(struct transfer *transfer)
{
        struct orphan *orphan = DMIO_TAKE(transfer->orphan);

        transfer->done = settled;
        transfer->owner = orphan;
        if (orphan->kind == ORPHAN_ZERO)
                io_zero(transfer);
        else if (active_legs(transfer->export) > 1)
                mirror_read(transfer, transfer->begin, transfer->end - transfer->begin,
                            transfer->data, settle_write);
        else
                settle_end(transfer, 0);
}

static void settle_have_pages(struct transfer *transfer)
{
        if (transfer->orphan->kind == ORPHAN_ZERO && transfer->pages)
                transfer_set_edges(transfer, transfer->pages);
        transfer_lock_range(transfer, false, orphan_settle);
}

static void settle_begin(struct orphan *orphan)
{
        struct orphans *orphans = &orphan->mount->orphans;
        struct transfer *transfer;
        unsigned int n_pages;
        int r;

        r = -ENODEV;
        if (orphan->export)
                r = transfer_new_part(orphans->thread, orphan->export, OPERATION_NONE, settled,
                                      orphan, &transfer);
        if (r < 0) {
                settled(orphan, r);
                return;
        }
        pthread_mutex_lock(&orphans->lock);
        orphan->transfer = transfer;
        orphans->n_list++;
        pthread_mutex_unlock(&orphans->lock);
        transfer->orphan = orphan;
        transfer->account = orphans->io;
        transfer_cover(transfer, orphan->offset, orphan->length);

        n_pages = orphan->kind == ORPHAN_ZERO ? transfer_edge_pages(transfer)
                                              : transfer_pages_of(transfer->end - transfer->begin);
        if (n_pages > 0)
                transfer_wait_pages(transfer, n_pages, settle_have_pages);
        else
                settle_have_pages(transfer);
}

/* The next orphan without a transfer, or NULL. */
static struct orphan *find_unclaimed(struct orphans *orphans)
{
        struct orphan *orphan, *found = NULL;

        pthread_mutex_lock(&orphans->lock);
        list_for_each (orphan, &orphans->list, link)
                if (!orphan->transfer && !found)
                        found = orphan;
        pthread_mutex_unlock(&orphans->lock);
        return found;
}

static void finish_task(struct dmio_task *task)
{
        struct orphans *orphans = container_of(task, struct orphans, finish_task);
        struct orphan *orphan;

        atomic_store(&orphans->finish_posted, false);
        while ((orphan = find_unclaimed(orphans)))
                settle_begin(orphan);
}

void orphans_finish(struct orphans *orphans)
{
        pthread_mutex_lock(&orphans->lock);
        if (!orphans->finished && orphans->n_list == 0 && orphans->io)
                (void)dm_io_client_put(orphans->io, ACCOUNT_PAGES);
        orphans->finished = true;
        pthread_mutex_unlock(&orphans->lock);
        if (orphans->thread && !atomic_exchange(&orphans->finish_posted, true))
                dmio_queue_post(orphans->thread->queue, &orphans->finish_task);
}
