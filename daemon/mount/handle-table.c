/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "model/describe.h"
#include "model/export.h"
#include "mount/attr.h"
#include "mount/handle-table.h"

void handle_table_init(struct handle_table *table, struct memory_file *file)
{
        table->file = file;
        pthread_mutex_init(&table->lock, NULL);
        for (size_t i = 0; i < HANDLE_CHUNKS; i++)
                atomic_init(&table->chunks[i], NULL);
        table->n_handles = 0;
        table->free = 0;
}

static struct open_file *handle_at(struct handle_table *table, uint32_t index)
{
        struct open_file *chunk;

        chunk = atomic_load_explicit(&table->chunks[index / HANDLE_CHUNK_SIZE],
                                     memory_order_acquire);
        return chunk ? &chunk[index % HANDLE_CHUNK_SIZE] : NULL;
}

static void open_file_close(struct export *export, bool writing, char *text)
{
        if (export && writing)
                atomic_fetch_sub(&export->n_writers, 1);
        if (export)
                export_close(export);
        export_unref(export);
        free(text);
}

void handle_table_deinit(struct handle_table *table)
{
        for (uint32_t i = 0; i < table->n_handles; i++) {
                struct open_file *file = handle_at(table, i);

                assert(file);
                open_file_close(file->export, file->writing, file->text);
        }
        for (size_t i = 0; i < HANDLE_CHUNKS; i++)
                free(atomic_load(&table->chunks[i]));
        pthread_mutex_destroy(&table->lock);
}

/* See to it that there is an entry. */
static int handle_make(struct handle_table *table, uint32_t index)
{
        if (index == MEMORY_HANDLES)
                return -ENFILE;
        if (!handle_at(table, index)) {
                struct open_file *chunk = calloc(HANDLE_CHUNK_SIZE, sizeof(*chunk));

                if (!chunk)
                        return -ENOMEM;
                atomic_store_explicit(&table->chunks[index / HANDLE_CHUNK_SIZE], chunk,
                                      memory_order_release);
        }
        return 0;
}

/* A free entry. Under the lock. */
static int handle_take(struct handle_table *table, uint32_t *ret_index)
{
        int r;

        if (table->free > 0) {
                *ret_index = table->free - 1;
                table->free = handle_at(table, *ret_index)->next_free;
                return 0;
        }

        r = handle_make(table, table->n_handles);
        if (r < 0)
                return r;
        *ret_index = table->n_handles++;
        memory_file_use_handle(table->file, *ret_index);
        return 0;
}

static void handle_give_back(struct handle_table *table, uint32_t index)
{
        handle_at(table, index)->next_free = table->free;
        table->free = index + 1;
}

static uint64_t fh_of(uint32_t index, uint32_t generation)
{
        return (uint64_t)generation << 32 | index;
}

/*
 * In the memory file an open file is there when its node is. Its number is noted in the slot of the
 * OPEN before that: so whoever finds both of them after a kill knows which number to answer with,
 * and whoever finds one of them that nobody has been given it.
 */
static uint64_t handle_note(struct handle_table *table, uint32_t index, bool writing,
                            const struct open_origin *origin)
{
        struct memory_handle *note = &table->file->handles[index];
        uint64_t fh = fh_of(index, note->generation + 1);

        note->generation++;
        note->unique = origin->unique & ~MEMORY_UNIQUE_RESENT;
        note->uid = origin->uid;
        note->writing = writing;
        atomic_store(&note->flushes_told, 0);
        if (origin->slot)
                atomic_store(&origin->slot->result, (int64_t)fh + 1);
        atomic_store(&note->node, origin->node);
        return fh;
}

int handle_table_add(struct handle_table *table, struct export *export, bool writing, char *text,
                     size_t length, const struct open_origin *origin, uint64_t *ret_fh)
{
        struct open_file *file;
        unsigned int told;
        uint32_t index = 0;
        int r;

        pthread_mutex_lock(&table->lock);
        r = handle_take(table, &index);
        if (r == 0) {
                file = handle_at(table, index);
                told = export ? atomic_load(&export->flush_failures) : 0;
                file->length = length;
                file->writing = writing;
                if (export && writing)
                        atomic_fetch_add(&export->n_writers, 1);
                atomic_store(&file->flushes_told, told);
                *ret_fh = handle_note(table, index, writing, origin);
                if (told > 0)
                        handle_table_note_told(table, *ret_fh, told);
                file->generation = table->file->handles[index].generation;
                file->export = export;
                file->text = text;
        }
        pthread_mutex_unlock(&table->lock);
        return r;
}

bool handle_table_was_given(const struct handle_table *table, uint64_t unique, uint64_t noted_fh)
{
        uint32_t index = (uint32_t)noted_fh;
        const struct memory_handle *note;

        if (index >= memory_file_handles_used(table->file))
                return false;
        note = &table->file->handles[index];
        return atomic_load(&note->node) != 0 && note->unique == (unique & ~MEMORY_UNIQUE_RESENT) &&
               fh_of(index, note->generation) == noted_fh;
}

/* What an open file shows, as it is now; leaves both NULL if that is gone. */
static int find_shown(struct handle_table *table, struct model *model,
                      const struct memory_handle *note, struct open_file *file)
{
        const struct peer peer = peer_from_uid(note->uid);
        const struct node *node;
        int r = 0;

        pthread_mutex_lock(&model->lock);
        node = model_find_node(model, atomic_load(&note->node));
        if (node && node->type == NODE_TYPE_EXPORT) {
                if (export_open(node->export) == 0)
                        file->export = export_ref(node->export);
                atomic_store(&node->export->flush_failures,
                             memory_file_failures(table->file, node->id));
        } else if (node && !S_ISDIR(node_mode(node->type, false))) {
                file->text = describe_status_file(model, node, &peer);
                if (!file->text)
                        r = -ENOMEM;
                else
                        file->length = strlen(file->text);
        }
        pthread_mutex_unlock(&model->lock);
        return r;
}

int handle_table_restore(struct handle_table *table, struct model *model)
{
        uint32_t used = memory_file_handles_used(table->file);

        for (uint32_t i = 0; i < used; i++) {
                const struct memory_handle *note = &table->file->handles[i];
                struct open_file *file;
                int r;

                r = handle_make(table, i);
                if (r < 0)
                        return r;
                table->n_handles = i + 1;
                file = handle_at(table, i);
                if (atomic_load(&note->node) == 0) {
                        handle_give_back(table, i);
                        continue;
                }
                r = find_shown(table, model, note, file);
                if (r < 0)
                        return r;
                file->writing = note->writing;
                if (file->export && file->writing)
                        atomic_fetch_add(&file->export->n_writers, 1);
                file->generation = note->generation;
                atomic_store(&file->flushes_told, atomic_load(&note->flushes_told));
                atomic_store(&file->orphaned, !file->export && !file->text);
        }
        return 0;
}

struct open_file *handle_table_get(struct handle_table *table, uint64_t fh)
{
        uint32_t index = (uint32_t)fh;
        struct open_file *file;

        if (index >= MEMORY_HANDLES)
                return NULL;

        file = handle_at(table, index);
        if (!file || atomic_load_explicit(&file->generation, memory_order_relaxed) != fh >> 32)
                return NULL;
        return file->export || file->text || file->orphaned ? file : NULL;
}

void handle_table_note_told(struct handle_table *table, uint64_t fh, unsigned int told)
{
        atomic_store(&table->file->handles[(uint32_t)fh].flushes_told, told);
}

void handle_table_remove(struct handle_table *table, uint64_t fh)
{
        uint32_t index = (uint32_t)fh;
        struct open_file *file;
        struct export *export;
        bool writing;
        char *text;

        file = handle_table_get(table, fh);
        if (!file)
                return;

        /* Out of the table first: what closing does may take other locks. */
        pthread_mutex_lock(&table->lock);
        export = file->export;
        writing = file->writing;
        text = file->text;
        atomic_store(&table->file->handles[index].node, 0);
        file->export = NULL;
        file->text = NULL;
        file->orphaned = false;
        handle_give_back(table, index);
        pthread_mutex_unlock(&table->lock);

        open_file_close(export, writing, text);
}
