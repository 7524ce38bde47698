/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The group is shared by who waits and by its threads; the last one of them frees it. Whose a call
 * is, is decided under the lock: while it is under way its thread's, and after aside_end() for
 * good.
 */

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "aside.h"
#include "log.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/macros.h"

/* What a path takes that is walked part by part, and a sanitizer. */
#define STACK_SIZE ((size_t)512 * 1024)

/* How long aside_close_fds() waits for those that answer. */
#define CLOSE_USEC 100000

enum entry_state {
        ENTRY_WAITING,
        ENTRY_RUNNING,
        ENTRY_PAUSING, /* before it is run again */
        ENTRY_BACK,
        ENTRY_LET_GO,
};

struct entry {
        struct aside_call *call; /* NULL when it has been let go */
        enum entry_state state;
        int result;
        uint64_t begun_usec;
};

struct aside {
        pthread_mutex_t lock;
        pthread_cond_t changed; /* one is back; or all are let go */
        unsigned int refs;      /* under lock, as is all that follows */
        bool (*again)(int result);
        bool ended;
        struct entry *entries;
        size_t n_entries, size;
        size_t n_begun, n_back;
        size_t width;
        uint64_t look_usec; /* when it is time to look for those that are slow */
        size_t n_slow;
};

static atomic_size_t n_threads;

static void aside_unref(struct aside *aside)
{
        bool last;

        pthread_mutex_lock(&aside->lock);
        last = --aside->refs == 0;
        pthread_mutex_unlock(&aside->lock);
        if (!last)
                return;
        pthread_cond_destroy(&aside->changed);
        pthread_mutex_destroy(&aside->lock);
        free(aside->entries);
        free(aside);
}

/* Wait for a change until so late. Under the lock. */
static void wait_until(struct aside *aside, uint64_t usec)
{
        const struct timespec end = { .tv_sec = (time_t)(usec / 1000000),
                                      .tv_nsec = (long)(usec % 1000000 * 1000) };

        (void)pthread_cond_timedwait(&aside->changed, &aside->lock, &end);
}

/* A thread of ours, which nobody joins, and which no signal comes to. */
static int start_thread(void *(*fn)(void *), void *argument)
{
        pthread_attr_t attributes;
        sigset_t all, previous;
        pthread_t thread;
        int r;

        r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;
        (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &previous);
        atomic_fetch_add(&n_threads, 1);
        r = pthread_create(&thread, &attributes, fn, argument);
        if (r != 0)
                atomic_fetch_sub(&n_threads, 1);
        pthread_sigmask(SIG_SETMASK, &previous, NULL);
        (void)pthread_attr_destroy(&attributes);
        return -r;
}

/* The call has come back. Returns true if it is to be run again. Under the lock. */
static bool come_back(struct aside *aside, struct entry *entry, int result)
{
        uint64_t next = now_usec() + ASIDE_AGAIN_USEC;

        entry->result = result;
        if (!aside->again || !aside->again(result)) {
                entry->state = ENTRY_BACK;
                aside->n_back++;
                pthread_cond_broadcast(&aside->changed);
                return false;
        }
        entry->state = ENTRY_PAUSING;
        while (!aside->ended && now_usec() < next)
                wait_until(aside, next);
        if (aside->ended)
                return false;
        entry->state = ENTRY_RUNNING;
        return true;
}

static void *call_thread(void *argument)
{
        struct aside_call *call = argument;
        struct aside *aside = call->aside;
        size_t index = call->index;
        bool let_go, again;

        do {
                int result = call->run(call);

                pthread_mutex_lock(&aside->lock);
                let_go = aside->ended;
                again = !let_go && come_back(aside, &aside->entries[index], result);
                pthread_mutex_unlock(&aside->lock);
        } while (again);

        if (let_go)
                call->drop(call);
        aside_unref(aside);
        atomic_fetch_sub(&n_threads, 1);
        return NULL;
}

int aside_new(bool (*again)(int result), struct aside **ret)
{
        pthread_condattr_t attributes;
        struct aside *aside;
        int r;

        aside = calloc(1, sizeof(*aside));
        if (!aside)
                return -ENOMEM;
        r = pthread_condattr_init(&attributes);
        if (r == 0) {
                (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
                r = pthread_cond_init(&aside->changed, &attributes);
                (void)pthread_condattr_destroy(&attributes);
        }
        if (r != 0) {
                free(aside);
                return -r;
        }
        pthread_mutex_init(&aside->lock, NULL);
        aside->refs = 1;
        aside->again = again;
        aside->width = ASIDE_WIDTH;
        *ret = aside;
        return 0;
}

int aside_add(struct aside *aside, struct aside_call *call)
{
        if (aside->n_entries == aside->size) {
                size_t size = MAX(2 * aside->size, (size_t)16);
                struct entry *larger = reallocarray(aside->entries, size, sizeof(*larger));

                if (!larger)
                        return -ENOMEM;
                aside->entries = larger;
                aside->size = size;
        }
        call->aside = aside;
        call->index = aside->n_entries;
        aside->entries[aside->n_entries++] = (struct entry){ .call = call };
        return 0;
}

/* Under the lock. Without a thread those that follow wait; there may be one later. */
static void begin_some(struct aside *aside)
{
        while (aside->n_begun < aside->n_entries &&
               aside->n_begun - aside->n_back < aside->n_slow + aside->width) {
                struct entry *entry = &aside->entries[aside->n_begun];

                aside->refs++;
                entry->state = ENTRY_RUNNING;
                entry->begun_usec = now_usec();
                if (start_thread(call_thread, entry->call) < 0) {
                        entry->state = ENTRY_WAITING;
                        aside->refs--;
                        break;
                }
                aside->n_begun++;
        }
}

/* Those that have been away for too long make room; and if many do, for more. Under the lock. */
static void look_for_slow(struct aside *aside, uint64_t now)
{
        if (now < aside->look_usec)
                return;
        aside->look_usec = now + ASIDE_SLOW_USEC;
        aside->n_slow = 0;
        for (size_t i = 0; i < aside->n_begun; i++)
                aside->n_slow += aside->entries[i].state != ENTRY_BACK &&
                                 now - aside->entries[i].begun_usec >= ASIDE_SLOW_USEC;
        if (aside->n_slow >= aside->width && aside->n_begun < aside->n_entries)
                aside->width = MIN(2 * aside->width, (size_t)ASIDE_WIDTH_MAX);
}

size_t aside_wait(struct aside *aside, uint64_t usec)
{
        uint64_t now = now_usec(), end = now + usec;
        size_t left;

        pthread_mutex_lock(&aside->lock);
        for (;;) {
                look_for_slow(aside, now);
                begin_some(aside);
                left = aside->n_entries - aside->n_back;
                now = now_usec();
                if (left == 0 || now >= end)
                        break;
                wait_until(aside,
                           aside->n_begun < aside->n_entries ? MIN(end, aside->look_usec) : end);
                now = now_usec();
        }
        pthread_mutex_unlock(&aside->lock);
        return left;
}

bool aside_all_begun(struct aside *aside)
{
        bool all;

        pthread_mutex_lock(&aside->lock);
        all = aside->n_begun == aside->n_entries;
        pthread_mutex_unlock(&aside->lock);
        return all;
}

void aside_end(struct aside *aside)
{
        pthread_mutex_lock(&aside->lock);
        for (size_t i = 0; !aside->ended && i < aside->n_begun; i++) {
                struct entry *entry = &aside->entries[i];

                if (entry->state != ENTRY_RUNNING) {
                        entry->state = ENTRY_BACK;
                        continue;
                }
                entry->state = ENTRY_LET_GO;
                entry->call = NULL;
        }
        aside->ended = true;
        pthread_cond_broadcast(&aside->changed);
        pthread_mutex_unlock(&aside->lock);
}

enum aside_outcome aside_get(const struct aside *aside, size_t index, struct aside_call **ret,
                             int *ret_result)
{
        const struct entry *entry = &aside->entries[index];

        *ret = entry->call;
        *ret_result = entry->result;
        if (entry->state == ENTRY_LET_GO)
                return ASIDE_LET_GO;
        return entry->state == ENTRY_BACK ? ASIDE_BACK : ASIDE_NOT_BEGUN;
}

static void drop_all(struct aside *aside)
{
        for (size_t i = 0; i < aside->n_entries; i++)
                if (aside->entries[i].call)
                        aside->entries[i].call->drop(aside->entries[i].call);
        aside_unref(aside);
}

static void *drop_thread(void *argument)
{
        drop_all(argument);
        atomic_fetch_sub(&n_threads, 1);
        return NULL;
}

struct aside *aside_free(struct aside *aside)
{
        if (!aside)
                return NULL;
        aside_end(aside);
        /* Rather not at all than here, where it might take for ever. */
        if (start_thread(drop_thread, aside) < 0)
                log_debug("Without a thread, %zu calls are not cleaned up after", aside->n_entries);
        return NULL;
}

size_t aside_n_threads(void)
{
        return atomic_load(&n_threads);
}

struct closing {
        struct aside_call call;
        int fd;
};

static int closing_run(struct aside_call *call)
{
        struct closing *closing = container_of(call, struct closing, call);

        closing->fd = close_fd(closing->fd);
        return 0;
}

static void closing_drop(struct aside_call *call)
{
        free(container_of(call, struct closing, call));
}

void aside_close_fds(const int *fds, size_t n)
{
        struct aside *aside;

        if (n == 0 || aside_new(NULL, &aside) < 0)
                return;
        for (size_t i = 0; i < n; i++) {
                struct closing *closing = malloc(sizeof(*closing));

                if (!closing)
                        break;
                *closing = (struct closing){
                        .call = { .run = closing_run, .drop = closing_drop },
                        .fd = fds[i],
                };
                if (aside_add(aside, &closing->call) < 0) {
                        free(closing);
                        break;
                }
        }
        (void)aside_wait(aside, CLOSE_USEC);
        aside_free(aside);
}
