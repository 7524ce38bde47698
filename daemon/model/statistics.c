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
        size_t size =
                (size_t)n_lanes * (1 + n_legs) * _OPERATION_EXPORT_MAX * sizeof(struct counters);
        uint8_t *first;

        *counters = (struct export_counters){ .n_lanes = n_lanes, .n_rows = 1 + n_legs };
        counters->memory = calloc(1, size + n_legs * sizeof(struct leg_errors) + CACHE_LINE);
        if (!counters->memory)
                return -ENOMEM;
        first = (uint8_t *)round_up((uintptr_t)counters->memory, CACHE_LINE);
        counters->sets = (struct counters *)first;
        counters->leg_errors = (struct leg_errors *)(first + size);
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

static void raise_value(_Atomic(uint64_t) *counter, uint64_t there, uint64_t floor)
{
        if (floor > there)
                counter_add(counter, floor - there);
}

/* By what is missing in @sum, of which @counters is a part. */
static void raise_sum(struct counters *counters, const struct counters *sum,
                      const struct counters *floor)
{
        raise_value(&counters->total_usec, value(&sum->total_usec), value(&floor->total_usec));
        raise_value(&counters->bytes, value(&sum->bytes), value(&floor->bytes));
        raise_value(&counters->errors, value(&sum->errors), value(&floor->errors));
        for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
                raise_value(&counters->buckets[i], value(&sum->buckets[i]),
                            value(&floor->buckets[i]));
}

void counters_raise(struct counters *counters, const struct counters *floor)
{
        raise_sum(counters, counters, floor);
}

void export_counters_raise(struct export_counters *counters, unsigned int row,
                           enum operation operation, const struct counters *floor)
{
        struct counters sum = {};

        if (counters->n_lanes == 0)
                return;
        export_counters_fold(&sum, counters, row, operation);
        raise_sum(export_counters_of(counters, 0, row, operation), &sum, floor);
}

/* Of the same process or the next one. */
static void counters_copy(struct counters *to, const struct counters *from)
{
        atomic_store_explicit(&to->total_usec, value(&from->total_usec), memory_order_relaxed);
        atomic_store_explicit(&to->bytes, value(&from->bytes), memory_order_relaxed);
        atomic_store_explicit(&to->errors, value(&from->errors), memory_order_relaxed);
        for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
                atomic_store_explicit(&to->buckets[i], value(&from->buckets[i]),
                                      memory_order_relaxed);
}

void client_counters_take(struct client_counters *client, const struct export_counters *counters,
                          uint64_t node)
{
        for (int i = 0; i < _OPERATION_EXPORT_MAX; i++) {
                counters_copy(&client->staged[i], &client->removed[i]);
                export_counters_fold(&client->staged[i], counters, ROW_EXPORT, (enum operation)i);
        }
        atomic_signal_fence(memory_order_seq_cst);
        atomic_store_explicit(&client->staged_node, node, memory_order_release);
        client_counters_take_staged(client);
}

void client_counters_take_staged(struct client_counters *client)
{
        atomic_signal_fence(memory_order_seq_cst);
        for (int i = 0; i < _OPERATION_EXPORT_MAX; i++)
                counters_copy(&client->removed[i], &client->staged[i]);
        atomic_signal_fence(memory_order_seq_cst);
}

void client_counters_took(struct client_counters *client)
{
        atomic_signal_fence(memory_order_seq_cst);
        atomic_store_explicit(&client->staged_node, 0, memory_order_release);
}
