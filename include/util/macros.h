/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Small arithmetic that both the library and the daemon need. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#define MIN(a, b)                                                                                  \
        ({                                                                                         \
                __typeof__(a) min_a_ = (a);                                                        \
                __typeof__(b) min_b_ = (b);                                                        \
                min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
        })

#define MAX(a, b)                                                                                  \
        ({                                                                                         \
                __typeof__(a) max_a_ = (a);                                                        \
                __typeof__(b) max_b_ = (b);                                                        \
                max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
        })

#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))

/* @align is a power of two. */
static inline uint64_t round_down(uint64_t n, uint64_t align)
{
        return n & ~(align - 1);
}

static inline uint64_t round_up(uint64_t n, uint64_t align)
{
        return round_down(n + align - 1, align);
}

static inline bool is_aligned(uint64_t n, uint64_t align)
{
        return (n & (align - 1)) == 0;
}

/* True if [start, start + count) lies within [0, size); never wraps. */
static inline bool range_fits(uint64_t start, uint64_t count, uint64_t size)
{
        return count <= size && start <= size - count;
}

/* True if the half-open ranges share something; empty ranges share nothing. */
static inline bool ranges_overlap(uint64_t a, uint64_t a_count, uint64_t b, uint64_t b_count)
{
        return a_count > 0 && b_count > 0 && a < b + b_count && b < a + a_count;
}
