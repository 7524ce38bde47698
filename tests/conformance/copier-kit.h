/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the cases of the copier have in common. What has to be under way at the same time is held by
 * fault rules until the case has seen it; the limit of all waiting is that of the case.
 */

#include "kit.h"

/* The sub-job of a client that was made with the defaults. */
#define CHUNK 1024
#define CHUNK_BYTES (CHUNK * DMIO_SECTOR_SIZE)

/* How often a callback came, and what it said last. */
struct told {
        struct completion completion; /* the bits are the write errors */
        int read_err;
        pthread_t thread;
};

#define TOLD_INIT                                                                                  \
        {                                                                                          \
                .completion = COMPLETION_INIT, .read_err = -1                                      \
        }

/* A dm_kcopyd_notify_fn; the context is a struct told. */
void told_notify(int read_err, unsigned long write_err, void *context);

/* A client of the kit's engine, with the defaults. */
struct dm_kcopyd_client *copier_new(struct kit *kit);
void copier_end(struct dm_kcopyd_client *kc);

/* Chunks that the client has begun so far. */
uint64_t chunks_begun(struct dm_kcopyd_client *kc);

/* The callback has come with this, or comes, and comes no second time. */
void copier_expect_told(struct kit *kit, struct told *told, int read_err, unsigned long write_err);

/* A copy that ends with this. */
void copier_expect(struct kit *kit, struct dm_kcopyd_client *kc, const struct io_region *from,
                   unsigned int n, const struct io_region *dests, unsigned int flags, int read_err,
                   unsigned long write_err);

/* One that is refused with -EINVAL, and nothing happens. */
void copier_expect_refused(struct kit *kit, struct dm_kcopyd_client *kc,
                           const struct io_region *from, unsigned int n,
                           const struct io_region *dests);

/* --- rules, which go with the engine if they are not removed */

/* An error is EIO. A region without a device is all of them, a count of 0 all of a device. */
struct dmio_fault *rule_new(struct kit *kit, enum dmio_fault_action action, unsigned int ops,
                            const struct io_region *where, uint64_t skip, uint64_t times);

/* One that only counts. */
struct dmio_fault *counter_new(struct kit *kit, unsigned int ops, const struct io_region *where);

uint64_t rule_matches(struct dmio_fault *fault);
uint64_t rule_held(struct dmio_fault *fault);
void rule_wait_held(struct dmio_fault *fault, uint64_t n);

/* A millisecond, to wait for a condition. */
void moment(void);

/* --- disks */

/* Chunk @i of the region. */
struct io_region chunk_of(const struct io_region *region, unsigned int i);

/* A source of @count sectors with the pattern of seed 1, and @n places for it. */
void copier_disks(struct kit *kit, sector_t count, struct disk **source, struct io_region *from,
                  struct disk **disks, struct io_region *dests, unsigned int n);

/* All of @region is the source's, and what is around it is zeroes. */
void expect_copied(struct kit *kit, struct disk *disk, const struct io_region *region);

/* Chunk @i of the region is the source's, or zeroes. */
void expect_chunk(struct kit *kit, struct disk *disk, const struct io_region *region,
                  unsigned int i, bool copied);
