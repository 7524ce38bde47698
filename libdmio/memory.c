/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"
#include "util/macros.h"

/* Append [base, base + length), merged with the range before if it continues that one. */
static int memory_append(struct memory *memory, void *base, size_t length)
{
        struct memory_block *block = memory->last;
        struct iovec *tail = NULL;

        if (block)
                tail = &block->iov[block->n - 1];
        else if (memory->n > 0)
                tail = &memory->iov[memory->n - 1];
        if (tail && (char *)tail->iov_base + tail->iov_len == base) {
                tail->iov_len += length;
                return 0;
        }

        if (!block && memory->n < MEMORY_INLINE) {
                memory->iov[memory->n++] = (struct iovec){ base, length };
                return 0;
        }
        if (!block || block->n == MEMORY_BLOCK_IOV) {
                block = slab_get(memory->blocks, memory->account);
                if (!block)
                        return -ENOMEM;
                block->next = NULL;
                block->n = 0;
                if (memory->last)
                        memory->last->next = block;
                else
                        memory->more = block;
                memory->last = block;
        }
        block->iov[block->n++] = (struct iovec){ base, length };
        return 0;
}

/*
 * The offset counts in the first page only; when a circular list comes around to that page again,
 * it is used from its beginning. So whole pages are kept and the cursor starts at the offset.
 */
static int memory_add_pages(struct memory *memory, const struct dm_io_memory *from, uint64_t bytes)
{
        const struct page_list *first = from->ptr.pl;
        uint64_t got = 0;
        int r;

        if (from->offset >= DMIO_PAGE_SIZE)
                return -EINVAL;
        memory->start = from->offset;
        bytes += from->offset;
        for (const struct page_list *link = first; got < bytes; link = link->next) {
                if (!link || !link->page)
                        return -EINVAL;
                if (link == first && got > 0) {
                        memory->circular = true;
                        return 0;
                }
                r = memory_append(memory, page_address(link->page), DMIO_PAGE_SIZE);
                if (r < 0)
                        return r;
                got += DMIO_PAGE_SIZE;
        }
        return 0;
}

static int memory_add_bvec(struct memory *memory, const struct dm_io_memory *from, uint64_t bytes)
{
        const struct bio_vec *bvec = from->ptr.bvec;
        uint64_t length;
        int r;

        for (unsigned int i = 0; bytes > 0; i++) {
                if (from->n_bvec > 0 ? i == from->n_bvec : !bvec[i].bv_page)
                        return -EINVAL;
                if (bvec[i].bv_len == 0)
                        continue;
                if (!bvec[i].bv_page)
                        return -EINVAL;
                length = MIN((uint64_t)bvec[i].bv_len, bytes);
                r = memory_append(memory, (char *)page_address(bvec[i].bv_page) + bvec[i].bv_offset,
                                  length);
                if (r < 0)
                        return r;
                bytes -= length;
        }
        return 0;
}

void memory_init_empty(struct memory *memory)
{
        memory->blocks = NULL;
        memory->account = NULL;
        memory->more = memory->last = NULL;
        memory->start = 0;
        memory->circular = false;
        memory->shared = false;
        memory->n = 0;
}

int memory_init(struct memory *memory, const struct dm_io_memory *from, uint64_t bytes,
                struct slab *blocks, struct slab_account *account)
{
        int r = 0;

        memory_init_empty(memory);
        memory->blocks = blocks;
        memory->account = account;
        if (bytes == 0)
                return 0;
        if (!from->ptr.addr)
                return -EINVAL;

        switch (from->type) {
        case DM_IO_PAGE_LIST:
                r = memory_add_pages(memory, from, bytes);
                break;
        case DM_IO_BVEC:
                r = memory_add_bvec(memory, from, bytes);
                break;
        case DM_IO_VMA:
        case DM_IO_KMEM:
                if (bytes > SIZE_MAX - (uintptr_t)from->ptr.addr)
                        r = -EINVAL;
                else
                        r = memory_append(memory, from->ptr.addr, bytes);
                break;
        default:
                r = -EINVAL;
        }
        if (r < 0)
                memory_deinit(memory);
        return r;
}

void memory_deinit(struct memory *memory)
{
        struct memory_block *next;

        for (struct memory_block *block = memory->more; block; block = next) {
                next = block->next;
                slab_put(memory->blocks, memory->account, block);
        }
        memory->more = memory->last = NULL;
}

struct memory_cursor memory_begin(const struct memory *memory)
{
        return (struct memory_cursor){ .memory = memory, .offset = memory->start };
}

/* The rest of the range under the cursor; moves to the next one, or around, at the end of one. */
static struct iovec cursor_range(struct memory_cursor *cursor)
{
        for (;;) {
                const struct memory_block *block = cursor->block;
                size_t n = block ? block->n : cursor->memory->n;
                const struct iovec *iov = block ? block->iov : cursor->memory->iov;

                if (cursor->index < n && cursor->offset < iov[cursor->index].iov_len) {
                        iov += cursor->index;
                        return (struct iovec){ (char *)iov->iov_base + cursor->offset,
                                               iov->iov_len - cursor->offset };
                }
                cursor->offset = 0;
                if (cursor->index + 1 < n) {
                        cursor->index++;
                } else {
                        cursor->index = 0;
                        cursor->block = block ? block->next : cursor->memory->more;
                        /* memory_init() made sure that only a circular list is walked past here. */
                }
        }
}

size_t memory_take(struct memory_cursor *cursor, struct iovec *iov, size_t max, size_t bytes,
                   size_t *ret_bytes)
{
        size_t n = 0, taken = 0;

        while (n < max && taken < bytes) {
                iov[n] = cursor_range(cursor);
                iov[n].iov_len = MIN(iov[n].iov_len, bytes - taken);
                cursor->offset += iov[n].iov_len;
                taken += iov[n].iov_len;
                n++;
        }
        *ret_bytes = taken;
        return n;
}

void memory_skip(struct memory_cursor *cursor, size_t bytes)
{
        while (bytes > 0) {
                size_t n = MIN(cursor_range(cursor).iov_len, bytes);

                cursor->offset += n;
                bytes -= n;
        }
}

enum copy { COPY_FROM, COPY_TO, COPY_ZERO };

/*
 * An ordinary copy touches the memory and is answered by SIGBUS if its file was truncated. The
 * kernel, asked to copy within this process, answers EFAULT.
 */
int memory_copy_shared(void *to, const void *from, size_t bytes, bool remote_is_to)
{
        struct iovec local = { remote_is_to ? (void *)from : to, bytes };
        struct iovec remote = { remote_is_to ? to : (void *)from, bytes };
        ssize_t n = remote_is_to ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
                                 : process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

        return n == (ssize_t)bytes ? 0 : -EFAULT;
}

static int memory_copy(struct memory_cursor *cursor, char *flat, size_t bytes, enum copy copy)
{
        static const char zeroes[DMIO_PAGE_SIZE];
        bool shared = cursor->memory->shared;
        int r, result = 0;

        while (bytes > 0) {
                struct iovec range = cursor_range(cursor);
                size_t n = MIN(range.iov_len, bytes);

                if (copy == COPY_ZERO && shared)
                        n = MIN(n, sizeof(zeroes));
                if (shared) {
                        r = copy == COPY_FROM
                                    ? memory_copy_shared(flat, range.iov_base, n, false)
                                    : memory_copy_shared(range.iov_base,
                                                         copy == COPY_ZERO ? zeroes : flat, n,
                                                         true);
                        result = result ?: r;
                } else if (copy == COPY_FROM) {
                        memcpy(flat, range.iov_base, n);
                } else if (copy == COPY_TO) {
                        memcpy(range.iov_base, flat, n);
                } else {
                        memset(range.iov_base, 0, n);
                }
                cursor->offset += n;
                flat += copy == COPY_ZERO ? 0 : n;
                bytes -= n;
        }
        return result;
}

int memory_copy_from(struct memory_cursor *cursor, void *to, size_t bytes)
{
        return memory_copy(cursor, to, bytes, COPY_FROM);
}

int memory_copy_to(struct memory_cursor *cursor, const void *from, size_t bytes)
{
        return memory_copy(cursor, (char *)(uintptr_t)from, bytes, COPY_TO);
}

int memory_zero(struct memory_cursor *cursor, size_t bytes)
{
        return memory_copy(cursor, NULL, bytes, COPY_ZERO);
}

uint64_t memory_once_around(const struct memory *memory)
{
        uint64_t bytes = 0;

        for (unsigned int i = 0; i < memory->n; i++)
                bytes += memory->iov[i].iov_len;
        for (const struct memory_block *block = memory->more; block; block = block->next)
                for (size_t i = 0; i < block->n; i++)
                        bytes += block->iov[i].iov_len;
        return bytes;
}
