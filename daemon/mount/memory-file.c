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
#include "util/fnv.h"
#include "util/macros.h"

/* The order of the table below. */
enum {
        KIND_INIT,
        KIND_AGREED,
        KIND_COUNTERS,
        KIND_HANDLES,
        KIND_FAILURES,
        KIND_SLOTS,
        _KIND_MAX,
};

#define KIND(of, structure, sections, items, first_size, member, name)                             \
        {                                                                                          \
                .type = (of), .flags = MEMORY_NEEDED, .n_sections = (sections),                    \
                .n_items = (items), .item_size = sizeof(structure), .least = (first_size),         \
                .key = (member), .what = (name)                                                    \
        }

static const struct memory_kind kinds[_KIND_MAX] = {
        [KIND_INIT] = KIND(MEMORY_TYPE_INIT, struct memory_init, 1, 1, 272, MEMORY_NO_KEY, "INIT"),
        [KIND_AGREED] =
                KIND(MEMORY_TYPE_AGREED, struct memory_agreed, 1, 1, 16, MEMORY_NO_KEY, "replies"),
        [KIND_COUNTERS] = KIND(MEMORY_TYPE_COUNTERS, struct memory_counters, 1, 1, 8, MEMORY_NO_KEY,
                               "counters"),
        [KIND_HANDLES] = KIND(MEMORY_TYPE_HANDLES, struct memory_handle, 1, MEMORY_HANDLES, 32,
                              offsetof(struct memory_handle, node), "open files"),
        [KIND_FAILURES] = KIND(MEMORY_TYPE_FAILURES, struct memory_failure, 1, MEMORY_FAILURES, 16,
                               offsetof(struct memory_failure, node), "failures of exports"),
        [KIND_SLOTS] = KIND(MEMORY_TYPE_SLOTS, struct memory_slot, MEMORY_QUEUES, MEMORY_SLOTS, 192,
                            offsetof(struct memory_slot, in.unique), "requests"),
};

_Static_assert(sizeof(struct memory_slot) % 64 == 0, "whole cache lines");
_Static_assert(sizeof(struct memory_slot) * MEMORY_SLOTS % 4096 == 0, "no gaps between threads");
_Static_assert(MEMORY_SLOTS <= UINT16_MAX + 1, "indexes have 16 bits");
_Static_assert(sizeof(struct memory_handle) % 8 == 0, "as all records");

/* Each has one section, but for slots, which are last. */
static struct memory_section *section_of(const struct memory_file *file, unsigned int kind)
{
        return &file->header->sections[kind];
}

static struct memory_section *slots_of(const struct memory_file *file, unsigned int queue)
{
        return section_of(file, KIND_SLOTS + queue);
}

/* Address space: memory is what has been touched. */
static size_t file_size(void)
{
        return memory_layout_size(kinds, _KIND_MAX);
}

static void *map_all(int fd, size_t size)
{
        void *at;

        at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        return at == MAP_FAILED ? NULL : at;
}

static void *at_kind(struct memory_header *header, unsigned int kind)
{
        return (char *)header + memory_layout_offset(kinds, _KIND_MAX, kind);
}

static void set_pointers(struct memory_file *file, struct memory_header *header)
{
        file->header = header;
        file->init = at_kind(header, KIND_INIT);
        file->agreed = at_kind(header, KIND_AGREED);
        file->counters = at_kind(header, KIND_COUNTERS);
        file->handles = at_kind(header, KIND_HANDLES);
        file->failures = at_kind(header, KIND_FAILURES);
        file->slots = at_kind(header, KIND_SLOTS);
}

int memory_file_new(struct memory_file *file)
{
        struct memory_file new = MEMORY_FILE_NULL;
        struct memory_header *header = NULL;
        int r = 0;

        new.fd = memfd_create("dmiod-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (new.fd < 0)
                return -errno;
        /* Nobody can take away what is mapped. */
        if (ftruncate(new.fd, (off_t)file_size()) < 0 ||
            fcntl(new.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
                r = -errno;
        if (r == 0) {
                header = map_all(new.fd, file_size());
                r = header ? 0 : -errno;
        }
        if (r < 0) {
                (void)close_fd(new.fd);
                return r;
        }

        memory_layout_write(kinds, _KIND_MAX, header);
        set_pointers(&new, header);
        atomic_store(&section_of(&new, KIND_COUNTERS)->used, 1);
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

/* What the records say, in our own layout. */
static int check(const struct memory_file *file, const char **ret_why)
{
        const void *init;
        size_t init_size = memory_file_init(file, &init);

        if (init_size > MEMORY_INIT_SIZE ||
            (init_size > 0 && file->init->sum != fnv(FNV_START, init, init_size)))
                return refuse(ret_why, "the checksum of the INIT request is wrong");

        for (unsigned int queue = 0; queue < MEMORY_QUEUES; queue++) {
                uint32_t used = memory_file_slots_used(file, queue);

                for (uint32_t i = 0; i < used; i++) {
                        int r = check_slot(&file->slots[queue * MEMORY_SLOTS + i], ret_why);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

/* @header, of @size bytes, is what another process has left. Returns 0 if it is our layout, or 1.
 */
static int take_up(struct memory_file *file, struct memory_header *header, size_t size,
                   const char **ret_why)
{
        struct memory_file new = MEMORY_FILE_NULL;
        int r;

        r = memory_layout_check(header, size, ret_why);
        if (r < 0)
                return r;
        r = memory_file_new(&new);
        if (r < 0)
                return r;
        if (memory_layout_equal(header, new.header)) {
                memory_file_close(&new);
                set_pointers(file, header);
                return check(file, ret_why);
        }
        r = memory_layout_copy(kinds, _KIND_MAX, header, new.header, ret_why);
        if (r == 0)
                r = check(&new, ret_why);
        if (r < 0) {
                memory_file_close(&new);
                return r;
        }
        *file = new;
        return 1;
}

int memory_file_open(struct memory_file *file, int fd, const char **ret_why)
{
        struct memory_file old = MEMORY_FILE_NULL;
        struct memory_header *header;
        struct stat st;
        int seals, r;

        seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0) {
                (void)close_fd(fd);
                return refuse(ret_why, "it is no sealed piece of memory");
        }
        if (st.st_size < (off_t)sizeof(*header)) {
                (void)close_fd(fd);
                return refuse(ret_why, "it is too short");
        }
        header = map_all(fd, (size_t)st.st_size);
        if (!header) {
                r = -errno;
                (void)close_fd(fd);
                return r;
        }

        r = take_up(&old, header, (size_t)st.st_size, ret_why);
        if (r == 0) {
                old.fd = fd;
        } else {
                (void)munmap(header, (size_t)st.st_size);
                (void)close_fd(fd);
        }
        if (r >= 0)
                *file = old;
        return r;
}

void memory_file_settle(struct memory_file *file)
{
        for (unsigned int queue = 0; file->header && queue < MEMORY_QUEUES; queue++) {
                struct memory_slot *first = &file->slots[queue * MEMORY_SLOTS];
                uint32_t used = memory_file_slots_used(file, queue), i = 0;

                while (i < used && first[i].in.unique == 0)
                        memory_slot_clear(&first[i++]);
                if (i == used)
                        atomic_store(&slots_of(file, queue)->used, 0);
        }
}

void memory_file_close(struct memory_file *file)
{
        if (file->header)
                (void)munmap(file->header, file_size());
        (void)close_fd(file->fd);
        *file = (struct memory_file)MEMORY_FILE_NULL;
}

size_t memory_file_init(const struct memory_file *file, const void **ret)
{
        *ret = file->init->bytes;
        return atomic_load(&section_of(file, KIND_INIT)->used) > 0 ? file->init->size : 0;
}

void memory_file_set_init(struct memory_file *file, const void *init, size_t length)
{
        memcpy(file->init->bytes, init, length);
        file->init->sum = fnv(FNV_START, init, length);
        file->init->size = (uint32_t)length;
        atomic_store(&section_of(file, KIND_INIT)->used, 1);
}

const struct memory_agreed *memory_file_agreed(const struct memory_file *file)
{
        return atomic_load(&section_of(file, KIND_AGREED)->used) > 0 ? file->agreed : NULL;
}

void memory_file_set_agreed(struct memory_file *file, uint64_t flags, uint32_t max_write)
{
        file->agreed->flags = flags;
        file->agreed->max_write = max_write;
        atomic_store(&section_of(file, KIND_AGREED)->used, 1);
}

_Atomic(uint32_t) *memory_file_calls(struct memory_file *file)
{
        return &file->counters->calls;
}

/* As many as were used, and more. */
static void use(struct memory_section *section, uint32_t index)
{
        if (index >= atomic_load(&section->used))
                atomic_store(&section->used, index + 1);
}

uint32_t memory_file_handles_used(const struct memory_file *file)
{
        return atomic_load(&section_of(file, KIND_HANDLES)->used);
}

void memory_file_use_handle(struct memory_file *file, uint32_t index)
{
        use(section_of(file, KIND_HANDLES), index);
}

uint32_t memory_file_slots_used(const struct memory_file *file, unsigned int queue)
{
        return atomic_load(&slots_of(file, queue)->used);
}

void memory_file_set_failures(struct memory_file *file, uint64_t node, uint32_t count)
{
        struct memory_section *section = section_of(file, KIND_FAILURES);

        for (uint32_t i = 0; i < MEMORY_FAILURES; i++) {
                struct memory_failure *failure = &file->failures[i];
                uint64_t there = 0;
                uint32_t before, used;

                if (!atomic_compare_exchange_strong(&failure->node, &there, node) && there != node)
                        continue;
                used = atomic_load(&section->used);
                while (used <= i && !atomic_compare_exchange_weak(&section->used, &used, i + 1))
                        ;
                before = atomic_load(&failure->count);
                while (before < count &&
                       !atomic_compare_exchange_weak(&failure->count, &before, count))
                        ;
                return;
        }
}

uint32_t memory_file_failures(const struct memory_file *file, uint64_t node)
{
        uint32_t used = atomic_load(&section_of(file, KIND_FAILURES)->used);

        for (uint32_t i = 0; i < used; i++)
                if (atomic_load(&file->failures[i].node) == node)
                        return atomic_load(&file->failures[i].count);
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
        _Atomic(uint32_t) *used = &slots_of(slots->file, slots->queue)->used;
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
