/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The Memory type of the interface text: from what a call says about where its data is to the
 * struct dm_io_memory of a request. In the order of use:
 *
 *   memory_prepare()  main loop: is it said rightly, and is it enough?
 *   memory_map()      worker: look at a descriptor and map the part of it that is named
 *   memory_fill()     main loop: put inline data into the client's pages, once it has them
 *   memory_release()  worker: unmap and free
 *
 * Inline data, both ways, goes through pages of the pool, which are charged to the client; a
 * descriptor is mapped, shared with its owner, who may even truncate it meanwhile.
 */

#include <stdbool.h>
#include <stdint.h>

#include <dmio/dmio.h>

#include "control/fields.h"

struct segment_argument {
        int64_t offset;
        int64_t length;
};

struct memory_argument {
        char *data;
        int64_t fill;
        int64_t fd;
        struct field_array page_list; /* int64_t */
        int64_t page_offset;
        int64_t vm;
        struct field_array bvec; /* struct segment_argument */
};

extern const struct field memory_fields[];

/* Most bytes that go inline: one piece of the pool. */
#define MEMORY_INLINE_MAX (DMIO_PAGES_MAX * DMIO_PAGE_SIZE)

/* Most bytes between the first and the last one that a call names of a descriptor. */
#define MEMORY_SPAN_MAX (UINT64_C(64) << 30)

enum memory_kind {
        MEMORY_NONE,   /* the operation takes none */
        MEMORY_DATA,   /* bytes that came with the call */
        MEMORY_REPLY,  /* bytes that go with the answer */
        MEMORY_FILL,   /* one page, used again and again */
        MEMORY_MAPPED, /* a descriptor */
};

struct memory {
        enum memory_kind kind;
        uint64_t length; /* bytes that the request needs: those of its largest region */
        bool is_read;    /* the request writes to the memory */
        unsigned int fd; /* MEMORY_MAPPED: which of the call's descriptors */
        char *data;      /* MEMORY_DATA: decoded */

        struct page_list *pages; /* of the pool: the caller gets and puts them */

        void *map;
        size_t map_length;
        struct page_list *links; /* into the map, or the page to fill with */
        struct bio_vec *vectors;
        struct page *fill;

        struct dm_io_memory io; /* for the request */
        unsigned int io_flags;
};

/*
 * @argument is what the call says, or NULL; it has to last until memory_map(). Its data is decoded
 * in place. @length: see above; @inline_max: most bytes that fit an answer; @n_fds: descriptors
 * that came with the call. Returns NULL or an error.
 */
json_t *memory_prepare(struct memory *memory, struct memory_argument *argument, bool takes_memory,
                       bool is_read, uint64_t length, uint64_t inline_max, size_t n_fds);

/* Pages of the pool that are needed for memory_fill(); 0 for none. */
unsigned int memory_pages_needed(const struct memory *memory);

/*
 * MEMORY_MAPPED: map what is named of @fd. @trusted: a file system that may block for ever is
 * accepted. @refused: of this file system nothing is (0 for none). Returns NULL or an error.
 */
json_t *memory_map(struct memory *memory, const struct memory_argument *argument, int fd,
                   bool trusted, dev_t refused);

/* The pages are there (memory->pages): use them. */
void memory_fill(struct memory *memory);

/* MEMORY_REPLY: what was read, as base64; NULL if there is no memory. */
json_t *memory_data(const struct memory *memory);

/* The pages must have been put. */
void memory_release(struct memory *memory);
