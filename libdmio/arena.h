/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The stretch of addresses that the pool's chunks lie in.
 *
 * It is reserved when the pool is made and holds nothing but the chunks, each in a slot, aligned to
 * its size; so a page's slot is found by arithmetic, and a chunk can be one huge page. A ring knows
 * by a slot's generation whether what it has registered there is the chunk that is there now.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmio/pool.h>

#define ARENA_CHUNK_BYTES ((size_t)DMIO_POOL_CHUNK_PAGES * DMIO_PAGE_SIZE)

struct arena {
        pthread_mutex_t lock;
        char *reserved; /* NULL: there is none, and chunks lie anywhere */
        size_t reserved_bytes;
        char *base;
        unsigned int n_slots;
        unsigned int next;              /* under lock: slots before it are taken */
        _Atomic(uint32_t) *generations; /* of the slots; 0: empty */
        uint32_t last_generation;       /* under lock */
};

/* Room for @n_chunks, or for what can be had: having none is no failure. */
void arena_init(struct arena *arena, uint64_t n_chunks);

/* Every chunk must have come back. */
void arena_deinit(struct arena *arena);

/*
 * Memory for a chunk, backed. Beyond the slots it comes from somewhere else. NULL if it cannot be
 * had.
 */
void *arena_map(struct arena *arena);
void arena_unmap(struct arena *arena, void *memory);

/* The slot that [@memory, @memory + @bytes) lies in, or -1. */
static inline int arena_slot(const struct arena *arena, const void *memory, size_t bytes)
{
        size_t offset = (size_t)((const char *)memory - arena->base);

        if (offset / ARENA_CHUNK_BYTES >= arena->n_slots ||
            bytes > ARENA_CHUNK_BYTES - offset % ARENA_CHUNK_BYTES)
                return -1;
        return (int)(offset / ARENA_CHUNK_BYTES);
}

/* Where it begins. */
static inline char *arena_slot_address(const struct arena *arena, unsigned int slot)
{
        return arena->base + slot * ARENA_CHUNK_BYTES;
}

/* Which chunk is there; 0: none. */
static inline uint32_t arena_generation(const struct arena *arena, unsigned int slot)
{
        return atomic_load_explicit(&arena->generations[slot], memory_order_relaxed);
}
