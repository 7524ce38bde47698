/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The text of the state file: {"format": 1, "checksum": "...", "content": {...}}.
 *
 * The checksum is over the content with its keys sorted and without blanks; so the layout of the
 * file may change, and nothing else. It guards against damage, not against people: the folder does.
 *
 * The format is raised only by what an older version must not read, such as something that it would
 * do harm without; a newer version goes on reading the older ones. What an older version may do
 * without is a new key of the content, which it leaves out (saved.h); where it is not there it must
 * mean what there was before.
 */

#include <stddef.h>

#include <jansson.h>

#define DOCUMENT_FORMAT 1

/* The text of @content, which stays the caller's, to be freed. NULL: no memory. */
char *document_print(const json_t *content, size_t *ret_length);

/*
 * The content of a text. Returns 0; -ENOMEM; -EPROTO for what is of another format, or -EBADMSG for
 * what is not whole, both with what is wrong in *@ret_message, to be freed (NULL without memory).
 */
int document_parse(const char *text, size_t length, json_t **ret, char **ret_message);
