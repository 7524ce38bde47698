/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One list of ranges in the order in which they came, and in each a count of the earlier ones that
 * are in its way. Entering counts them, leaving takes one from all later ones that it was in the
 * way of; whoever reaches 0 holds its range.
 *
 * Both walk the list. It is as long as the writes of one export that are in flight, at most a few
 * hundred, and the usual length is a handful: a tree would cost more than it saves.
 */

#include <assert.h>

#include "model/range-lock.h"
#include "util/macros.h"

void range_lock_init(struct range_lock *lock)
{
        pthread_mutex_init(&lock->lock, NULL);
        list_init(&lock->ranges);
}

void range_lock_deinit(struct range_lock *lock)
{
        assert(list_is_empty(&lock->ranges));
        pthread_mutex_destroy(&lock->lock);
}

static bool in_the_way(const struct range *a, const struct range *b)
{
        return !(a->shared && b->shared) &&
               ranges_overlap(a->offset, a->length, b->offset, b->length);
}

bool range_lock_acquire(struct range_lock *lock, struct range *range)
{
        struct range *earlier;
        unsigned int n_before = 0;

        pthread_mutex_lock(&lock->lock);
        list_for_each (earlier, &lock->ranges, link)
                if (in_the_way(earlier, range))
                        n_before++;
        range->n_before = n_before;
        list_append(&lock->ranges, &range->link);
        pthread_mutex_unlock(&lock->lock);

        /* Not range->n_before: it may be 0 by now, with the task on its way. */
        return n_before == 0;
}

void range_lock_replace(struct range_lock *lock, struct range *held, struct range *range)
{
        pthread_mutex_lock(&lock->lock);
        assert(held->n_before == 0 && held->offset == range->offset &&
               held->length == range->length && held->shared == range->shared);
        range->n_before = 0;
        list_append(&held->link, &range->link);
        list_unlink(&held->link);
        pthread_mutex_unlock(&lock->lock);
}

void range_lock_release(struct range_lock *lock, struct range *range)
{
        pthread_mutex_lock(&lock->lock);
        assert(range->n_before == 0);

        for (struct list *link = range->link.next; link != &lock->ranges; link = link->next) {
                struct range *later = container_of(link, struct range, link);

                if (!in_the_way(range, later))
                        continue;
                if (--later->n_before == 0)
                        dmio_queue_post(later->queue, &later->task);
        }

        list_unlink(&range->link);
        pthread_mutex_unlock(&lock->lock);
}
