/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random requests against a model: each leg is an array of bytes as well, and after every read, and
 * at the end for all of it, the two must agree. A byte that is lost, misplaced or doubled is seen,
 * on the device as in memory: what lies around the memory of a request must stay as it was.
 *
 *   conformance-model TARGET
 *
 * Targets are those of conformance. DMIO_MODEL_OPERATIONS says how many (20000), DMIO_MODEL_SEED
 * where the dice begin; the same seed makes the same requests.
 *
 * Several threads work at once, each with some requests in flight, and each in sectors of its own,
 * so that there is one right answer. Requests of a thread that touch the same sectors wait for each
 * other. Regions that do not fit must fail and change nothing. By the modern face a leg is short of
 * breath (transfers end early), one is slow, and one has bad sectors: a region that touches them
 * must fail, and what it wrote is then not known.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define SECTOR DMIO_SECTOR_SIZE
#define LEGS 8
#define LEG_SHORT 2
#define LEG_SLOW 4
#define LEG_BAD 6
#define THREADS 4
#define SLOTS 4
#define STRIPE 4096 /* sectors of a leg that belong to one thread */
#define LEG_SECTORS (THREADS * STRIPE)
#define MAX_SECTORS 3000
#define MAX_PARTS 700
#define ARENA_PAGES (MAX_SECTORS / 8 + 24)
/* Bad sectors of each stripe of the bad leg. */
#define BAD_FIRST 1000
#define BAD_COUNT 9

struct leg {
        struct disk *disk;
        unsigned char *bytes;
        bool *unknown;      /* by sector */
        bool bad;           /* has bad sectors */
        unsigned int block; /* sectors */
};

/* A region as it was asked for, and what must become of it. */
struct target {
        unsigned int leg;
        sector_t sector;
        sector_t count;
        int error;    /* it does not fit: this errno */
        bool touches; /* bad sectors */
};

/* A request in flight, and the memory that it is about. */
struct slot {
        bool busy;
        enum dm_io_op op;
        unsigned int n_targets;
        struct target targets[8];
        struct dm_io_leg_error errors[8];
        size_t bytes;
        struct page *arena;
        struct page *before; /* what the arena held, or after a read has to hold */
        size_t arena_bytes;  /* in use */
        struct iovec parts[MAX_PARTS + 1];
        unsigned int n_parts;
        struct page_list list[ARENA_PAGES];
        struct bio_vec bvec[MAX_PARTS + 1];
        unsigned int order[ARENA_PAGES + MAX_PARTS];
        struct completion completion;
        unsigned long bits;
};

struct worker {
        pthread_t thread;
        struct leg *legs;
        unsigned int number;
        unsigned long operations;
        unsigned long done;
        uint64_t dice;
        struct slot slots[SLOTS];
        char trouble[256];
};

static struct kit kit;

/* --- dice */

static uint64_t roll(struct worker *worker)
{
        worker->dice ^= worker->dice << 13;
        worker->dice ^= worker->dice >> 7;
        worker->dice ^= worker->dice << 17;
        return worker->dice * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

/* 0 to @n - 1 */
static unsigned int below(struct worker *worker, uint64_t n)
{
        return (unsigned int)(roll(worker) % n);
}

static bool one_in(struct worker *worker, unsigned int n)
{
        return below(worker, n) == 0;
}

static void fill(struct worker *worker, void *to, size_t bytes)
{
        uint64_t *words = to, state = roll(worker) | 1;

        for (size_t i = 0; i < bytes / sizeof(*words); i++) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                words[i] = state;
        }
}

static void shuffle(struct worker *worker, unsigned int *order, unsigned int n)
{
        for (unsigned int i = 0; i < n; i++)
                order[i] = i;
        for (unsigned int i = n; i > 1; i--) {
                unsigned int k = below(worker, i), held = order[k];

                order[k] = order[i - 1];
                order[i - 1] = held;
        }
}

static void trouble(struct worker *worker, const struct slot *slot, const char *what,
                    unsigned int leg, uint64_t where)
{
        if (!worker->trouble[0])
                (void)snprintf(worker->trouble, sizeof(worker->trouble),
                               "thread %u, operation %lu (op %d, %u regions, %zu bytes): %s, leg "
                               "%u, at %llu",
                               worker->number, worker->done, slot ? (int)slot->op : -1,
                               slot ? slot->n_targets : 0, slot ? slot->bytes : 0, what, leg,
                               (unsigned long long)where);
}

/* --- memory: every way to describe it, with what it means beside it */

static void part(struct slot *slot, void *base, size_t length)
{
        slot->parts[slot->n_parts++] = (struct iovec){ base, length };
}

static struct dm_io_memory plain_memory(struct worker *worker, struct slot *slot)
{
        char *base = (char *)slot->arena + below(worker, 2 * DMIO_PAGE_SIZE);
        struct dm_io_memory memory = in_vm(base);

        if (one_in(worker, 2) && !kit.classic)
                memory.type = DM_IO_KMEM;
        part(slot, base, slot->bytes);
        return memory;
}

/* Pages in any order; of a write sometimes a ring of a few. */
static struct dm_io_memory paged_memory(struct worker *worker, struct slot *slot)
{
        unsigned int offset = one_in(worker, 3) ? 0 : below(worker, DMIO_PAGE_SIZE);
        unsigned int n = MAX((unsigned int)DIV_ROUND_UP(offset + slot->bytes, DMIO_PAGE_SIZE), 1u);
        bool ring = slot->op == DM_IO_WRITE && one_in(worker, 3);
        size_t left = slot->bytes, skip = offset;

        shuffle(worker, slot->order, n);
        if (ring)
                n = 1 + below(worker, n);
        for (unsigned int i = 0; i < n; i++)
                slot->list[i] = (struct page_list){
                        .next = i + 1 < n ? &slot->list[i + 1]
                                : ring    ? slot->list
                                          : NULL,
                        .page = &slot->arena[slot->order[i]],
                };
        for (unsigned int i = 0; left > 0; i++) {
                size_t length = MIN(left, DMIO_PAGE_SIZE - skip);

                part(slot, (char *)&slot->arena[slot->order[i % n]] + skip, length);
                left -= length;
                skip = 0;
        }
        return in_list(slot->list, offset);
}

/* Vectors of any length, lying in any order with gaps between them. */
static struct dm_io_memory vector_memory(struct worker *worker, struct slot *slot)
{
        size_t longest = 1 + below(worker, one_in(worker, 2) ? 6000 : 700);
        size_t lengths[MAX_PARTS], left = slot->bytes;
        char *at = (char *)slot->arena + below(worker, 600);
        struct dm_io_memory memory = in_bvec(slot->bvec);
        unsigned int n = 0;

        longest = MAX(longest, 4 * slot->bytes / MAX_PARTS + 1);
        while (left > 0) {
                bool last = n == MAX_PARTS - 1;

                lengths[n] = last ? left : MIN(left, 1 + below(worker, longest));
                if (!last && one_in(worker, 10))
                        lengths[n] = 0;
                left -= lengths[n++];
        }
        shuffle(worker, slot->order, n);
        for (unsigned int i = 0; i < n; i++) {
                unsigned int k = slot->order[i];
                struct page *page = virt_to_page(at);

                /* The offset may be more than a page. */
                if (page > slot->arena && one_in(worker, 8))
                        page--;
                slot->bvec[k] = (struct bio_vec){
                        .bv_page = page,
                        .bv_len = (unsigned int)lengths[k],
                        .bv_offset = (unsigned int)(at - (char *)page),
                };
                at += lengths[k] + below(worker, 40);
        }
        for (unsigned int i = 0; i < n; i++)
                part(slot, (char *)slot->bvec[i].bv_page + slot->bvec[i].bv_offset,
                     slot->bvec[i].bv_len);
        slot->bvec[n] = (struct bio_vec){ .bv_page = NULL };
        if (one_in(worker, 2))
                memory.n_bvec = n;
        return memory;
}

static struct dm_io_memory describe(struct worker *worker, struct slot *slot)
{
        size_t pages = DIV_ROUND_UP(slot->bytes, DMIO_PAGE_SIZE);

        slot->n_parts = 0;
        slot->arena_bytes = MIN(pages + 10, (size_t)ARENA_PAGES) * DMIO_PAGE_SIZE;
        fill(worker, slot->arena, slot->arena_bytes);
        memcpy(slot->before, slot->arena, slot->arena_bytes);
        switch (below(worker, 3)) {
        case 0:
                return plain_memory(worker, slot);
        case 1:
                return paged_memory(worker, slot);
        default:
                return vector_memory(worker, slot);
        }
}

/* From the bytes of a leg to what the memory has to hold. */
static void scatter(struct slot *slot, const unsigned char *from, size_t bytes)
{
        for (unsigned int i = 0; i < slot->n_parts && bytes > 0; i++) {
                size_t at = (size_t)((char *)slot->parts[i].iov_base - (char *)slot->arena);
                size_t n = MIN(slot->parts[i].iov_len, bytes);

                if (from)
                        memcpy((char *)slot->before + at, from, n);
                else
                        memset((char *)slot->before + at, 0, n);
                from = from ? from + n : NULL;
                bytes -= n;
        }
}

/* The first @bytes of the memory, one behind the other. */
static void gather(const struct slot *slot, const void *arena, unsigned char *to, size_t bytes)
{
        for (unsigned int i = 0; i < slot->n_parts && bytes > 0; i++) {
                size_t at = (size_t)((char *)slot->parts[i].iov_base - (char *)slot->arena);
                size_t n = MIN(slot->parts[i].iov_len, bytes);

                memcpy(to, (const char *)arena + at, n);
                to += n;
                bytes -= n;
        }
}

/* --- when a request is done */

static void check_bits(struct worker *worker, struct slot *slot)
{
        for (unsigned int i = 0; i < slot->n_targets; i++) {
                const struct target *target = &slot->targets[i];
                int expected = target->error ?: target->touches ? EIO : 0;

                if ((slot->bits >> i & 1) != (expected != 0))
                        trouble(worker, slot, "the bit is wrong", i, target->sector);
                if (!kit.classic && slot->errors[i].error != expected)
                        trouble(worker, slot, "the errno is wrong", i,
                                (uint64_t)slot->errors[i].error);
        }
        if (slot->n_targets < 64 && slot->bits >> slot->n_targets)
                trouble(worker, slot, "a bit of no region", slot->n_targets, slot->bits);
}

static void written(struct worker *worker, struct slot *slot)
{
        for (unsigned int i = 0; i < slot->n_targets; i++) {
                const struct target *target = &slot->targets[i];
                struct leg *leg = &worker->legs[target->leg];

                if (target->error)
                        continue;
                if (slot->op == DM_IO_WRITE)
                        gather(slot, slot->before, leg->bytes + target->sector * SECTOR,
                               target->count * SECTOR);
                else
                        memset(leg->bytes + target->sector * SECTOR, 0, target->count * SECTOR);
                memset(leg->unknown + target->sector, target->touches, target->count);
        }
}

/*
 * What is not known may be anything; of a region with bad sectors each sector is right or zeroes.
 */
static void take_over_unknown(struct worker *worker, struct slot *slot)
{
        static const unsigned char zeroes[SECTOR];
        const struct target *target = &slot->targets[0];
        const struct leg *leg = &worker->legs[target->leg];
        DMIO_CLEANUP(freep) unsigned char *expected = malloc(slot->bytes);
        DMIO_CLEANUP(freep) unsigned char *found = malloc(slot->bytes);

        if (!expected || !found)
                return;
        memcpy(expected, leg->bytes + target->sector * SECTOR, slot->bytes);
        gather(slot, slot->arena, found, slot->bytes);
        for (sector_t i = 0; i < target->count; i++) {
                unsigned char *at = found + i * SECTOR;

                if (leg->unknown[target->sector + i] ||
                    (target->touches && memcmp(at, zeroes, SECTOR) == 0))
                        memcpy(expected + i * SECTOR, at, SECTOR);
        }
        scatter(slot, expected, slot->bytes);
}

static void was_read(struct worker *worker, struct slot *slot)
{
        const struct target *target = &slot->targets[0];
        const struct leg *leg = &worker->legs[target->leg];

        if (target->error)
                scatter(slot, NULL, slot->bytes);
        else if (leg->bad)
                take_over_unknown(worker, slot);
        else
                scatter(slot, leg->bytes + target->sector * SECTOR, slot->bytes);
}

static void finish(struct worker *worker, struct slot *slot)
{
        if (!slot->busy)
                return;
        slot->busy = false;
        check_bits(worker, slot);
        if (slot->op == DM_IO_READ)
                was_read(worker, slot);
        else if (slot->op != DM_IO_FLUSH)
                written(worker, slot);
        if (memcmp(slot->arena, slot->before, slot->arena_bytes) == 0)
                return;
        for (size_t i = 0; i < slot->arena_bytes; i++) {
                if (((char *)slot->arena)[i] == ((char *)slot->before)[i])
                        continue;
                trouble(worker, slot, "memory is wrong", slot->targets[0].leg, i);
                return;
        }
}

/* For the callback, which comes after everything else of the request; limits as in scratch.c. */
static void wait_for(struct worker *worker, struct slot *slot)
{
        struct timespec limit;
        int r = 0;

        if (!slot->busy)
                return;
        (void)clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += 20;
        (void)pthread_mutex_lock(&slot->completion.lock);
        while (slot->completion.calls == 0 && r == 0)
                r = pthread_cond_timedwait(&slot->completion.changed, &slot->completion.lock,
                                           &limit);
        slot->bits = slot->completion.bits;
        if (slot->completion.calls > 1)
                trouble(worker, slot, "called back more than once", 0, slot->completion.calls);
        (void)pthread_mutex_unlock(&slot->completion.lock);
        if (r != 0)
                trouble(worker, slot, "no callback", 0, 0);
        else
                finish(worker, slot);
}

static bool slot_conflicts(const struct slot *slot, const struct target *target, enum dm_io_op op)
{
        if (!slot->busy || (slot->op == DM_IO_READ && op == DM_IO_READ))
                return false;
        for (unsigned int i = 0; i < slot->n_targets; i++)
                if (slot->targets[i].leg == target->leg && !slot->targets[i].error &&
                    ranges_overlap(slot->targets[i].sector, slot->targets[i].count, target->sector,
                                   target->count))
                        return true;
        return false;
}

/* --- making a request */

static sector_t choose_count(struct worker *worker)
{
        if (one_in(worker, 150))
                return 1 + below(worker, MAX_SECTORS);
        if (one_in(worker, 5))
                return 1 + below(worker, 256);
        return one_in(worker, 12) ? 0 : 1 + below(worker, 24);
}

/* Past the end, across it, or so far out that the sum overflows. */
static void choose_outside(struct worker *worker, struct target *target, enum dm_io_op op)
{
        switch (below(worker, op == DM_IO_READ ? 2 : 3)) {
        case 0:
                target->sector = LEG_SECTORS + below(worker, 5000);
                break;
        case 1:
                target->sector = LEG_SECTORS - target->count + 1 + below(worker, target->count);
                break;
        default:
                target->sector = UINT64_MAX - below(worker, target->count);
        }
        target->error = op == DM_IO_READ ? EIO : ENOSPC;
}

static bool overlaps_another(const struct slot *slot, unsigned int n)
{
        const struct target *target = &slot->targets[n];

        for (unsigned int i = 0; i < n; i++)
                if (slot->targets[i].leg == target->leg && !slot->targets[i].error &&
                    ranges_overlap(slot->targets[i].sector, slot->targets[i].count, target->sector,
                                   target->count))
                        return true;
        return false;
}

static void choose_target(struct worker *worker, struct slot *slot, unsigned int n)
{
        struct target *target = &slot->targets[n];
        const struct leg *leg;
        sector_t stripe = worker->number * STRIPE;

        do {
                *target = (struct target){ .leg = below(worker, LEGS) };
                leg = &worker->legs[target->leg];
                target->count = choose_count(worker);
                if (target->count > 0 && one_in(worker, 15)) {
                        choose_outside(worker, target, slot->op);
                        return;
                }
                target->sector = stripe + below(worker, STRIPE - target->count + 1);
                if (target->count > 0 &&
                    (target->sector % leg->block || target->count % leg->block))
                        target->error = EINVAL;
        } while (!target->error && overlaps_another(slot, n));
        target->touches =
                !target->error && leg->bad && slot->op != DM_IO_FLUSH &&
                ranges_overlap(stripe + BAD_FIRST, BAD_COUNT, target->sector, target->count);
}

static enum dm_io_op choose_op(struct worker *worker)
{
        unsigned int dice = below(worker, 1000);

        if (dice < 400)
                return DM_IO_READ;
        if (kit.classic || dice < 960)
                return DM_IO_WRITE;
        return dice < 998 ? DM_IO_WRITE_ZEROES : DM_IO_FLUSH;
}

static unsigned int choose_flags(struct worker *worker, enum dm_io_op op)
{
        unsigned int flags = 0;

        if (kit.classic)
                return 0;
        if (one_in(worker, 8))
                flags |= DM_IO_MEMORY_SHARED;
        if (op == DM_IO_WRITE && one_in(worker, 400))
                flags |= one_in(worker, 2) ? DM_IO_FUA : DM_IO_PREFLUSH;
        return flags;
}

static void choose(struct worker *worker, struct slot *slot)
{
        sector_t longest = 0;

        slot->op = choose_op(worker);
        slot->n_targets = slot->op == DM_IO_READ || slot->op == DM_IO_FLUSH ? 1 : below(worker, 9);
        for (unsigned int i = 0; i < slot->n_targets; i++) {
                choose_target(worker, slot, i);
                if (slot->op == DM_IO_FLUSH)
                        slot->targets[i] = (struct target){ .leg = slot->targets[i].leg };
                longest = MAX(longest, slot->targets[i].count);
        }
        slot->bytes = (size_t)(longest * SECTOR);
}

static void submit(struct worker *worker, struct slot *slot)
{
        struct io_region regions[8];
        struct dm_io_request request = {
                .op = slot->op,
                .flags = choose_flags(worker, slot->op),
                .leg_errors = slot->errors,
        };
        bool async = !one_in(worker, 4);
        unsigned long bits = KIT_UNTOUCHED;
        int r;

        request.mem = describe(worker, slot);
        for (unsigned int i = 0; i < slot->n_targets; i++)
                regions[i] = on_disk(worker->legs[slot->targets[i].leg].disk,
                                     slot->targets[i].sector, slot->targets[i].count);
        if (async) {
                request.notify.fn = completion_notify;
                request.notify.context = &slot->completion;
        }
        slot->completion.calls = 0;
        slot->busy = true;
        r = kit_io(&kit, &request, slot->n_targets, regions, &bits);

        /* All of it is ours again, but the bytes. */
        memset(regions, 0xee, sizeof(regions));
        memset(slot->list, 0xee, sizeof(slot->list));
        memset(slot->bvec, 0xee, sizeof(slot->bvec));
        if (async && r == 0)
                return;
        slot->bits = bits;
        if (async || r != (bits ? -EIO : 0) || bits == KIT_UNTOUCHED) {
                slot->busy = false;
                trouble(worker, slot, "refused", 0, (uint64_t)-r);
        } else {
                finish(worker, slot);
        }
}

static void *work(void *argument)
{
        struct worker *worker = argument;

        for (; worker->done < worker->operations && !worker->trouble[0]; worker->done++) {
                struct slot *slot = &worker->slots[below(worker, SLOTS)];

                wait_for(worker, slot);
                choose(worker, slot);
                for (unsigned int i = 0; i < SLOTS; i++)
                        for (unsigned int k = 0; k < slot->n_targets; k++)
                                if (&worker->slots[i] != slot && !slot->targets[k].error &&
                                    slot_conflicts(&worker->slots[i], &slot->targets[k], slot->op))
                                        wait_for(worker, &worker->slots[i]);
                submit(worker, slot);
        }
        for (unsigned int i = 0; i < SLOTS; i++)
                wait_for(worker, &worker->slots[i]);
        return NULL;
}

/* --- all of it */

static void *zeroed(size_t bytes)
{
        void *memory = calloc(1, bytes);

        assert_non_null(memory);
        return memory;
}

static void add_fault(struct leg *leg, const struct dmio_fault_rule *rule)
{
        struct dmio_fault_rule mine = *rule;
        struct dmio_fault *fault;

        mine.bdev = leg->disk->bdev;
        mine.leg = -1;
        assert_int_equal(dmio_fault_add(kit.engine, &mine, &fault), 0);
}

static void add_faults(struct leg *legs)
{
        const struct dmio_fault_rule is_short = {
                .action = DMIO_FAULT_SHORT,
                .ops = DMIO_FAULT_READ | DMIO_FAULT_WRITE,
                .bytes = 13 * SECTOR,
        };
        const struct dmio_fault_rule slow = { .action = DMIO_FAULT_DELAY, .delay_us = 50 };

        add_fault(&legs[LEG_SHORT], &is_short);
        add_fault(&legs[LEG_SLOW], &slow);
        for (unsigned int i = 0; i < THREADS; i++) {
                const struct dmio_fault_rule bad = {
                        .action = DMIO_FAULT_ERROR,
                        .sector = i * STRIPE + BAD_FIRST,
                        .count = BAD_COUNT,
                        .error = EIO,
                };

                add_fault(&legs[LEG_BAD], &bad);
        }
        legs[LEG_BAD].bad = true;
}

static void compare_sectors(const struct leg *leg, unsigned int number, const char *how,
                            const unsigned char *found, sector_t sector, sector_t count)
{
        for (sector_t i = 0; i < count; i++)
                if (!leg->unknown[sector + i] &&
                    memcmp(found + i * SECTOR, leg->bytes + (sector + i) * SECTOR, SECTOR) != 0)
                        fail_msg("leg %u differs %s in sector %llu", number, how,
                                 (unsigned long long)(sector + i));
}

/* What is bad cannot be read by the engine; all else must be what the model says. */
static void compare_leg(const struct leg *leg, unsigned int number)
{
        const sector_t step = 8 << (leg->bad ? 0 : 5);
        DMIO_CLEANUP(freep) unsigned char *found = aligned_alloc(4096, step * SECTOR);

        assert_non_null(found);
        for (sector_t sector = 0; sector < LEG_SECTORS; sector += step) {
                bool bad = leg->bad && ranges_overlap(sector % STRIPE, step, BAD_FIRST, BAD_COUNT);
                struct io_region where = on_disk(leg->disk, sector, step);
                unsigned long bits = KIT_UNTOUCHED;

                assert_int_equal(kit_sync(&kit, DM_IO_READ, in_vm(found), 1, &where, &bits),
                                 bad ? -EIO : 0);
                if (!bad)
                        compare_sectors(leg, number, "to the engine", found, sector, step);
                if (strcmp(kit.target, "memory") == 0)
                        continue;
                assert_int_equal(
                        pread(leg->disk->image_fd, found, step * SECTOR, (off_t)(sector * SECTOR)),
                        step * SECTOR);
                compare_sectors(leg, number, "on the image", found, sector, step);
        }
}

static void worker_begin(struct worker *worker, uint64_t seed)
{
        worker->dice = (seed + worker->number + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
        for (unsigned int i = 0; i < 10; i++)
                (void)roll(worker);
        for (unsigned int i = 0; i < SLOTS; i++) {
                worker->slots[i].completion = (struct completion)COMPLETION_INIT;
                worker->slots[i].arena = pages_new(ARENA_PAGES);
                worker->slots[i].before = pages_new(ARENA_PAGES);
        }
}

static void worker_end(struct worker *worker)
{
        for (unsigned int i = 0; i < SLOTS; i++) {
                free(worker->slots[i].arena);
                free(worker->slots[i].before);
        }
}

static unsigned long from_environment(const char *name, unsigned long otherwise)
{
        const char *text = getenv(name);

        return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

static void random_requests(void **state)
{
        static const struct conformance_case nothing;
        unsigned long operations = from_environment("DMIO_MODEL_OPERATIONS", 20000);
        unsigned long seed = from_environment("DMIO_MODEL_SEED", 1);
        struct worker *workers = zeroed(THREADS * sizeof(*workers));
        struct dmio_device_info info;
        struct leg legs[LEGS] = {};

        print_message("%lu operations, DMIO_MODEL_SEED=%lu\n", operations, seed);
        kit_begin(&kit, &nothing);
        for (unsigned int i = 0; i < LEGS; i++) {
                legs[i].disk = kit_disk_of(&kit, i % 2 ? DISK_CACHED : DISK_FILE, LEG_SECTORS, 0);
                legs[i].bytes = zeroed(LEG_SECTORS * SECTOR);
                legs[i].unknown = zeroed(LEG_SECTORS * sizeof(bool));
                dmio_device_info(legs[i].disk->bdev, &info);
                legs[i].block = info.logical_block / (unsigned int)SECTOR;
        }
        if (!kit.classic)
                add_faults(legs);
        for (unsigned int i = 0; i < THREADS; i++) {
                workers[i].legs = legs;
                workers[i].number = i;
                workers[i].operations = operations / THREADS;
                worker_begin(&workers[i], seed);
                assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
        }
        for (unsigned int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        for (unsigned int i = 0; i < THREADS; i++)
                if (workers[i].trouble[0])
                        fail_msg("%s", workers[i].trouble);
        for (unsigned int i = 0; i < LEGS; i++)
                compare_leg(&legs[i], i);

        kit_end(&kit);
        for (unsigned int i = 0; i < THREADS; i++)
                worker_end(&workers[i]);
        for (unsigned int i = 0; i < LEGS; i++) {
                free(legs[i].bytes);
                free(legs[i].unknown);
        }
        free(workers);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(random_requests) };
        char note[KIT_NOTE_SIZE];

        if (argc != 2) {
                (void)fprintf(stderr, "usage: %s TARGET\n", argv[0]);
                return 2;
        }
        kit.target = argv[1];
        kit.classic = strcmp(kit.target, "classic") == 0;
        kit.note = note;
        kit.faulty_reason = "not for this test";
        if (!kit_target_is_there(kit.target)) {
                (void)printf("SKIP: there is no back-end %s here\n", kit.target);
                return KIT_SKIPPED;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
