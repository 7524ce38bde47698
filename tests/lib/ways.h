/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The six I/O calls of the classic face as one table, so that a test can be run for each: three
 * kinds of memory, synchronous and asynchronous.
 */

#include <stdbool.h>
#include <stddef.h>

#include <dmio/dm-io.h>

#include "scratch.h"

enum way_memory {
        WAY_PAGE_LIST,
        WAY_BVEC,
        WAY_VM,
};

struct way {
        const char *name;
        enum way_memory memory;
        bool async;
};

#define N_WAYS 6
extern const struct way ways[N_WAYS];

/*
 * One request over the @length bytes at @data. An asynchronous one is waited for: it must then have
 * been called back once, and its result is told like that of a synchronous one. *@ret_bits is
 * untouched if the request was refused.
 */
int way_io(const struct way *way, unsigned int n_regions, struct io_region *where, int rw,
           void *data, size_t length, unsigned long *ret_bits);

/*
 * The same as way_io() for a request that must be refused: returns what the call returned. Fails
 * the test if the callback was called or the bits were touched.
 */
int way_io_refused(const struct way *way, unsigned int n_regions, struct io_region *where, int rw,
                   void *data, size_t length);

/* Links the pages that hold @length bytes at @data, in order. To be freed. */
struct page_list *page_list_new(void *data, size_t length);

/*
 * @length bytes at @data as bio vectors whose lengths go through @lengths again and again; ended by
 * an entry without a page. To be freed.
 */
struct bio_vec *bvec_new(void *data, size_t length, const unsigned int *lengths, size_t n_lengths);
