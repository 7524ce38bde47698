/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The classic face: the calls of the kernel's dm-io document, for whoever knows dm-io.
 *
 * One engine of the whole process stands behind them, with a thread of its own that callbacks run
 * on. It is started by the first dm_io_get() or synchronous call, and stopped by the dm_io_put()
 * that brings the pages to 0.
 *
 * Three kinds of memory, each synchronous and asynchronous: a list of pages with an offset into the
 * first one, an array of bio vectors, and plain memory. None takes a length: the memory must cover
 * the largest region. A page list that ends too early, and a bio vector array that is ended by an
 * entry without a page too early, are refused with -EINVAL.
 *
 * @where: @num_regions regions (0 to 64; a read takes one). @rw: DM_IO_READ or DM_IO_WRITE. A
 * region with a count of 0 is skipped. Bit i of the error bits speaks of where[i].
 *
 * Synchronous calls need no reservation. They return 0 if every region succeeded and -EIO if some
 * did not; *@error_bits (if not NULL) then says which. They may not be called from a callback
 * (-EDEADLK), and a signal does not end the wait.
 *
 * Asynchronous calls need a reservation (-EINVAL before the first dm_io_get()). They return 0 if
 * @fn will be called, exactly once, never inside the call, with the error bits and @context; and
 * a negative errno if it never will be. @fn may submit further asynchronous requests.
 *
 * Other errors: see dm_io() in <dmio/io.h>, whose rules for regions and memory hold here too.
 * Everything may be called from any thread.
 */

#include <dmio/device.h> // IWYU pragma: export
#include <dmio/io.h>     // IWYU pragma: export
#include <dmio/types.h>  // IWYU pragma: export

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Announce @num_pages pages of concurrent I/O; 0 is allowed and starts the engine. Gets add up.
 * Returns 0; -EINVAL for a number that overflows or exceeds the limit (half the memory); -ENOMEM
 * if the memory cannot be had. Nothing has changed on failure.
 */
int dm_io_get(unsigned int num_pages);

/*
 * Withdraw @num_pages. Returns 0; -EINVAL for more than was got; -EBUSY if this would bring the
 * pages to 0 while requests are in flight, or from a callback. Nothing has changed on failure.
 */
int dm_io_put(unsigned int num_pages);

int dm_io_sync(unsigned int num_regions, struct io_region *where, int rw, struct page_list *pl,
               unsigned int offset, unsigned long *error_bits);

int dm_io_async(unsigned int num_regions, struct io_region *where, int rw, struct page_list *pl,
                unsigned int offset, io_notify_fn fn, void *context);

int dm_io_sync_bvec(unsigned int num_regions, struct io_region *where, int rw, struct bio_vec *bvec,
                    unsigned long *error_bits);

int dm_io_async_bvec(unsigned int num_regions, struct io_region *where, int rw,
                     struct bio_vec *bvec, io_notify_fn fn, void *context);

int dm_io_sync_vm(unsigned int num_regions, struct io_region *where, int rw, void *data,
                  unsigned long *error_bits);

int dm_io_async_vm(unsigned int num_regions, struct io_region *where, int rw, void *data,
                   io_notify_fn fn, void *context);

#ifdef __cplusplus
}
#endif
