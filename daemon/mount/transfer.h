/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A transfer: one request on the data of an export, from FUSE to the reply.
 *
 *      pages -> range lock -> edges -> legs -> reply
 *
 * Reads skip the range lock (but see io-ops.c) and the edges; writes of whole blocks skip the
 * edges. A transfer never waits for the range lock without having its pages, so whoever holds a
 * range can always go on. All of a transfer happens on one queue thread; memory is used again, so a
 * steady load allocates nothing here.
 *
 * A request that hangs may have been answered before its time (interrupt.h). The transfer then goes
 * on to where the next step would be one to the legs, and ends.
 *
 * While it exists the export is held by export_begin(), and so is the client whose pages it uses.
 */

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>

#include <dmio/dmio.h>

#include "model/statistics.h"
#include "mount/memory-file.h"
#include "mount/mirror.h"
#include "mount/orphan.h"
#include "mount/queue-thread.h"
#include "mount/range-lock.h"
#include "util/list.h"

struct fuse_req;
struct orphan;

/* The part of a block that a request does not cover, at one of its ends. */
struct edge {
        bool used;
        uint64_t offset; /* where the block begins */
        struct page_list *pages;
};

typedef void (*transfer_step_fn)(struct transfer *transfer);
/* @error: 0 or a negative errno. */
typedef void (*transfer_done_fn)(void *owner, int error);

struct transfer {
        struct list link;
        struct queue_thread *thread;
        struct fuse_req *req; /* NULL once it is answered */
        transfer_done_fn
                done; /* of one that is part of something larger: told instead of a reply */
        void *owner;
        enum operation operation; /* as what it is counted */
        uint64_t begun_usec;      /* CLOCK_MONOTONIC */
        uint64_t now_usec;        /* when what moves it on has happened */
        uint64_t unique;
        struct memory_slot *slot;     /* where the next process would find it; NULL for a part */
        _Atomic(uint32_t) *chunk;     /* of a part, the same; or NULL */
        uint32_t chunk_number;        /* in it, plus one */
        struct orphan *orphan;        /* it had begun in a process that was killed (orphan.h) */
        struct dm_io_client *account; /* whose pages it has */
        uint64_t interrupted_usec;    /* when the kernel said so; 0: not, or it has been answered */
        bool of_cache;                /* the page cache asks, not a program */
        struct export *export;

        uint64_t offset; /* what was asked for, in bytes */
        uint64_t length;
        uint64_t begin; /* the same in whole blocks */
        uint64_t end;
        unsigned int flags; /* of dm_io() */
        uint64_t fh;        /* of fsync(2): the open file */

        struct page_list *pages;  /* all of them; the client's */
        struct page_list *data;   /* among them, those of [begin, end) */
        struct page_list *parked; /* payload that waits for pages; the mount's */
        struct dmio_page_wait wait;
        transfer_step_fn have_pages;

        struct range range;
        bool in_range; /* entered, perhaps not yet held */
        struct list fence_link;
        transfer_step_fn have_range;

        struct edge edges[2];
        unsigned int edge; /* the one at work */
        transfer_step_fn have_edges;

        struct mirror mirror; /* the request to the legs */

        struct dmio_op reply;
        struct {
                struct fuse_out_header header;
                struct fuse_write_out
                        written; /* of a WRITE: right behind it, one piece for the kernel */
        } out;
        struct iovec iov[1 + DMIO_PAGES_MAX];
};

/* Begin. Returns 0, -ENODEV if the export is gone, or -ENOMEM; then @req is still the caller's. */
int transfer_new(struct queue_thread *thread, struct fuse_req *req, struct export *export,
                 enum operation operation, struct transfer **ret);

/*
 * The same for a part of something larger: nobody is answered, but @done is told how it ended, once
 * it is gone.
 */
int transfer_new_part(struct queue_thread *thread, struct export *export, enum operation operation,
                      transfer_done_fn done, void *owner, struct transfer **ret);

/* What a leg was asked for as a part of the transfer has ended (counters_add()). */
void transfer_count_leg(const struct transfer *transfer, unsigned int leg, enum operation operation,
                        uint64_t usec, uint64_t bytes, bool failed);

/*
 * It holds its range, and its legs are going to be changed: from here on until it is answered, or
 * has been left by transfer_reply_*(), a process that takes over knows of it. Those note what has
 * become of it before its range is left.
 */
void transfer_begun(struct transfer *transfer);

/* What it is about: [offset, offset + length), and the whole blocks around that. */
void transfer_cover(struct transfer *transfer, uint64_t offset, uint64_t length);

/* Give back pages and range; for transfers that end without a reply of their own. */
void transfer_end(struct transfer *transfer);

/* Answer with an error (negative errno) or 0 and end. */
void transfer_reply_error(struct transfer *transfer, int error);

/* Answer a READ with @length bytes from byte @skip of the data on, and end. */
void transfer_reply_data(struct transfer *transfer, uint64_t skip, uint64_t length);

/* Answer a WRITE of @length bytes, and end. */
void transfer_reply_written(struct transfer *transfer, uint64_t length);

/* Get pages from the export's client, if it need not be waited for them. */
bool transfer_get_pages(struct transfer *transfer, unsigned int n_pages);

/* The same by taking payload that is in pages of the mount. */
bool transfer_move_pages(struct transfer *transfer, struct page_list *payload);

/*
 * Wait for them and go on with @then, perhaps at once after all. Answers ENOMEM itself if they can
 * never be had.
 */
void transfer_wait_pages(struct transfer *transfer, unsigned int n_pages, transfer_step_fn then);

/* Keep payload in pages of the mount until there are pages of the client; and give them back. */
void transfer_park(struct transfer *transfer, struct page_list *payload);
void transfer_unpark(struct transfer *transfer);

/* Enter the range [begin, end), @shared with others that only read, and go on with @then, at once
 * or later. */
void transfer_lock_range(struct transfer *transfer, bool shared, transfer_step_fn then);

/* Leave it; what follows (giving back pages, the reply) needs it no more. */
void transfer_unlock_range(struct transfer *transfer);

/* The unit that legs are read and written in, in bytes. */
uint64_t transfer_block(const struct transfer *transfer);

/* Read the blocks of the edges in use, one after the other, then go on with @then. */
void transfer_read_edges(struct transfer *transfer, transfer_step_fn then);

/* Free the ones that were kept for later use. */
void transfers_free(struct queue_thread *thread);
