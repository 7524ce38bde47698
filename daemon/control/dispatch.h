/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The table of methods: name, parameters, handler. Everything that the table can check is checked
 * before the handler runs.
 */

#include <stddef.h>

#include <jansson.h>

struct call;
struct field;

struct method {
        const char *name;           /* "INTERFACE.METHOD" */
        const struct field *fields; /* NULL: no parameters */
        size_t size;                /* of the struct that they fill, call->arguments */
        /* Answers @call, now or later. NULL: in the interface text, but not there yet. */
        void (*run)(struct call *call);
};

/* The method of that name, or NULL. */
const struct method *dispatch_find(const char *name);

/* Carry out @call of @name with @parameters (an object or NULL), or answer why not. */
void dispatch(struct call *call, const char *name, const json_t *parameters);
