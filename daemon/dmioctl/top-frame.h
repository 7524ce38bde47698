/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A frame of top: what clients, exports and legs have done between two answers of Statistics, per
 * second, and how long it took.
 */

#include <jansson.h>

/*
 * The text, of lines that end with a newline and are made for @columns; to be freed, NULL without
 * memory. @before may be NULL, or of another daemon: then it tells what there is, and no rates. Of
 * an export that has begun anew in between, all that it has done counts.
 */
char *frame_text(const json_t *before, const json_t *now, unsigned int columns);
