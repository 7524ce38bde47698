/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "starve.h"

#if defined(__clang__) && defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STARVE_NOT_HERE
#endif
#endif

#ifdef STARVE_NOT_HERE

bool starve_works(void)
{
        return false;
}

void starve_after(unsigned int n)
{
}

unsigned int starve_end(void)
{
        return 0;
}

#else

static _Atomic(bool) starving;
static _Atomic(int) left;
static _Atomic(unsigned int) n_failed;

bool starve_works(void)
{
        return true;
}

void starve_after(unsigned int n)
{
        atomic_store(&n_failed, 0);
        atomic_store(&left, (int)n);
        atomic_store(&starving, true);
}

unsigned int starve_end(void)
{
        atomic_store(&starving, false);
        return atomic_load(&n_failed);
}

static bool fails(void)
{
        if (!atomic_load_explicit(&starving, memory_order_relaxed) ||
            atomic_fetch_sub(&left, 1) > 0)
                return false;
        atomic_fetch_add(&n_failed, 1);
        errno = ENOMEM;
        return true;
}

void *aligned_alloc(size_t align, size_t size)
{
        static _Atomic(void *(*)(size_t, size_t)) next;
        void *(*fn)(size_t, size_t) = atomic_load(&next);

        if (!fn) {
                fn = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "aligned_alloc");
                atomic_store(&next, fn);
        }
        return fails() ? NULL : fn(align, size);
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
        return fails() ? MAP_FAILED : fn(address, size, protection, flags, fd, offset);
}

#endif
