/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>

#include "model/counters-file.h"
#include "mount/counted.h"
#include "mount/mount-internal.h"

_Static_assert(COUNTERS_SLOTS == MEMORY_SLOTS * MEMORY_QUEUES, "one for each slot");
_Static_assert(COUNTERS_QUEUES == MEMORY_QUEUES, "a lane for each queue thread");

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static uint32_t without_doubles(uint64_t *uniques, uint32_t n)
{
        uint32_t kept = 0;

        qsort(uniques, n, sizeof(*uniques), compare);
        for (uint32_t i = 0; i < n; i++)
                if (kept == 0 || uniques[i] != uniques[kept - 1])
                        uniques[kept++] = uniques[i];
        return kept;
}

/* Those in slots of the dead process; where @ret is NULL they are only counted. */
static uint32_t find_in_slots(const struct mount *mount, uint64_t *ret)
{
        const struct counters_file *file = mount->model->counters;
        uint32_t n = 0;

        for (unsigned int queue = 0; queue < MEMORY_QUEUES; queue++) {
                uint32_t first = queue * MEMORY_SLOTS;
                uint32_t end = first + memory_file_slots_used(&mount->memory, queue);

                for (uint32_t i = first; i < end; i++) {
                        uint64_t unique = memory_slot_unique(&mount->memory.slots[i]);

                        if (unique == 0 || atomic_load(&file->counted[i]) != unique)
                                continue;
                        if (ret)
                                ret[n] = unique;
                        n++;
                }
        }
        return n;
}

int counted_collect(struct mount *mount)
{
        struct counters_file *file = mount->model->counters;
        struct counted *counted = &mount->counted;
        const uint64_t *carried = NULL;
        uint32_t n_carried, n;

        if (!file)
                return 0;
        n_carried = counters_file_carried(file, &carried);
        n = find_in_slots(mount, NULL);
        counted->uniques = calloc((size_t)n + n_carried + 1, sizeof(*counted->uniques));
        if (!counted->uniques)
                return -ENOMEM;
        (void)find_in_slots(mount, counted->uniques);
        for (uint32_t i = 0; i < n_carried; i++)
                counted->uniques[n++] = carried[i];

        n = without_doubles(counted->uniques, n);
        counters_file_carry(file, counted->uniques, n);
        atomic_store(&counted->n, n);
        return 0;
}

void counted_settled(struct mount *mount)
{
        atomic_store(&mount->counted.n, 0);
        if (mount->model->counters)
                counters_file_carried_over(mount->model->counters);
}

void counted_none(struct mount *mount)
{
        if (mount->model->counters)
                counters_file_forget_requests(mount->model->counters);
}

void counted_deinit(struct counted *counted)
{
        free(counted->uniques);
        *counted = (struct counted){ 0 };
}

uint32_t counted_slot(const struct mount *mount, const struct memory_slot *slot)
{
        return (uint32_t)(slot - mount->memory.slots);
}

bool counted_before(struct mount *mount, uint64_t unique, const struct memory_slot *slot)
{
        uint32_t n = atomic_load_explicit(&mount->counted.n, memory_order_relaxed);

        if (n == 0)
                return false;
        unique &= ~MEMORY_UNIQUE_RESENT;
        if (!bsearch(&unique, mount->counted.uniques, n, sizeof(unique), compare))
                return false;
        if (slot)
                atomic_store(&mount->model->counters->counted[counted_slot(mount, slot)], unique);
        return true;
}
