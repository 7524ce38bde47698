/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/macros.h"

#define CHUNK_SECTORS 2048
#define CLASSIC_PAGES 4

/* --- around a case */

bool kit_target_is_there(const char *target)
{
        struct dmio_engine_options options = { .backend = target };
        struct dmio_engine *engine;
        int r;

        if (strcmp(target, "classic") == 0)
                return true;
        r = dmio_engine_create(&options, &engine);
        if (r == 0)
                (void)dmio_engine_destroy(engine);
        else if (r != -EOPNOTSUPP)
                (void)fprintf(stderr, "back-end %s: %s\n", target, strerror(-r));
        return r != -EOPNOTSUPP;
}

void kit_begin(struct kit *kit, const struct conformance_case *which)
{
        if (kit->classic) {
                if (!(which->on & NOTHING_GOT))
                        assert_int_equal(dm_io_get(CLASSIC_PAGES), 0);
        } else {
                kit->engine = kit_engine_new(kit, NULL);
                assert_int_equal(dm_io_client_create(kit->engine, 0, &kit->client), 0);
        }
}

void kit_end(struct kit *kit)
{
        assert_int_equal(dm_io_client_destroy(kit->client), 0);
        assert_int_equal(dmio_engine_destroy(kit->engine), 0);
        if (kit->classic)
                (void)dm_io_put(CLASSIC_PAGES);
        for (unsigned int i = 0; i < kit->n_disks; i++) {
                dmio_device_close(kit->disks[i].bdev);
                close_fd(kit->disks[i].loop_fd);
                close_fd(kit->disks[i].image_fd);
        }
        for (unsigned int i = 0; i < kit->n_blocks; i++)
                free(kit->blocks[i]);
}

void kit_skip(struct kit *kit, const char *reason)
{
        kit_note(kit, "%s", reason);
        _exit(KIT_SKIPPED);
}

void kit_note(struct kit *kit, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(kit->note, KIT_NOTE_SIZE, format, arguments);
        va_end(arguments);
}

/* --- making */

static void *kit_keep(struct kit *kit, void *block)
{
        assert_non_null(block);
        assert_true(kit->n_blocks < KIT_BLOCKS);
        kit->blocks[kit->n_blocks++] = block;
        return block;
}

static int image_new(sector_t sectors)
{
        const char *folder = getenv("TMPDIR");
        char path[256];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/dmio-image.XXXXXX", folder ? folder : "/tmp");
        fd = mkostemp(path, O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(ftruncate(fd, (off_t)(sectors * DMIO_SECTOR_SIZE)), 0);
        return fd;
}

/* The path of the next disk of the servers that nobody uses yet. */
static const char *faulty_take(struct kit *kit, struct disk *disk)
{
        disk->faulty = disk->kind == DISK_MORTAL ? kit->mortal : kit->faulty;
        for (unsigned int i = 0; i < kit->n_disks; i++)
                disk->index += kit->disks[i].faulty == disk->faulty;
        assert_true(disk->index < FAULTY_DISKS);
        return faulty_path(disk->faulty, disk->index);
}

/* What a kind of disk comes to here; skips the case if that is nothing. */
static enum disk_kind kind_here(struct kit *kit, enum disk_kind kind)
{
        bool in_memory = strcmp(kit->target, "memory") == 0;

        if (kind == DISK_MORTAL && in_memory)
                kit_skip(kit, "memory does not go away");
        if (kind == DISK_FAULTY && !kit->classic && (in_memory || !kit->faulty))
                kind = DISK_RULED;
        if ((kind == DISK_FAULTY && !kit->faulty) || (kind == DISK_MORTAL && !kit->mortal))
                kit_skip(kit, kit->faulty_reason);
        if (kind == DISK_RULED && kit->classic)
                kit_skip(kit, "the default engine takes no fault rules");
        return kind;
}

static void disk_add_counters(struct kit *kit, struct disk *disk)
{
        for (unsigned int i = 0; i < DISK_COUNTERS; i++) {
                struct dmio_fault_rule never = {
                        .action = DMIO_FAULT_HOLD,
                        .ops = 1u << i,
                        .bdev = disk->bdev,
                        .leg = -1,
                        .skip = UINT64_MAX,
                };

                assert_int_equal(dmio_fault_add(kit->engine, &never, &disk->counters[i]), 0);
        }
}

struct disk *kit_disk_of(struct kit *kit, enum disk_kind kind, sector_t sectors, unsigned int flags)
{
        struct disk *disk = &kit->disks[kit->n_disks];
        char path[64];

        assert_true(kit->n_disks < KIT_DISKS);
        *disk = (struct disk){
                .kind = kind_here(kit, kind),
                .sectors = sectors,
                .image_fd = -EBADF,
                .loop_fd = -EBADF,
        };
        if (disk->kind == DISK_FAULTY || disk->kind == DISK_MORTAL) {
                assert_int_equal(sectors, FAULTY_BYTES / DMIO_SECTOR_SIZE);
                (void)snprintf(path, sizeof(path), "%s", faulty_take(kit, disk));
        } else {
                disk->image_fd = image_new(sectors);
                (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", disk->image_fd);
        }
        kit->n_disks++;
        if (kind == DISK_LOOP_4096) {
                disk->loop_fd = scratch_loop_new(disk->image_fd, 4096, path, sizeof(path));
                if (disk->loop_fd < 0)
                        kit_skip(kit, "needs loop devices of 4096-byte blocks, and root");
        }
        if (kind == DISK_CACHED)
                flags |= DMIO_DEVICE_BUFFERED;
        assert_int_equal(dmio_device_open(path, flags, &disk->bdev), 0);
        assert_int_equal(dmio_device_capacity(disk->bdev), sectors);
        if (disk->kind == DISK_RULED)
                disk_add_counters(kit, disk);
        else if (disk->faulty)
                disk_forget(disk);
        return disk;
}

struct disk *kit_disk(struct kit *kit, enum disk_kind kind)
{
        return kit_disk_of(kit, kind, KIT_SECTORS, 0);
}

void kit_disks(struct kit *kit, struct disk **disks, unsigned int n)
{
        for (unsigned int i = 0; i < n; i++)
                disks[i] = kit_disk(kit, DISK_FILE);
}

struct dmio_engine *kit_engine_new(struct kit *kit, const struct dmio_engine_options *options)
{
        struct dmio_engine_options mine = {};
        struct dmio_engine *engine = NULL;

        if (options)
                mine = *options;
        mine.backend = kit->classic ? NULL : kit->target;
        assert_int_equal(dmio_engine_create(&mine, &engine), 0);
        return engine;
}

struct page *kit_pages(struct kit *kit, size_t n_pages, unsigned int seed)
{
        struct page *pages = kit_keep(kit, pages_new(n_pages));

        if (seed > 0)
                pattern_fill(pages, n_pages * DMIO_PAGE_SIZE, seed);
        return pages;
}

struct page_list *kit_list(struct kit *kit, struct page *pages, size_t n_pages)
{
        struct page_list *list = kit_keep(kit, calloc(n_pages, sizeof(*list)));

        for (size_t i = 0; i < n_pages; i++)
                list[i] = (struct page_list){
                        .next = i + 1 < n_pages ? &list[i + 1] : NULL,
                        .page = &pages[i],
                };
        return list;
}

struct bio_vec *kit_bvec(struct kit *kit, void *data, const unsigned int *lengths, size_t n)
{
        struct bio_vec *bvec = kit_keep(kit, calloc(n + 1, sizeof(*bvec)));
        char *at = data;

        for (size_t i = 0; i < n; i++) {
                bvec[i] = (struct bio_vec){
                        .bv_page = virt_to_page(at),
                        .bv_len = lengths[i],
                        .bv_offset = (unsigned int)((uintptr_t)at % DMIO_PAGE_SIZE),
                };
                at += lengths[i];
        }
        return bvec;
}

/* --- doing */

static int classic_io(const struct dm_io_request *request, unsigned int n,
                      const struct io_region *regions, unsigned long *bits)
{
        struct io_region *where = (struct io_region *)(uintptr_t)regions;
        struct page_list *list = (struct page_list *)(uintptr_t)request->mem.ptr.pl;
        struct bio_vec *bvec = (struct bio_vec *)(uintptr_t)request->mem.ptr.bvec;
        io_notify_fn fn = request->notify.fn;
        void *context = request->notify.context;
        int rw = (int)request->op;

        switch (request->mem.type) {
        case DM_IO_PAGE_LIST:
                return fn ? dm_io_async(n, where, rw, list, request->mem.offset, fn, context)
                          : dm_io_sync(n, where, rw, list, request->mem.offset, bits);
        case DM_IO_BVEC:
                return fn ? dm_io_async_bvec(n, where, rw, bvec, fn, context)
                          : dm_io_sync_bvec(n, where, rw, bvec, bits);
        default:
                return fn ? dm_io_async_vm(n, where, rw, request->mem.ptr.vma, fn, context)
                          : dm_io_sync_vm(n, where, rw, request->mem.ptr.vma, bits);
        }
}

int kit_io(struct kit *kit, const struct dm_io_request *request, unsigned int n,
           const struct io_region *regions, unsigned long *bits)
{
        struct dm_io_request mine = *request;

        if (kit->classic)
                return classic_io(request, n, regions, bits);
        mine.client = mine.client ?: kit->client;
        return dm_io(&mine, n, regions, bits);
}

int kit_sync(struct kit *kit, enum dm_io_op op, struct dm_io_memory memory, unsigned int n,
             const struct io_region *regions, unsigned long *bits)
{
        struct dm_io_request request = { .op = op, .mem = memory };

        return kit_io(kit, &request, n, regions, bits);
}

int kit_async(struct kit *kit, enum dm_io_op op, struct dm_io_memory memory, unsigned int n,
              const struct io_region *regions, struct completion *completion)
{
        struct dm_io_request request = {
                .op = op,
                .mem = memory,
                .notify = { .fn = completion_notify, .context = completion },
        };

        return kit_io(kit, &request, n, regions, NULL);
}

void kit_settle(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;

        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(NULL), 0, NULL, &completion), 0);
        completion_wait(&completion, 1);
}

/* --- expecting */

void kit_ok(struct kit *kit, enum dm_io_op op, struct dm_io_memory memory, unsigned int n,
            const struct io_region *regions)
{
        unsigned long bits = KIT_UNTOUCHED;

        assert_int_equal(kit_sync(kit, op, memory, n, regions, &bits), 0);
        assert_int_equal(bits, 0);
}

void kit_fails(struct kit *kit, enum dm_io_op op, struct dm_io_memory memory, unsigned int n,
               const struct io_region *regions, unsigned long expected)
{
        unsigned long bits = KIT_UNTOUCHED;

        assert_int_equal(kit_sync(kit, op, memory, n, regions, &bits), -EIO);
        assert_int_equal(bits, expected);
}

void kit_refused(struct kit *kit, const struct dm_io_request *request, unsigned int n,
                 const struct io_region *regions, int error)
{
        struct completion completion = COMPLETION_INIT;
        struct dm_io_request mine = *request;
        unsigned long bits = KIT_UNTOUCHED;

        mine.notify.fn = NULL;
        assert_int_equal(kit_io(kit, &mine, n, regions, &bits), error);
        assert_int_equal(bits, KIT_UNTOUCHED);

        mine.notify.fn = completion_notify;
        mine.notify.context = &completion;
        assert_int_equal(kit_io(kit, &mine, n, regions, &bits), error);
        assert_int_equal(bits, KIT_UNTOUCHED);
        kit_settle(kit);
        assert_int_equal(kit_calls(&completion), 0);
}

unsigned int kit_calls(struct completion *completion)
{
        unsigned int calls;

        (void)pthread_mutex_lock(&completion->lock);
        calls = completion->calls;
        (void)pthread_mutex_unlock(&completion->lock);
        return calls;
}

void kit_called(struct completion *completion, unsigned long bits)
{
        completion_wait(completion, 1);
        assert_int_equal(kit_calls(completion), 1);
        assert_int_equal(completion->bits, bits);
}

/* What lies on the disk, as the engine reads it; chunk by chunk. */
static void disk_compare(struct kit *kit, struct disk *disk, sector_t sector, const char *data,
                         sector_t count)
{
        size_t length = (size_t)(count * DMIO_SECTOR_SIZE);
        DMIO_CLEANUP(freep) void *found = aligned_alloc(DMIO_PAGE_SIZE, round_up(length, 4096));
        struct io_region where = on_disk(disk, sector, count);

        assert_non_null(found);
        memset(found, 0x5a, length);
        kit_ok(kit, DM_IO_READ, in_vm(found), 1, &where);
        assert_memory_equal(found, data, length);
        if (disk->image_fd < 0 || strcmp(kit->target, "memory") == 0)
                return;
        memset(found, 0x5a, length);
        assert_int_equal(pread(disk->image_fd, found, length, (off_t)(sector * DMIO_SECTOR_SIZE)),
                         length);
        assert_memory_equal(found, data, length);
}

void disk_expect(struct kit *kit, struct disk *disk, sector_t sector, const void *data,
                 size_t length)
{
        sector_t count = length / DMIO_SECTOR_SIZE, done;

        assert_int_equal(length % DMIO_SECTOR_SIZE, 0);
        for (done = 0; done < count; done += CHUNK_SECTORS)
                disk_compare(kit, disk, sector + done, (const char *)data + done * DMIO_SECTOR_SIZE,
                             MIN(count - done, (sector_t)CHUNK_SECTORS));
}

void disk_expect_zeroes(struct kit *kit, struct disk *disk, sector_t sector, size_t length)
{
        DMIO_CLEANUP(freep) void *zeroes = calloc(1, length);

        assert_non_null(zeroes);
        disk_expect(kit, disk, sector, zeroes, length);
}

void disk_fill(struct kit *kit, struct disk *disk, sector_t sector, sector_t count,
               unsigned int seed)
{
        size_t length = (size_t)(count * DMIO_SECTOR_SIZE);
        DMIO_CLEANUP(freep) void *data = aligned_alloc(DMIO_PAGE_SIZE, round_up(length, 4096));
        struct io_region where = on_disk(disk, sector, count);

        assert_non_null(data);
        pattern_fill(data, length, seed);
        kit_ok(kit, DM_IO_WRITE, in_vm(data), 1, &where);
        disk_forget(disk);
}

void disk_expect_fill(struct kit *kit, struct disk *disk, sector_t sector, sector_t count,
                      unsigned int seed, sector_t filled_from)
{
        size_t skipped = (size_t)((sector - filled_from) * DMIO_SECTOR_SIZE);
        size_t length = (size_t)(count * DMIO_SECTOR_SIZE);
        DMIO_CLEANUP(freep) char *data = malloc(skipped + length);

        assert_non_null(data);
        pattern_fill(data, skipped + length, seed);
        disk_expect(kit, disk, sector, data + skipped, length);
}

/* --- faults */

static_assert(FAULT_READ == DMIO_FAULT_READ && FAULT_WRITE == DMIO_FAULT_WRITE &&
                      FAULT_FLUSH == DMIO_FAULT_FLUSH && FAULT_DISCARD == DMIO_FAULT_DISCARD &&
                      FAULT_ZEROES == DMIO_FAULT_WRITE_ZEROES,
              "both kinds of rules have the same numbers");

static void rule_add(struct kit *kit, struct disk *disk, const struct fault_rule *rule)
{
        static const enum dmio_fault_action actions[] = {
                [FAULT_ERROR] = DMIO_FAULT_ERROR,
                [FAULT_SHORT] = DMIO_FAULT_SHORT,
                [FAULT_HOLD] = DMIO_FAULT_HOLD,
        };
        struct dmio_fault_rule mine = {
                .action = actions[rule->action],
                .ops = rule->ops,
                .bdev = disk->bdev,
                .leg = -1,
                .sector = rule->offset / DMIO_SECTOR_SIZE,
                .count = DIV_ROUND_UP(rule->length, DMIO_SECTOR_SIZE),
                .times = rule->times,
                .error = rule->error,
                .bytes = rule->bytes,
        };
        unsigned int i = 0;

        if (rule->ops & FAULT_DURABLE)
                kit_skip(kit, "what is durable is not seen here");
        if (rule->action == FAULT_SHORT && rule->bytes == 0)
                kit_skip(kit, "fault rules transfer a block at least");
        while (disk->rules[i])
                assert_true(++i < DISK_RULES);
        assert_int_equal(dmio_fault_add(kit->engine, &mine, &disk->rules[i]), 0);
        disk->holds[i] = rule->action == FAULT_HOLD;
}

void disk_fault(struct kit *kit, struct disk *disk, const struct fault_rule *rule)
{
        if (disk->faulty)
                faulty_add(disk->faulty, disk->index, rule);
        else
                rule_add(kit, disk, rule);
}

void disk_breaks(struct kit *kit, struct disk *disk, unsigned int ops, int error)
{
        struct fault_rule rule = { .action = FAULT_ERROR, .ops = ops, .error = error };

        disk_fault(kit, disk, &rule);
}

void disk_holds(struct kit *kit, struct disk *disk, unsigned int ops)
{
        struct fault_rule rule = { .action = FAULT_HOLD, .ops = ops };

        disk_fault(kit, disk, &rule);
}

bool disk_has_held(struct disk *disk)
{
        const struct timespec moment = { .tv_nsec = 1000000 };
        struct dmio_fault_stats stats = {};

        if (disk->faulty)
                return faulty_wait_held(disk->faulty, disk->index, 1);
        for (unsigned int t = 0; t < 20000; t++) {
                for (unsigned int i = 0; i < DISK_RULES && stats.held == 0; i++)
                        if (disk->rules[i])
                                dmio_fault_stats(disk->rules[i], &stats);
                if (stats.held > 0)
                        return true;
                (void)nanosleep(&moment, NULL);
        }
        return false;
}

void disk_wait_held(struct disk *disk)
{
        assert_true(disk_has_held(disk));
}

void disk_release(struct disk *disk)
{
        if (disk->faulty)
                faulty_release(disk->faulty, disk->index);
        for (unsigned int i = 0; i < DISK_RULES; i++) {
                if (!disk->holds[i])
                        continue;
                dmio_fault_remove(disk->rules[i]);
                disk->rules[i] = NULL;
                disk->holds[i] = false;
        }
}

static uint64_t counter_value(struct dmio_fault *counter)
{
        struct dmio_fault_stats stats;

        dmio_fault_stats(counter, &stats);
        return stats.matches;
}

void disk_forget(struct disk *disk)
{
        if (disk->faulty)
                faulty_forget(disk->faulty, disk->index);
        for (unsigned int i = 0; i < DISK_COUNTERS && disk->counters[i]; i++)
                disk->forgotten[i] = counter_value(disk->counters[i]);
}

unsigned int disk_count(const struct disk *disk, unsigned int ops)
{
        uint64_t n = 0;

        if (disk->faulty)
                return faulty_count(disk->faulty, disk->index, ops);
        for (unsigned int i = 0; i < DISK_COUNTERS; i++)
                if (ops >> i & 1)
                        n += counter_value(disk->counters[i]) - disk->forgotten[i];
        return (unsigned int)n;
}
