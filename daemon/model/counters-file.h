/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Counters that outlive the process: those of clients that linger, and of their exports, lie in a
 * piece of shared memory that the supervisor keeps (descriptor-store.h), so that they go on after a
 * SIGKILL. To count there is what it is elsewhere, additions of a thread's own.
 *
 * A block is the counters of one client or export, by the number of its node, which no other ever
 * has. Blocks are made and freed by the main loop; one is there from one store on, and no more from
 * another.
 *
 * No kill counts an operation by half, or twice. What a thread is about to store it notes first, in
 * absolute numbers, in its journal (struct counters_journal); the next process stores that again.
 * And with an operation it counts for which slot and request that was (struct counters_request): a
 * request that was counted, but whose answer the kernel never got, is carried out again by the next
 * process and not counted again (mount/counted.h).
 *
 * As in memory-file.h, the order of stores matters only as seen after a kill.
 *
 * The layout has a version and sizes of everything; what is of another one, or makes no sense, is
 * refused, and counting begins with what the state folder has (state/counters.h).
 */

#include <stdbool.h>
#include <stdint.h>

#include "model/statistics.h"

/* A lane for each queue thread there can be, and one for the main loop. */
#define COUNTERS_QUEUES 64
#define COUNTERS_MAIN_LANE COUNTERS_QUEUES
#define COUNTERS_LANES (COUNTERS_QUEUES + 1)
/* Of all queue threads, one for each slot of the memory file. */
#define COUNTERS_SLOTS (COUNTERS_QUEUES * 16384u)
#define COUNTERS_BLOCKS 16384u
#define COUNTERS_LEGS 64
/* Room for blocks: address space, of which memory is what has been counted in. */
#define COUNTERS_PAGES 65536u
#define COUNTERS_PAGE_SIZE 4096u

struct counters_header;
struct counters_block;

/* What becomes of a set, as long as set is not 0. */
struct __attribute__((__aligned__(64))) counters_journal {
        _Atomic(uint64_t) set; /* where in the file */
        uint32_t bucket;
        uint32_t failed;
        uint64_t n_bucket, total_usec, n; /* n: of errors if it failed, else of bytes */
        uint64_t unique;
        uint64_t slot; /* plus one; 0: of no request */
};

_Static_assert(sizeof(struct counters_journal) == 64, "a cache line");

/* What is counted is a request's, in that slot of the memory file. */
struct counters_request {
        uint32_t slot;
        uint64_t unique;
};

struct counters_file {
        int fd;
        struct counters_header *header;
        uint8_t *start;                    /* the same */
        struct counters_journal *journals; /* of each lane */
        _Atomic(uint64_t) *counted;        /* the unique of the last one counted, by slot */
        uint64_t *carried[2];
        struct counters_block *blocks;
        struct leg_errors *leg_errors;
        uint8_t *pages;

        /* Of this process. */
        uint8_t *page_used;
        uint8_t *block_taken;
        uint32_t next_block, next_page; /* none before them is free */
        bool full_told;
};

#define COUNTERS_FILE_NULL                                                                         \
        {                                                                                          \
                .fd = -EBADF                                                                       \
        }

/* Make a new one, in which nothing is. Returns 0 or a negative errno. */
int counters_file_new(struct counters_file *file);

/*
 * Take up what another process has left; @fd is taken in any case. Returns 0; -EPROTO for another
 * build's layout; -EBADMSG for what is damaged, with what is wrong in *@ret_why; or a negative
 * errno.
 */
int counters_file_open(struct counters_file *file, int fd, const char **ret_why);

void counters_file_close(struct counters_file *file);

/* A cache line of the lane's own. */
static inline struct counters_journal *counters_file_journal(const struct counters_file *file,
                                                             unsigned int lane)
{
        return &file->journals[lane];
}

/*
 * What the block belongs to. check: a sum of what it is called, lest a state folder that is another
 * one has its numbers.
 */
struct counters_key {
        uint64_t node;   /* 0: has none yet */
        uint64_t client; /* of an export: the client's node */
        uint64_t check;
};

/*
 * The counters of an export, which another process may have begun; in memory of this process if
 * there is no file (NULL) or no room left. Returns 0 or -ENOMEM. Main loop, as are all below.
 */
int counters_file_get_export(struct counters_file *file, const struct counters_key *key,
                             unsigned int n_lanes, unsigned int n_legs,
                             struct export_counters *ret);

/* The same of a client; *@ret_block is negative if it ends with the process. */
int counters_file_get_client(struct counters_file *file, const struct counters_key *key,
                             struct client_counters **ret, int *ret_block);

/* A block that was got without a node: from here on another process finds it. */
void counters_file_enter(struct counters_file *file, uint32_t block, uint64_t node);

/* It is not needed any more. */
void counters_file_put(struct counters_file *file, uint32_t block);

/*
 * All that lasts has been made again: blocks that nobody has got are of what is gone. The counters
 * of an export are still its client's.
 */
void counters_file_settle(struct counters_file *file);

/* Requests that an earlier process has counted, and may not have answered (mount/counted.h). */

/* Keep @n of them for the next process, beyond what is in counted. */
void counters_file_carry(struct counters_file *file, const uint64_t *uniques, uint32_t n);
/* What was kept; empty once counters_file_carried_over() has been called. */
uint32_t counters_file_carried(const struct counters_file *file, const uint64_t **ret);
void counters_file_carried_over(struct counters_file *file);

/* Nothing of an earlier process will come again: numbers of requests begin anew with a mount. */
void counters_file_forget_requests(struct counters_file *file);

/* The order in which a process that is killed has stored. */
static inline void counters_order(void)
{
        atomic_signal_fence(memory_order_seq_cst);
}

/* An operation has ended (counters_add()), in a set of the file. @request may be NULL. */
static inline void counters_file_add(struct counters_file *file, struct counters_journal *journal,
                                     struct counters *set, uint64_t usec, uint64_t bytes,
                                     bool failed, const struct counters_request *request)
{
        unsigned int bucket = latency_bucket(usec);
        _Atomic(uint64_t) *n = failed ? &set->errors : &set->bytes;

        journal->bucket = bucket;
        journal->failed = failed;
        journal->n_bucket = atomic_load_explicit(&set->buckets[bucket], memory_order_relaxed) + 1;
        journal->total_usec = atomic_load_explicit(&set->total_usec, memory_order_relaxed) + usec;
        journal->n = atomic_load_explicit(n, memory_order_relaxed) + (failed ? 1 : bytes);
        journal->unique = request ? request->unique : 0;
        journal->slot = request ? request->slot + UINT64_C(1) : 0;
        counters_order();
        atomic_store_explicit(&journal->set, (uint64_t)((uint8_t *)set - file->start),
                              memory_order_release);
        counters_order();

        atomic_store_explicit(&set->buckets[bucket], journal->n_bucket, memory_order_relaxed);
        atomic_store_explicit(&set->total_usec, journal->total_usec, memory_order_relaxed);
        atomic_store_explicit(n, journal->n, memory_order_relaxed);
        if (request)
                atomic_store_explicit(&file->counted[request->slot], request->unique,
                                      memory_order_relaxed);
        counters_order();
        atomic_store_explicit(&journal->set, 0, memory_order_release);
        counters_order();
}

/* The same in a set of an export, wherever that lies. On the lane's thread. */
static inline void export_counters_add(const struct export_counters *counters, unsigned int lane,
                                       unsigned int row, enum operation operation, uint64_t usec,
                                       uint64_t bytes, bool failed,
                                       const struct counters_request *request)
{
        struct counters *set = export_counters_of(counters, lane, row, operation);

        if (counters->file)
                counters_file_add(counters->file, counters_file_journal(counters->file, lane), set,
                                  usec, bytes, failed, request);
        else
                counters_add(set, usec, bytes, failed);
}
