/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Clients and requests: dm_io(), the modern face of the engine.
 *
 * A request is one operation, one description of memory and a list of regions. A read takes one
 * region; a write gives the same bytes to each of up to 64. Every region reports for itself: bit i
 * of the error bits speaks of region i, and beside it stand the errno and the first sector of the
 * first error that region i met.
 *
 * What holds for every request:
 * - A negative return means that nothing was submitted and the callback never runs; 0 from an
 *   asynchronous call means that it runs exactly once.
 * - A region must fit its device (first sector + count within the capacity) and the device's
 *   logical block. One that does not fails whole: ENOSPC for a write past the end, EIO for a read
 *   past the end, EINVAL for one that is not aligned; nothing of it is transferred, a file never
 *   grows, and the other regions are not affected. (One that somebody else cuts short while a write
 *   to it is under way may get what was cut off back.)
 * - A discard or write of zeroes that a device has no operation for fails with EOPNOTSUPP, and
 *   nothing is written in its place (see struct dmio_device_info for what is known beforehand).
 * - Memory may begin and end at any byte. Where O_DIRECT demands more, the engine copies.
 * - Short transfers are resumed; EINTR and EAGAIN are tried again and never become error bits.
 * - Of a read that fails, exactly the pieces that failed are filled with zeroes.
 * - The regions, the request, the links of a page list and the array of bio vectors may be reused
 *   as soon as the call returns; the memory itself and @leg_errors belong to the engine until the
 *   request is complete.
 * - There is no order between requests, regions or pieces of a region.
 */

#include <dmio/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Operations. The numbers of read and write are those of the classic calls; an odd number means
 * that the operation writes, and may have more than one region.
 */
enum dm_io_op {
        DM_IO_READ = 0,
        DM_IO_WRITE = 1,
        DM_IO_FLUSH = 2,        /* make what was written durable; one region, count unused */
        DM_IO_DISCARD = 3,      /* the bytes are no longer needed; no memory */
        DM_IO_WRITE_ZEROES = 9, /* read back as zeroes afterwards; no memory */
};

/*
 * Flags. PREFLUSH: before the data of a region is written its device is flushed; with a count of 0
 * the flush is all that is done. FUA: the data is durable when the request completes. SYNC:
 * somebody waits for it (a hint). Only writes take PREFLUSH and FUA.
 */
#define DM_IO_PREFLUSH (1u << 0)
#define DM_IO_FUA (1u << 1)
#define DM_IO_SYNC (1u << 2)
/*
 * The memory is a mapping that somebody else can truncate: the engine copies by system calls that
 * report EFAULT, where an ordinary copy would be answered by SIGBUS.
 */
#define DM_IO_MEMORY_SHARED (1u << 3)
/* -EAGAIN instead of waiting for a request context when memory is short. */
#define DM_IO_NOWAIT (1u << 4)

enum dm_io_mem_type {
        DM_IO_PAGE_LIST, /* ptr.pl: from byte @offset (below 4096) of the first page on */
        DM_IO_BVEC,      /* ptr.bvec: @n_bvec entries, or up to one without a page if that is 0 */
        DM_IO_VMA,       /* ptr.vma: bytes in one piece */
        DM_IO_KMEM,      /* ptr.addr: the same */
};

struct dm_io_memory {
        enum dm_io_mem_type type;
        unsigned int offset; /* page lists only */
        unsigned int n_bvec; /* bio vectors only */
        union {
                const struct page_list *pl;
                const struct bio_vec *bvec;
                void *vma;
                void *addr;
        } ptr;
};

/* @error: the error bits. Runs on the queue's thread. */
typedef void (*io_notify_fn)(unsigned long error, void *context);

/* Without a function the request is synchronous. */
struct dm_io_notify {
        io_notify_fn fn;
        void *context;
};

/* What became of one region. */
struct dm_io_leg_error {
        int error;          /* 0, or the errno (positive) of the first error */
        sector_t sector;    /* on the device: up to there the transfer that met it had come */
        uint64_t done_usec; /* when the region was done, on CLOCK_MONOTONIC */
};

struct dm_io_request {
        enum dm_io_op op;
        unsigned int flags; /* DM_IO_PREFLUSH ... */
        uint16_t ioprio;    /* as in ioprio_set(2); 0 for the default */
        struct dm_io_memory mem;
        struct dm_io_notify notify;
        struct dm_io_client *client;
        struct dmio_queue *queue;           /* NULL: the caller's own queue, or the engine's */
        struct dm_io_leg_error *leg_errors; /* one per region, filled before completion; or NULL */
};

/*
 * A client reserves @num_pages (0 is allowed) of the engine's pool. Returns 0 and the client in
 * *@ret, or -EINVAL if the engine's limit forbids it, -ENOMEM. Any thread.
 */
int dm_io_client_create(struct dmio_engine *engine, unsigned int num_pages,
                        struct dm_io_client **ret);

/*
 * Wait until nothing of the client is in flight, then free it; later requests get -ESHUTDOWN.
 * Returns 0; -EBUSY with pages still held or waited for, or from a callback of the engine with
 * something of the client in flight (which the callback itself is, if it is the client's). NULL is
 * allowed.
 */
int dm_io_client_destroy(struct dm_io_client *client);

/*
 * Reserve more pages. Returns 0; -EINVAL if the sum overflows or exceeds the engine's limit,
 * -ENOMEM if the memory cannot be had. Nothing has changed on failure.
 */
int dm_io_client_get(struct dm_io_client *client, unsigned int num_pages);

/*
 * Give reserved pages back. Returns 0; -EINVAL for more than was got; -EBUSY if the client waits
 * for more pages at once than it could ever have then. Nothing has changed on failure.
 */
int dm_io_client_put(struct dm_io_client *client, unsigned int num_pages);

struct dm_io_client_stats {
        uint64_t reserved;      /* pages */
        uint64_t in_use;        /* pages held now */
        uint64_t waits;         /* times that it had to wait for pages or for a context */
        uint64_t in_flight;     /* requests */
        uint64_t requests;      /* requests accepted so far */
        uint64_t contexts;      /* requests that it can always have in flight: 4 for each page */
        uint64_t contexts_idle; /* of them, those that are not */
};

void dm_io_client_stats(struct dm_io_client *client, struct dm_io_client_stats *ret);

/*
 * Carry out a request on @num_regions regions. Any thread.
 *
 * An asynchronous request needs a context. A client can always have DMIO_CONTEXTS_PER_PAGE for each
 * page that it has reserved, and more as long as there is memory. If there is none, the call waits
 * for one of the client's requests to end; it does not wait with DM_IO_NOWAIT, nor with nothing to
 * wait for, nor on a thread that drives a queue of the engine or runs a callback, because that may
 * be who it would be waiting for. A synchronous request brings its own.
 *
 * Asynchronous (notify.fn is set): returns 0, and the function is called once everything is done.
 * Synchronous: waits, writes the error bits to *@sync_error_bits if that is not NULL, and returns 0
 * or -EIO if any bit is set. A signal does not end the wait.
 *
 * Returns, with nothing submitted, no callback and *@sync_error_bits untouched:
 * -EINVAL    a read or flush of more than one region, more than 64 regions, an unknown operation,
 *            flag or kind of memory, flags that do not fit the operation, a page offset of 4096 or
 *            more, memory that is too short for the largest region, a missing pointer
 * -EDEADLK   a synchronous request from a callback, of whichever engine
 * -ESHUTDOWN the client is being destroyed
 * -EAGAIN    the same as -ENOMEM, with DM_IO_NOWAIT
 * -ENOMEM    no memory for the request, and no waiting for it (see above)
 */
int dm_io(const struct dm_io_request *request, unsigned int num_regions,
          const struct io_region *regions, unsigned long *sync_error_bits);

#ifdef __cplusplus
}
#endif
