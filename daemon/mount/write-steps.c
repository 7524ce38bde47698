/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "mount/write-steps.h"
#include "model/export.h"
#include "mount/mount-internal.h"
#include "mount/page-list.h"
#include "mount/transfer.h"
#include "util/macros.h"

unsigned int transfer_pages_of(uint64_t bytes)
{
        return (unsigned int)DIV_ROUND_UP(bytes, DMIO_PAGE_SIZE);
}

/*
 * Which edges a change of [offset, offset + length) needs, in pages from @spare on. When both ends
 * lie in the same block, the first edge is both.
 */
void transfer_set_edges(struct transfer *transfer, struct page_list *spare)
{
        uint64_t block = transfer_block(transfer);
        struct edge *head = &transfer->edges[0], *tail = &transfer->edges[1];

        head->used = transfer->offset > transfer->begin;
        head->offset = transfer->begin;
        head->pages = spare;
        tail->used = transfer->offset + transfer->length < transfer->end;
        tail->offset = transfer->end - block;
        tail->pages = head->used ? NULL : spare;
        if (!head->used || !tail->used)
                return;

        if (head->offset == tail->offset) {
                tail->used = false;
                tail->pages = head->pages;
        } else {
                tail->pages = page_list_at(spare, transfer_pages_of(block));
        }
}

unsigned int transfer_edge_pages(const struct transfer *transfer)
{
        uint64_t end = transfer->offset + transfer->length;
        unsigned int n_edges = (transfer->offset > transfer->begin) + (end < transfer->end);

        return n_edges * transfer_pages_of(transfer_block(transfer));
}

void write_flush_failed(struct transfer *transfer)
{
        struct export *export = transfer->export;
        unsigned int n = atomic_fetch_add(&export->flush_failures, 1) + 1;

        memory_file_set_failures(&transfer->thread->mount->memory, export->node.id, n);
}

static void write_done(struct transfer *transfer, int error)
{
        /* With O_DSYNC it was a flush as well, unless it was refused. */
        if (error < 0 && transfer->flags & DM_IO_FUA && !export_error_is_harmless(-error))
                write_flush_failed(transfer);
        if (error < 0)
                transfer_reply_error(transfer, error);
        else
                transfer_reply_written(transfer, transfer->length);
}

static void write_send(struct transfer *transfer)
{
        mirror_write(transfer, transfer->begin, transfer->end - transfer->begin, transfer->data,
                     transfer->flags, write_done);
}

/* Put what the write leaves alone around what it brings. */
static void write_merge(struct transfer *transfer)
{
        uint64_t head = transfer->offset - transfer->begin;
        uint64_t end = transfer->offset + transfer->length;
        uint64_t tail = transfer->end - end;

        if (head > 0)
                page_list_copy(transfer->data, 0, transfer->edges[0].pages, 0, head);
        if (tail > 0)
                page_list_copy(transfer->data, end - transfer->begin, transfer->edges[1].pages,
                               transfer_block(transfer) - tail, tail);
        write_send(transfer);
}

static void write_locked(struct transfer *transfer)
{
        transfer_begun(transfer);
        if (transfer->edges[0].used || transfer->edges[1].used)
                transfer_read_edges(transfer, write_merge);
        else
                write_send(transfer);
}

void write_fill(struct transfer *transfer, const struct page_list *payload)
{
        uint64_t begin_to_end = transfer->end - transfer->begin;

        if (transfer_edge_pages(transfer) > 0)
                transfer_set_edges(transfer,
                                   page_list_at(transfer->data, transfer_pages_of(begin_to_end)));
        page_list_copy(transfer->data, transfer->offset - transfer->begin, payload, 0,
                       transfer->length);
}

void write_start(struct transfer *transfer)
{
        transfer_lock_range(transfer, false, write_locked);
}
