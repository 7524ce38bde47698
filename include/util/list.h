/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A doubly linked ring: the head is a link like the others. A link that is in no list points to
 * itself (LIST_INIT, or after list_unlink()), so unlinking twice is harmless.
 */

#include <stdbool.h>
#include <stddef.h>

struct list {
        struct list *next;
        struct list *prev;
};

#define LIST_INIT(name)                                                                            \
        {                                                                                          \
                &(name), &(name)                                                                   \
        }

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

static inline void list_init(struct list *list)
{
        list->next = list;
        list->prev = list;
}

static inline bool list_is_empty(const struct list *list)
{
        return list->next == list;
}

static inline void list_append(struct list *head, struct list *link)
{
        link->next = head;
        link->prev = head->prev;
        head->prev->next = link;
        head->prev = link;
}

static inline void list_prepend(struct list *head, struct list *link)
{
        list_append(head->next, link);
}

static inline void list_unlink(struct list *link)
{
        link->prev->next = link->next;
        link->next->prev = link->prev;
        list_init(link);
}

/* The first entry, or NULL. */
#define list_first(head, type, member)                                                             \
        (list_is_empty(head) ? NULL : container_of((head)->next, type, member))

#define list_for_each(entry, head, member)                                                         \
        for (entry = container_of((head)->next, __typeof__(*entry), member);                       \
             &entry->member != (head);                                                             \
             entry = container_of(entry->member.next, __typeof__(*entry), member))

/* The body may unlink and free the entry it is given, and no other. */
#define list_for_each_safe(entry, after, head, member)                                             \
        for (entry = container_of((head)->next, __typeof__(*entry), member),                       \
            after = container_of(entry->member.next, __typeof__(*entry), member);                  \
             &entry->member != (head);                                                             \
             entry = after, after = container_of(entry->member.next, __typeof__(*entry), member))
