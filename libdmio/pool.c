/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The page pool.
 *
 * The promise is arithmetic: what clients have reserved and do not use at the moment (promised)
 * never exceeds the free pages. A client takes pages of its own reservation first, and beyond that
 * only as many as leave the promise to everybody standing. So
 *
 *      total >= reserved + floor       and       total >= in_use + promised
 *
 * decide when the pool must grow and when it may shrink. The second one matters after a put: pages
 * that are still in use then count as nobody's.
 *
 * Chunks (chunk.h) are searched in the order of their age, so that the young ones fall empty and
 * go.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include <dmio/engine.h>

#include "chunk.h"
#include "pool-internal.h"
#include "util/cleanup.h"
#include "util/macros.h"

static uint64_t pool_needed(const struct pool *pool)
{
        return MAX(pool->reserved + pool->floor, pool->in_use + pool->promised) + pool->growing;
}

/* Under the lock. Collects chunks that may go, to be freed without it. */
static void pool_shrink(struct pool *pool, struct list *gone)
{
        struct chunk *chunk;
        struct list *link, *before;

        for (link = pool->chunks.prev; link != &pool->chunks; link = before) {
                before = link->prev;
                if (pool->total < pool_needed(pool) + DMIO_POOL_CHUNK_PAGES)
                        return;
                chunk = container_of(link, struct chunk, link);
                if (chunk->n_free < DMIO_POOL_CHUNK_PAGES)
                        continue;
                list_unlink(link);
                list_append(gone, link);
                pool->total -= DMIO_POOL_CHUNK_PAGES;
        }
}

/* Rings that have them registered keep the memory until they hear of it. */
static void chunks_free(struct pool *pool, struct list *chunks)
{
        struct chunk *chunk, *after;

        if (list_is_empty(chunks))
                return;
        list_for_each_safe (chunk, after, chunks, link)
                chunk_free(chunk, &pool->arena);
        pool->on_shrunk(pool);
}

/*
 * A big reservation asks first whether the machine can give it: touching the pages of a mapping
 * that cannot be backed does not fail, it gets somebody killed.
 */
static bool memory_is_available(uint64_t bytes)
{
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        unsigned long long kib;
        char line[128];

        if (bytes < 16 * ARENA_CHUNK_BYTES)
                return true;
        file = fopen("/proc/meminfo", "re");
        while (file && fgets(line, sizeof(line), file))
                if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
                        return bytes / 1024 < kib;
        return true;
}

/* Under resize_lock. Bring the pool to what it needs; pool->growing keeps it there until booked. */
static int pool_grow(struct pool *pool)
{
        struct list fresh = LIST_INIT(fresh);
        struct chunk *chunk, *after;
        uint64_t needed, total, n = 0;

        pthread_mutex_lock(&pool->lock);
        needed = pool_needed(pool);
        total = pool->total;
        pthread_mutex_unlock(&pool->lock);

        if (needed > total && !memory_is_available((needed - total) * DMIO_PAGE_SIZE))
                return -ENOMEM;
        while (total + n < needed) {
                chunk = chunk_new(&pool->arena);
                if (!chunk) {
                        chunks_free(pool, &fresh);
                        return -ENOMEM;
                }
                list_append(&fresh, &chunk->link);
                n += DMIO_POOL_CHUNK_PAGES;
        }

        pthread_mutex_lock(&pool->lock);
        list_for_each_safe (chunk, after, &fresh, link) {
                list_unlink(&chunk->link);
                list_append(&pool->chunks, &chunk->link);
        }
        pool->total += n;
        pthread_mutex_unlock(&pool->lock);
        return 0;
}

/* Room for what may be reserved and the floor; after a put there may be more for a while. */
static uint64_t pool_max_chunks(const struct pool *pool)
{
        return DIV_ROUND_UP(pool->limit, DMIO_POOL_CHUNK_PAGES) +
               DIV_ROUND_UP(pool->floor, DMIO_POOL_CHUNK_PAGES) + 1;
}

int pool_init(struct pool *pool, unsigned int floor_pages, uint64_t limit,
              void (*on_shrunk)(struct pool *pool))
{
        *pool = (struct pool){ .floor = floor_pages, .limit = limit, .on_shrunk = on_shrunk };
        arena_init(&pool->arena, pool_max_chunks(pool));
        list_init(&pool->chunks);
        list_init(&pool->waiting);
        pthread_mutex_init(&pool->lock, NULL);
        pthread_mutex_init(&pool->resize_lock, NULL);
        return pool_grow(pool);
}

void pool_deinit(struct pool *pool)
{
        assert(pool->in_use == 0);
        chunks_free(pool, &pool->chunks);
        arena_deinit(&pool->arena);
        pthread_mutex_destroy(&pool->lock);
        pthread_mutex_destroy(&pool->resize_lock);
}

void pool_account_init(struct pool_account *account)
{
        *account = (struct pool_account){};
        account->last_wait = &account->first_wait;
        list_init(&account->link);
}

static uint64_t account_promise(const struct pool_account *account)
{
        return account->reserved > account->in_use ? account->reserved - account->in_use : 0;
}

/* Under the lock: change an account, keeping the sums. */
static void account_change(struct pool *pool, struct pool_account *account, int64_t reserved,
                           int64_t in_use)
{
        pool->promised -= account_promise(account);
        account->reserved += (uint64_t)reserved;
        account->in_use += (uint64_t)in_use;
        pool->promised += account_promise(account);
        pool->reserved += (uint64_t)reserved;
        pool->in_use += (uint64_t)in_use;
        pool->high_water = MAX(pool->high_water, pool->in_use);
}

static bool account_may_take(const struct pool *pool, const struct pool_account *account,
                             uint64_t n)
{
        uint64_t own = account_promise(account);
        uint64_t unused = pool->total - pool->in_use;
        uint64_t kept = pool->promised + pool->growing;

        return n <= own || (unused >= kept && n - own <= unused - kept);
}

/*
 * The same for who does not want to wait. A client's own waiters come first, but not to the pages
 * of its reservation: the I/O that they wait for may need those.
 */
static bool account_may_get(const struct pool *pool, const struct pool_account *account, uint64_t n)
{
        return account->first_wait ? n <= account_promise(account)
                                   : account_may_take(pool, account, n);
}

/* Under the lock; the accounts have been asked. */
static struct page_list *pool_take(struct pool *pool, struct pool_account *account, unsigned int n)
{
        struct page_list *pages = NULL, **next = &pages;
        unsigned int first, found;
        struct chunk *chunk;

        account_change(pool, account, 0, n);
        list_for_each (chunk, &pool->chunks, link) {
                if (chunk_find(chunk, n, n, &first)) {
                        chunk_take(chunk, first, n, &pages);
                        return pages;
                }
        }

        /* Nowhere in one piece: gather what there is. */
        list_for_each (chunk, &pool->chunks, link) {
                while (n > 0 && (found = chunk_find(chunk, 1, n, &first)) > 0) {
                        next = chunk_take(chunk, first, found, next);
                        n -= found;
                }
        }
        assert(n == 0);
        return pages;
}

/*
 * Under the lock: serve those whose turn has come, one wait of each client in turn. A client that
 * must go on waiting is passed by.
 */
static void pool_serve(struct pool *pool)
{
        struct pool_account *account, *after;
        struct dmio_page_wait *wait;

        list_for_each_safe (account, after, &pool->waiting, link) {
                wait = account->first_wait;
                if (!account_may_take(pool, account, wait->n_pages))
                        continue;
                account->first_wait = wait->next;
                if (!account->first_wait)
                        account->last_wait = &account->first_wait;
                wait->pages = pool_take(pool, account, wait->n_pages);
                list_unlink(&account->link);
                if (account->first_wait) {
                        list_append(&pool->waiting, &account->link);
                        if (&after->link == &pool->waiting)
                                after = account;
                }
                dmio_queue_post(wait->queue, &wait->task);
        }
}

/* Under the lock. */
static bool fits_limit(const struct pool *pool, uint64_t n)
{
        return n <= pool->limit && pool->reserved <= pool->limit - n;
}

bool pool_fits_limit(struct pool *pool, uint64_t n)
{
        bool fits;

        pthread_mutex_lock(&pool->lock);
        fits = fits_limit(pool, n);
        pthread_mutex_unlock(&pool->lock);
        return fits;
}

int pool_reserve(struct pool *pool, struct pool_account *account, uint64_t n)
{
        int r;

        pthread_mutex_lock(&pool->resize_lock);
        pthread_mutex_lock(&pool->lock);
        r = fits_limit(pool, n) ? 0 : -EINVAL;
        pool->growing = r == 0 ? n : 0;
        pthread_mutex_unlock(&pool->lock);
        if (r == 0)
                r = pool_grow(pool);
        pthread_mutex_lock(&pool->lock);
        pool->growing = 0;
        if (r == 0) {
                account_change(pool, account, (int64_t)n, 0);
                pool_serve(pool);
        }
        pthread_mutex_unlock(&pool->lock);
        pthread_mutex_unlock(&pool->resize_lock);
        return r;
}

int pool_unreserve(struct pool *pool, struct pool_account *account, uint64_t n)
{
        struct list gone = LIST_INIT(gone);
        int r = -EINVAL;

        pthread_mutex_lock(&pool->resize_lock);
        pthread_mutex_lock(&pool->lock);
        if (n <= account->reserved && account->first_wait &&
            account->first_wait->n_pages > account->reserved - n + pool->floor) {
                r = -EBUSY;
        } else if (n <= account->reserved) {
                account_change(pool, account, -(int64_t)n, 0);
                pool_serve(pool);
                pool_shrink(pool, &gone);
                r = 0;
        }
        pthread_mutex_unlock(&pool->lock);
        pthread_mutex_unlock(&pool->resize_lock);
        chunks_free(pool, &gone);
        return r;
}

struct page_list *pool_get(struct pool *pool, struct pool_account *account, unsigned int n)
{
        struct page_list *pages = NULL;

        if (n == 0 || n > DMIO_PAGES_MAX)
                return NULL;
        pthread_mutex_lock(&pool->lock);
        if (account_may_get(pool, account, n))
                pages = pool_take(pool, account, n);
        pthread_mutex_unlock(&pool->lock);
        return pages;
}

void pool_put(struct pool *pool, struct pool_account *account, struct page_list *pages)
{
        struct list gone = LIST_INIT(gone);
        struct page_list *next;
        bool emptied = false;
        int64_t n = 0;

        if (!pages)
                return;
        pthread_mutex_lock(&pool->lock);
        for (; pages; pages = next) {
                next = pages->next;
                emptied |= chunk_put(pages);
                n++;
        }
        assert(account->in_use >= (uint64_t)n);
        account_change(pool, account, 0, -n);
        if (!list_is_empty(&pool->waiting))
                pool_serve(pool);
        if (emptied)
                pool_shrink(pool, &gone);
        pthread_mutex_unlock(&pool->lock);
        chunks_free(pool, &gone);
}

int pool_move(struct pool *pool, struct pool_account *from, struct pool_account *to,
              struct page_list *pages)
{
        int64_t n = 0;
        int r;

        for (const struct page_list *p = pages; p; p = p->next)
                n++;
        pthread_mutex_lock(&pool->lock);
        /* What the giver gets rid of is free for the taker to count on. */
        account_change(pool, from, 0, -n);
        r = account_may_get(pool, to, (uint64_t)n) ? 0 : -EAGAIN;
        account_change(pool, r == 0 ? to : from, 0, n);
        if (r == 0 && !list_is_empty(&pool->waiting))
                pool_serve(pool);
        pthread_mutex_unlock(&pool->lock);
        return r;
}

static void page_wait_done(struct dmio_task *task)
{
        struct dmio_page_wait *wait = container_of(task, struct dmio_page_wait, task);

        wait->fn(wait, wait->pages);
}

int pool_wait(struct pool *pool, struct pool_account *account, struct dmio_page_wait *wait)
{
        int r = 0;

        if (wait->n_pages == 0 || wait->n_pages > DMIO_PAGES_MAX)
                return -EINVAL;
        wait->task.fn = page_wait_done;
        wait->pages = NULL;
        wait->next = NULL;

        pthread_mutex_lock(&pool->lock);
        if (wait->n_pages > account->reserved + pool->floor) {
                r = -EINVAL;
        } else {
                if (account->first_wait || !account_may_take(pool, account, wait->n_pages)) {
                        account->waits++;
                        pool->waits++;
                }
                if (!account->first_wait)
                        list_append(&pool->waiting, &account->link);
                *account->last_wait = wait;
                account->last_wait = &wait->next;
                pool_serve(pool);
        }
        pthread_mutex_unlock(&pool->lock);
        return r;
}

void pool_stats(struct pool *pool, struct dmio_pool_stats *ret)
{
        pthread_mutex_lock(&pool->lock);
        *ret = (struct dmio_pool_stats){
                .reserved = pool->reserved,
                .total = pool->total,
                .in_use = pool->in_use,
                .high_water = pool->high_water,
                .waits = pool->waits,
                .limit = pool->limit,
        };
        pthread_mutex_unlock(&pool->lock);
}

uint64_t pool_account_reserved(struct pool *pool, const struct pool_account *account)
{
        uint64_t reserved;

        pthread_mutex_lock(&pool->lock);
        reserved = account->reserved;
        pthread_mutex_unlock(&pool->lock);
        return reserved;
}

bool pool_account_is_home(struct pool *pool, const struct pool_account *account)
{
        bool home;

        pthread_mutex_lock(&pool->lock);
        home = account->in_use == 0 && !account->first_wait;
        pthread_mutex_unlock(&pool->lock);
        return home;
}

void pool_account_stats(struct pool *pool, struct pool_account *account, uint64_t *ret_reserved,
                        uint64_t *ret_in_use, uint64_t *ret_waits)
{
        pthread_mutex_lock(&pool->lock);
        *ret_reserved = account->reserved;
        *ret_in_use = account->in_use;
        *ret_waits = account->waits;
        pthread_mutex_unlock(&pool->lock);
}
