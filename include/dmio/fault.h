/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Faults on purpose: what an engine does to the devices can be made to fail, to take its time, to
 * come in pieces, or to wait until it is let go; for tests and for drills.
 *
 * A rule says on which operations it acts (device, leg of the request, range, kind of operation,
 * which of the matches) and what happens to them. Rules are tried in the order in which they were
 * made; the first that acts decides. What acts is the operation as it would be submitted: a piece
 * of a region, of up to 1 MiB. Where a bad range begins inside of a piece, the piece is cut there,
 * so that what lies before it is transferred and the error's sector is that of the range.
 *
 * All functions may be called from any thread. Without rules an engine does not look for any.
 */

#include <dmio/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dmio_fault_action {
        DMIO_FAULT_ERROR, /* fail with @error, nothing is transferred */
        DMIO_FAULT_DELAY, /* carry it out @delay_us microseconds later */
        DMIO_FAULT_SHORT, /* transfer @bytes at most, in whole blocks of the device, one at least */
        DMIO_FAULT_HOLD,  /* carry it out when dmio_fault_release() says so */
};

/* Kinds of operations, as a set. */
#define DMIO_FAULT_READ (1u << 0)
#define DMIO_FAULT_WRITE (1u << 1)
/* Has no range. A rule with one acts on it if @ops names it and its region begins in the range. */
#define DMIO_FAULT_FLUSH (1u << 2)
#define DMIO_FAULT_DISCARD (1u << 3)
#define DMIO_FAULT_WRITE_ZEROES (1u << 4)
#define DMIO_FAULT_ALL_OPS 0x1fu

struct dmio_fault_rule {
        enum dmio_fault_action action;
        unsigned int ops;            /* DMIO_FAULT_READ ...; 0 means all */
        struct block_device *bdev;   /* NULL: any; has to outlive the rule */
        struct dm_io_client *client; /* whose requests; NULL: anybody's; has to outlive the rule */
        int leg;                     /* the number of the region in its request; -1: any */
        sector_t sector;             /* the range on the device */
        sector_t count;              /* 0: all of it, and all flushes */
        uint64_t skip;               /* matches that are let pass first */
        uint64_t times;              /* how often it acts; 0: for as long as it is there */
        int error;                   /* a positive errno */
        uint64_t delay_us;
        uint64_t bytes;
};

struct dmio_fault;

/*
 * Make a rule. Returns 0 and the rule in *@ret; -EINVAL for an action, a set of operations or an
 * error number that does not exist, or a delay of more than an hour; -ENOMEM; or what
 * pthread_create(3) returns.
 */
int dmio_fault_add(struct dmio_engine *engine, const struct dmio_fault_rule *rule,
                   struct dmio_fault **ret);

struct dmio_fault_stats {
        uint64_t matches; /* operations that the rule fits */
        uint64_t hits;    /* of them, those that it acted on */
        uint64_t held;    /* of them, those that it holds now */
};

void dmio_fault_stats(struct dmio_fault *fault, struct dmio_fault_stats *ret);

/* Carry out what a rule holds now; what comes later is held again. Returns how many there were. */
uint64_t dmio_fault_release(struct dmio_fault *fault);

/*
 * End a rule and let go at once what it holds or delays. Rules that are left go with their engine.
 * NULL is allowed.
 */
void dmio_fault_remove(struct dmio_fault *fault);

#ifdef __cplusplus
}
#endif
