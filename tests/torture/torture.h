/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Random operations on one file by several processes, against what must come of them. The same
 * seed, number of operations and options give each process the same operations again; how they
 * interleave is the machine's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ways to the bytes. */
#define WAY_BUFFERED (1u << 0)
#define WAY_DIRECT (1u << 1)
#define WAY_MAPPED (1u << 2)
#define WAY_DSYNC (1u << 3)

struct torture {
        const char *path;
        uint64_t seed;
        uint64_t operations; /* of each process */
        unsigned int processes;
        uint64_t lane; /* bytes */
        unsigned int ways;
        uint64_t size;  /* of the file */
        uint64_t block; /* what a reader must never see half of */
};

/*
 * Each process has bytes of its own, in lanes that lie beside each other and share sectors, blocks
 * and pages. Nobody else writes them, so each knows at any time what they must be. Returns true if
 * they always were.
 */
bool torture_lanes(const struct torture *torture);

/*
 * All write to the same few pages at once, many rounds. After each the bytes must be what the
 * writes give in some order, each of them whole.
 */
bool torture_overlap(const struct torture *torture);

/* Writers of whole blocks, and readers who must never see two of them in one block. */
bool torture_torn(const struct torture *torture);

/* Random numbers, the same on every machine. */
struct dice {
        uint64_t state;
};

uint64_t dice_roll(struct dice *dice);

/* From 0 to @n - 1. */
uint64_t dice_below(struct dice *dice, uint64_t n);
void dice_fill(struct dice *dice, void *to, size_t length);

/*
 * Run @fn in that many processes. Returns true if all of them say so; when one does not, the others
 * are ended.
 */
bool run_processes(const struct torture *torture,
                   bool (*fn)(const struct torture *torture, unsigned int number, void *context),
                   void *context);

/* Memory that the processes share. */
void *shared_memory(size_t size);

/* Open the file by a way; ends the process if that fails. */
int open_file(const struct torture *torture, unsigned int way);

/* Says what failed, with errno, and ends the process. */
_Noreturn void die(const char *what);
