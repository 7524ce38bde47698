/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The page pool of an engine: aligned memory for I/O, sized by what the engine's clients reserve.
 *
 * Memory comes from the system in chunks of 512 pages (2 MiB) and goes back a chunk at a time, when
 * a chunk's last page comes home and the reservations no longer need it. The pool holds as many
 * pages as are reserved, and a floor that belongs to nobody. A client can always have as many pages
 * as it has reserved; what it takes beyond that comes from the floor and from nobody's reservation.
 *
 * All functions may be called from any thread. None of them waits.
 */

#include <dmio/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Pages of one chunk; also the floor if the program names none. */
#define DMIO_POOL_CHUNK_PAGES 512

/*
 * Requests that a client can always have in flight, for each page that it has reserved. This covers
 * requests of up to four regions and four ranges of memory; for one request in 32 also larger ones,
 * which beyond that need memory of the system.
 */
#define DMIO_CONTEXTS_PER_PAGE 4

/* Most pages that one dmio_pages_get() or dmio_pages_wait() may ask for. */
#define DMIO_PAGES_MAX 256

struct dmio_pool_stats {
        uint64_t reserved;   /* pages got and not yet put, by all clients */
        uint64_t total;      /* pages that the pool holds now */
        uint64_t in_use;     /* pages lent out now */
        uint64_t high_water; /* most pages ever lent out at once */
        uint64_t waits;      /* times that somebody had to wait for pages */
        uint64_t limit;      /* most pages that may be reserved */
};

void dmio_pool_stats(struct dmio_engine *engine, struct dmio_pool_stats *ret);

/*
 * Take @n_pages (1 to DMIO_PAGES_MAX) on behalf of @client. Returns a list that ends with NULL,
 * in the order of their addresses and in one piece where the pool has one; its links belong to the
 * pool, but the caller may cut the list and put the parts separately. The bytes are whatever was
 * there before. Returns NULL if the pages would have to be waited for, or are beyond the
 * reservation while the client waits for others.
 */
struct page_list *dmio_pages_get(struct dm_io_client *client, unsigned int n_pages);

/* Give a list of pages back, the whole of it. NULL is allowed. */
void dmio_pages_put(struct dm_io_client *client, struct page_list *pages);

/*
 * Make @to the holder of @pages, which @from has taken. Returns 0, or -EAGAIN with nothing changed
 * if @to could not have taken that many pages itself.
 */
int dmio_pages_move(struct dm_io_client *from, struct dm_io_client *to, struct page_list *pages);

/*
 * Wait for pages without blocking: @wait->fn runs on @wait->queue's thread once the pages are
 * there, which it then owns. The waits of one client are served in order; a client that waits does
 * not hold up another. The caller fills the first four fields and keeps the memory until fn runs.
 * Returns 0, or -EINVAL for a number of pages that can never be had.
 */
struct dmio_page_wait;
typedef void (*dmio_page_wait_fn)(struct dmio_page_wait *wait, struct page_list *pages);

struct dmio_task {
        void (*fn)(struct dmio_task *task);
        struct dmio_task *next; /* private */
};

struct dmio_page_wait {
        struct dm_io_client *client;
        struct dmio_queue *queue;
        unsigned int n_pages;
        dmio_page_wait_fn fn;

        struct dmio_task task; /* private, as is all that follows */
        struct page_list *pages;
        struct dmio_page_wait *next;
};

int dmio_pages_wait(struct dmio_page_wait *wait);

#ifdef __cplusplus
}
#endif
