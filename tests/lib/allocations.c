/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "allocations.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NOT_HERE
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define NOT_HERE
#endif
#endif

#ifdef NOT_HERE

bool allocations_are_counted(void)
{
        return false;
}

unsigned long allocations_count(void)
{
        return 0;
}

#else

static _Atomic(unsigned long) count;

bool allocations_are_counted(void)
{
        return true;
}

unsigned long allocations_count(void)
{
        return atomic_load(&count);
}

/* The allocator's own names for what we hide. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t align, size_t size);

void *malloc(size_t size)
{
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
        return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
        return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
        return __libc_realloc(old, size);
}

void *aligned_alloc(size_t align, size_t size)
{
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
        return __libc_memalign(align, size);
}

int posix_memalign(void **ret, size_t align, size_t size)
{
        void *memory = aligned_alloc(align, size);

        if (!memory)
                return ENOMEM;
        *ret = memory;
        return 0;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
        typedef void *(*mmap_fn)(void *, size_t, int, int, int, off_t);
        static _Atomic(mmap_fn) next;
        mmap_fn fn = atomic_load(&next);

        if (!fn) {
                fn = (mmap_fn)dlsym(RTLD_NEXT, "mmap");
                atomic_store(&next, fn);
        }
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
        return fn(address, size, protection, flags, fd, offset);
}

#endif
