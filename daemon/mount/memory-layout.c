/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "mount/memory-layout.h"
#include "util/fnv.h"
#include "util/macros.h"

#define MAGIC "dmiomem"
#define PAGE UINT64_C(4096)
#define SECTIONS_MAX 65536U
/* A record is copied as a whole; this is far beyond any, and keeps sums from overflowing. */
#define ITEM_SIZE_MAX 65536U

_Static_assert(sizeof(struct memory_section) == 32, "no holes, all is summed up");
_Static_assert(sizeof(struct memory_header) == 40, "no holes, all is summed up");

/* By the size that the table says: those of others may be longer. */
static struct memory_section *section_at(const struct memory_header *header, size_t i)
{
        return (struct memory_section *)((char *)header->sections + i * header->section_size);
}

static uint64_t sum_of(const struct memory_header *header)
{
        const size_t used = offsetof(struct memory_section, used);
        const size_t after = used + sizeof(((struct memory_section *)NULL)->used);
        uint64_t sum;

        sum = fnv(FNV_START, header, offsetof(struct memory_header, sum));
        for (size_t i = 0; i < header->n_sections; i++) {
                const char *section = (const char *)section_at(header, i);

                sum = fnv(sum, section, used);
                sum = fnv(sum, section + after, header->section_size - after);
        }
        return sum;
}

static size_t n_sections(const struct memory_kind *kinds, size_t n_kinds)
{
        size_t n = 0;

        for (size_t i = 0; i < n_kinds; i++)
                n += kinds[i].n_sections;
        return n;
}

static uint64_t section_space(const struct memory_kind *kind)
{
        return round_up((uint64_t)kind->n_items * kind->item_size, PAGE);
}

size_t memory_layout_offset(const struct memory_kind *kinds, size_t n_kinds, size_t kind)
{
        uint64_t offset = sizeof(struct memory_header) +
                          n_sections(kinds, n_kinds) * sizeof(struct memory_section);

        offset = round_up(offset, PAGE);
        for (size_t i = 0; i < kind; i++)
                offset += kinds[i].n_sections * section_space(&kinds[i]);
        return (size_t)offset;
}

size_t memory_layout_size(const struct memory_kind *kinds, size_t n_kinds)
{
        return memory_layout_offset(kinds, n_kinds, n_kinds);
}

void memory_layout_write(const struct memory_kind *kinds, size_t n_kinds,
                         struct memory_header *header)
{
        struct memory_section *section = header->sections;

        for (size_t i = 0; i < n_kinds; i++) {
                uint64_t offset = memory_layout_offset(kinds, n_kinds, i);

                for (uint32_t j = 0; j < kinds[i].n_sections; j++) {
                        section->type = kinds[i].type;
                        section->number = j;
                        section->flags = kinds[i].flags;
                        section->item_size = kinds[i].item_size;
                        section->offset = offset;
                        section->n_items = kinds[i].n_items;
                        section++;
                        offset += section_space(&kinds[i]);
                }
        }
        memcpy(header->magic, MAGIC, sizeof(MAGIC));
        header->version = MEMORY_VERSION;
        header->section_size = sizeof(*section);
        header->size = memory_layout_size(kinds, n_kinds);
        header->n_sections = (uint32_t)n_sections(kinds, n_kinds);
        header->sum = sum_of(header);
}

static int refuse(int error, const char **ret_why, const char *why)
{
        *ret_why = why;
        return error;
}

static bool section_fits(const struct memory_section *section, uint64_t begin, uint64_t size)
{
        if (section->item_size == 0 || section->item_size % 8 != 0 ||
            section->item_size > ITEM_SIZE_MAX)
                return false;
        if (section->offset < begin || section->offset % 8 != 0 || section->offset > size)
                return false;
        return (uint64_t)section->n_items * section->item_size <= size - section->offset;
}

int memory_layout_check(const struct memory_header *header, uint64_t size, const char **ret_why)
{
        uint64_t begin;

        if (size < sizeof(*header))
                return refuse(-EBADMSG, ret_why, "it is too short");
        if (memcmp(header->magic, MAGIC, sizeof(MAGIC)) != 0)
                return refuse(-EBADMSG, ret_why, "it does not begin as one of ours");
        if (header->version != MEMORY_VERSION)
                return refuse(-EPROTO, ret_why, "its header is of another version");
        begin = sizeof(*header) + (uint64_t)header->n_sections * header->section_size;
        if (header->section_size < sizeof(struct memory_section) || header->section_size % 8 != 0 ||
            header->section_size > PAGE || header->n_sections > SECTIONS_MAX || begin > size)
                return refuse(-EBADMSG, ret_why, "its table of sections does not fit into it");
        if (header->sum != sum_of(header))
                return refuse(-EBADMSG, ret_why, "the checksum of its header is wrong");
        if (header->size != size)
                return refuse(-EBADMSG, ret_why, "it has not got the size that it says");

        for (size_t i = 0; i < header->n_sections; i++) {
                const struct memory_section *section = section_at(header, i);

                if (!section_fits(section, begin, size))
                        return refuse(-EBADMSG, ret_why, "a section does not fit into it");
                if (atomic_load(&section->used) > section->n_items)
                        return refuse(-EBADMSG, ret_why,
                                      "more of a section is used than there can be");
        }
        return 0;
}

bool memory_layout_equal(const struct memory_header *a, const struct memory_header *b)
{
        if (memcmp(a, b, offsetof(struct memory_header, sections)) != 0)
                return false;
        for (size_t i = 0; i < a->n_sections; i++)
                if (memcmp(section_at(a, i), section_at(b, i),
                           offsetof(struct memory_section, used)) != 0)
                        return false;
        return true;
}

static const char *record_at(const struct memory_header *header,
                             const struct memory_section *section, uint32_t i)
{
        return (const char *)header + section->offset + (uint64_t)i * section->item_size;
}

/* How many have to be copied: all up to the last in use, though it may not have a place. */
static uint32_t count_used(const struct memory_header *header, const struct memory_section *section,
                           const struct memory_kind *kind, uint32_t places)
{
        uint32_t n = atomic_load(&section->used);

        while (n > places && kind->key != MEMORY_NO_KEY) {
                uint64_t key;

                memcpy(&key, record_at(header, section, n - 1) + kind->key, sizeof(key));
                if (key != 0)
                        break;
                n--;
        }
        return n;
}

static int copy_section(const struct memory_kind *kind, const struct memory_header *from,
                        const struct memory_section *section, struct memory_header *to,
                        size_t first, const char **ret_why)
{
        static char why[96];
        uint32_t places = section->number < kind->n_sections ? kind->n_items : 0;
        uint32_t n;
        struct memory_section *target;

        if (section->item_size < kind->least) {
                (void)snprintf(why, sizeof(why), "records of %s are too short", kind->what);
                return refuse(-EPROTO, ret_why, why);
        }
        n = count_used(from, section, kind, places);
        if (n > places) {
                (void)snprintf(why, sizeof(why), "it has more %s than there is room for",
                               kind->what);
                return refuse(-EPROTO, ret_why, why);
        }
        if (n == 0)
                return 0;
        target = section_at(to, first + section->number);
        for (uint32_t i = 0; i < n; i++)
                memcpy((char *)record_at(to, target, i), record_at(from, section, i),
                       MIN(section->item_size, target->item_size));
        atomic_store(&target->used, n);
        return 0;
}

int memory_layout_copy(const struct memory_kind *kinds, size_t n_kinds,
                       const struct memory_header *from, struct memory_header *to,
                       const char **ret_why)
{
        static char why[96];

        for (size_t i = 0; i < from->n_sections; i++) {
                const struct memory_section *section = section_at(from, i);
                size_t first = 0, kind = 0;
                int r;

                if (atomic_load(&section->used) == 0)
                        continue;
                while (kind < n_kinds && (uint32_t)kinds[kind].type != section->type)
                        first += kinds[kind++].n_sections;
                if (kind == n_kinds && section->flags & MEMORY_NEEDED) {
                        (void)snprintf(why, sizeof(why),
                                       "it cannot do without a section of type %" PRIu32
                                       ", which this build does not know",
                                       section->type);
                        return refuse(-EPROTO, ret_why, why);
                }
                if (kind == n_kinds)
                        continue;
                r = copy_section(&kinds[kind], from, section, to, first, ret_why);
                if (r < 0)
                        return r;
        }
        return 0;
}
