/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>

#include "model/statistics.h"
#include "util/macros.h"

#define CACHE_LINE 64

uint64_t latency_bound(unsigned int bucket)
{
        if (bucket >= LATENCY_BUCKETS - 1)
                return UINT64_MAX;
        if (bucket < 2)
                return bucket + 1;
        return (bucket % 2 ? UINT64_C(4) : UINT64_C(3)) << (bucket / 2 - 1);
}

static uint64_t value(const _Atomic(uint64_t) *counter)
{
        return atomic_load_explicit(counter, memory_order_relaxed);
}

void counters_fold(struct counters *sum, const struct counters *part)
{
        counter_add(&sum->total_usec, value(&part->total_usec));
        counter_add(&sum->bytes, value(&part->bytes));
        counter_add(&sum->errors, value(&part->errors));
        for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
                counter_add(&sum->buckets[i], value(&part->buckets[i]));
}

uint64_t counters_count(const struct counters *counters)
{
        uint64_t n = 0;

        for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
                n += value(&counters->buckets[i]);
        return n;
}

/* calloc() leaves what is never counted in untouched, which aligned_alloc() would not. */
int export_counters_init(struct export_counters *counters, unsigned int n_lanes,
                         unsigned int n_legs)
{
        size_t n = (size_t)n_lanes * (1 + n_legs) * _OPERATION_EXPORT_MAX;

        *counters = (struct export_counters){ .n_lanes = n_lanes, .n_rows = 1 + n_legs };
        counters->memory = calloc(1, n * sizeof(struct counters) + CACHE_LINE);
        if (!counters->memory)
                return -ENOMEM;
        counters->sets = (struct counters *)round_up((uintptr_t)counters->memory, CACHE_LINE);
        return 0;
}

void export_counters_deinit(struct export_counters *counters)
{
        free(counters->memory);
        *counters = (struct export_counters){};
}

void export_counters_fold(struct counters *sum, const struct export_counters *counters,
                          unsigned int row, enum operation operation)
{
        for (unsigned int lane = 0; lane < counters->n_lanes; lane++)
                counters_fold(sum, export_counters_of(counters, lane, row, operation));
}
