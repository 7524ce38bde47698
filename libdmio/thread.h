/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Threads of the library. Signals are the program's business: none of them takes any. */

#include <pthread.h>
#include <signal.h>

/* Returns 0 or a negative errno. */
static inline int thread_start(pthread_t *ret, void *(*fn)(void *argument), void *argument)
{
        sigset_t all, old;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = -pthread_create(ret, NULL, fn, argument);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return r;
}
