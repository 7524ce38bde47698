/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Disks that fail to order: files of a FUSE file system of our own, served by a child process, so
 * that what reaches them went through the kernel like any other I/O.
 *
 * The file system is mounted nowhere: its files are opened by way of a descriptor, and it goes with
 * the processes that hold it. Bytes, rules, counters and a log lie in memory that parent and child
 * share. An operation that touches the range of a rule fails whole, or is cut, or held until it is
 * released (for HOLD_LIMIT_SECONDS at most, so that a broken test ends).
 *
 * Needs root and /dev/fuse.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAULTY_DISKS 6
#define FAULTY_BYTES (UINT64_C(10) << 20)

/* Kinds of operations, as a set. */
#define FAULT_READ (1u << 0)
#define FAULT_WRITE (1u << 1)
#define FAULT_FLUSH (1u << 2)
#define FAULT_DISCARD (1u << 3)
#define FAULT_ZEROES (1u << 4)
#define FAULT_DURABLE (1u << 5) /* a write that is to be durable at once: also a FAULT_WRITE */

enum fault_action {
        FAULT_ERROR, /* fail with @error, nothing is transferred */
        FAULT_SHORT, /* transfer @bytes at most */
        FAULT_HOLD,  /* wait for faulty_release() */
};

struct fault_rule {
        enum fault_action action;
        unsigned int ops;
        uint64_t offset; /* in bytes */
        uint64_t length; /* 0: everywhere, and flushes */
        uint64_t times;  /* 0: always */
        int error;
        size_t bytes;
};

/* One operation as it arrived. Numbers of one disk and its neighbours go up with time. */
struct fault_entry {
        unsigned int ops;
        uint64_t offset;
        uint64_t length;
        uint64_t begin;
        uint64_t end; /* 0: not answered yet */
};

struct faulty;

/* Returns NULL and the reason in *@ret_reason. To be called before there are threads. */
struct faulty *faulty_start(const char **ret_reason);

/* Kill the server: the disks are gone, and what is in flight fails. */
void faulty_kill(struct faulty *faulty);

/* The same, and free everything. NULL is allowed. */
void faulty_stop(struct faulty *faulty);

/* What to open for disk @i. */
const char *faulty_path(struct faulty *faulty, unsigned int i);

/* Its bytes, FAULTY_BYTES of them. */
unsigned char *faulty_bytes(struct faulty *faulty, unsigned int i);

/* No rules, no counts, nothing but zeroes. */
void faulty_reset(struct faulty *faulty, unsigned int i);

/* Forget counts and log. */
void faulty_forget(struct faulty *faulty, unsigned int i);

/* Up to 8 rules a disk; the first that fits decides. */
void faulty_add(struct faulty *faulty, unsigned int i, const struct fault_rule *rule);

/* How many operations of these kinds have arrived. */
unsigned int faulty_count(struct faulty *faulty, unsigned int i, unsigned int ops);

/* Operation number @n of these kinds. False if there is none. */
bool faulty_find(struct faulty *faulty, unsigned int i, unsigned int ops, unsigned int n,
                 struct fault_entry *ret);

/* Until @n operations are held; false after a while. */
bool faulty_wait_held(struct faulty *faulty, unsigned int i, unsigned int n);

/* Let go what is held, and hold nothing any more. */
void faulty_release(struct faulty *faulty, unsigned int i);
