/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Memory that runs out to order: the functions by which the library's pool and slabs grow
 * (aligned_alloc(3), mmap(2)) stand here instead of the C library's, and fail when told to. For the
 * whole process, so nobody else should be growing meanwhile.
 */

#include <stdbool.h>

/* Not with every sanitizer: some have these functions in the program themselves. */
bool starve_works(void);

/* After @n more allocations all others fail. */
void starve_after(unsigned int n);

/* No more failures. Returns how many there were. */
unsigned int starve_end(void);
