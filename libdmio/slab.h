/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Objects of one size, some of them promised.
 *
 * Objects come in blocks of SLAB_BLOCK_SIZE bytes, aligned to their size, so that an object's block
 * is found by masking its address. Whoever takes objects has an account, with a number that it has
 * reserved: that many it can always have. The arithmetic is the page pool's (pool.c): what the
 * accounts have reserved and do not use (promised) never exceeds the free objects, and beyond its
 * reservation an account gets only what leaves that standing, or what the system gives.
 *
 * A block goes back to the system when all of it is free and neither the promise nor a little slack
 * needs it: in the steady state nothing is allocated. Objects that were never used are not touched,
 * so until it is used a reservation costs a page of each block, and address space.
 */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "util/list.h"

#define SLAB_BLOCK_SIZE ((size_t)64 * 1024)

struct slab {
        pthread_mutex_t lock;
        pthread_cond_t came_home; /* somebody waits in slab_get_wait() */
        size_t object_size;
        size_t per_block;
        size_t n_free; /* under lock, as all that follows */
        size_t n_total;
        size_t promised;
        unsigned int n_waiting;
        struct list partial; /* blocks with something free */
        struct list full;
};

/* All zeroes to begin with; under the slab's lock. */
struct slab_account {
        size_t reserved;
        size_t in_use;
        uint64_t waits; /* calls that slept in slab_get_wait() */
};

/* @object_size: at most a few KiB. */
void slab_init(struct slab *slab, size_t object_size);

/* Every object must have come home. */
void slab_deinit(struct slab *slab);

/* Promise @n objects more. Returns 0, or -ENOMEM with nothing changed. */
int slab_reserve(struct slab *slab, struct slab_account *account, size_t n);
void slab_unreserve(struct slab *slab, struct slab_account *account, size_t n);

/* An object with undefined contents, or NULL when memory is short. */
void *slab_get(struct slab *slab, struct slab_account *account);

/*
 * The same, but with memory short wait until one comes home. NULL if the account has none out that
 * could.
 */
void *slab_get_wait(struct slab *slab, struct slab_account *account);

/* NULL is allowed. */
void slab_put(struct slab *slab, struct slab_account *account, void *object);

/* As things stand, and what of the reservation is not in use. */
struct slab_account slab_account_look(struct slab *slab, const struct slab_account *account,
                                      size_t *ret_idle);
