/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Counters of operations: how many have ended and after what time, how many bytes, how many errors.
 *
 * They only grow; whoever wants a rate or the percentiles of a minute subtracts. Each set has one
 * thread that counts (a set for each queue thread, one for the main loop), so counting is a few
 * plain additions on cache lines of one's own: no lock, no locked instruction, no allocation. Any
 * thread may read meanwhile; of an operation that is just being counted it may see a part.
 *
 * Times are sorted into buckets whose upper ends are 1, 2, 3, 4, 6, 8, 12, 16 ... microseconds: two
 * for each power of two, so a time is known to a third at worst.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct counters_file;

enum operation {
        OPERATION_NONE = -1, /* not to be counted */
        OPERATION_READ,
        OPERATION_WRITE,
        OPERATION_FLUSH,
        OPERATION_WRITE_ZEROES,
        _OPERATION_EXPORT_MAX, /* those before it are what exports and their legs do */
        OPERATION_DISCARD = _OPERATION_EXPORT_MAX,
        _OPERATION_IO_MAX, /* those before it are what Io does */
};

/* The last bucket has no upper end: it takes what lasts longer than 2^30 us, 18 minutes. */
#define LATENCY_BUCKETS 61

struct counters {
        _Atomic(uint64_t) total_usec; /* the sum of all times */
        _Atomic(uint64_t) bytes;      /* of what did not fail */
        _Atomic(uint64_t) errors;
        _Atomic(uint64_t) buckets[LATENCY_BUCKETS]; /* also of what failed */
};

_Static_assert(sizeof(struct counters) == 512, "whole cache lines");

static inline unsigned int latency_bucket(uint64_t usec)
{
        uint64_t below = usec > 0 ? usec - 1 : 0;
        unsigned int log, bucket;

        if (below < 2)
                return (unsigned int)below;
        log = 63 - (unsigned int)__builtin_clzll(below);
        bucket = 2 * log + (unsigned int)(below >> (log - 1) & 1);
        return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* The longest time of the bucket in microseconds; UINT64_MAX for the last one. */
uint64_t latency_bound(unsigned int bucket);

/* By the one thread that counts here. */
static inline void counter_add(_Atomic(uint64_t) *counter, uint64_t n)
{
        atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                              memory_order_relaxed);
}

/* An operation on @bytes has ended after @usec; @failed ones have no bytes. */
static inline void counters_add(struct counters *counters, uint64_t usec, uint64_t bytes,
                                bool failed)
{
        counter_add(&counters->buckets[latency_bucket(usec)], 1);
        counter_add(&counters->total_usec, usec);
        counter_add(failed ? &counters->errors : &counters->bytes, failed ? 1 : bytes);
}

/* Add up: @sum is the caller's own, @part may be counted in meanwhile. */
void counters_fold(struct counters *sum, const struct counters *part);

/* How many operations there were. */
uint64_t counters_count(const struct counters *counters);

/* Errors of a leg; any thread. */
struct leg_errors {
        _Atomic(uint64_t) count;
        _Atomic(int) last; /* positive errno, 0 for none */
};

/*
 * Of a client, in what outlasts the process if the client does (counters-file.h). Main loop.
 *
 * The counters of an export that goes are added to those of its client in steps between which the
 * process may be killed: what the sums are going to be, that they are, the sums, the end of the
 * export's own.
 */
struct client_counters {
        struct counters removed[_OPERATION_EXPORT_MAX]; /* of exports that are no more */
        struct counters calls[_OPERATION_IO_MAX];       /* of Io and SubmitIo */
        struct counters jobs[2];                        /* by enum job_kind (job.h) */
        struct counters staged[_OPERATION_EXPORT_MAX];  /* what removed is going to be */
        _Atomic(uint64_t) staged_node; /* once it is, and with which export's; 0: it is not */
        _Atomic(uint64_t) waits;       /* for pages, as far as anybody has been told of them */
};

/*
 * The sets of an export: of each queue thread (lane), of the export as a whole and of each leg
 * (row), for each of its operations.
 */
struct export_counters {
        void *memory;               /* to be freed, if it ends with the process */
        struct counters_file *file; /* or where it lies, if it does not (counters-file.h) */
        uint32_t block;             /* of the file */
        struct counters *sets;      /* [lane][row][operation], on cache lines of their own */
        struct leg_errors *leg_errors;
        unsigned int n_lanes;
        unsigned int n_rows;
};

/* What the clients of the export see; the leg i is row 1 + i. */
#define ROW_EXPORT 0
#define ROW_LEG(i) (1 + (i))

/* In memory of the process. Returns 0 or -ENOMEM. @n_lanes may be 0, where there is no mount. */
int export_counters_init(struct export_counters *counters, unsigned int n_lanes,
                         unsigned int n_legs);
void export_counters_deinit(struct export_counters *counters);

static inline struct counters *export_counters_of(const struct export_counters *counters,
                                                  unsigned int lane, unsigned int row,
                                                  enum operation operation)
{
        return &counters->sets[(lane * counters->n_rows + row) * _OPERATION_EXPORT_MAX +
                               (unsigned int)operation];
}

/* Add up all lanes. */
void export_counters_fold(struct counters *sum, const struct export_counters *counters,
                          unsigned int row, enum operation operation);

/* Let @counters be as large as @floor, in each of its numbers. */
void counters_raise(struct counters *counters, const struct counters *floor);

/* The same for the sum of all lanes, while nobody counts. */
void export_counters_raise(struct export_counters *counters, unsigned int row,
                           enum operation operation, const struct counters *floor);

/*
 * Add the counters of the export @node, in which nothing will be counted any more, to those that
 * are removed. Then its own must go, and client_counters_took() be called.
 */
void client_counters_take(struct client_counters *client, const struct export_counters *counters,
                          uint64_t node);

/* Go on where a process was killed after the first half of that. */
void client_counters_take_staged(struct client_counters *client);

void client_counters_took(struct client_counters *client);
