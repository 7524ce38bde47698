/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Objects of one size, with a guaranteed minimum.
 *
 * Objects come in blocks of SLAB_BLOCK_SIZE bytes, aligned to their size, so that an object's block
 * is found by masking its address. A block goes back to the system when all of it is free and
 * neither the reservations nor a little slack need it: in the steady state nothing is allocated.
 */

#include <pthread.h>
#include <stddef.h>

#include "util/list.h"

#define SLAB_BLOCK_SIZE ((size_t)64 * 1024)

struct slab {
        pthread_mutex_t lock;
        size_t object_size;
        size_t per_block;
        size_t n_free; /* under lock, as all that follows */
        size_t n_total;
        size_t n_reserved;
        struct list partial; /* blocks with something free */
        struct list full;
};

/* @object_size: at most a few KiB. */
void slab_init(struct slab *slab, size_t object_size);

/* Every object must have come home. */
void slab_deinit(struct slab *slab);

/* Guarantee @n more objects. Returns 0, or -ENOMEM with nothing changed. */
int slab_reserve(struct slab *slab, size_t n);
void slab_unreserve(struct slab *slab, size_t n);

/* An object with undefined contents, or NULL when memory is short. */
void *slab_get(struct slab *slab);

/* NULL is allowed. */
void slab_put(struct slab *slab, void *object);
