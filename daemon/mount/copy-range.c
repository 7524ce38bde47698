/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Copies inside of the daemon. The range is cut into chunks, a few of which are under way; a chunk
 * is a read and then a write, as parts without a client of their own. So legs fail, blocks that are
 * covered in part are merged and ranges are kept as for any other read and write, and the bytes
 * never leave the daemon.
 *
 * A chunk has all its pages, on the account of the export that is written to, before it begins, and
 * leaves the source's range before it enters the other one: no two chunks can wait for each other.
 *
 * One request copies a limited amount; the kernel's reply has the number of bytes, and who wants
 * more asks again. What is told is what lies before the first byte that could not be copied.
 *
 * In the memory file are the chunks under way, and how far the copy has come without a gap. If the
 * process is killed the next one answers with that, and copies nothing again: others may have
 * written since to what had been copied. Only of a copy that has not finished its first chunk that
 * one is done, and no other (orphan.h).
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "model/export.h"
#include "mount/copy-range.h"
#include "mount/io-ops.h"
#include "mount/mount-internal.h"
#include "mount/page-list.h"
#include "mount/transfer.h"
#include "mount/write-steps.h"
#include "util/macros.h"

#define CHUNKS SLOT_CHUNKS
#define CHUNKS_MAX (COPY_MAX / COPY_CHUNK_BYTES)

struct copy;

struct chunk {
        struct copy *copy;
        bool active;
        uint64_t at; /* in the copy */
        uint64_t length;
        struct transfer *writer;
        struct page_list *source; /* the blocks around what is read; among the writer's pages */
};

struct copy {
        struct queue_thread *thread;
        struct transfer *answer; /* the request itself: nothing but the reply */
        struct export *from, *to;
        uint64_t from_offset, to_offset;
        uint64_t length;
        uint64_t next; /* up to there chunks have been begun */
        uint64_t end;  /* the first byte that could not be copied */
        int error;     /* of that one */
        unsigned int flags;
        unsigned int n_active;
        bool running;
        bool orphaned;              /* the first chunk may be an orphan's */
        uint8_t copied[CHUNKS_MAX]; /* chunks; 1: done */
        struct chunk chunks[CHUNKS];
};

static void copy_run(struct copy *copy);

/* Bytes from the beginning without a gap, for the next process. */
static void copy_note_progress(struct copy *copy, uint64_t at)
{
        uint64_t n = 0;

        copy->copied[at / COPY_CHUNK_BYTES] = 1;
        if (!copy->answer->slot)
                return;
        while (n < CHUNKS_MAX && copy->copied[n])
                n++;
        atomic_store(&copy->answer->slot->result, (int64_t)MIN(n * COPY_CHUNK_BYTES, copy->length));
}

/* It is over, and how far the copy has come has been noted. */
static void chunk_forget(const struct chunk *chunk)
{
        const struct copy *copy = chunk->copy;

        if (copy->answer->slot)
                atomic_store(&copy->answer->slot->chunks[chunk - copy->chunks], 0);
}

/* The writer's end, and with that the chunk's. */
static void chunk_done(void *owner, int error)
{
        struct chunk *chunk = owner;
        struct copy *copy = chunk->copy;

        if (error < 0 && chunk->at < copy->end) {
                copy->end = chunk->at;
                copy->error = error;
        }
        if (error == 0)
                copy_note_progress(copy, chunk->at);
        chunk_forget(chunk);
        chunk->active = false;
        copy->n_active--;
        copy_run(copy);
}

static void chunk_read(void *owner, int error)
{
        struct chunk *chunk = owner;
        struct transfer *writer = chunk->writer;
        const struct copy *copy = chunk->copy;
        uint64_t block = MAX(copy->from->logical_block, DMIO_SECTOR_SIZE);

        if (error < 0) {
                transfer_reply_error(writer, error);
                return;
        }
        if (chunk->source != writer->data)
                page_list_copy(writer->data, writer->offset - writer->begin, chunk->source,
                               (copy->from_offset + chunk->at) % block, chunk->length);
        write_start(writer);
}

static void reader_done(struct transfer *reader, int error)
{
        transfer_unlock_range(reader);
        transfer_reply_error(reader, error);
}

static void reader_send(struct transfer *reader)
{
        const struct chunk *chunk = reader->owner;

        mirror_read(reader, reader->begin, reader->end - reader->begin, chunk->source, reader_done);
}

/* Can the blocks be written as they are read? */
static bool chunk_fits_blocks(const struct chunk *chunk)
{
        const struct copy *copy = chunk->copy;
        uint64_t block = MAX(copy->from->logical_block, copy->to->logical_block);

        block = MAX(block, DMIO_SECTOR_SIZE);
        return is_aligned((copy->from_offset + chunk->at) | (copy->to_offset + chunk->at) |
                                  chunk->length,
                          block);
}

/* Of what is written, of its edges, and of what is read if that needs room of its own. */
static unsigned int chunk_pages(const struct chunk *chunk)
{
        const struct transfer *writer = chunk->writer;
        unsigned int n =
                transfer_pages_of(writer->end - writer->begin) + transfer_edge_pages(writer);

        /* The blocks around it are less than one more at each end. */
        if (!chunk_fits_blocks(chunk))
                n += transfer_pages_of(chunk->length) +
                     2 * transfer_pages_of(chunk->copy->from->logical_block);
        return n;
}

static void chunk_have_pages(struct transfer *writer)
{
        struct chunk *chunk = writer->owner;
        const struct copy *copy = chunk->copy;
        unsigned int n_data = transfer_pages_of(writer->end - writer->begin);
        unsigned int n_edges = transfer_edge_pages(writer);
        struct transfer *reader;
        int r;

        if (n_edges > 0)
                transfer_set_edges(writer, page_list_at(writer->data, n_data));
        chunk->source = chunk_fits_blocks(chunk) ? writer->data
                                                 : page_list_at(writer->data, n_data + n_edges);
        r = transfer_new_part(copy->thread, copy->from, OPERATION_READ, chunk_read, chunk, &reader);
        if (r < 0) {
                transfer_reply_error(writer, r);
                return;
        }
        transfer_cover(reader, copy->from_offset + chunk->at, chunk->length);
        if (copy->from->torn_reads)
                transfer_lock_range(reader, true, reader_send);
        else
                reader_send(reader);
}

static void chunk_begin(struct chunk *chunk)
{
        struct copy *copy = chunk->copy;
        unsigned int n_pages;
        int r;

        chunk->active = true;
        chunk->at = copy->next;
        chunk->length = MIN(copy->length - copy->next, COPY_CHUNK_BYTES);
        copy->next += chunk->length;
        copy->n_active++;

        r = transfer_new_part(copy->thread, copy->to, OPERATION_WRITE, chunk_done, chunk,
                              &chunk->writer);
        if (r < 0) {
                chunk_done(chunk, r);
                return;
        }
        transfer_cover(chunk->writer, copy->to_offset + chunk->at, chunk->length);
        chunk->writer->flags = copy->flags;
        if (copy->answer->slot) {
                chunk->writer->chunk = &copy->answer->slot->chunks[chunk - copy->chunks];
                chunk->writer->chunk_number = (uint32_t)(chunk->at / COPY_CHUNK_BYTES) + 1;
        }
        if (copy->orphaned)
                orphan_claim(chunk->writer, copy->answer->unique);
        n_pages = chunk_pages(chunk);
        if (transfer_get_pages(chunk->writer, n_pages))
                chunk_have_pages(chunk->writer);
        else
                transfer_wait_pages(chunk->writer, n_pages, chunk_have_pages);
}

static bool copy_goes_on(const struct copy *copy)
{
        return copy->next < copy->length && copy->error == 0 && copy->answer->req;
}

static void copy_finish(struct copy *copy)
{
        uint64_t copied = MIN(copy->end, copy->next);

        if (copied > 0)
                transfer_reply_written(copy->answer, copied);
        else
                transfer_reply_error(copy->answer, copy->error);
        export_unref(copy->from);
        export_unref(copy->to);
        free(copy);
}

/* Begin what can be begun. A chunk may end while it is begun. */
static void copy_run(struct copy *copy)
{
        if (copy->running)
                return;
        copy->running = true;
        for (unsigned int i = 0; i < CHUNKS; i++)
                while (!copy->chunks[i].active && copy_goes_on(copy))
                        chunk_begin(&copy->chunks[i]);
        copy->running = false;
        if (copy->n_active == 0)
                copy_finish(copy);
}

static void copy_start(const struct copy *like, fuse_req_t req)
{
        struct copy *copy = calloc(1, sizeof(*copy));
        int r = -ENOMEM;

        if (copy) {
                *copy = *like;
                r = transfer_new(copy->thread, req, copy->to, OPERATION_NONE, &copy->answer);
        }
        if (r < 0) {
                free(copy);
                fuse_reply_err(req, -r);
                return;
        }
        export_ref(copy->from);
        export_ref(copy->to);
        copy->end = UINT64_MAX;
        for (unsigned int i = 0; i < CHUNKS; i++) {
                copy->chunks[i].copy = copy;
                atomic_store(&copy->answer->slot->chunks[i], 0);
        }
        transfer_begun(copy->answer);
        if (copy->orphaned)
                orphan_copy_taken_over(&copy->thread->mount->orphans, copy->answer->unique);
        copy_run(copy);
}

/*
 * Replies: the number of bytes copied, 0 at the end of the source; ENOSPC from the end of the
 * destination on; EBADF, EROFS, ENODEV, EINVAL for flags, for files that are no exports and for
 * ranges of one export that overlap; EOPNOTSUPP, with which the kernel copies by itself; ENOMEM,
 * EIO.
 */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in,
                        struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t offset_out,
                        struct fuse_file_info *fi_out, size_t length, int flags)
{
        struct copy copy = {
                .thread = fuse_req_userdata(req),
                .from_offset = (uint64_t)offset_in,
                .to_offset = (uint64_t)offset_out,
        };
        struct open_file *from, *to;
        uint64_t size_in, size_out;

        from = io_find_file(req, fi_in);
        to = from ? io_find_file(req, fi_out) : NULL;
        if (!to)
                return;
        copy.from = from->export;
        copy.to = to->export;
        if (flags != 0 || !copy.from || !copy.to) {
                fuse_reply_err(req, EINVAL);
                return;
        }
        if (copy.to->read_only) {
                fuse_reply_err(req, EROFS);
                return;
        }

        /*
         * The kernel would throw out the cached pages around what was copied, with what others have
         * stored into them meanwhile. Told that there is no such operation it copies by way of
         * them.
         */
        if (copy.to->cache == EXPORT_CACHE_PAGE) {
                fuse_reply_err(req, EOPNOTSUPP);
                return;
        }

        size_in = copy.from->sectors << DMIO_SECTOR_SHIFT;
        size_out = copy.to->sectors << DMIO_SECTOR_SHIFT;
        if (length == 0 || copy.from_offset >= size_in) {
                fuse_reply_write(req, 0);
                return;
        }
        if (copy.to_offset >= size_out) {
                fuse_reply_err(req, ENOSPC);
                return;
        }
        copy.length = MIN(length, COPY_MAX);
        copy.length = MIN(copy.length, size_in - copy.from_offset);
        copy.length = MIN(copy.length, size_out - copy.to_offset);
        copy.orphaned = orphan_is_copy(&copy.thread->mount->orphans, copy.thread->current_unique);
        if (copy.orphaned)
                copy.length = MIN(copy.length, COPY_CHUNK_BYTES);
        if (copy.from == copy.to &&
            ranges_overlap(copy.from_offset, copy.length, copy.to_offset, copy.length)) {
                fuse_reply_err(req, EINVAL);
                return;
        }
        if (fi_out->flags & O_DSYNC)
                copy.flags |= DM_IO_FUA;
        copy_start(&copy, req);
}
