/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Cleanup by scope. A variable declared with DMIO_CLEANUP(fn) hands its address to fn when it goes
 * out of scope; DMIO_TAKE(variable) hands the value over and leaves NULL (DMIO_TAKE_FD: -EBADF).
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DMIO_CLEANUP(fn) __attribute__((__cleanup__(fn)))

#define DMIO_TAKE(variable)                                                                        \
        ({                                                                                         \
                __typeof__(variable) *take_p_ = &(variable);                                       \
                __typeof__(variable) take_v_ = *take_p_;                                           \
                *take_p_ = NULL;                                                                   \
                take_v_;                                                                           \
        })

#define DMIO_TAKE_FD(variable)                                                                     \
        ({                                                                                         \
                int *take_p_ = &(variable);                                                        \
                int take_v_ = *take_p_;                                                            \
                *take_p_ = -EBADF;                                                                 \
                take_v_;                                                                           \
        })

/* Defines FNp(), which calls FN on what a TYPE * variable points to. */
#define DMIO_DEFINE_CLEANUP(type, fn)                                                              \
        static inline void fn##p(type **p)                                                         \
        {                                                                                          \
                if (*p)                                                                            \
                        (void)fn(*p);                                                              \
        }

static inline void freep(void *p)
{
        free(*(void **)p);
}

DMIO_DEFINE_CLEANUP(FILE, fclose)

/* close(2) that keeps errno and takes what is not open. Returns -EBADF, to be stored back. */
static inline int close_fd(int fd)
{
        if (fd >= 0) {
                int saved = errno;

                (void)close(fd);
                errno = saved;
        }
        return -EBADF;
}

static inline void close_fdp(int *fd)
{
        *fd = close_fd(*fd);
}
