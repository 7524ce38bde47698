/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The text of the state file: {"format": 1, "checksum": "...", "content": {...}}.
 *
 * The checksum is over the content with its keys sorted and without blanks; so the layout of the
 * file may change, and nothing else. It guards against damage, not against people: the folder does.
 */

#include <stddef.h>

#include <jansson.h>

#define DOCUMENT_FORMAT 1

/* The text of @content, which stays the caller's, to be freed. NULL: no memory. */
char *document_print(const json_t *content, size_t *ret_length);

/*
 * The content of a text. Returns 0; -ENOMEM; or -EBADMSG for what is not whole or of another
 * format, with what is wrong in *@ret_message, to be freed (NULL without memory).
 */
int document_parse(const char *text, size_t length, json_t **ret, char **ret_message);
