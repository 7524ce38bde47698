/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <stdlib.h>

#include "chunk.h"
#include "util/macros.h"

/* A chunk is found from one of its links by masking the address. */
#define CHUNK_ALIGN ((size_t)16 * 1024)
static_assert(sizeof(struct chunk) <= CHUNK_ALIGN, "a chunk is smaller than its alignment");

static struct chunk *chunk_of(const struct page_list *link)
{
        return (struct chunk *)((uintptr_t)link & ~(uintptr_t)(CHUNK_ALIGN - 1));
}

void chunk_free(struct chunk *chunk, struct arena *arena)
{
        arena_unmap(arena, chunk->pages);
        free(chunk);
}

struct chunk *chunk_new(struct arena *arena)
{
        struct chunk *chunk = aligned_alloc(CHUNK_ALIGN, CHUNK_ALIGN);
        void *memory;

        if (!chunk)
                return NULL;
        memory = arena_map(arena);
        if (!memory) {
                free(chunk);
                return NULL;
        }

        list_init(&chunk->link);
        chunk->pages = memory;
        chunk->n_free = DMIO_POOL_CHUNK_PAGES;
        for (unsigned int i = 0; i < CHUNK_WORDS; i++)
                chunk->free[i] = UINT64_MAX;
        for (unsigned int i = 0; i < DMIO_POOL_CHUNK_PAGES; i++)
                chunk->links[i] = (struct page_list){ .page = &chunk->pages[i] };
        return chunk;
}

/* The first index from @from on whose page is free (@want) or taken; or the end. */
static unsigned int chunk_scan(const struct chunk *chunk, unsigned int from, bool want)
{
        while (from < DMIO_POOL_CHUNK_PAGES) {
                uint64_t word = want ? chunk->free[from / 64] : ~chunk->free[from / 64];

                word >>= from % 64;
                if (word)
                        return from + (unsigned int)__builtin_ctzll(word);
                from = (from / 64 + 1) * 64;
        }
        return DMIO_POOL_CHUNK_PAGES;
}

unsigned int chunk_find(const struct chunk *chunk, unsigned int min, unsigned int n,
                        unsigned int *ret_first)
{
        unsigned int first, end = 0;

        if (chunk->n_free < min)
                return 0;
        for (;;) {
                first = chunk_scan(chunk, end, true);
                if (first >= DMIO_POOL_CHUNK_PAGES)
                        return 0;
                end = chunk_scan(chunk, first, false);
                if (end - first >= min) {
                        *ret_first = first;
                        return MIN(end - first, n);
                }
        }
}

struct page_list **chunk_take(struct chunk *chunk, unsigned int first, unsigned int n,
                              struct page_list **next)
{
        for (unsigned int i = first; i < first + n; i++) {
                chunk->free[i / 64] &= ~(UINT64_C(1) << (i % 64));
                *next = &chunk->links[i];
                next = &chunk->links[i].next;
        }
        chunk->n_free -= n;
        *next = NULL;
        return next;
}

bool chunk_put(struct page_list *link)
{
        struct chunk *chunk = chunk_of(link);
        unsigned int i = (unsigned int)(link - chunk->links);

        link->next = NULL;
        assert(!(chunk->free[i / 64] & UINT64_C(1) << (i % 64)));
        chunk->free[i / 64] |= UINT64_C(1) << (i % 64);
        return ++chunk->n_free == DMIO_POOL_CHUNK_PAGES;
}
