/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Requests that an earlier process has counted without an answer that has arrived: they come again
 * and are carried out again, and are not counted again. What is counted of them is how they ended
 * the first time.
 *
 * Counting notes the request by its slot (counters_file_add()). When a process takes over, such
 * notes of slots that are still in use are collected, and kept for the process after it until all
 * of them have come and are noted in slots of this one.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct memory_slot;
struct mount;

struct counted {
        uint64_t *uniques; /* in order */
        _Atomic(uint32_t) n;
};

/* Before a slot of the dead process is freed. Returns 0 or -ENOMEM. */
int counted_collect(struct mount *mount);

/* All that was to come has come. */
void counted_settled(struct mount *mount);

/* The requests of this mount are its first ones. */
void counted_none(struct mount *mount);

void counted_deinit(struct counted *counted);

/* Has the request been counted? Then that is noted in the slot that it has now. Any queue thread.
 */
bool counted_before(struct mount *mount, uint64_t unique, const struct memory_slot *slot);

/* The number of a slot among all. */
uint32_t counted_slot(const struct mount *mount, const struct memory_slot *slot);
