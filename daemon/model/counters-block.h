/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Between the two halves of the counters file: what it is (counters-file.c) and its blocks. */

#include "model/counters-file.h"

enum counters_block_state {
        BLOCK_FREE,
        BLOCK_IN_USE,
        _BLOCK_STATE_MAX,
};

enum counters_block_kind {
        BLOCK_CLIENT,
        BLOCK_EXPORT,
        _BLOCK_KIND_MAX,
};

/* Where it is not free. One that another process has begun may be replaced by a larger one. */
struct counters_block {
        _Atomic(uint32_t) state;
        uint32_t kind;
        uint64_t node;
        uint64_t client;
        uint64_t check;
        uint32_t first_page, n_pages;
        uint32_t n_lanes, n_legs; /* of an export */
        uint32_t generation;      /* the larger one is the one of two with the same node */
        uint32_t reserved[3];
};

/* What is in use makes sense, and nothing is in use twice. Sets page_used. */
int counters_blocks_check(struct counters_file *file, const char **ret_why);

/* The journals are done: what was begun with blocks is finished, and what is free is empty. */
int counters_blocks_take_up(struct counters_file *file, const char **ret_why);

/* Blocks from there on have never been in use; and one is about to be. */
uint32_t counters_file_blocks_used(const struct counters_file *file);
void counters_file_use_block(struct counters_file *file, uint32_t index);

/* Of pages of blocks: empty them and give their memory back. Returns 0 or a negative errno. */
int counters_file_clear_pages(struct counters_file *file, uint32_t first, uint32_t n);
