/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A JSON object into a C struct, by a table of its fields. Presence, types, ranges and names are
 * checked here, once for all methods, so that a handler only sees what its table allows. A name
 * that the table does not have is refused.
 *
 * Members of the struct, by the type of the field; the struct owns what it points to:
 *   FIELD_STRING  char *                        absent: NULL
 *   FIELD_BOOL    bool                          absent: false
 *   FIELD_INT     int64_t within [min, max]     absent: FIELD_ABSENT
 *   FIELD_ENUM    int, an index of names        absent: FIELD_ABSENT
 *   FIELD_OBJECT  a pointer to the struct       absent: NULL
 *   FIELD_INTS    struct field_array of int64_t within [min, max]
 *   FIELD_OBJECTS struct field_array of structs (not of pointers)
 * A field that is null is absent.
 */

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#define FIELD_ABSENT (-1)

/* Integers of the interface stay below this, so that every JSON reader has them exactly. */
#define FIELD_INT_MAX ((INT64_C(1) << 53) - 1)

enum field_type {
        FIELD_STRING,
        FIELD_BOOL,
        FIELD_INT,
        FIELD_ENUM,
        FIELD_OBJECT,
        FIELD_INTS,
        FIELD_OBJECTS,
};

struct field_array {
        void *items;
        size_t n;
        bool present;
};

struct field {
        const char *name; /* NULL ends a table */
        enum field_type type;
        size_t offset;
        bool required;
        int64_t min, max;           /* FIELD_INT, FIELD_INTS; min is not negative */
        const char *const *names;   /* FIELD_ENUM: ended by NULL */
        const struct field *fields; /* FIELD_OBJECT, FIELD_OBJECTS */
        size_t size;                /* ... and of one struct */
};

/* A row: a member of the struct, which has the name of the field. */
#define FIELD(structure, member, field_type, ...)                                                  \
        {                                                                                          \
                .name = #member, .type = (field_type), .offset = offsetof(structure, member),      \
                ##__VA_ARGS__                                                                      \
        }
#define FIELD_END                                                                                  \
        {                                                                                          \
                .name = NULL                                                                       \
        }

/*
 * Read @object (NULL counts as {}) into the struct at @target of @size bytes, by @fields (NULL: no
 * fields at all). Returns NULL, or an error (errors.h) that names the field by the way to it, for
 * example "regions[1].sector"; the struct is then empty.
 */
json_t *fields_read(const struct field *fields, const json_t *object, void *target, size_t size);

/* Bytes that the struct's texts and arrays take, arrays three times: what a call makes of them
 * (page lists, sorted copies) takes no more than twice as much again. */
size_t fields_footprint(const struct field *fields, const void *target);

/* Free what the struct owns; it is then empty. */
void fields_clear(const struct field *fields, void *target, size_t size);
