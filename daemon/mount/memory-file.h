/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What outlives the process and cannot wait for a file: a piece of memory that the supervisor keeps
 * (descriptor-store.h), mapped and shared, so that what was stored in it before a SIGKILL is there
 * after it. In it are the kernel's INIT request and what was agreed then, the open files, and for
 * each queue thread the requests that it has received. The next process may be another build's:
 * what may be changed here, and how, says memory-layout.h.
 *
 * A request has a slot, with its header, from before anything is done about it. Where the kernel
 * does not send requests again it lays the header down here itself, so that there is no moment at
 * which a request is in nobody's memory but the dead process's (queue-thread.c). What has become of
 * it is the slot's state, a store for each step:
 *
 *      IDLE      received, or nothing is (the header's unique is 0): nothing has been changed
 *      BEGUN     it holds its range, and its legs may have been changed
 *      ANSWERED  the same, but who asked has been told EINTR and waits no more
 *      DONE      it has been done, and its result is in the slot; before its range is left
 *
 * A slot is free again when the answer has been written. All of a thread's slots are its own: no
 * locks, no system calls, and memory that is in the cache, since the last freed is the next used.
 *
 * The order of stores matters only as seen by the next process, after a kill: there all stores of a
 * thread have happened up to some point of its program and none after it. So memory_store() keeps
 * the compiler from reordering, and nothing else is needed.
 */

#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mount/memory-layout.h"

/* The two headers in front of the payload of a WRITE: as much as is always in a slot. */
#define SLOT_HEADER 80
/* So much of other requests is kept as well. */
#ifndef DMIO_OTHER_BUILD /* for tests of upgrades: tests/lib/other-build.h */
#define SLOT_REQUEST 160
#endif
/* Of a copy: chunks under way. */
#define SLOT_CHUNKS 4

/* In the unique of a request that the kernel sends again (FUSE_UNIQUE_RESEND). */
#define MEMORY_UNIQUE_RESENT (UINT64_C(1) << 63)

enum slot_state {
        SLOT_IDLE,
        SLOT_BEGUN,
        SLOT_ANSWERED,
        SLOT_DONE,
        _SLOT_STATE_MAX,
};

/* A chunk of a copy: its number plus one, and whether it has been done; 0 for none. */
#define SLOT_CHUNK_DONE (1u << 31)

struct memory_slot {
        _Atomic(uint32_t) state;
        _Atomic(uint32_t) whole; /* all of the request is here, not only SLOT_HEADER bytes */
        /* DONE: the result. OPEN: the fh plus one, once it is going to have one. A copy: the bytes
         * from the beginning that have been copied without a gap. */
        _Atomic(int64_t) result;
        _Atomic(uint32_t) chunks[SLOT_CHUNKS];
        union {
                struct fuse_in_header in;
                uint8_t request[SLOT_REQUEST];
        };
};

/* An open file. It is there if node is not 0; fh is its index, with the generation above. */
struct memory_handle {
        _Atomic(uint64_t) node;
        uint64_t unique; /* of the OPEN that made it */
        uint32_t generation;
        uint32_t uid; /* who opened it */
        _Atomic(uint32_t) flushes_told;
        uint32_t writing; /* 1: it was opened for writing, too */
#ifdef DMIO_OTHER_BUILD
        uint64_t other[5];
#endif
};

/* An export whose flushes have failed (export.h). */
struct memory_failure {
        _Atomic(uint64_t) node;
        _Atomic(uint32_t) count;
        uint32_t reserved;
};

#define MEMORY_INIT_SIZE 256

struct memory_init {
        uint64_t sum; /* of the bytes */
        uint32_t size;
        uint32_t reserved;
        uint8_t bytes[MEMORY_INIT_SIZE];
};

/* What the reply to INIT said. Kernel and daemon keep to it as long as there is the mount. */
struct memory_agreed {
        uint64_t flags;
        uint32_t max_write;
        uint32_t reserved;
};

struct memory_counters {
        _Atomic(uint32_t) calls;
        uint32_t reserved;
};

/* There may be more another time; with less, open files or requests could lose their place. */
#ifndef DMIO_OTHER_BUILD
#define MEMORY_QUEUES 64
/* Of each thread: so many requests at a time, and what the process before it had begun. */
#define MEMORY_SLOTS 16384
#define MEMORY_HANDLES (UINT32_C(1) << 20)
#define MEMORY_FAILURES 1024
#endif
#define MEMORY_SLOTS_IN_USE (MEMORY_SLOTS / 2)

struct memory_file {
        int fd;
        struct memory_header *header;
        struct memory_init *init;
        struct memory_agreed *agreed;
        struct memory_counters *counters;
        struct memory_slot *slots; /* MEMORY_SLOTS for each queue thread */
        struct memory_handle *handles;
        struct memory_failure *failures;
};

#define MEMORY_FILE_NULL                                                                           \
        {                                                                                          \
                .fd = -EBADF                                                                       \
        }

/* Make a new one, in which nothing is. Returns 0 or a negative errno. */
int memory_file_new(struct memory_file *file);

/*
 * Take up what another process has left; @fd is taken in any case. Returns 0; 1 if that was another
 * build, so that @file is a new one, which is to be kept in place of @fd from now on; -EPROTO for
 * another build's that this one cannot read, -EBADMSG for what is damaged, both with what is wrong
 * in *@ret_why; or a negative errno.
 */
int memory_file_open(struct memory_file *file, int fd, const char **ret_why);

/*
 * At an end in order, when nobody uses slots any more: without a request in it no slot means
 * anything, and even who does not know what a slot is can take up the rest.
 */
void memory_file_settle(struct memory_file *file);

void memory_file_close(struct memory_file *file);

/* The kernel's INIT request, once it has been answered. Returns its length, 0 if there is none. */
size_t memory_file_init(const struct memory_file *file, const void **ret);
void memory_file_set_init(struct memory_file *file, const void *init, size_t length);

/* What was agreed on then; NULL if that is not known. */
const struct memory_agreed *memory_file_agreed(const struct memory_file *file);
void memory_file_set_agreed(struct memory_file *file, uint64_t flags, uint32_t max_write);

/*
 * How many calls and jobs of the control channel may have something on its way to a device. Their
 * ranges are not known to who comes next, unlike those of requests.
 */
_Atomic(uint32_t) *memory_file_calls(struct memory_file *file);

/* Indexes from there on have never been used. */
uint32_t memory_file_handles_used(const struct memory_file *file);
void memory_file_use_handle(struct memory_file *file, uint32_t index);
uint32_t memory_file_slots_used(const struct memory_file *file, unsigned int queue);

/*
 * How many flushes of the export @node have failed; what comes from several threads at once ends
 * with the largest number. Of more exports than MEMORY_FAILURES it is not kept.
 */
void memory_file_set_failures(struct memory_file *file, uint64_t node, uint32_t count);
uint32_t memory_file_failures(const struct memory_file *file, uint64_t node);

/* The slots of one queue thread. */
struct slots {
        struct memory_file *file;
        unsigned int queue;
        uint16_t *free; /* a stack of those that have been used before */
        unsigned int n_free;
        unsigned int n_taken;
        unsigned int limit; /* of those taken */
};

/* Those that are not IDLE and empty stay out of use for the life of this process. */
int slots_init(struct slots *slots, struct memory_file *file, unsigned int queue);
void slots_deinit(struct slots *slots);

/* One to receive into, empty and IDLE; NULL if all are in use. */
struct memory_slot *slots_take(struct slots *slots);

/* One that was in use from the beginning is the thread's now, and will be put. */
void slots_adopt(struct slots *slots);

/* The request has been answered. */
void slots_put(struct slots *slots, struct memory_slot *slot);

/* Which request that is, in whatever way it has come. */
static inline uint64_t memory_slot_unique(const struct memory_slot *slot)
{
        return slot->in.unique & ~MEMORY_UNIQUE_RESENT;
}

static inline void memory_slot_clear(struct memory_slot *slot)
{
        /* First what makes it one that nobody asks for. */
        *(volatile uint64_t *)&slot->in.unique = 0;
        atomic_signal_fence(memory_order_seq_cst);
        atomic_store_explicit(&slot->state, SLOT_IDLE, memory_order_relaxed);
        atomic_store_explicit(&slot->whole, 0, memory_order_relaxed);
        atomic_store_explicit(&slot->result, 0, memory_order_relaxed);
}

static inline enum slot_state memory_slot_state(const struct memory_slot *slot)
{
        return (enum slot_state)atomic_load_explicit(&slot->state, memory_order_relaxed);
}

static inline void memory_slot_set(struct memory_slot *slot, enum slot_state state)
{
        atomic_signal_fence(memory_order_seq_cst);
        atomic_store_explicit(&slot->state, (uint32_t)state, memory_order_release);
}

static inline void memory_slot_done(struct memory_slot *slot, int64_t result)
{
        atomic_store_explicit(&slot->result, result, memory_order_relaxed);
        memory_slot_set(slot, SLOT_DONE);
}
