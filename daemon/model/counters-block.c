/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "model/counters-block.h"
#include "util/macros.h"

/* Numbers in answers are signed. */
#define VALUE_MAX ((uint64_t)INT64_MAX)

static uint32_t pages_of_export(unsigned int n_lanes, unsigned int n_legs)
{
        size_t size =
                (size_t)n_lanes * (1 + n_legs) * _OPERATION_EXPORT_MAX * sizeof(struct counters);

        return (uint32_t)DIV_ROUND_UP(size, COUNTERS_PAGE_SIZE);
}

static uint32_t pages_of_client(void)
{
        return DIV_ROUND_UP(sizeof(struct client_counters), COUNTERS_PAGE_SIZE);
}

static bool in_use(const struct counters_block *block)
{
        return atomic_load_explicit(&block->state, memory_order_relaxed) == BLOCK_IN_USE;
}

static uint8_t *memory_of(const struct counters_file *file, const struct counters_block *block)
{
        return file->pages + (size_t)block->first_page * COUNTERS_PAGE_SIZE;
}

static struct client_counters *client_of(const struct counters_file *file,
                                         const struct counters_block *block)
{
        return (struct client_counters *)memory_of(file, block);
}

static struct export_counters export_of(struct counters_file *file, uint32_t index)
{
        const struct counters_block *block = &file->blocks[index];

        return (struct export_counters){
                .file = file,
                .block = index,
                .sets = (struct counters *)memory_of(file, block),
                .leg_errors = &file->leg_errors[(size_t)index * COUNTERS_LEGS],
                .n_lanes = block->n_lanes,
                .n_rows = 1 + block->n_legs,
        };
}

/* --- what another process has left */

static int refuse(const char **ret_why, const char *why)
{
        *ret_why = why;
        return -EBADMSG;
}

static int check_block(struct counters_file *file, const struct counters_block *block,
                       const char **ret_why)
{
        uint32_t n_pages = pages_of_client();

        if (block->kind >= _BLOCK_KIND_MAX)
                return refuse(ret_why, "a block is of a kind that does not exist");
        if (block->kind == BLOCK_EXPORT) {
                if (block->n_lanes < 1 || block->n_lanes > COUNTERS_QUEUES || block->n_legs < 1 ||
                    block->n_legs > COUNTERS_LEGS)
                        return refuse(ret_why, "a block has sizes that there cannot be");
                n_pages = pages_of_export(block->n_lanes, block->n_legs);
        }
        if (block->n_pages != n_pages ||
            !range_fits(block->first_page, block->n_pages, COUNTERS_PAGES))
                return refuse(ret_why, "a block does not lie where it can");
        for (uint32_t i = 0; i < block->n_pages; i++)
                if (file->page_used[block->first_page + i]++)
                        return refuse(ret_why, "two blocks have the same place");
        return 0;
}

int counters_blocks_check(struct counters_file *file, const char **ret_why)
{
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < counters_file_blocks_used(file); i++) {
                if (atomic_load(&file->blocks[i].state) >= _BLOCK_STATE_MAX)
                        return refuse(ret_why, "a block has a state that does not exist");
                if (in_use(&file->blocks[i]))
                        r = check_block(file, &file->blocks[i], ret_why);
        }
        return r;
}

static struct counters_block *find(struct counters_file *file, enum counters_block_kind kind,
                                   uint64_t node)
{
        const uint32_t used = counters_file_blocks_used(file);
        struct counters_block *found = NULL;

        for (uint32_t i = 0; node != 0 && i < used; i++) {
                struct counters_block *block = &file->blocks[i];

                if (in_use(block) && block->kind == (uint32_t)kind && block->node == node &&
                    (!found || block->generation > found->generation))
                        found = block;
        }
        return found;
}

static bool is_replaced(struct counters_file *file, const struct counters_block *block)
{
        return block->kind == BLOCK_EXPORT && find(file, BLOCK_EXPORT, block->node) != block;
}

static bool values_make_sense(const struct counters_file *file, const struct counters_block *block)
{
        const size_t n = (size_t)block->n_pages * COUNTERS_PAGE_SIZE / sizeof(uint64_t);
        const _Atomic(uint64_t) *values = (const void *)memory_of(file, block);

        for (size_t i = 0; i < n; i++)
                if (atomic_load_explicit(&values[i], memory_order_relaxed) > VALUE_MAX)
                        return false;
        return true;
}

/* Those of an export that were being given to its client. */
static void finish_taking(struct counters_file *file, struct client_counters *client)
{
        uint64_t node = atomic_load(&client->staged_node);
        struct counters_block *block;

        if (node == 0)
                return;
        client_counters_take_staged(client);
        block = find(file, BLOCK_EXPORT, node);
        if (block)
                counters_file_put(file, (uint32_t)(block - file->blocks));
        client_counters_took(client);
}

static int clear_unused(struct counters_file *file)
{
        uint32_t end;
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < COUNTERS_PAGES; i = end + 1) {
                for (end = i; end < COUNTERS_PAGES && !file->page_used[end]; end++)
                        ;
                r = counters_file_clear_pages(file, i, end - i);
        }
        return r;
}

int counters_blocks_take_up(struct counters_file *file, const char **ret_why)
{
        const uint32_t used = counters_file_blocks_used(file);

        for (uint32_t i = 0; i < used; i++) {
                struct counters_block *block = &file->blocks[i];

                if (!in_use(block))
                        continue;
                if (!values_make_sense(file, block))
                        return refuse(ret_why, "a counter has a value that there cannot be");
                if (block->node == 0 || is_replaced(file, block))
                        counters_file_put(file, i);
        }
        for (uint32_t i = 0; i < used; i++)
                if (in_use(&file->blocks[i]) && file->blocks[i].kind == BLOCK_CLIENT)
                        finish_taking(file, client_of(file, &file->blocks[i]));
        return clear_unused(file);
}

/* --- blocks of this process */

/* The first of @n pages that nobody has; -ENOSPC. They are empty. What is used stays together. */
static int take_pages(struct counters_file *file, uint32_t n)
{
        uint32_t first_free = COUNTERS_PAGES;
        uint32_t run = 0;

        for (uint32_t at = file->next_page; at < COUNTERS_PAGES; at++) {
                run = file->page_used[at] ? 0 : run + 1;
                if (run == 1)
                        first_free = MIN(first_free, at);
                if (run < n)
                        continue;
                memset(&file->page_used[at + 1 - n], 1, n);
                file->next_page = first_free == at + 1 - n ? at + 1 : first_free;
                return (int)(at + 1 - n);
        }
        return -ENOSPC;
}

static int take_block(struct counters_file *file)
{
        for (uint32_t i = file->next_block; i < COUNTERS_BLOCKS; i++) {
                if (i < counters_file_blocks_used(file) && in_use(&file->blocks[i]))
                        continue;
                file->next_block = i;
                return (int)i;
        }
        file->next_block = COUNTERS_BLOCKS;
        return -ENOSPC;
}

/* The block, which has no node and is in use from here on; or -ENOSPC. */
static int make_block(struct counters_file *file, const struct counters_block *like)
{
        int index = take_block(file);
        int page = index < 0 ? index : take_pages(file, like->n_pages);
        struct counters_block *block;

        if (page < 0)
                return page;
        block = &file->blocks[index];
        counters_file_use_block(file, (uint32_t)index);
        block->kind = like->kind;
        block->node = 0;
        block->client = like->client;
        block->check = like->check;
        block->first_page = (uint32_t)page;
        block->n_pages = like->n_pages;
        block->n_lanes = like->n_lanes;
        block->n_legs = like->n_legs;
        block->generation = like->generation;
        memset(&file->leg_errors[(size_t)index * COUNTERS_LEGS], 0,
               like->n_legs * sizeof(struct leg_errors));
        file->block_taken[index] = true;
        counters_order();
        atomic_store_explicit(&block->state, BLOCK_IN_USE, memory_order_release);
        return index;
}

void counters_file_enter(struct counters_file *file, uint32_t block, uint64_t node)
{
        counters_order();
        *(volatile uint64_t *)&file->blocks[block].node = node;
}

void counters_file_put(struct counters_file *file, uint32_t index)
{
        struct counters_block *block = &file->blocks[index];
        int r;

        counters_order();
        atomic_store_explicit(&block->state, BLOCK_FREE, memory_order_release);
        counters_order();
        file->block_taken[index] = false;
        r = counters_file_clear_pages(file, block->first_page, block->n_pages);
        /* Whoever gets them next relies on it. */
        if (r < 0)
                memset(memory_of(file, block), 0, (size_t)block->n_pages * COUNTERS_PAGE_SIZE);
        memset(&file->page_used[block->first_page], 0, block->n_pages);
        file->next_page = MIN(file->next_page, block->first_page);
        file->next_block = MIN(file->next_block, index);
}

/* Another process may have begun it; not under another name. */
static int find_taken_over(struct counters_file *file, enum counters_block_kind kind,
                           const struct counters_key *key, unsigned int n_legs)
{
        struct counters_block *block = find(file, kind, key->node);
        uint32_t index;

        if (!block)
                return -ENOENT;
        index = (uint32_t)(block - file->blocks);
        if (block->check != key->check || block->client != key->client || block->n_legs != n_legs) {
                counters_file_put(file, index);
                return -ENOENT;
        }
        file->block_taken[index] = true;
        return (int)index;
}

/* A block with more lanes in place of one of the same export. */
static int replace(struct counters_file *file, uint32_t old, unsigned int n_lanes)
{
        struct counters_block like = {};
        struct export_counters from = export_of(file, old), to;
        int index;

        like.kind = BLOCK_EXPORT;
        like.client = file->blocks[old].client;
        like.check = file->blocks[old].check;
        like.n_lanes = n_lanes;
        like.n_legs = file->blocks[old].n_legs;
        like.n_pages = pages_of_export(n_lanes, like.n_legs);
        like.generation = file->blocks[old].generation + 1;
        index = make_block(file, &like);
        if (index < 0)
                return index;

        to = export_of(file, (uint32_t)index);
        for (unsigned int row = 0; row < to.n_rows; row++)
                for (int i = 0; i < _OPERATION_EXPORT_MAX; i++)
                        export_counters_fold(export_counters_of(&to, 0, row, (enum operation)i),
                                             &from, row, (enum operation)i);
        memcpy(to.leg_errors, from.leg_errors, like.n_legs * sizeof(*to.leg_errors));
        counters_file_enter(file, (uint32_t)index, file->blocks[old].node);
        counters_file_put(file, old);
        return index;
}

int counters_file_get_export(struct counters_file *file, const struct counters_key *key,
                             unsigned int n_lanes, unsigned int n_legs, struct export_counters *ret)
{
        struct counters_block like = {
                .kind = BLOCK_EXPORT,
                .client = key->client,
                .check = key->check,
                .n_lanes = n_lanes,
                .n_legs = n_legs,
                .n_pages = pages_of_export(n_lanes, n_legs),
        };
        int index = -ENOENT;

        if (file && n_lanes > 0 && n_lanes <= COUNTERS_QUEUES) {
                index = find_taken_over(file, BLOCK_EXPORT, key, n_legs);
                if (index >= 0 && file->blocks[index].n_lanes < n_lanes)
                        index = replace(file, (uint32_t)index, n_lanes);
                else if (index < 0)
                        index = make_block(file, &like);
                if (index >= 0 && key->node != 0)
                        counters_file_enter(file, (uint32_t)index, key->node);
                if (index < 0 && !file->full_told)
                        log_notice("There is no more room for counters that outlast the process");
                file->full_told |= index < 0;
        }
        if (index < 0)
                return export_counters_init(ret, n_lanes, n_legs);
        *ret = export_of(file, (uint32_t)index);
        return 0;
}

int counters_file_get_client(struct counters_file *file, const struct counters_key *key,
                             struct client_counters **ret, int *ret_block)
{
        struct counters_block like = {
                .kind = BLOCK_CLIENT,
                .check = key->check,
                .n_pages = pages_of_client(),
        };
        struct client_counters *own;
        int index = -ENOENT;

        if (file) {
                index = find_taken_over(file, BLOCK_CLIENT, key, 0);
                if (index < 0)
                        index = make_block(file, &like);
                if (index >= 0 && key->node != 0)
                        counters_file_enter(file, (uint32_t)index, key->node);
        }
        if (index >= 0) {
                *ret = client_of(file, &file->blocks[index]);
                *ret_block = index;
                return 0;
        }
        own = calloc(1, sizeof(*own));
        if (!own)
                return -ENOMEM;
        *ret = own;
        *ret_block = -1;
        return 0;
}

void counters_file_settle(struct counters_file *file)
{
        for (uint32_t i = 0; i < counters_file_blocks_used(file); i++) {
                struct counters_block *block = &file->blocks[i];
                const struct counters_block *owner;
                struct export_counters counters;

                if (!in_use(block) || file->block_taken[i])
                        continue;
                owner = block->kind == BLOCK_EXPORT ? find(file, BLOCK_CLIENT, block->client)
                                                    : NULL;
                if (owner && file->block_taken[owner - file->blocks]) {
                        counters = export_of(file, i);
                        client_counters_take(client_of(file, owner), &counters, block->node);
                        counters_file_put(file, i);
                        client_counters_took(client_of(file, owner));
                } else {
                        counters_file_put(file, i);
                }
        }
}
