/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Pieces, for legs. Everything on the queue's thread. */

#include <stddef.h>

struct leg;
struct piece;

/* For the engine's slab. */
size_t piece_size(void);

/* One more piece of the leg, counted; NULL if there is none to be had. */
struct piece *piece_new(struct leg *leg);

/*
 * Set the piece going: with the flush that goes before the leg's data, with the next of its data,
 * or with the next part of a discard or of zeroes. It may end before these return. When it has
 * ended leg_run() is called, unless that is just being worked on.
 */
void piece_start_flush(struct piece *piece);
void piece_start_transfer(struct piece *piece);
void piece_start_change(struct piece *piece);
