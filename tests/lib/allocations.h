/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Counts what a process asks of the allocator and of the system's memory: malloc() and its kin, and
 * anonymous mappings, by taking their place in the program.
 */

#include <stdbool.h>

/* Not under a sanitizer, which takes their place itself. */
bool allocations_are_counted(void);

/* So far, by all threads. */
unsigned long allocations_count(void);
