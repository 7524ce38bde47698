/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "log.h"
#include "model/counters-file.h"
#include "model/export.h"
#include "mount/mount-internal.h"
#include "mount/page-list.h"
#include "mount/transfer.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

int transfer_new(struct queue_thread *thread, struct fuse_req *req, struct export *export,
                 enum operation operation, struct transfer **ret)
{
        struct transfer *transfer;
        int r;

        r = export_begin(export);
        if (r < 0)
                return r;

        transfer = list_first(&thread->spare, struct transfer, link);
        if (transfer) {
                list_unlink(&transfer->link);
        } else {
                transfer = calloc(1, sizeof(*transfer));
                if (!transfer) {
                        export_end(export);
                        return -ENOMEM;
                }
                list_init(&transfer->link);
                transfer->thread = thread;
        }

        transfer->req = req;
        transfer->unique = req ? thread->current_unique : 0;
        transfer->operation = operation;
        transfer->begun_usec = transfer->now_usec = now_usec();
        transfer->slot = req ? queue_thread_take_slot(thread) : NULL;
        if (req && counted_before(thread->mount, transfer->unique, transfer->slot))
                transfer->operation = OPERATION_NONE;
        transfer->chunk = NULL;
        transfer->orphan = NULL;
        transfer->account = export->io;
        transfer->done = NULL;
        transfer->export = export;
        transfer->flags = 0;
        transfer->edges[0].used = transfer->edges[1].used = false;
        transfer->of_cache = false;
        thread->n_transfers++;
        list_append(&thread->active, &transfer->link);
        interrupts_transfer_begins(transfer);

        *ret = transfer;
        return 0;
}

int transfer_new_part(struct queue_thread *thread, struct export *export, enum operation operation,
                      transfer_done_fn done, void *owner, struct transfer **ret)
{
        int r = transfer_new(thread, NULL, export, operation, ret);

        if (r < 0)
                return r;
        (*ret)->done = done;
        (*ret)->owner = owner;
        return 0;
}

void transfer_begun(struct transfer *transfer)
{
        if (transfer->slot)
                memory_slot_set(transfer->slot, SLOT_BEGUN);
        else if (transfer->chunk)
                atomic_store_explicit(transfer->chunk, transfer->chunk_number,
                                      memory_order_release);
        if (transfer->orphan)
                orphan_taken_over(transfer);
}

/* Before its range is left: from then on others may change what it has changed. */
static void transfer_note_result(struct transfer *transfer, int64_t result)
{
        if (transfer->slot && memory_slot_state(transfer->slot) == SLOT_BEGUN)
                memory_slot_done(transfer->slot, result);
        else if (transfer->chunk && atomic_load(transfer->chunk) != 0)
                atomic_store(transfer->chunk,
                             result < 0 ? 0 : transfer->chunk_number | SLOT_CHUNK_DONE);
}

void transfer_cover(struct transfer *transfer, uint64_t offset, uint64_t length)
{
        uint64_t block = transfer_block(transfer);

        transfer->offset = offset;
        transfer->length = length;
        transfer->begin = round_down(offset, block);
        transfer->end = round_up(offset + length, block);
}

void transfer_park(struct transfer *transfer, struct page_list *payload)
{
        transfer->parked = payload;
        queue_thread_parked(transfer->thread);
}

void transfer_unpark(struct transfer *transfer)
{
        if (!transfer->parked)
                return;
        dmio_pages_put(transfer->thread->mount->io, transfer->parked);
        transfer->parked = NULL;
        queue_thread_unparked(transfer->thread);
}

void transfer_count_leg(const struct transfer *transfer, unsigned int leg, enum operation operation,
                        uint64_t usec, uint64_t bytes, bool failed)
{
        export_counters_add(&transfer->export->counters, transfer->thread->index, ROW_LEG(leg),
                            operation, usec, bytes, failed, NULL);
}

/*
 * Once, and before the reply: whoever has that finds it counted. And before the slot says that it
 * is done: then it is not carried out again, and so would be counted by nobody.
 */
static void transfer_count(struct transfer *transfer, int error)
{
        struct counters_request request = { .unique = transfer->unique & ~MEMORY_UNIQUE_RESENT };

        if (transfer->operation == OPERATION_NONE)
                return;
        if (transfer->slot)
                request.slot = counted_slot(transfer->thread->mount, transfer->slot);
        export_counters_add(&transfer->export->counters, transfer->thread->index, ROW_EXPORT,
                            transfer->operation, transfer->now_usec - transfer->begun_usec,
                            transfer->length, error < 0, transfer->slot ? &request : NULL);
        transfer->operation = OPERATION_NONE;
}

/* What the export has to do with it is over before the reply, so that closing finds it idle. */
static void transfer_leave_export(struct transfer *transfer)
{
        struct export *export = transfer->export;

        if (!export)
                return;
        transfer_unlock_range(transfer);
        if (transfer->pages)
                dmio_pages_put(transfer->account, transfer->pages);
        transfer_unpark(transfer);
        transfer->pages = transfer->data = NULL;
        transfer->export = NULL;
        export_end(export);
}

/* All but the slot, which lasts until the answer has been written. */
static struct memory_slot *transfer_retire(struct transfer *transfer)
{
        struct queue_thread *thread = transfer->thread;

        transfer_leave_export(transfer);
        if (transfer->orphan)
                orphan_not_taken_over(transfer);
        if (thread->mount->orphans.io && transfer->account == thread->mount->orphans.io)
                orphan_account_left(&thread->mount->orphans);
        interrupts_transfer_ends(transfer);
        thread->n_transfers--;
        list_unlink(&transfer->link);
        list_prepend(&thread->spare, &transfer->link);
        return DMIO_TAKE(transfer->slot);
}

static void slot_put(struct queue_thread *thread, struct memory_slot *slot)
{
        if (slot)
                queue_thread_put_slot(thread, slot);
}

void transfer_end(struct transfer *transfer)
{
        slot_put(transfer->thread, transfer_retire(transfer));
}

void transfers_free(struct queue_thread *thread)
{
        struct transfer *transfer;

        while ((transfer = list_first(&thread->spare, struct transfer, link))) {
                list_unlink(&transfer->link);
                free(transfer);
        }
}

void transfer_reply_error(struct transfer *transfer, int error)
{
        struct queue_thread *thread = transfer->thread;
        fuse_req_t req = transfer->req;
        transfer_done_fn done = transfer->done;
        void *owner = transfer->owner;
        struct memory_slot *slot;

        transfer_count(transfer, error);
        transfer_note_result(transfer, error);
        slot = transfer_retire(transfer);
        if (done)
                done(owner, error);
        else if (req)
                fuse_reply_err(req, -error);
        slot_put(thread, slot);
}

/* Nobody waits for it any more. Ends it and returns true if so. */
static bool transfer_is_over(struct transfer *transfer)
{
        if (transfer->req || transfer->done)
                return false;
        transfer_count(transfer, -EINTR);
        transfer_end(transfer);
        return true;
}

/* ENOENT: who asked is gone. */
static void reply_done(struct dmio_op *op, int result)
{
        struct transfer *transfer = container_of(op, struct transfer, reply);

        if (result < 0 && result != -ENOENT)
                log_debug_errno(result, "Cannot write a reply, dropping it: %m");
        transfer_end(transfer);
}

/*
 * The first @head bytes of out, and what is in iov from 1 on; together @length bytes behind the
 * header. libfuse only has to forget the request.
 */
static void transfer_reply(struct transfer *transfer, size_t head, unsigned int n_iov,
                           size_t length)
{
        transfer->out.header = (struct fuse_out_header){
                .len = (uint32_t)(sizeof(transfer->out.header) + length),
                .unique = transfer->unique,
        };
        transfer->iov[0] = (struct iovec){ &transfer->out, head };
        transfer->reply = (struct dmio_op){
                .type = DMIO_OP_WRITEV,
                .fd = transfer->thread->session.fd,
                .iov = transfer->iov,
                .n_iov = n_iov,
                .fn = reply_done,
        };
        fuse_reply_none(transfer->req);
        transfer->req = NULL;
        dmio_queue_submit(transfer->thread->queue, &transfer->reply);
}

void transfer_reply_data(struct transfer *transfer, uint64_t skip, uint64_t length)
{
        size_t n_iov;

        if (transfer_is_over(transfer))
                return;
        transfer_count(transfer, 0);
        n_iov = page_list_to_iovec(transfer->data, skip, length, transfer->iov + 1);
        transfer_reply(transfer, sizeof(transfer->out.header), (unsigned int)(1 + n_iov), length);
}

void transfer_reply_written(struct transfer *transfer, uint64_t length)
{
        if (transfer->done) {
                transfer_reply_error(transfer, 0);
                return;
        }
        if (transfer_is_over(transfer))
                return;
        transfer_count(transfer, 0);
        transfer_note_result(transfer, (int64_t)length);
        transfer_leave_export(transfer);
        transfer->out.written = (struct fuse_write_out){ .size = (uint32_t)length };
        transfer_reply(transfer, sizeof(transfer->out), 1, sizeof(transfer->out.written));
}

static void pages_granted(struct dmio_page_wait *wait, struct page_list *pages)
{
        struct transfer *transfer = container_of(wait, struct transfer, wait);

        transfer->pages = transfer->data = pages;
        transfer->now_usec = now_usec();
        if (!transfer_is_over(transfer))
                transfer->have_pages(transfer);
}

/* An orphan's transfer has its own account to fall back on, which must not run dry for others. */
static void transfer_use_client(struct transfer *transfer)
{
        if (transfer->account != transfer->export->io)
                orphan_account_left(&transfer->thread->mount->orphans);
        transfer->account = transfer->export->io;
}

bool transfer_get_pages(struct transfer *transfer, unsigned int n_pages)
{
        struct page_list *pages = dmio_pages_get(transfer->export->io, n_pages);

        if (pages)
                transfer_use_client(transfer);
        else if (transfer->orphan)
                pages = dmio_pages_get(transfer->account, n_pages);
        transfer->pages = transfer->data = pages;
        return pages != NULL;
}

bool transfer_move_pages(struct transfer *transfer, struct page_list *payload)
{
        struct dm_io_client *from = transfer->thread->mount->io;

        if (dmio_pages_move(from, transfer->export->io, payload) == 0)
                transfer_use_client(transfer);
        else if (!transfer->orphan || dmio_pages_move(from, transfer->account, payload) < 0)
                return false;
        transfer->pages = transfer->data = payload;
        return true;
}

void transfer_wait_pages(struct transfer *transfer, unsigned int n_pages, transfer_step_fn then)
{
        int r;

        transfer->have_pages = then;
        transfer->wait = (struct dmio_page_wait){
                .client = transfer->account,
                .queue = transfer->thread->queue,
                .n_pages = n_pages,
                .fn = pages_granted,
        };
        r = dmio_pages_wait(&transfer->wait);
        if (r < 0) {
                log_debug_errno(r, "%u pages can never be had for %s: %m", n_pages,
                                transfer->export->path);
                transfer_reply_error(transfer, -ENOMEM);
        }
}

static void range_granted(struct dmio_task *task)
{
        struct transfer *transfer = container_of(task, struct transfer, range.task);

        transfer->now_usec = now_usec();
        /* What a killed process had begun cannot just be left. */
        if (transfer->orphan && !transfer->req && !transfer->done)
                orphan_settle(transfer);
        else if (!transfer_is_over(transfer))
                transfer->have_range(transfer);
}

void transfer_lock_range(struct transfer *transfer, bool shared, transfer_step_fn then)
{
        transfer->have_range = then;
        transfer->range.offset = transfer->begin;
        transfer->range.length = transfer->end - transfer->begin;
        transfer->range.shared = shared;
        transfer->range.queue = transfer->thread->queue;
        transfer->range.task.fn = range_granted;
        transfer->in_range = true;
        if (transfer->orphan && orphan_take_range(transfer))
                return;
        if (range_lock_acquire(&transfer->export->ranges, &transfer->range))
                then(transfer);
}

void transfer_unlock_range(struct transfer *transfer)
{
        if (transfer->in_range)
                range_lock_release(&transfer->export->ranges, &transfer->range);
        transfer->in_range = false;
}

uint64_t transfer_block(const struct transfer *transfer)
{
        return MAX(transfer->export->logical_block, DMIO_SECTOR_SIZE);
}

static void edge_read(struct transfer *transfer, int error)
{
        const struct edge *edge = &transfer->edges[transfer->edge];

        if (error < 0) {
                transfer_reply_error(transfer, error);
                return;
        }
        if (transfer_is_over(transfer))
                return;

        while (transfer->edge < 2 && !edge->used)
                edge = &transfer->edges[++transfer->edge];
        if (transfer->edge == 2) {
                transfer->have_edges(transfer);
                return;
        }
        transfer->edge++;
        mirror_read(transfer, edge->offset, transfer_block(transfer), edge->pages, edge_read);
}

void transfer_read_edges(struct transfer *transfer, transfer_step_fn then)
{
        transfer->have_edges = then;
        transfer->edge = 0;
        edge_read(transfer, 0);
}
