/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The memory of a request, whatever it was described by, as a row of byte ranges.
 *
 * It is copied from the caller's description when the request is submitted, so that the links of a
 * page list or an array of bio vectors need not outlive the call; neighbours are merged. A circular
 * page list is kept once around. A cursor walks the row; every region of a request begins a new
 * one at the start.
 */

#include <stdbool.h>
#include <sys/uio.h>

#include <dmio/io.h>

#include "slab.h"

#define MEMORY_INLINE 4
#define MEMORY_BLOCK_IOV 254

/* An overflow of the row, a page in size. Pieces use one for their iovec array, too. */
struct memory_block {
        struct memory_block *next;
        size_t n;
        struct iovec iov[MEMORY_BLOCK_IOV];
};

struct memory {
        struct slab *blocks;
        struct slab_account *account;
        struct memory_block *more, *last;
        size_t start; /* bytes into the first range */
        bool circular;
        bool shared; /* copies must survive a truncation (DM_IO_MEMORY_SHARED) */
        unsigned int n;
        struct iovec iov[MEMORY_INLINE];
};

struct memory_cursor {
        const struct memory *memory;
        const struct memory_block *block; /* NULL: in memory->iov */
        size_t index;
        size_t offset;
};

/*
 * Take over the first @bytes of @from; what a long row needs comes from @blocks on @account.
 * Returns 0; -EINVAL if it is too short or malformed; -ENOMEM. On failure there is nothing to
 * deinit.
 */
int memory_init(struct memory *memory, const struct dm_io_memory *from, uint64_t bytes,
                struct slab *blocks, struct slab_account *account);

/* No memory at all, for operations that have none. */
void memory_init_empty(struct memory *memory);

void memory_deinit(struct memory *memory);

struct memory_cursor memory_begin(const struct memory *memory);

/*
 * Move the cursor on by at most @bytes, writing what it passes to @iov. Stops after @max entries.
 * Returns the number of entries and the bytes passed in *@ret_bytes.
 */
size_t memory_take(struct memory_cursor *cursor, struct iovec *iov, size_t max, size_t bytes,
                   size_t *ret_bytes);

/* Move on without looking. */
void memory_skip(struct memory_cursor *cursor, size_t bytes);

/*
 * Copy between a flat buffer and the cursor, or fill with zeroes, and move on. Returns 0, or
 * -EFAULT for shared memory that is no longer there.
 */
int memory_copy_from(struct memory_cursor *cursor, void *to, size_t bytes);
int memory_copy_to(struct memory_cursor *cursor, const void *from, size_t bytes);
int memory_zero(struct memory_cursor *cursor, size_t bytes);

/* Bytes of the row; of a circular one, once around. */
uint64_t memory_once_around(const struct memory *memory);

/*
 * Copy between memory of ours and memory that may vanish, which is @to if @remote_is_to and @from
 * if not. Returns 0 or -EFAULT.
 */
int memory_copy_shared(void *to, const void *from, size_t bytes, bool remote_is_to);
