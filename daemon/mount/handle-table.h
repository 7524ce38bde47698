/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Open files of the mount. The kernel keeps a number for each (fh) and sends it along with every
 * request; here the number is an index, never a pointer, so that it means the same to a process
 * that takes the mount over.
 *
 * An open file is an export, or the text of a .status file as it was when it was opened, so that
 * reading in pieces gives one consistent document.
 *
 * Looking up takes no lock: the kernel sends no request for a file before the reply to its OPEN,
 * and RELEASE only after the last one, and entries never move. The pointers are atomic, because
 * what orders the threads in between is the kernel, of which C knows nothing.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct export;

#define HANDLE_CHUNK_SIZE 256
#define HANDLE_CHUNKS 4096

struct open_file {
        struct export *_Atomic export; /* a reference that counts as open; or */
        char *_Atomic text;
        size_t length;                      /* of text */
        bool writing;                       /* counts in export->n_writers */
        _Atomic(unsigned int) flushes_told; /* of the export's failures; see fsync */
        uint32_t next_free;                 /* while it is in nobody's hands */
};

struct handle_table {
        pthread_mutex_t lock;
        struct open_file *_Atomic chunks[HANDLE_CHUNKS];
        uint32_t n_handles; /* ever used; under the lock */
        uint32_t free;      /* head of the free ones, plus one; under the lock */
};

void handle_table_init(struct handle_table *table);

/* Closes what is still open. */
void handle_table_deinit(struct handle_table *table);

/*
 * Enter an open file. Takes the export's reference and its open count, or the text. Returns 0,
 * -ENFILE or -ENOMEM.
 */
int handle_table_add(struct handle_table *table, struct export *export, bool writing, char *text,
                     size_t length, uint64_t *ret_fh);

/* The open file, or NULL for a number that nobody has. */
struct open_file *handle_table_get(struct handle_table *table, uint64_t fh);

/* Close it. */
void handle_table_remove(struct handle_table *table, uint64_t fh);
