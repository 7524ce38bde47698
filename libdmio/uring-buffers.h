/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The pool's chunks as registered buffers of a ring.
 *
 * A ring has a table with an entry for each slot of the arena. A chunk is registered when the ring
 * first uses memory of it, on the ring's own thread, and given up when the chunk has gone. That
 * pins its pages once, where otherwise each operation would; it counts against RLIMIT_MEMLOCK of
 * who lacks CAP_IPC_LOCK. Where the limit, or the kernel, does not allow it things go on without.
 */

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

struct uring_buffers {
        const struct arena *arena;
        uint32_t *generations; /* of what is registered in each slot; 0: nothing */
        unsigned int n_slots;  /* 0: nothing can be registered */
        bool is_full;          /* the limit is reached, until something goes */
};

void uring_buffers_init(struct uring_buffers *buffers, struct io_uring *ring,
                        const struct arena *arena);
void uring_buffers_deinit(struct uring_buffers *buffers);

/* The index of the registered buffer that holds [@memory, @memory + @bytes), or -1. */
int uring_buffers_find(struct uring_buffers *buffers, struct io_uring *ring, const void *memory,
                       size_t bytes);

void uring_buffers_trim(struct uring_buffers *buffers, struct io_uring *ring);
