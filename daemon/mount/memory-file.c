/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mount/memory-file.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define MAGIC "dmiomem"
/* Another one for every change of what is laid out here, also of what a slot's members mean. */
#define LAYOUT_VERSION 1

#define HEADER_SIZE 4096
#define SLOTS_OFFSET ((size_t)HEADER_SIZE)
#define SLOTS_SIZE (sizeof(struct memory_slot) * MEMORY_SLOTS * MEMORY_QUEUES)
#define HANDLES_OFFSET (SLOTS_OFFSET + SLOTS_SIZE)
#define HANDLES_SIZE (sizeof(struct memory_handle) * MEMORY_HANDLES)
#define FAILURES_OFFSET (HANDLES_OFFSET + HANDLES_SIZE)
#define FAILURES_SIZE (sizeof(struct memory_failure) * MEMORY_FAILURES)
/* Address space: memory is what has been touched. */
#define FILE_SIZE (FAILURES_OFFSET + FAILURES_SIZE)

_Static_assert(sizeof(struct memory_slot) == 192, "whole cache lines");
_Static_assert(MEMORY_SLOTS <= UINT16_MAX + 1, "indexes have 16 bits");

/* What must be the same for both processes. */
struct layout {
        char magic[8];
        uint32_t version;
        uint32_t header_size;
        uint64_t size;
        uint32_t n_queues, n_slots, n_handles, n_failures;
        uint32_t slot_size, handle_size;
};

struct memory_header {
        struct layout layout;
        uint64_t layout_sum;

        char init[MEMORY_INIT_SIZE];
        uint64_t init_sum;
        _Atomic(uint32_t) init_size; /* 0: not yet */

        _Atomic(uint32_t) n_calls;
        _Atomic(uint32_t) handles_used;
        _Atomic(uint32_t) slots_used[MEMORY_QUEUES];
};

_Static_assert(sizeof(struct memory_header) <= HEADER_SIZE, "the header has its place");

static const struct layout our_layout = {
        .magic = MAGIC,
        .version = LAYOUT_VERSION,
        .header_size = HEADER_SIZE,
        .size = FILE_SIZE,
        .n_queues = MEMORY_QUEUES,
        .n_slots = MEMORY_SLOTS,
        .n_handles = MEMORY_HANDLES,
        .n_failures = MEMORY_FAILURES,
        .slot_size = sizeof(struct memory_slot),
        .handle_size = sizeof(struct memory_handle),
};

/* FNV-1a: against damage, not against anybody. */
static uint64_t sum_of(const void *data, size_t length)
{
        const uint8_t *p = data;
        uint64_t sum = UINT64_C(0xcbf29ce484222325);

        while (length-- > 0)
                sum = (sum ^ *p++) * UINT64_C(0x100000001b3);
        return sum;
}

/* @file->fd is there. */
static int map(struct memory_file *file)
{
        uint8_t *at;

        at = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->fd, 0);
        if (at == MAP_FAILED)
                return -errno;
        file->header = (struct memory_header *)at;
        file->slots = (struct memory_slot *)(at + SLOTS_OFFSET);
        file->handles = (struct memory_handle *)(at + HANDLES_OFFSET);
        file->failures = (struct memory_failure *)(at + FAILURES_OFFSET);
        return 0;
}

int memory_file_new(struct memory_file *file)
{
        struct memory_file new = MEMORY_FILE_NULL;
        int r = 0;

        new.fd = memfd_create("dmiod-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (new.fd < 0)
                return -errno;
        /* Nobody can take away what is mapped. */
        if (ftruncate(new.fd, (off_t)FILE_SIZE) < 0 ||
            fcntl(new.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
                r = -errno;
        if (r == 0)
                r = map(&new);
        if (r < 0) {
                (void)close_fd(new.fd);
                return r;
        }

        new.header->layout = our_layout;
        new.header->layout_sum = sum_of(&our_layout, sizeof(our_layout));
        *file = new;
        return 0;
}

static int refuse(const char **ret_why, const char *why)
{
        *ret_why = why;
        return -EBADMSG;
}

static int check_slot(const struct memory_slot *slot, const char **ret_why)
{
        if (atomic_load(&slot->state) >= _SLOT_STATE_MAX)
                return refuse(ret_why, "a request has a state that does not exist");
        if (slot->in.unique != 0 && slot->in.len < sizeof(slot->in))
                return refuse(ret_why, "a request is shorter than its header");
        return 0;
}

static int check(const struct memory_file *file, const char **ret_why)
{
        const struct memory_header *header = file->header;
        uint32_t init_size = atomic_load(&header->init_size);

        if (memcmp(header->layout.magic, MAGIC, sizeof(MAGIC)) != 0)
                return refuse(ret_why, "it does not begin as one of ours");
        if (header->layout_sum != sum_of(&header->layout, sizeof(header->layout)))
                return refuse(ret_why, "the checksum of its header is wrong");
        if (memcmp(&header->layout, &our_layout, sizeof(our_layout)) != 0)
                return -EPROTO;
        if (init_size > sizeof(header->init) ||
            (init_size > 0 && header->init_sum != sum_of(header->init, init_size)))
                return refuse(ret_why, "the checksum of the INIT request is wrong");
        if (atomic_load(&header->handles_used) > MEMORY_HANDLES)
                return refuse(ret_why, "it has more open files than there can be");

        for (unsigned int queue = 0; queue < MEMORY_QUEUES; queue++) {
                uint32_t used = atomic_load(&header->slots_used[queue]);

                if (used > MEMORY_SLOTS)
                        return refuse(ret_why, "it has more requests than there can be");
                for (uint32_t i = 0; i < used; i++) {
                        int r = check_slot(&file->slots[queue * MEMORY_SLOTS + i], ret_why);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

int memory_file_open(struct memory_file *file, int fd, const char **ret_why)
{
        struct memory_file old = MEMORY_FILE_NULL;
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
        if (r < 0) {
                (void)close_fd(fd);
                return r;
        }

        r = check(&old, ret_why);
        if (r < 0) {
                memory_file_close(&old);
                return r;
        }
        *file = old;
        return 0;
}

void memory_file_close(struct memory_file *file)
{
        if (file->header)
                (void)munmap(file->header, FILE_SIZE);
        (void)close_fd(file->fd);
        *file = (struct memory_file)MEMORY_FILE_NULL;
}

size_t memory_file_init(const struct memory_file *file, const void **ret)
{
        *ret = file->header->init;
        return atomic_load(&file->header->init_size);
}

void memory_file_set_init(struct memory_file *file, const void *init, size_t length)
{
        struct memory_header *header = file->header;

        memcpy(header->init, init, length);
        header->init_sum = sum_of(init, length);
        atomic_store(&header->init_size, (uint32_t)length);
}

_Atomic(uint32_t) *memory_file_calls(struct memory_file *file)
{
        return &file->header->n_calls;
}

uint32_t memory_file_handles_used(const struct memory_file *file)
{
        return atomic_load(&file->header->handles_used);
}

void memory_file_use_handle(struct memory_file *file, uint32_t index)
{
        if (index >= atomic_load(&file->header->handles_used))
                atomic_store(&file->header->handles_used, index + 1);
}

uint32_t memory_file_slots_used(const struct memory_file *file, unsigned int queue)
{
        return atomic_load(&file->header->slots_used[queue]);
}

void memory_file_set_failures(struct memory_file *file, uint64_t node, uint32_t count)
{
        for (uint32_t i = 0; i < MEMORY_FAILURES; i++) {
                struct memory_failure *failure = &file->failures[(node + i) % MEMORY_FAILURES];
                uint64_t there = 0;
                uint32_t before;

                if (!atomic_compare_exchange_strong(&failure->node, &there, node) && there != node)
                        continue;
                before = atomic_load(&failure->count);
                while (before < count &&
                       !atomic_compare_exchange_weak(&failure->count, &before, count))
                        ;
                return;
        }
}

uint32_t memory_file_failures(const struct memory_file *file, uint64_t node)
{
        for (uint32_t i = 0; i < MEMORY_FAILURES; i++) {
                const struct memory_failure *failure =
                        &file->failures[(node + i) % MEMORY_FAILURES];
                uint64_t there = atomic_load(&failure->node);

                if (there == node)
                        return atomic_load(&failure->count);
                if (there == 0)
                        break;
        }
        return 0;
}

/* Slots */

int slots_init(struct slots *slots, struct memory_file *file, unsigned int queue)
{
        struct memory_slot *first = &file->slots[queue * MEMORY_SLOTS];

        *slots = (struct slots){ .file = file, .queue = queue, .limit = MEMORY_SLOTS_IN_USE };
        slots->free = calloc(MEMORY_SLOTS, sizeof(*slots->free));
        if (!slots->free)
                return -ENOMEM;

        /* The lowest on top: what is used stays together. */
        for (uint32_t i = memory_file_slots_used(file, queue); i-- > 0;) {
                if (first[i].in.unique != 0)
                        continue;
                memory_slot_clear(&first[i]);
                slots->free[slots->n_free++] = (uint16_t)i;
        }
        return 0;
}

void slots_deinit(struct slots *slots)
{
        free(slots->free);
        *slots = (struct slots){ 0 };
}

struct memory_slot *slots_take(struct slots *slots)
{
        _Atomic(uint32_t) *used = &slots->file->header->slots_used[slots->queue];
        uint32_t index;

        if (slots->n_taken >= slots->limit)
                return NULL;
        if (slots->n_free > 0) {
                index = slots->free[--slots->n_free];
        } else {
                index = atomic_load_explicit(used, memory_order_relaxed);
                if (index >= MEMORY_SLOTS)
                        return NULL;
                atomic_store_explicit(used, index + 1, memory_order_relaxed);
        }
        slots->n_taken++;
        return &slots->file->slots[slots->queue * MEMORY_SLOTS + index];
}

void slots_put(struct slots *slots, struct memory_slot *slot)
{
        const struct memory_slot *first = &slots->file->slots[slots->queue * MEMORY_SLOTS];

        memory_slot_clear(slot);
        slots->free[slots->n_free++] = (uint16_t)(slot - first);
        slots->n_taken--;
}

void slots_adopt(struct slots *slots)
{
        slots->n_taken++;
}
