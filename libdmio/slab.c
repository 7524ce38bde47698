/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "slab.h"
#include "util/macros.h"

struct slab_block {
        struct list link;
        size_t n_free;
        void *free; /* each free object begins with a pointer to the next */
};

#define OBJECT_ALIGN 64
#define BLOCK_HEADER round_up(sizeof(struct slab_block), OBJECT_ALIGN)

void slab_init(struct slab *slab, size_t object_size)
{
        *slab = (struct slab){
                .object_size = round_up(MAX(object_size, sizeof(void *)), OBJECT_ALIGN),
        };
        slab->per_block = (SLAB_BLOCK_SIZE - BLOCK_HEADER) / slab->object_size;
        assert(slab->per_block > 0);
        list_init(&slab->partial);
        list_init(&slab->full);
        pthread_mutex_init(&slab->lock, NULL);
}

void slab_deinit(struct slab *slab)
{
        struct slab_block *block, *after;

        assert(slab->n_free == slab->n_total);
        assert(list_is_empty(&slab->full));
        list_for_each_safe (block, after, &slab->partial, link)
                free(block);
        pthread_mutex_destroy(&slab->lock);
}

static int slab_grow(struct slab *slab)
{
        struct slab_block *block = aligned_alloc(SLAB_BLOCK_SIZE, SLAB_BLOCK_SIZE);
        char *object;

        if (!block)
                return -ENOMEM;

        block->free = NULL;
        object = (char *)block + BLOCK_HEADER + slab->per_block * slab->object_size;
        for (size_t i = 0; i < slab->per_block; i++) {
                object -= slab->object_size;
                *(void **)object = block->free;
                block->free = object;
        }
        block->n_free = slab->per_block;
        list_append(&slab->partial, &block->link);
        slab->n_free += slab->per_block;
        slab->n_total += slab->per_block;
        return 0;
}

/* One block of slack, so that a load that swings around a block's edge does not allocate. */
static void slab_shrink(struct slab *slab)
{
        struct slab_block *block, *after;

        list_for_each_safe (block, after, &slab->partial, link) {
                if (slab->n_total < slab->n_reserved + 2 * slab->per_block ||
                    slab->n_free < 2 * slab->per_block)
                        return;
                if (block->n_free < slab->per_block)
                        continue;
                list_unlink(&block->link);
                slab->n_free -= slab->per_block;
                slab->n_total -= slab->per_block;
                free(block);
        }
}

int slab_reserve(struct slab *slab, size_t n)
{
        int r = 0;

        pthread_mutex_lock(&slab->lock);
        while (slab->n_total < slab->n_reserved + n) {
                r = slab_grow(slab);
                if (r < 0)
                        break;
        }
        if (r == 0)
                slab->n_reserved += n;
        else
                slab_shrink(slab);
        pthread_mutex_unlock(&slab->lock);
        return r;
}

void slab_unreserve(struct slab *slab, size_t n)
{
        pthread_mutex_lock(&slab->lock);
        assert(n <= slab->n_reserved);
        slab->n_reserved -= n;
        slab_shrink(slab);
        pthread_mutex_unlock(&slab->lock);
}

void *slab_get(struct slab *slab)
{
        struct slab_block *block;
        void *object = NULL;

        pthread_mutex_lock(&slab->lock);
        if (slab->n_free > 0 || slab_grow(slab) == 0) {
                block = list_first(&slab->partial, struct slab_block, link);
                object = block->free;
                block->free = *(void **)object;
                slab->n_free--;
                if (--block->n_free == 0) {
                        list_unlink(&block->link);
                        list_append(&slab->full, &block->link);
                }
        }
        pthread_mutex_unlock(&slab->lock);
        return object;
}

void slab_put(struct slab *slab, void *object)
{
        struct slab_block *block;

        if (!object)
                return;

        block = (struct slab_block *)((uintptr_t)object & ~(uintptr_t)(SLAB_BLOCK_SIZE - 1));
        pthread_mutex_lock(&slab->lock);
        if (block->n_free == 0) {
                list_unlink(&block->link);
                list_prepend(&slab->partial, &block->link);
        }
        *(void **)object = block->free;
        block->free = object;
        block->n_free++;
        slab->n_free++;
        if (block->n_free == slab->per_block)
                slab_shrink(slab);
        pthread_mutex_unlock(&slab->lock);
}
