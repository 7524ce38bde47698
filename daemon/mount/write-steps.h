/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The way of a write, from its data in pages of the client to the reply:
 *
 *      range lock -> blocks that it covers in part are read and merged -> legs -> reply
 */

#include <stdint.h>

struct page_list;
struct transfer;

/* Pages that @bytes need. */
unsigned int transfer_pages_of(uint64_t bytes);

/* Pages that the blocks at the ends need, if they are covered in part. */
unsigned int transfer_edge_pages(const struct transfer *transfer);

/* Have these blocks in the pages from @spare on. */
void transfer_set_edges(struct transfer *transfer, struct page_list *spare);

/* Lay the payload into the transfer's pages, and see to the edges, which lie behind the data. */
void write_fill(struct transfer *transfer, const struct page_list *payload);

/* Something could not be made durable: every open file of the export is to hear of it. */
void write_flush_failed(struct transfer *transfer);

/* The data is in the pages: write it, answer, end. */
void write_start(struct transfer *transfer);
