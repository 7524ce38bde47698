/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "slab.h"
#include "util/macros.h"

struct slab_block {
        struct list link;
        size_t n_free;
        size_t n_touched; /* objects from there on were never handed out */
        void *free;       /* of those before: each begins with a pointer to the next */
};

#define OBJECT_ALIGN 64
#define BLOCK_HEADER round_up(sizeof(struct slab_block), OBJECT_ALIGN)

static void block_unmap(struct slab_block *block)
{
        (void)munmap(block, SLAB_BLOCK_SIZE);
}

/* Blocks tend to be neighbours, so the first try usually fits the alignment. */
static struct slab_block *block_map(void)
{
        const int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
        char *memory = mmap(NULL, SLAB_BLOCK_SIZE, protection, flags, -1, 0);
        size_t before;

        if (memory == MAP_FAILED)
                return NULL;
        if (is_aligned((uintptr_t)memory, SLAB_BLOCK_SIZE))
                return (struct slab_block *)memory;

        (void)munmap(memory, SLAB_BLOCK_SIZE);
        memory = mmap(NULL, 2 * SLAB_BLOCK_SIZE, protection, flags, -1, 0);
        if (memory == MAP_FAILED)
                return NULL;
        before = round_up((uintptr_t)memory, SLAB_BLOCK_SIZE) - (uintptr_t)memory;
        if (before > 0)
                (void)munmap(memory, before);
        (void)munmap(memory + before + SLAB_BLOCK_SIZE, SLAB_BLOCK_SIZE - before);
        return (struct slab_block *)(memory + before);
}

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
        pthread_cond_init(&slab->came_home, NULL);
}

void slab_deinit(struct slab *slab)
{
        struct slab_block *block, *after;

        assert(slab->n_free == slab->n_total);
        assert(list_is_empty(&slab->full));
        list_for_each_safe (block, after, &slab->partial, link)
                block_unmap(block);
        pthread_cond_destroy(&slab->came_home);
        pthread_mutex_destroy(&slab->lock);
}

static int slab_grow(struct slab *slab)
{
        struct slab_block *block = block_map();

        if (!block)
                return -ENOMEM;
        block->n_free = slab->per_block;
        block->n_touched = 0;
        block->free = NULL;
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
                if (slab->n_free < slab->promised + 2 * slab->per_block)
                        return;
                if (block->n_free < slab->per_block)
                        continue;
                list_unlink(&block->link);
                slab->n_free -= slab->per_block;
                slab->n_total -= slab->per_block;
                block_unmap(block);
        }
}

static size_t account_promise(const struct slab_account *account)
{
        return account->reserved > account->in_use ? account->reserved - account->in_use : 0;
}

int slab_reserve(struct slab *slab, struct slab_account *account, size_t n)
{
        size_t before, after;
        int r = 0;

        pthread_mutex_lock(&slab->lock);
        before = account_promise(account);
        account->reserved += n;
        after = account_promise(account);
        while (r == 0 && slab->n_free < slab->promised + (after - before))
                r = slab_grow(slab);
        if (r == 0)
                slab->promised += after - before;
        else
                account->reserved -= n;
        slab_shrink(slab);
        if (slab->n_waiting > 0)
                pthread_cond_broadcast(&slab->came_home);
        pthread_mutex_unlock(&slab->lock);
        return r;
}

void slab_unreserve(struct slab *slab, struct slab_account *account, size_t n)
{
        pthread_mutex_lock(&slab->lock);
        assert(n <= account->reserved);
        slab->promised -= account_promise(account);
        account->reserved -= n;
        slab->promised += account_promise(account);
        slab_shrink(slab);
        if (slab->n_waiting > 0)
                pthread_cond_broadcast(&slab->came_home);
        pthread_mutex_unlock(&slab->lock);
}

static void *block_take(struct slab *slab, struct slab_block *block)
{
        void *object = block->free;

        if (object)
                block->free = *(void **)object;
        else
                object = (char *)block + BLOCK_HEADER + block->n_touched++ * slab->object_size;
        if (--block->n_free == 0) {
                list_unlink(&block->link);
                list_append(&slab->full, &block->link);
        }
        return object;
}

/* Under the lock. */
static void *slab_take(struct slab *slab, struct slab_account *account)
{
        size_t own = account_promise(account);

        if (own == 0 && slab->n_free <= slab->promised && slab_grow(slab) < 0)
                return NULL;
        account->in_use++;
        slab->promised -= own > 0;
        slab->n_free--;
        return block_take(slab, list_first(&slab->partial, struct slab_block, link));
}

void *slab_get(struct slab *slab, struct slab_account *account)
{
        void *object;

        pthread_mutex_lock(&slab->lock);
        object = slab_take(slab, account);
        pthread_mutex_unlock(&slab->lock);
        return object;
}

void *slab_get_wait(struct slab *slab, struct slab_account *account)
{
        bool waited = false;
        void *object;

        pthread_mutex_lock(&slab->lock);
        while (!(object = slab_take(slab, account)) && account->in_use > 0) {
                account->waits += !waited;
                waited = true;
                slab->n_waiting++;
                pthread_cond_wait(&slab->came_home, &slab->lock);
                slab->n_waiting--;
        }
        pthread_mutex_unlock(&slab->lock);
        return object;
}

void slab_put(struct slab *slab, struct slab_account *account, void *object)
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
        assert(account->in_use > 0);
        account->in_use--;
        slab->promised += account->in_use < account->reserved;
        if (block->n_free == slab->per_block)
                slab_shrink(slab);
        if (slab->n_waiting > 0)
                pthread_cond_broadcast(&slab->came_home);
        pthread_mutex_unlock(&slab->lock);
}

struct slab_account slab_account_look(struct slab *slab, const struct slab_account *account,
                                      size_t *ret_idle)
{
        struct slab_account now;

        pthread_mutex_lock(&slab->lock);
        now = *account;
        pthread_mutex_unlock(&slab->lock);
        *ret_idle = account_promise(&now);
        return now;
}
