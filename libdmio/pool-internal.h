/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The page pool; its rules stand in <dmio/pool.h>, its arithmetic in pool.c. */

#include <pthread.h>
#include <stdbool.h>

#include <dmio/pool.h>

#include "arena.h"
#include "util/list.h"

struct pool {
        struct arena arena;
        void (*on_shrunk)(struct pool *pool);
        pthread_mutex_t lock;
        pthread_mutex_t resize_lock; /* held while memory is asked of the system; before lock */
        struct list chunks;          /* under lock, as all that follows */
        uint64_t limit;
        uint64_t floor;
        uint64_t total;
        uint64_t reserved;
        uint64_t growing;  /* pages of a reservation that memory is just being asked for */
        uint64_t promised; /* sum over the clients of what they have reserved and do not use */
        uint64_t in_use;
        uint64_t high_water;
        uint64_t waits;
        struct list waiting; /* clients with waiters: struct pool_account.link */
};

/* A client's share of the pool. */
struct pool_account {
        struct list link; /* pool.waiting */
        uint64_t reserved;
        uint64_t in_use;
        uint64_t waits;
        struct dmio_page_wait *first_wait;
        struct dmio_page_wait **last_wait;
};

/* @on_shrunk: chunks have gone; any thread, no lock held. */
int pool_init(struct pool *pool, unsigned int floor_pages, uint64_t limit,
              void (*on_shrunk)(struct pool *pool));

/* Every page must have come home. */
void pool_deinit(struct pool *pool);

void pool_account_init(struct pool_account *account);

/* May as many more be reserved, as things stand? */
bool pool_fits_limit(struct pool *pool, uint64_t n);

/* Returns 0, -EINVAL past the limit, -ENOMEM; nothing has changed on failure. */
int pool_reserve(struct pool *pool, struct pool_account *account, uint64_t n);

/* Returns 0; -EINVAL for more than is reserved; -EBUSY if who waits could never be served then. */
int pool_unreserve(struct pool *pool, struct pool_account *account, uint64_t n);

struct page_list *pool_get(struct pool *pool, struct pool_account *account, unsigned int n);
void pool_put(struct pool *pool, struct pool_account *account, struct page_list *pages);
int pool_move(struct pool *pool, struct pool_account *from, struct pool_account *to,
              struct page_list *pages);
int pool_wait(struct pool *pool, struct pool_account *account, struct dmio_page_wait *wait);
void pool_stats(struct pool *pool, struct dmio_pool_stats *ret);

uint64_t pool_account_reserved(struct pool *pool, const struct pool_account *account);

/* Holds nothing and waits for nothing. */
bool pool_account_is_home(struct pool *pool, const struct pool_account *account);

void pool_account_stats(struct pool *pool, struct pool_account *account, uint64_t *ret_reserved,
                        uint64_t *ret_in_use, uint64_t *ret_waits);
