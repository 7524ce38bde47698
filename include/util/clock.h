/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The clock that nobody sets. */

#include <stdint.h>
#include <time.h>

/* In microseconds, since some time in the past. */
static inline uint64_t now_usec(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}
