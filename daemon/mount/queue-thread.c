/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory-pressure.h"
#include "mount/mount-internal.h"
#include "mount/page-list.h"
#include "mount/queue-thread-internal.h"
#include "mount/resume.h"
#include "mount/transfer.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

/*
 * Spinning: polling for a while before going to sleep spares the client the time that it takes to
 * wake us, which is longer than many devices need. It is worth it while something arrives within
 * that time; how often it did lately is the score. A sleep that was shorter than the spin and the
 * waking together counts as one that spinning would have spared.
 */
#define SPIN_SCORE_MAX 8U
#define SPIN_MISS 2U
#define WAKE_USEC 30

/* Of the slots of a thread there are more than a test can fill; so many in their place. */
#define FEW_SLOTS "DMIO_TEST_SLOTS"

/* As much as a loop device has under way at most. */
#define TRANSFERS_PROVIDED 128

static bool thread_is_idle(const struct queue_thread *thread)
{
        if (thread->n_transfers > 0)
                return false;
        for (unsigned int i = 0; i < thread->n_windows; i++)
                if (thread->windows[i].receiving || thread->windows[i].waiting)
                        return false;
        return true;
}

/* Payloads are parked wherever there is room, and nobody can be received any more. */
static bool thread_is_full(const struct queue_thread *thread)
{
        if (thread->n_parked == 0 || thread->extra_pages >= PARKED_PAGES_MAX)
                return false;
        for (unsigned int i = 0; i < thread->n_windows; i++)
                if (!thread->windows[i].waiting)
                        return false;
        return true;
}

static bool thread_reserve_more(struct queue_thread *thread)
{
        unsigned int n = MAX(thread->extra_pages, (unsigned int)DMIO_POOL_CHUNK_PAGES);

        n = MIN(n, PARKED_PAGES_MAX - thread->extra_pages);
        if (dm_io_client_get(thread->mount->io, n) < 0)
                return false;
        thread->extra_pages += n;
        return true;
}

void queue_thread_look_at_stall(struct queue_thread *thread, uint64_t now)
{
        if (!thread_is_full(thread))
                thread->stalled_usec = 0;
        else if (thread->stalled_usec == 0)
                thread->stalled_usec = now;
        else if (now - thread->stalled_usec >= STALL_USEC && thread_reserve_more(thread))
                thread->stalled_usec = 0;
}

/* For how long the thread may sleep, in microseconds, or -1. */
static int64_t thread_timeout(const struct queue_thread *thread)
{
        int64_t timeout = interrupts_timeout(thread);

        return timeout < 0 && thread->stalled_usec > 0 ? STALL_USEC : timeout;
}

static int thread_process(struct queue_thread *thread)
{
        unsigned int spin = thread->spin_score > 0 ? thread->mount->spin_usec : 0;
        uint64_t begin, end, elapsed;
        int r;

        begin = now_usec();
        r = dmio_queue_process(thread->queue, thread_timeout(thread), spin);
        interrupts_answer(thread);
        end = now_usec();
        queue_thread_look_at_stall(thread, end);
        elapsed = end - begin;

        if (elapsed <= thread->mount->spin_usec + (spin > 0 ? 0 : WAKE_USEC))
                thread->spin_score = MIN(thread->spin_score + 1, SPIN_SCORE_MAX);
        else
                thread->spin_score -= MIN(thread->spin_score, SPIN_MISS);
        return r;
}

void queue_thread_drain_begin(struct queue_thread *thread)
{
        if (thread->draining)
                return;
        thread->draining = true;
        for (unsigned int i = 0; i < thread->n_windows; i++)
                if (thread->windows[i].receiving)
                        dmio_queue_cancel(thread->queue, &thread->windows[i].op);
}

static void drain_task(struct dmio_task *task)
{
        struct queue_thread *thread = container_of(task, struct queue_thread, drain_task);

        queue_thread_drain_begin(thread);
        thread->drained = false;
}

static void stop_task(struct dmio_task *task)
{
        struct queue_thread *thread = container_of(task, struct queue_thread, stop_task);

        queue_thread_drain_begin(thread);
        thread->stopping = true;
}

static int thread_set_up(struct queue_thread *thread)
{
        struct mount *mount = thread->mount;
        const void *init;
        size_t init_size;
        int r;

        thread->scratch = malloc(SCRATCH_SIZE);
        if (!thread->scratch)
                return -ENOMEM;

        r = dmio_queue_create(mount->model->engine, &thread->queue);
        if (r < 0)
                return log_error_errno(r, "Cannot create a queue: %m");
        interrupts_open(thread);

        r = slots_init(&thread->slots, &mount->memory, thread->index);
        if (r < 0)
                return r;
        if (getenv(FEW_SLOTS))
                thread->slots.limit = (unsigned int)strtoul(getenv(FEW_SLOTS), NULL, 10);

        init_size = memory_file_init(&mount->memory, &init);
        queue_thread_choose_layout(thread);
        if (init_size > 0) {
                r = session_replay_init(&thread->session, init, init_size);
                if (r < 0)
                        return log_error_errno(r, "Cannot set up one more session: %m");
        }
        if (memory_pressure_is_prepared_for())
                transfers_provide(thread, TRANSFERS_PROVIDED);
        return 0;
}

static void thread_begin(struct queue_thread *thread)
{
        for (unsigned int i = 0; i < thread->n_windows; i++)
                thread->windows[i].thread = thread;
        if (thread->index == 0)
                orphans_start(thread);
        if (thread->index == 0 && thread->mount->early_init)
                queue_thread_process_init(thread, thread->mount->early_init,
                                          thread->mount->early_init_size);
        if (thread->mount->resumed)
                resume_receive(thread);
        for (unsigned int i = 0; i < thread->n_windows; i++)
                if (!thread->windows[i].waiting)
                        window_receive(&thread->windows[i]);
}

static void thread_clean_up(struct queue_thread *thread)
{
        if (thread->index == 0 && thread->queue)
                orphans_stop(thread);
        for (unsigned int i = 0; i < thread->n_windows; i++)
                dmio_pages_put(thread->mount->io, thread->windows[i].pages);
        transfers_free(thread);
        slots_deinit(&thread->slots);
        interrupts_close(thread);
        (void)dmio_queue_destroy(thread->queue);
        free(thread->scratch);
}

static void *thread_main(void *userdata)
{
        struct queue_thread *thread = userdata;
        bool has_init;
        int r;

        memory_pressure_prepare_thread();
        r = thread_set_up(thread);
        if (r < 0) {
                thread_clean_up(thread);
                mount_thread_started(thread, r);
                return NULL;
        }
        has_init = queue_thread_has_init(thread);
        thread_begin(thread);
        if (has_init)
                mount_thread_started(thread, 1);

        while (!thread->stopping || !thread_is_idle(thread)) {
                r = thread_process(thread);
                if (r < 0) {
                        /* Requests can be neither finished nor answered: let go of them all. */
                        log_error_errno(r, "The ring of a queue thread failed: %m");
                        abort();
                }
                if (thread->draining && !thread->drained && thread_is_idle(thread)) {
                        thread->drained = true;
                        mount_thread_drained(thread->mount);
                }
        }

        thread_clean_up(thread);
        return NULL;
}

int queue_thread_start(struct queue_thread *thread)
{
        char name[16];
        sigset_t all, previous;
        int r;

        list_init(&thread->active);
        list_init(&thread->spare);
        thread->drained = true; /* nobody has asked */
        thread->drain_task.fn = drain_task;
        thread->stop_task.fn = stop_task;

        /* Signals are the main loop's. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &previous);
        r = pthread_create(&thread->id, NULL, thread_main, thread);
        pthread_sigmask(SIG_SETMASK, &previous, NULL);
        if (r != 0)
                return -r;

        thread->running = true;
        (void)snprintf(name, sizeof(name), "dmiod-queue-%u", thread->index);
        (void)pthread_setname_np(thread->id, name);
        return 0;
}

void queue_thread_drain(struct queue_thread *thread)
{
        dmio_queue_post(thread->queue, &thread->drain_task);
}

void queue_thread_stop(struct queue_thread *thread)
{
        if (!thread->running)
                return;
        if (thread->state >= 0)
                dmio_queue_post(thread->queue, &thread->stop_task);
        (void)pthread_join(thread->id, NULL);
        thread->running = false;
}
