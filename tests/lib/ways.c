/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ways.h"

const struct way ways[N_WAYS] = {
        { "sync, page list", WAY_PAGE_LIST, false },
        { "sync, bvec", WAY_BVEC, false },
        { "sync, vm", WAY_VM, false },
        { "async, page list", WAY_PAGE_LIST, true },
        { "async, bvec", WAY_BVEC, true },
        { "async, vm", WAY_VM, true },
};

struct page_list *page_list_new(void *data, size_t length)
{
        size_t offset = (size_t)((char *)data - (char *)page_address(virt_to_page(data)));
        size_t n_pages = (offset + length + DMIO_PAGE_SIZE - 1) / DMIO_PAGE_SIZE;
        struct page_list *list = calloc(n_pages, sizeof(*list));

        assert_non_null(list);
        for (size_t i = 0; i < n_pages; i++) {
                list[i].page = virt_to_page(data) + i;
                list[i].next = i + 1 < n_pages ? &list[i + 1] : NULL;
        }
        return list;
}

struct bio_vec *bvec_new(void *data, size_t length, const unsigned int *lengths, size_t n_lengths)
{
        struct bio_vec *vectors = NULL;
        size_t done = 0, n = 0;
        char *at = data;

        while (done < length) {
                unsigned int piece = lengths[n % n_lengths];

                if (piece > length - done)
                        piece = (unsigned int)(length - done);
                vectors = reallocarray(vectors, n + 2, sizeof(*vectors));
                assert_non_null(vectors);
                vectors[n] = (struct bio_vec){
                        .bv_page = virt_to_page(at + done),
                        .bv_len = piece,
                        .bv_offset = (unsigned int)((uintptr_t)(at + done) % DMIO_PAGE_SIZE),
                };
                done += piece;
                n++;
        }
        assert_non_null(vectors);
        vectors[n] = (struct bio_vec){ .bv_page = NULL };
        return vectors;
}

/* What the call itself returned; the completion is for the asynchronous ones. */
static int way_call(const struct way *way, unsigned int n_regions, struct io_region *where, int rw,
                    void *data, size_t length, unsigned long *bits, struct completion *completion)
{
        static const unsigned int lengths[] = { 4096, 512, 1536, 8192 };
        struct page_list *list;
        struct bio_vec *vectors;
        unsigned int offset;
        int r;

        switch (way->memory) {
        case WAY_PAGE_LIST:
                list = page_list_new(data, length);
                offset = (unsigned int)((uintptr_t)data % DMIO_PAGE_SIZE);
                r = way->async ? dm_io_async(n_regions, where, rw, list, offset, completion_notify,
                                             completion)
                               : dm_io_sync(n_regions, where, rw, list, offset, bits);
                free(list);
                return r;
        case WAY_BVEC:
                vectors = bvec_new(data, length, lengths, 4);
                r = way->async ? dm_io_async_bvec(n_regions, where, rw, vectors, completion_notify,
                                                  completion)
                               : dm_io_sync_bvec(n_regions, where, rw, vectors, bits);
                free(vectors);
                return r;
        case WAY_VM:
                return way->async ? dm_io_async_vm(n_regions, where, rw, data, completion_notify,
                                                   completion)
                                  : dm_io_sync_vm(n_regions, where, rw, data, bits);
        }
        return -EINVAL;
}

int way_io(const struct way *way, unsigned int n_regions, struct io_region *where, int rw,
           void *data, size_t length, unsigned long *ret_bits)
{
        struct completion completion = COMPLETION_INIT;
        int r;

        r = way_call(way, n_regions, where, rw, data, length, ret_bits, &completion);
        if (!way->async || r < 0)
                return r;
        completion_wait(&completion, 1);
        *ret_bits = completion.bits;
        return completion.bits ? -EIO : 0;
}

int way_io_refused(const struct way *way, unsigned int n_regions, struct io_region *where, int rw,
                   void *data, size_t length)
{
        const unsigned long untouched = 0xa5a5;
        struct completion refused = COMPLETION_INIT, after = COMPLETION_INIT;
        unsigned long bits = untouched;
        int r;

        r = way_call(way, n_regions, where, rw, data, length, &bits, &refused);
        assert_true(r < 0);
        assert_int_equal(bits, untouched);

        /* Were a callback on its way, it would come before that of a later, empty request. */
        assert_int_equal(dm_io_async_vm(0, NULL, DM_IO_WRITE, NULL, completion_notify, &after), 0);
        completion_wait(&after, 1);
        assert_int_equal(refused.calls, 0);
        return r;
}
