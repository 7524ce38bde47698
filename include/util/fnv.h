/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * FNV-1a: a sum against damage, not against anybody. Each step is a permutation, so a byte that
 * differs always shows in the result.
 */

#include <stddef.h>
#include <stdint.h>

#define FNV_START UINT64_C(0xcbf29ce484222325)

/* Goes on from @sum, which is FNV_START or that of what comes before. */
static inline uint64_t fnv(uint64_t sum, const void *data, size_t length)
{
        const uint8_t *p = data;

        while (length-- > 0)
                sum = (sum ^ *p++) * UINT64_C(0x100000001b3);
        return sum;
}
