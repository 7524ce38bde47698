/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "uring-buffers.h"
#include "util/macros.h"

/* What a ring's table may have at most (IORING_MAX_REG_BUFFERS of the kernel). */
#define SLOTS_MAX (1u << 14)

void uring_buffers_init(struct uring_buffers *buffers, struct io_uring *ring,
                        const struct arena *arena)
{
        unsigned int n = MIN(arena->n_slots, SLOTS_MAX);

        *buffers = (struct uring_buffers){ .arena = arena };
        if (n == 0)
                return;
        buffers->generations = calloc(n, sizeof(*buffers->generations));
        if (buffers->generations && io_uring_register_buffers_sparse(ring, n) == 0)
                buffers->n_slots = n;
}

void uring_buffers_deinit(struct uring_buffers *buffers)
{
        free(buffers->generations);
        buffers->generations = NULL;
        buffers->n_slots = 0;
}

static bool slot_update(struct io_uring *ring, unsigned int slot, void *memory, size_t bytes)
{
        struct iovec iov = { memory, bytes };

        return io_uring_register_buffers_update_tag(ring, slot, &iov, NULL, 1) == 1;
}

int uring_buffers_find(struct uring_buffers *buffers, struct io_uring *ring, const void *memory,
                       size_t bytes)
{
        int slot = arena_slot(buffers->arena, memory, bytes);
        uint32_t generation;

        if (slot < 0 || (unsigned int)slot >= buffers->n_slots)
                return -1;
        generation = arena_generation(buffers->arena, (unsigned int)slot);
        if (buffers->generations[slot] == generation)
                return slot;
        if (buffers->is_full)
                return -1;
        if (!slot_update(ring, (unsigned int)slot,
                         arena_slot_address(buffers->arena, (unsigned int)slot),
                         ARENA_CHUNK_BYTES)) {
                buffers->is_full = true;
                return -1;
        }
        buffers->generations[slot] = generation;
        return slot;
}

void uring_buffers_trim(struct uring_buffers *buffers, struct io_uring *ring)
{
        for (unsigned int i = 0; i < buffers->n_slots; i++) {
                if (buffers->generations[i] == 0 ||
                    buffers->generations[i] == arena_generation(buffers->arena, i))
                        continue;
                (void)slot_update(ring, i, NULL, 0);
                buffers->generations[i] = 0;
        }
        buffers->is_full = false;
}
