/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The words that every part of libdmio shares: sectors, pages, the three ways to describe memory,
 * and the region.
 *
 * Names and shapes are those of the kernel's dm-io document (Documentation/admin-guide/
 * device-mapper/dm-io.rst), so that code written against it reads the same here.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Offsets and lengths on devices, always in units of 512 bytes, whatever the device's own block. */
typedef uint64_t sector_t;

#define DMIO_SECTOR_SHIFT 9
#define DMIO_SECTOR_SIZE (UINT64_C(1) << DMIO_SECTOR_SHIFT)

#define DMIO_PAGE_SHIFT 12
#define DMIO_PAGE_SIZE (UINT64_C(1) << DMIO_PAGE_SHIFT)

/* One bit of an "unsigned long" speaks of one region, so a request has at most this many. */
#define DM_IO_MAX_REGIONS 64

struct block_device;
struct dmio_engine;
struct dmio_queue;
struct dm_io_client;

/*
 * A page: 4096 bytes on a 4096-byte boundary. A page is its bytes, nothing more: memory from
 * aligned_alloc(), mmap() or the pool may be used as an array of pages.
 */
struct page {
        unsigned char bytes[4096] __attribute__((__aligned__(4096)));
};

/* The first byte of a page. */
static inline void *page_address(const struct page *page)
{
        return (void *)page->bytes;
}

/* The page that holds the byte at @address. */
static inline struct page *virt_to_page(const void *address)
{
        return (struct page *)((uintptr_t)address & ~(uintptr_t)(DMIO_PAGE_SIZE - 1));
}

/*
 * A list of pages, ended by a NULL next. A list may be circular: the same pages are then used
 * again and again until the region is filled (a single page of zeroes is enough to clear a disk).
 */
struct page_list {
        struct page_list *next;
        struct page *page;
};

/*
 * @bv_len bytes from byte @bv_offset of @bv_page on. The offset may be any, the length may reach
 * over the following pages if they lie behind each other in memory. A length of 0 is skipped.
 * In the calls that take no length of the array, an entry whose page is NULL ends it.
 */
struct bio_vec {
        struct page *bv_page;
        unsigned int bv_len;
        unsigned int bv_offset;
};

/*
 * A stretch of a device, in sectors: [sector, sector + count). A region with a count of 0 takes no
 * part in reads and writes.
 */
struct io_region {
        struct block_device *bdev;
        sector_t sector;
        sector_t count;
};

#ifdef __cplusplus
}
#endif
