/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the conformance cases have in common.
 *
 * A case is one row of the table of numbered cases; it is run for each target: the three back-ends
 * by the modern face, and "classic", the calls of the kernel document on the default engine. A case
 * says what it wants in terms of the modern face; kit_io() translates what the classic face can
 * say.
 *
 * Contents are checked through the engine, so that a back-end that keeps them elsewhere will do,
 * and beside that on the image itself where there is one.
 *
 * Trouble ends the case by cmocka's assertions, so none of the functions here may be called from
 * another thread than the main one, except where it says so. Each case is run in a process of its
 * own, so that one that fails takes nothing along but itself.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dmio/dm-io.h>
#include <dmio/dmio.h>

#include "faulty.h"
#include "scratch.h"

#define KIT_SECTORS 20480
#define KIT_UNTOUCHED 0xa5a5UL

/* Targets that a case is run on. */
#define ON_CLASSIC (1u << 0)
#define ON_MODERN (1u << 1)
#define ON_BOTH (ON_CLASSIC | ON_MODERN)
/* Of the classic face: without pages got beforehand. */
#define NOTHING_GOT (1u << 2)

struct kit;

struct conformance_case {
        unsigned int number;
        const char *name;
        const char *line; /* what is tried and expected, in one line */
        unsigned int on;  /* ON_* and NOTHING_GOT; 0: not applicable */
        void (*run)(struct kit *kit);
        const char *note; /* for the table, or NULL; of what is not applicable the reason */
};

#define CASE(number_, name_, on_, line_, note_)                                                    \
        {                                                                                          \
                .number = number_, .name = "case_" #name_, .line = line_, .on = on_,               \
                .run = case_##name_, .note = note_                                                 \
        }
#define NOT_APPLICABLE(number_, name_, line_, note_)                                               \
        {                                                                                          \
                .number = number_, .name = "case_" #name_, .line = line_, .note = note_            \
        }

struct conformance_section {
        const char *title;
        const struct conformance_case *cases;
        size_t n_cases;
};

extern const struct conformance_section arguments_section;
extern const struct conformance_section memory_section;
extern const struct conformance_section sizes_section;
extern const struct conformance_section error_bits_section;
extern const struct conformance_section completion_section;
extern const struct conformance_section flush_section;
extern const struct conformance_section pool_section;
extern const struct conformance_section context_section;
extern const struct conformance_section copier_section;
extern const struct conformance_section copier_errors_section;
extern const struct conformance_section copier_callbacks_section;

enum disk_kind {
        DISK_FILE,      /* an image file, O_DIRECT where the file system has it */
        DISK_CACHED,    /* the same through the page cache */
        DISK_LOOP_4096, /* a loop device of 4096-byte blocks */
        DISK_FAULTY, /* fails as it is told to: a real one (faulty.h) if it can be had here, else...
                      */
        DISK_RULED,  /* ...a file that the engine's fault rules make fail */
        DISK_MORTAL, /* a real faulty one; the only one that may be killed */
};

/* Rules that only count come before those that act: one for each of the first five kinds. */
#define DISK_COUNTERS 5
#define DISK_RULES 8

struct disk {
        enum disk_kind kind;
        struct block_device *bdev;
        sector_t sectors;
        int image_fd;
        int loop_fd;
        struct faulty *faulty; /* of a real faulty one */
        unsigned int index;
        struct dmio_fault *counters[DISK_COUNTERS]; /* of a ruled one */
        uint64_t forgotten[DISK_COUNTERS];
        struct dmio_fault *rules[DISK_RULES];
        bool holds[DISK_RULES];
};

#define KIT_DISKS 80
#define KIT_BLOCKS 64
#define KIT_NOTE_SIZE 256
/* The exit status of a case that cannot be tried. */
#define KIT_SKIPPED 77

struct kit {
        const char *target;
        bool classic;
        struct faulty *faulty; /* NULL: see faulty_reason */
        struct faulty *mortal;
        const char *faulty_reason;

        struct dmio_engine *engine; /* NULL on the classic face */
        struct dm_io_client *client;
        struct disk disks[KIT_DISKS];
        unsigned int n_disks;
        void *blocks[KIT_BLOCKS]; /* freed afterwards */
        unsigned int n_blocks;
        char *note; /* KIT_NOTE_SIZE bytes that outlive the case */
};

/* --- around a case that succeeds; what is left of others goes with their process (main.c) */

/* Is there such a back-end here? */
bool kit_target_is_there(const char *target);

void kit_begin(struct kit *kit, const struct conformance_case *which);
void kit_end(struct kit *kit);

/* --- saying */

/* This case cannot be tried here. */
void kit_skip(struct kit *kit, const char *reason) __attribute__((__noreturn__));

/* Something about this run for the table. */
void kit_note(struct kit *kit, const char *format, ...) __attribute__((__format__(printf, 2, 3)));

/* --- making */

/* A disk of zeroes. Skips the case if it cannot be had. */
struct disk *kit_disk(struct kit *kit, enum disk_kind kind);
struct disk *kit_disk_of(struct kit *kit, enum disk_kind kind, sector_t sectors,
                         unsigned int flags);

/* @n image files at once. */
void kit_disks(struct kit *kit, struct disk **disks, unsigned int n);

/* An engine beside the kit's own, on the target's back-end; the caller destroys it. */
struct dmio_engine *kit_engine_new(struct kit *kit, const struct dmio_engine_options *options);

/* Pages with a pattern, or all zeroes for a seed of 0. */
struct page *kit_pages(struct kit *kit, size_t n_pages, unsigned int seed);

/* The pages of [data, data + n_pages), linked; for a circular list tie the ends yourself. */
struct page_list *kit_list(struct kit *kit, struct page *pages, size_t n_pages);

/*
 * @n vectors over the bytes from @data on, with these lengths; an entry without a page ends the
 * array.
 */
struct bio_vec *kit_bvec(struct kit *kit, void *data, const unsigned int *lengths, size_t n);

/* --- describing; any thread */

static inline struct dm_io_memory in_vm(const void *data)
{
        return (struct dm_io_memory){ .type = DM_IO_VMA, .ptr.vma = (void *)(uintptr_t)data };
}

static inline struct dm_io_memory in_list(const struct page_list *list, unsigned int offset)
{
        return (struct dm_io_memory){ .type = DM_IO_PAGE_LIST, .offset = offset, .ptr.pl = list };
}

static inline struct dm_io_memory in_bvec(const struct bio_vec *bvec)
{
        return (struct dm_io_memory){ .type = DM_IO_BVEC, .ptr.bvec = bvec };
}

static inline struct io_region on_disk(const struct disk *disk, sector_t sector, sector_t count)
{
        return (struct io_region){ .bdev = disk->bdev, .sector = sector, .count = count };
}

/* --- doing; any thread */

/* A request of the kit's client, by the face of the target. */
int kit_io(struct kit *kit, const struct dm_io_request *request, unsigned int n,
           const struct io_region *regions, unsigned long *bits);

/* The same for a request without flags: synchronous. */
int kit_sync(struct kit *kit, enum dm_io_op op, struct dm_io_memory memory, unsigned int n,
             const struct io_region *regions, unsigned long *bits);

/* The same, asynchronous: completion_notify() on @completion. */
int kit_async(struct kit *kit, enum dm_io_op op, struct dm_io_memory memory, unsigned int n,
              const struct io_region *regions, struct completion *completion);

/* Until something of later was called back, what came before it would have been as well. */
void kit_settle(struct kit *kit);

/* --- expecting */

/* A synchronous request that succeeds, without bits. */
void kit_ok(struct kit *kit, enum dm_io_op op, struct dm_io_memory memory, unsigned int n,
            const struct io_region *regions);

/* A synchronous request that fails with these bits. */
void kit_fails(struct kit *kit, enum dm_io_op op, struct dm_io_memory memory, unsigned int n,
               const struct io_region *regions, unsigned long expected);

/* Refused with @error, synchronous and asynchronous: bits untouched, no callback. */
void kit_refused(struct kit *kit, const struct dm_io_request *request, unsigned int n,
                 const struct io_region *regions, int error);

/* How often it was called back. */
unsigned int kit_calls(struct completion *completion);

/* Called back once, with @bits. */
void kit_called(struct completion *completion, unsigned long bits);

/* The disk holds these bytes from sector @sector on; @length is a number of whole sectors. */
void disk_expect(struct kit *kit, struct disk *disk, sector_t sector, const void *data,
                 size_t length);
void disk_expect_zeroes(struct kit *kit, struct disk *disk, sector_t sector, size_t length);

/* Write a pattern by the engine, and expect it. */
void disk_fill(struct kit *kit, struct disk *disk, sector_t sector, sector_t count,
               unsigned int seed);
void disk_expect_fill(struct kit *kit, struct disk *disk, sector_t sector, sector_t count,
                      unsigned int seed, sector_t filled_from);

/* --- faults of a faulty or ruled disk */

void disk_fault(struct kit *kit, struct disk *disk, const struct fault_rule *rule);

/* Every one of these operations fails with @error. */
void disk_breaks(struct kit *kit, struct disk *disk, unsigned int ops, int error);

/* Operations of these kinds are held from now on; until one is; let go. */
void disk_holds(struct kit *kit, struct disk *disk, unsigned int ops);
void disk_wait_held(struct disk *disk);
void disk_release(struct disk *disk);

/* The same without an assertion, for any thread: false if none was held for a long time. */
bool disk_has_held(struct disk *disk);

/* Operations that have arrived since disk_forget(). */
void disk_forget(struct disk *disk);
unsigned int disk_count(const struct disk *disk, unsigned int ops);

/* The leg's place in a set of bits. */
#define BIT(i) (1UL << (i))
