/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "model/counters-block.h"
#include "util/cleanup.h"
#include "util/fnv.h"
#include "util/macros.h"

#define MAGIC "dmiocnt"
/* Another one for every change of what is laid out here, also of what a member means. */
#define LAYOUT_VERSION 1

#define HEADER_SIZE 4096
#define JOURNALS_OFFSET ((size_t)HEADER_SIZE)
#define JOURNALS_SIZE (DIV_ROUND_UP(COUNTERS_LANES * sizeof(struct counters_journal), 4096) * 4096)
#define COUNTED_OFFSET (JOURNALS_OFFSET + JOURNALS_SIZE)
#define COUNTED_SIZE (COUNTERS_SLOTS * sizeof(uint64_t))
#define CARRIED_OFFSET (COUNTED_OFFSET + COUNTED_SIZE)
#define BLOCKS_OFFSET (CARRIED_OFFSET + 2 * COUNTED_SIZE)
#define BLOCKS_SIZE (COUNTERS_BLOCKS * sizeof(struct counters_block))
#define LEG_ERRORS_OFFSET (BLOCKS_OFFSET + BLOCKS_SIZE)
#define LEG_ERRORS_SIZE (COUNTERS_BLOCKS * COUNTERS_LEGS * sizeof(struct leg_errors))
#define PAGES_OFFSET (LEG_ERRORS_OFFSET + LEG_ERRORS_SIZE)
#define FILE_SIZE (PAGES_OFFSET + (size_t)COUNTERS_PAGES * COUNTERS_PAGE_SIZE)

_Static_assert(sizeof(struct counters_block) == 64, "a cache line");
_Static_assert(sizeof(struct leg_errors) == 16, "the same in every build");

/* What must be the same for both processes. */
struct layout {
        char magic[8];
        uint32_t version;
        uint32_t header_size;
        uint64_t size;
        uint32_t n_lanes, n_slots, n_blocks, n_pages;
        uint32_t set_size, client_size;
        uint32_t n_buckets, n_operations, n_io_operations;
        uint32_t reserved;
};

struct counters_header {
        struct layout layout;
        uint64_t layout_sum;
        _Atomic(uint32_t) blocks_used; /* those from there on have never been */
        /* Which of the two lists of carried requests is in force, plus one; 0: none. */
        _Atomic(uint32_t) carried;
        uint32_t n_carried[2];
};

_Static_assert(sizeof(struct counters_header) <= HEADER_SIZE, "the header has its place");

static const struct layout our_layout = {
        .magic = MAGIC,
        .version = LAYOUT_VERSION,
        .header_size = HEADER_SIZE,
        .size = FILE_SIZE,
        .n_lanes = COUNTERS_LANES,
        .n_slots = COUNTERS_SLOTS,
        .n_blocks = COUNTERS_BLOCKS,
        .n_pages = COUNTERS_PAGES,
        .set_size = sizeof(struct counters),
        .client_size = sizeof(struct client_counters),
        .n_buckets = LATENCY_BUCKETS,
        .n_operations = _OPERATION_EXPORT_MAX,
        .n_io_operations = _OPERATION_IO_MAX,
};

static uint64_t sum_of(const struct layout *layout)
{
        return fnv(FNV_START, layout, sizeof(*layout));
}

/* @file->fd is there. */
static int map(struct counters_file *file)
{
        uint8_t *at;

        at = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->fd, 0);
        if (at == MAP_FAILED)
                return -errno;
        /* Nearly all of it has never been touched. */
        (void)madvise(at, FILE_SIZE, MADV_DONTDUMP);
        file->start = at;
        file->header = (struct counters_header *)at;
        file->journals = (struct counters_journal *)(at + JOURNALS_OFFSET);
        file->counted = (_Atomic(uint64_t) *)(at + COUNTED_OFFSET);
        file->carried[0] = (uint64_t *)(at + CARRIED_OFFSET);
        file->carried[1] = (uint64_t *)(at + CARRIED_OFFSET + COUNTED_SIZE);
        file->blocks = (struct counters_block *)(at + BLOCKS_OFFSET);
        file->leg_errors = (struct leg_errors *)(at + LEG_ERRORS_OFFSET);
        file->pages = at + PAGES_OFFSET;

        file->page_used = calloc(1, COUNTERS_PAGES);
        file->block_taken = calloc(1, COUNTERS_BLOCKS);
        return file->page_used && file->block_taken ? 0 : -ENOMEM;
}

int counters_file_new(struct counters_file *file)
{
        struct counters_file new = COUNTERS_FILE_NULL;
        int r = 0;

        new.fd = memfd_create("dmiod-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (new.fd < 0)
                return -errno;
        /* Nobody can take away what is mapped. */
        if (ftruncate(new.fd, (off_t)FILE_SIZE) < 0 ||
            fcntl(new.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
                r = -errno;
        if (r == 0)
                r = map(&new);
        if (r < 0) {
                counters_file_close(&new);
                return r;
        }

        new.header->layout = our_layout;
        new.header->layout_sum = sum_of(&our_layout);
        *file = new;
        return 0;
}

static int refuse(const char **ret_why, const char *why)
{
        *ret_why = why;
        return -EBADMSG;
}

static int check_header(const struct counters_file *file, const char **ret_why)
{
        const struct counters_header *header = file->header;

        if (memcmp(header->layout.magic, MAGIC, sizeof(MAGIC)) != 0)
                return refuse(ret_why, "it does not begin as one of ours");
        if (header->layout_sum != sum_of(&header->layout))
                return refuse(ret_why, "the checksum of its header is wrong");
        if (memcmp(&header->layout, &our_layout, sizeof(our_layout)) != 0)
                return -EPROTO;
        if (atomic_load(&header->blocks_used) > COUNTERS_BLOCKS)
                return refuse(ret_why, "it has more blocks than there can be");
        if (atomic_load(&header->carried) > 2 || header->n_carried[0] > COUNTERS_SLOTS ||
            header->n_carried[1] > COUNTERS_SLOTS)
                return refuse(ret_why, "it has more requests than there can be");
        return 0;
}

/* What a thread was storing when it was killed is stored. The blocks have been checked. */
static int finish_journals(struct counters_file *file, const char **ret_why)
{
        for (unsigned int lane = 0; lane < COUNTERS_LANES; lane++) {
                struct counters_journal *journal = counters_file_journal(file, lane);
                uint64_t at = atomic_load(&journal->set);
                struct counters *set;

                if (at == 0)
                        continue;
                if (at < PAGES_OFFSET || !range_fits(at, sizeof(*set), FILE_SIZE) ||
                    !is_aligned(at, sizeof(*set)) || journal->bucket >= LATENCY_BUCKETS ||
                    journal->slot > COUNTERS_SLOTS ||
                    !file->page_used[(at - PAGES_OFFSET) / COUNTERS_PAGE_SIZE])
                        return refuse(ret_why, "what a thread was counting makes no sense");
                set = (struct counters *)(file->start + at);
                atomic_store(&set->buckets[journal->bucket], journal->n_bucket);
                atomic_store(&set->total_usec, journal->total_usec);
                atomic_store(journal->failed ? &set->errors : &set->bytes, journal->n);
                if (journal->slot > 0)
                        atomic_store(&file->counted[journal->slot - 1], journal->unique);
                counters_order();
                atomic_store(&journal->set, 0);
        }
        return 0;
}

int counters_file_open(struct counters_file *file, int fd, const char **ret_why)
{
        struct counters_file old = COUNTERS_FILE_NULL;
        struct stat st;
        int seals, r;

        old.fd = fd;
        seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0)
                r = refuse(ret_why, "it is no sealed piece of memory");
        else if (st.st_size < HEADER_SIZE)
                r = refuse(ret_why, "it is too short");
        else if (st.st_size != (off_t)FILE_SIZE)
                r = -EPROTO;
        else
                r = map(&old);
        if (r == 0)
                r = check_header(&old, ret_why);
        if (r == 0)
                r = counters_blocks_check(&old, ret_why);
        if (r == 0)
                r = finish_journals(&old, ret_why);
        if (r == 0)
                r = counters_blocks_take_up(&old, ret_why);
        if (r < 0) {
                counters_file_close(&old);
                return r;
        }
        *file = old;
        return 0;
}

void counters_file_close(struct counters_file *file)
{
        if (file->start)
                (void)munmap(file->start, FILE_SIZE);
        (void)close_fd(file->fd);
        free(file->page_used);
        free(file->block_taken);
        *file = (struct counters_file)COUNTERS_FILE_NULL;
}

uint32_t counters_file_blocks_used(const struct counters_file *file)
{
        return atomic_load_explicit(&file->header->blocks_used, memory_order_relaxed);
}

void counters_file_use_block(struct counters_file *file, uint32_t index)
{
        if (index >= counters_file_blocks_used(file))
                atomic_store(&file->header->blocks_used, index + 1);
}

static int clear(struct counters_file *file, size_t offset, size_t length)
{
        if (length == 0)
                return 0;
        return fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                         (off_t)length) < 0
                       ? -errno
                       : 0;
}

int counters_file_clear_pages(struct counters_file *file, uint32_t first, uint32_t n)
{
        return clear(file, PAGES_OFFSET + (size_t)first * COUNTERS_PAGE_SIZE,
                     (size_t)n * COUNTERS_PAGE_SIZE);
}

void counters_file_carry(struct counters_file *file, const uint64_t *uniques, uint32_t n)
{
        struct counters_header *header = file->header;
        uint32_t other = atomic_load(&header->carried) == 1 ? 1 : 0;

        n = MIN(n, COUNTERS_SLOTS);
        memcpy(file->carried[other], uniques, n * sizeof(*uniques));
        header->n_carried[other] = n;
        counters_order();
        atomic_store(&header->carried, other + 1);
}

uint32_t counters_file_carried(const struct counters_file *file, const uint64_t **ret)
{
        uint32_t which = atomic_load(&file->header->carried);

        if (which == 0)
                return 0;
        *ret = file->carried[which - 1];
        return file->header->n_carried[which - 1];
}

void counters_file_carried_over(struct counters_file *file)
{
        atomic_store(&file->header->carried, 0);
}

void counters_file_forget_requests(struct counters_file *file)
{
        counters_file_carried_over(file);
        if (clear(file, COUNTED_OFFSET, COUNTED_SIZE) < 0)
                memset((void *)file->counted, 0, COUNTED_SIZE);
}
