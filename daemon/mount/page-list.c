/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdint.h>
#include <string.h>

#include "mount/page-list.h"
#include "util/macros.h"

struct page_list *page_list_at(struct page_list *list, size_t n)
{
        while (n-- > 0)
                list = list->next;
        return list;
}

struct page_list *page_list_cut(struct page_list *list, size_t n)
{
        struct page_list *last = page_list_at(list, n - 1);
        struct page_list *rest = last->next;

        last->next = NULL;
        return rest;
}

/* A place in a list. */
struct cursor {
        const struct page_list *link;
        size_t offset; /* in its page; below its size */
};

static struct cursor cursor_at(const struct page_list *list, size_t offset)
{
        for (; offset >= DMIO_PAGE_SIZE; offset -= DMIO_PAGE_SIZE)
                list = list->next;
        return (struct cursor){ list, offset };
}

static uint8_t *cursor_address(const struct cursor *cursor)
{
        return (uint8_t *)page_address(cursor->link->page) + cursor->offset;
}

static void cursor_advance(struct cursor *cursor, size_t n)
{
        cursor->offset += n;
        if (cursor->offset == DMIO_PAGE_SIZE) {
                cursor->link = cursor->link->next;
                cursor->offset = 0;
        }
}

void page_list_copy(struct page_list *to, size_t to_offset, const struct page_list *from,
                    size_t from_offset, size_t length)
{
        struct cursor target = cursor_at(to, to_offset);
        struct cursor source = cursor_at(from, from_offset);

        while (length > 0) {
                size_t n = MIN(length, DMIO_PAGE_SIZE - MAX(target.offset, source.offset));

                memcpy(cursor_address(&target), cursor_address(&source), n);
                cursor_advance(&target, n);
                cursor_advance(&source, n);
                length -= n;
        }
}

void page_list_zero(struct page_list *list, size_t offset, size_t length)
{
        struct cursor cursor = cursor_at(list, offset);

        while (length > 0) {
                size_t n = MIN(length, DMIO_PAGE_SIZE - cursor.offset);

                memset(cursor_address(&cursor), 0, n);
                cursor_advance(&cursor, n);
                length -= n;
        }
}

void page_list_read(const struct page_list *list, size_t offset, void *buffer, size_t length)
{
        struct cursor cursor = cursor_at(list, offset);
        uint8_t *p = buffer;

        while (length > 0) {
                size_t n = MIN(length, DMIO_PAGE_SIZE - cursor.offset);

                memcpy(p, cursor_address(&cursor), n);
                cursor_advance(&cursor, n);
                p += n;
                length -= n;
        }
}

size_t page_list_to_iovec(const struct page_list *list, size_t offset, size_t length,
                          struct iovec *iov)
{
        struct cursor cursor = cursor_at(list, offset);
        size_t n_iov = 0;

        while (length > 0) {
                size_t n = MIN(length, DMIO_PAGE_SIZE - cursor.offset);
                uint8_t *p = cursor_address(&cursor);

                if (n_iov > 0 && (uint8_t *)iov[n_iov - 1].iov_base + iov[n_iov - 1].iov_len == p)
                        iov[n_iov - 1].iov_len += n;
                else
                        iov[n_iov++] = (struct iovec){ p, n };
                cursor_advance(&cursor, n);
                length -= n;
        }
        return n_iov;
}
