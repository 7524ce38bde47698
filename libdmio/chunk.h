/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A chunk: what the pool asks of the system at a time, with a bitmap of its pages.
 *
 * The links of the lists that are lent out live in the chunk, one for each page, so that lending
 * allocates nothing. Nothing here locks: the pool does.
 */

#include <stdbool.h>
#include <stdint.h>

#include <dmio/pool.h>

#include "arena.h"
#include "util/list.h"

#define CHUNK_WORDS (DMIO_POOL_CHUNK_PAGES / 64)

struct chunk {
        struct list link; /* pool.chunks */
        struct page *pages;
        unsigned int n_free;
        uint64_t free[CHUNK_WORDS]; /* bit set: the page is free */
        struct page_list links[DMIO_POOL_CHUNK_PAGES];
};

/* All pages free, and backed by memory. NULL if that cannot be had. */
struct chunk *chunk_new(struct arena *arena);

void chunk_free(struct chunk *chunk, struct arena *arena);

/* Find at least @min neighbouring free pages; returns how many there are, @n at most, or 0. */
unsigned int chunk_find(const struct chunk *chunk, unsigned int min, unsigned int n,
                        unsigned int *ret_first);

/* Mark @n pages from @first on as taken and link them; returns where the next link goes. */
struct page_list **chunk_take(struct chunk *chunk, unsigned int first, unsigned int n,
                              struct page_list **next);

/* Give one page back to its chunk. Returns true if that is all free now. */
bool chunk_put(struct page_list *link);
