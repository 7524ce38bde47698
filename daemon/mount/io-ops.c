/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reads, writes and their like: what the request asks for becomes a transfer, and the steps of the
 * transfer follow each other as functions, in the order in which they stand here.
 *
 * Any byte offset and length is served. Legs are read and written in whole blocks, so a read reads
 * the blocks around it and answers with the part that was wanted, and a write first reads the
 * blocks that it covers in part (the edges). All that writes enters the range lock with whole
 * blocks, also what needs no edges: it may share a leg's block with somebody else's edge.
 */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "model/export.h"
#include "mount/holes.h"
#include "mount/io-ops.h"
#include "mount/mount-internal.h"
#include "mount/page-list.h"
#include "mount/transfer.h"
#include "mount/write-steps.h"
#include "util/macros.h"

/*
 * From this size on the pages that a payload was received in go to the device, and the window gets
 * others. Below, copying into pages of the client costs less than exchanging pages, and wins a
 * window whose pages stay in the cache.
 */
#define MOVE_MIN ((size_t)32 * 1024)

struct open_file *io_find_file(fuse_req_t req, const struct fuse_file_info *fi)
{
        struct queue_thread *thread = fuse_req_userdata(req);
        struct open_file *file;

        file = fi ? handle_table_get(&thread->mount->handles, fi->fh) : NULL;
        if (file && !atomic_load(&file->orphaned) &&
            (!file->export || !atomic_load(&file->export->gone)))
                return file;
        fuse_reply_err(req, file ? ENODEV : EBADF);
        return NULL;
}

static uint64_t export_size(const struct export *export)
{
        return export->sectors << DMIO_SECTOR_SHIFT;
}

/* Begin a transfer of [offset, offset + length) and of the whole blocks around it. */
static struct transfer *begin(fuse_req_t req, struct export *export, enum operation operation,
                              uint64_t offset, uint64_t length)
{
        struct transfer *transfer;
        int r;

        r = transfer_new(fuse_req_userdata(req), req, export, operation, &transfer);
        if (r < 0) {
                fuse_reply_err(req, -r);
                return NULL;
        }

        transfer_cover(transfer, offset, length);
        orphan_claim(transfer, transfer->unique);
        return transfer;
}

/* Reading */

static void read_done(struct transfer *transfer, int error)
{
        transfer_unlock_range(transfer);
        if (error < 0)
                transfer_reply_error(transfer, error);
        else
                transfer_reply_data(transfer, transfer->offset - transfer->begin, transfer->length);
}

static void read_send(struct transfer *transfer)
{
        mirror_read(transfer, transfer->begin, transfer->end - transfer->begin, transfer->data,
                    read_done);
}

/*
 * A block device writes a block whole or not at all. A file may show readers half of one, where the
 * page cache or somebody's server is behind it (on tmpfs even with O_DIRECT); so of an export with
 * such a leg reads and writes keep out of each other's way.
 */
static void read_start(struct transfer *transfer)
{
        if (transfer->export->torn_reads)
                transfer_lock_range(transfer, true, read_send);
        else
                read_send(transfer);
}

/* Replies: the data, fewer at the end, none beyond; EBADF, ENODEV, EINVAL, ENOMEM, EIO. */
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
        uint64_t at = (uint64_t)offset;
        struct transfer *transfer;
        struct open_file *file;
        unsigned int n_pages;
        uint64_t length;

        file = io_find_file(req, fi);
        if (!file)
                return;

        length = file->export ? export_size(file->export) : file->length;
        length = at < length ? MIN(length - at, size) : 0;
        if (length == 0 || !file->export) {
                fuse_reply_buf(req, length > 0 ? file->text + at : NULL, length);
                return;
        }

        transfer = begin(req, file->export, OPERATION_READ, at, length);
        if (!transfer)
                return;

        /* The kernel says for whom it reads, unless it is for the page cache. */
        transfer->of_cache = fi->lock_owner == 0;
        n_pages = transfer_pages_of(transfer->end - transfer->begin);
        if (n_pages > DMIO_PAGES_MAX)
                transfer_reply_error(transfer, -EINVAL);
        else if (transfer_get_pages(transfer, n_pages))
                read_start(transfer);
        else
                transfer_wait_pages(transfer, n_pages, read_start);
}

/* Writing */

static void write_unpark(struct transfer *transfer)
{
        write_fill(transfer, transfer->parked);
        transfer_unpark(transfer);
        write_start(transfer);
}

/*
 * Replies: the length, less at the end; ENOSPC from the end on, as on a block device; EBADF, EROFS,
 * ENODEV, EINVAL, ENOMEM, EIO.
 */
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
              struct fuse_file_info *fi)
{
        struct queue_thread *thread = fuse_req_userdata(req);
        uint64_t at = (uint64_t)offset;
        struct transfer *transfer;
        struct open_file *file;
        unsigned int n_pages;
        uint64_t length;

        file = io_find_file(req, fi);
        if (!file)
                return;
        if (!file->export || file->export->read_only) {
                fuse_reply_err(req, EROFS);
                return;
        }
        if (size == 0) {
                fuse_reply_write(req, 0);
                return;
        }

        length = export_size(file->export);
        if (at >= length) {
                fuse_reply_err(req, ENOSPC);
                return;
        }
        length = MIN(length - at, size);

        transfer = begin(req, file->export, OPERATION_WRITE, at, length);
        if (!transfer)
                return;

        /* The kernel leaves it to us to keep O_SYNC and O_DSYNC. */
        if (fi->flags & O_DSYNC)
                transfer->flags |= DM_IO_FUA;

        n_pages =
                transfer_pages_of(transfer->end - transfer->begin) + transfer_edge_pages(transfer);
        if (n_pages > DMIO_PAGES_MAX || size > SESSION_MAX_WRITE) {
                transfer_reply_error(transfer, -EINVAL);
        } else if (length >= MOVE_MIN && transfer_edge_pages(transfer) == 0) {
                struct page_list *payload = queue_thread_take_payload(thread, n_pages);

                if (transfer_move_pages(transfer, payload)) {
                        write_start(transfer);
                } else {
                        transfer_park(transfer, payload);
                        transfer_wait_pages(transfer, n_pages, write_unpark);
                }
        } else if (transfer_get_pages(transfer, n_pages)) {
                write_fill(transfer, queue_thread_payload(thread));
                write_start(transfer);
        } else {
                transfer_park(transfer,
                              queue_thread_take_payload(thread, transfer_pages_of(length)));
                transfer_wait_pages(transfer, n_pages, write_unpark);
        }
}

/* Flushing */

static void reply_done(struct transfer *transfer, int error)
{
        transfer_reply_error(transfer, error);
}

/*
 * A failure is told to every file that is open, once to each. Who has been answered already may
 * have closed his, and has not been told.
 */
static void fsync_done(struct transfer *transfer, int error)
{
        struct handle_table *handles = &transfer->thread->mount->handles;
        struct export *export = transfer->export;
        struct open_file *file = NULL;
        unsigned int failures;

        if (error < 0)
                write_flush_failed(transfer);
        failures = atomic_load(&export->flush_failures);
        if (transfer->req)
                file = handle_table_get(handles, transfer->fh);
        if (file && atomic_exchange(&file->flushes_told, failures) != failures) {
                handle_table_note_told(handles, transfer->fh, failures);
                if (error == 0)
                        error = -EIO;
                /* Told once: the answer must not get lost with this process. */
        }
        transfer_reply_error(transfer, error);
}

/* Replies: 0; EBADF, ENODEV, ENOMEM, EIO. */
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        struct transfer *transfer;
        struct open_file *file;

        file = io_find_file(req, fi);
        if (!file)
                return;
        if (!file->export || file->export->read_only) {
                fuse_reply_err(req, 0);
                return;
        }

        transfer = begin(req, file->export, OPERATION_FLUSH, 0, 0);
        if (!transfer)
                return;
        transfer->fh = fi->fh;
        transfer_begun(transfer); /* a failure that is told once must not be told to the dead */
        mirror_flush(transfer, fsync_done);
}

/* Making zeroes */

static void zero_middle(struct transfer *transfer)
{
        uint64_t block = transfer_block(transfer);
        uint64_t first = round_up(transfer->offset, block);
        uint64_t last = round_down(transfer->offset + transfer->length, block);

        if (first < last)
                mirror_zero(transfer, first, last - first, transfer->flags, reply_done);
        else
                transfer_reply_error(transfer, 0);
}

static void zero_edge_written(struct transfer *transfer, int error)
{
        const struct edge *edge = &transfer->edges[transfer->edge];

        if (error < 0) {
                transfer_reply_error(transfer, error);
                return;
        }

        while (transfer->edge < 2 && !edge->used)
                edge = &transfer->edges[++transfer->edge];
        if (transfer->edge == 2) {
                zero_middle(transfer);
                return;
        }
        transfer->edge++;
        mirror_write(transfer, edge->offset, transfer_block(transfer), edge->pages, 0,
                     zero_edge_written);
}

static void zero_edges(struct transfer *transfer)
{
        uint64_t block = transfer_block(transfer);
        uint64_t end = transfer->offset + transfer->length;

        for (unsigned int i = 0; i < 2; i++) {
                const struct edge *edge = &transfer->edges[i];

                if (edge->used) {
                        uint64_t from = MAX(transfer->offset, edge->offset);
                        uint64_t to = MIN(end, edge->offset + block);

                        page_list_zero(edge->pages, from - edge->offset, to - from);
                }
        }
        transfer->edge = 0;
        zero_edge_written(transfer, 0);
}

void io_zero(struct transfer *transfer)
{
        transfer_begun(transfer);
        transfer_read_edges(transfer, zero_edges);
}

static void zero_lock(struct transfer *transfer)
{
        transfer_set_edges(transfer, transfer->pages);
        transfer_lock_range(transfer, false, io_zero);
}

/*
 * PUNCH_HOLE and ZERO_RANGE: the same zeroes, but a hole gives the space back where a leg can.
 *
 * The size never changes. With KEEP_SIZE the range is clipped to it, as with any file; without, a
 * range that reaches beyond it would have to grow the file, and gets ENOSPC like a write.
 *
 * Replies: 0; EOPNOTSUPP for other modes; EBADF, EROFS, ENOSPC, ENODEV, ENOMEM, EIO.
 */
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  struct fuse_file_info *fi)
{
        uint64_t at = (uint64_t)offset, count = (uint64_t)length;
        int what = mode & ~FALLOC_FL_KEEP_SIZE;
        struct transfer *transfer;
        struct open_file *file;
        unsigned int n_pages;
        uint64_t size;

        file = io_find_file(req, fi);
        if (!file)
                return;
        if (what != FALLOC_FL_PUNCH_HOLE && what != FALLOC_FL_ZERO_RANGE) {
                fuse_reply_err(req, EOPNOTSUPP);
                return;
        }
        if (!file->export || file->export->read_only) {
                fuse_reply_err(req, EROFS);
                return;
        }

        size = export_size(file->export);
        if (!range_fits(at, count, size)) {
                if (!(mode & FALLOC_FL_KEEP_SIZE)) {
                        fuse_reply_err(req, ENOSPC);
                        return;
                }
                count = at < size ? size - at : 0;
        }
        if (count == 0) {
                fuse_reply_err(req, 0);
                return;
        }

        transfer = begin(req, file->export, OPERATION_WRITE_ZEROES, at, count);
        if (!transfer)
                return;

        if (what == FALLOC_FL_PUNCH_HOLE)
                transfer->flags = DM_IO_UNMAP;
        n_pages = transfer_edge_pages(transfer);
        if (n_pages > DMIO_PAGES_MAX)
                transfer_reply_error(transfer, -EINVAL);
        else if (n_pages == 0)
                transfer_lock_range(transfer, false, io_zero);
        else if (transfer_get_pages(transfer, n_pages))
                zero_lock(transfer);
        else
                transfer_wait_pages(transfer, n_pages, zero_lock);
}

/* Replies: where it is; ENXIO from the end on; EBADF, ENODEV, EINVAL. */
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
        struct open_file *file;
        uint64_t found = 0;
        int r;

        file = io_find_file(req, fi);
        if (!file)
                return;

        if (!file->export) {
                r = seek_in_data(file->length, whence, (uint64_t)offset, &found);
        } else {
                r = export_begin(file->export);
                if (r == 0) {
                        r = export_seek(file->export, whence, (uint64_t)offset, &found);
                        export_end(file->export);
                }
        }
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                fuse_reply_lseek(req, (off_t)found);
}
