/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "model/export.h"
#include "mount/handle-table.h"

void handle_table_init(struct handle_table *table)
{
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

/* A free entry. Under the lock. */
static int handle_take(struct handle_table *table, uint32_t *ret_index)
{
        uint32_t index = table->n_handles;

        if (table->free > 0) {
                *ret_index = table->free - 1;
                table->free = handle_at(table, *ret_index)->next_free;
                return 0;
        }

        if (index == HANDLE_CHUNK_SIZE * HANDLE_CHUNKS)
                return -ENFILE;
        if (!handle_at(table, index)) {
                struct open_file *chunk = calloc(HANDLE_CHUNK_SIZE, sizeof(*chunk));

                if (!chunk)
                        return -ENOMEM;
                atomic_store_explicit(&table->chunks[index / HANDLE_CHUNK_SIZE], chunk,
                                      memory_order_release);
        }

        table->n_handles++;
        *ret_index = index;
        return 0;
}

int handle_table_add(struct handle_table *table, struct export *export, bool writing, char *text,
                     size_t length, uint64_t *ret_fh)
{
        struct open_file *file;
        uint32_t index = 0;
        int r;

        pthread_mutex_lock(&table->lock);
        r = handle_take(table, &index);
        if (r == 0) {
                file = handle_at(table, index);
                file->length = length;
                file->writing = writing;
                if (export && writing)
                        atomic_fetch_add(&export->n_writers, 1);
                atomic_store(&file->flushes_told,
                             export ? atomic_load(&export->flush_failures) : 0);
                file->export = export;
                file->text = text;
                *ret_fh = index;
        }
        pthread_mutex_unlock(&table->lock);
        return r;
}

struct open_file *handle_table_get(struct handle_table *table, uint64_t fh)
{
        struct open_file *file;

        if (fh >= HANDLE_CHUNK_SIZE * HANDLE_CHUNKS)
                return NULL;

        file = handle_at(table, (uint32_t)fh);
        return file && (file->export || file->text) ? file : NULL;
}

void handle_table_remove(struct handle_table *table, uint64_t fh)
{
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
        file->export = NULL;
        file->text = NULL;
        file->next_free = table->free;
        table->free = (uint32_t)fh + 1;
        pthread_mutex_unlock(&table->lock);

        open_file_close(export, writing, text);
}
