/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Lists of pages as the memory that they are: bytes numbered from the first page's first on. */

#include <stddef.h>
#include <sys/uio.h>

#include <dmio/types.h>

/* The link of the page with the number @n. */
struct page_list *page_list_at(struct page_list *list, size_t n);

/* Cut after @n pages (at least 1); returns the rest, which may be NULL. */
struct page_list *page_list_cut(struct page_list *list, size_t n);

/* Copy @length bytes between lists that share no page. */
void page_list_copy(struct page_list *to, size_t to_offset, const struct page_list *from,
                    size_t from_offset, size_t length);

void page_list_zero(struct page_list *list, size_t offset, size_t length);

/* Copy out of a list. */
void page_list_read(const struct page_list *list, size_t offset, void *buffer, size_t length);

/*
 * Describe @length bytes from @offset on, pages that lie behind each other as one entry. Returns
 * the number of entries, at most one per page touched.
 */
size_t page_list_to_iovec(const struct page_list *list, size_t offset, size_t length,
                          struct iovec *iov);
