/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Open files of the mount. The kernel keeps a number for each (fh) and sends it along with every
 * request; here the number is an index, never a pointer, so that it means the same to a process
 * that takes the mount over; what that one must know is in the memory file. Above the index is a
 * generation, which no two open files with one index share: so a RELEASE may be carried out twice.
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

#include "mount/memory-file.h"

struct export;
struct model;

#define HANDLE_CHUNK_SIZE 256
#define HANDLE_CHUNKS (MEMORY_HANDLES / HANDLE_CHUNK_SIZE)

struct open_file {
        struct export *_Atomic export; /* a reference that counts as open; or */
        char *_Atomic text;
        _Atomic(bool) orphaned;             /* what it showed is not there any more */
        _Atomic(uint32_t) generation;       /* as in the memory file */
        size_t length;                      /* of text */
        bool writing;                       /* counts in export->n_writers */
        _Atomic(unsigned int) flushes_told; /* of the export's failures; see fsync */
        uint32_t next_free;                 /* while it is in nobody's hands */
};

/* What the next process will want to know of an open file. */
struct open_origin {
        uint64_t node;
        uint64_t unique; /* of the OPEN */
        uint32_t uid;
        struct memory_slot *slot; /* in which it came; or NULL */
};

struct handle_table {
        struct memory_file *file;
        pthread_mutex_t lock;
        struct open_file *_Atomic chunks[HANDLE_CHUNKS];
        uint32_t n_handles; /* ever used; under the lock */
        uint32_t free;      /* head of the free ones, plus one; under the lock */
};

/* @file is there before the first open file is. */
void handle_table_init(struct handle_table *table, struct memory_file *file);

/* Closes what is still open, as far as this process is concerned. */
void handle_table_deinit(struct handle_table *table);

/*
 * Open again what a process before this one had open; what shows a node that is not there any more
 * stays, and answers ENODEV. Before anything is served. Returns 0 or -ENOMEM.
 */
int handle_table_restore(struct handle_table *table, struct model *model);

/* True if the OPEN @unique has been given the number that is noted in its slot. */
bool handle_table_was_given(const struct handle_table *table, uint64_t unique, uint64_t noted_fh);

/*
 * Enter an open file. Takes the export's reference and its open count, or the text. Returns 0,
 * -ENFILE or -ENOMEM.
 */
int handle_table_add(struct handle_table *table, struct export *export, bool writing, char *text,
                     size_t length, const struct open_origin *origin, uint64_t *ret_fh);

/* The open file, or NULL for a number that nobody has. */
struct open_file *handle_table_get(struct handle_table *table, uint64_t fh);

/* Note how many of its export's failures it has been told of. */
void handle_table_note_told(struct handle_table *table, uint64_t fh, unsigned int told);

/* Close it. Does nothing to one that has been closed. */
void handle_table_remove(struct handle_table *table, uint64_t fh);
