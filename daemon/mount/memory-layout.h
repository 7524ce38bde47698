/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How a memory file (memory-file.h) is laid out, so that another build can take it up.
 *
 * It begins with a header and a table of sections. A section is an array of records of one type,
 * and says where it is, how large a record is and how many there are. A process works in its own
 * layout and no other: what one of another layout has left is copied, record by record, into a new
 * file. A record keeps its number. What its writer did not know is zero; what its reader does not
 * know is left out.
 *
 * So this may be changed without more ado, and is taken up by newer and by older builds:
 * - how many records there are, as long as those in use have a place;
 * - a record may become longer at its end. Zero there must mean what an older build does;
 * - more sections, also of types that others do not know.
 *
 * And this needs care:
 * - whatever must not be left out by who does not know it is a section with MEMORY_NEEDED. If
 *   something of it is used, who does not know its type refuses the file;
 * - another meaning of a member that is there, or another place, is another type of section. Who is
 *   to take up what the old one left goes on reading the old type for one release at least.
 *
 * A daemon that ends in order has no requests under way, and marks their sections as not used: then
 * nobody needs to know what a slot looks like.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Each number means one record for ever. */
enum memory_type {
        MEMORY_TYPE_INIT = 1,     /* struct memory_init */
        MEMORY_TYPE_AGREED = 2,   /* struct memory_agreed */
        MEMORY_TYPE_COUNTERS = 3, /* struct memory_counters */
        MEMORY_TYPE_HANDLES = 4,  /* struct memory_handle */
        MEMORY_TYPE_FAILURES = 5, /* struct memory_failure */
        MEMORY_TYPE_SLOTS =
                6, /* struct memory_slot; a section for each queue thread, by its number */
};

#define MEMORY_NEEDED 1U

struct memory_section {
        uint32_t type;
        uint32_t number; /* among those of its type */
        uint32_t flags;
        uint32_t item_size;
        uint64_t offset;
        uint32_t n_items;
        _Atomic(uint32_t) used; /* records from there on have never been used */
};

struct memory_header {
        char magic[8];
        uint32_t version;      /* of this header and of struct memory_section */
        uint32_t section_size; /* they may become longer at the end */
        uint64_t size;         /* of the file */
        uint32_t n_sections;
        uint32_t reserved;
        uint64_t sum; /* over all of this but what is used */
        struct memory_section sections[];
};

#define MEMORY_VERSION 2

/* What a build knows of a type. */
struct memory_kind {
        enum memory_type type;
        uint32_t flags;
        uint32_t n_sections;
        uint32_t n_items;   /* of each section */
        uint32_t item_size; /* a multiple of 8 */
        uint32_t least;     /* of a record when the type was new: shorter ones make no sense */
        uint32_t key;       /* offset of a member of 64 bits that is 0 in a record not in use */
        const char *what;   /* that there may be too many of */
};

#define MEMORY_NO_KEY UINT32_MAX

/* Of a file with these kinds: sections in their order, each on a page of its own. */
size_t memory_layout_size(const struct memory_kind *kinds, size_t n_kinds);
size_t memory_layout_offset(const struct memory_kind *kinds, size_t n_kinds, size_t kind);

/* Write header and table at @header, where all is zero. */
void memory_layout_write(const struct memory_kind *kinds, size_t n_kinds,
                         struct memory_header *header);

/*
 * Does the table make sense for a file of @size bytes, all of which is mapped there? Returns 0;
 * -EPROTO if it is none that this build can read, -EBADMSG if it is damaged, both with the reason
 * in *@ret_why.
 */
int memory_layout_check(const struct memory_header *header, uint64_t size, const char **ret_why);

/* Are they the same, but for what is used? */
_Bool memory_layout_equal(const struct memory_header *a, const struct memory_header *b);

/*
 * Copy what is used in @from, which has been checked, to @to, which is new and has these kinds.
 * Returns 0, or -EPROTO with the reason in *@ret_why, which lasts until the next call.
 */
int memory_layout_copy(const struct memory_kind *kinds, size_t n_kinds,
                       const struct memory_header *from, struct memory_header *to,
                       const char **ret_why);
