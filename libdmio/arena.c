/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arena.h"
#include "util/macros.h"

void arena_init(struct arena *arena, uint64_t n_chunks)
{
        size_t bytes = n_chunks * ARENA_CHUNK_BYTES;
        void *reserved;

        *arena = (struct arena){};
        pthread_mutex_init(&arena->lock, NULL);
        if (n_chunks > UINT32_MAX / 2)
                return;
        arena->generations = calloc(n_chunks, sizeof(*arena->generations));
        if (!arena->generations)
                return;
        reserved = mmap(NULL, bytes + ARENA_CHUNK_BYTES, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (reserved == MAP_FAILED)
                return;
        arena->reserved = reserved;
        arena->reserved_bytes = bytes + ARENA_CHUNK_BYTES;
        arena->base = (char *)(uintptr_t)round_up((uintptr_t)reserved, ARENA_CHUNK_BYTES);
        arena->n_slots = (unsigned int)n_chunks;
}

void arena_deinit(struct arena *arena)
{
        for (unsigned int i = 0; i < arena->n_slots; i++)
                assert(arena_generation(arena, i) == 0);
        if (arena->reserved)
                (void)munmap(arena->reserved, arena->reserved_bytes);
        free(arena->generations);
        pthread_mutex_destroy(&arena->lock);
}

/* A slot that is empty, taken; or -1. */
static int arena_take_slot(struct arena *arena)
{
        int slot = -1;

        pthread_mutex_lock(&arena->lock);
        while (arena->next < arena->n_slots && arena_generation(arena, arena->next) != 0)
                arena->next++;
        if (arena->next < arena->n_slots) {
                slot = (int)arena->next++;
                if (++arena->last_generation == 0)
                        arena->last_generation = 1;
                atomic_store(&arena->generations[slot], arena->last_generation);
        }
        pthread_mutex_unlock(&arena->lock);
        return slot;
}

static void arena_give_slot(struct arena *arena, int slot)
{
        pthread_mutex_lock(&arena->lock);
        atomic_store(&arena->generations[slot], 0);
        arena->next = MIN(arena->next, (unsigned int)slot);
        pthread_mutex_unlock(&arena->lock);
}

/*
 * What is lent out must be there: touching it later must not be what finds out that it is not. A
 * huge page is asked for first, then all pages at once, then each.
 */
static bool memory_populate(void *memory)
{
        (void)madvise(memory, ARENA_CHUNK_BYTES, MADV_HUGEPAGE);
        if (madvise(memory, ARENA_CHUNK_BYTES, MADV_POPULATE_WRITE) == 0)
                return true;
        if (errno != EINVAL)
                return false;
        memset(memory, 0, ARENA_CHUNK_BYTES);
        return true;
}

void *arena_map(struct arena *arena)
{
        int slot = arena_take_slot(arena);
        void *memory;

        memory = mmap(slot < 0 ? NULL : arena_slot_address(arena, (unsigned int)slot),
                      ARENA_CHUNK_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | (slot < 0 ? 0 : MAP_FIXED), -1, 0);
        if (memory == MAP_FAILED) {
                if (slot >= 0)
                        arena_give_slot(arena, slot);
                return NULL;
        }
        if (memory_populate(memory))
                return memory;
        arena_unmap(arena, memory);
        return NULL;
}

void arena_unmap(struct arena *arena, void *memory)
{
        int slot = arena_slot(arena, memory, ARENA_CHUNK_BYTES);

        if (slot < 0) {
                (void)munmap(memory, ARENA_CHUNK_BYTES);
                return;
        }
        /* The addresses stay ours. If even that needs memory that is not there, the pages go. */
        if (mmap(memory, ARENA_CHUNK_BYTES, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
                (void)madvise(memory, ARENA_CHUNK_BYTES, MADV_DONTNEED);
        arena_give_slot(arena, slot);
}
