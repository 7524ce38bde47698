/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clients of the copier: what they are made of, the loop that does their work, and their end.
 *
 * Everything that may still come to the queue's thread on a client's behalf (a job, a posted task,
 * the timer, pages that are waited for) is counted in n_busy and holds a reference, so the end of a
 * client is to wait until nothing is left.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "engine-internal.h"
#include "kcopyd-internal.h"
#include "queue-internal.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define SUB_JOB_SECTORS_DEFAULT 1024
#define SUB_JOB_SECTORS_MAX 2048
#define PAGE_SECTORS (DMIO_PAGE_SIZE / DMIO_SECTOR_SIZE)

/* Jobs for which there is memory in any case, as many as the kernel keeps. */
#define JOBS_RESERVED 8

static_assert(SUB_JOB_SECTORS_MAX / PAGE_SECTORS <= DMIO_PAGES_MAX,
              "the pages of a chunk can be asked for at once");

/* What plain writes of zeroes write. */
static struct page zero_page;

void kcopyd_unref(struct dm_kcopyd_client *kc)
{
        if (atomic_fetch_sub(&kc->refs, 1) > 1)
                return;
        slab_deinit(&kc->jobs);
        pthread_cond_destroy(&kc->changed);
        pthread_mutex_destroy(&kc->lock);
        free(kc);
}

/* What a client holds while it is open. Half of it may be missing. */
static int kcopyd_close(struct dm_kcopyd_client *kc)
{
        int r = 0;

        if (kc->owns_io)
                r = dm_io_client_destroy(kc->io);
        if (r == 0)
                kcopyd_timer_deinit(kc);
        return r;
}

static struct dm_kcopyd_client *kcopyd_new(void)
{
        struct dm_kcopyd_client *kc = calloc(1, sizeof(*kc));

        if (!kc)
                return NULL;
        atomic_init(&kc->refs, 1);
        list_init(&kc->complete);
        list_init(&kc->pages);
        list_init(&kc->ios);
        kc->zeroes = (struct page_list){ .next = &kc->zeroes, .page = &zero_page };
        kc->timer.fd = -EBADF;
        slab_init(&kc->jobs, sizeof(struct dm_kcopyd_job));
        pthread_mutex_init(&kc->lock, NULL);
        pthread_cond_init(&kc->changed, NULL);
        return kc;
}

static int kcopyd_open(struct dm_kcopyd_client *kc, struct dmio_engine *engine,
                       struct dm_io_client *io)
{
        int r;

        r = kcopyd_timer_init(kc);
        if (r < 0)
                return r;
        r = slab_reserve(&kc->jobs, &kc->jobs_account, JOBS_RESERVED);
        if (r < 0)
                return r;
        kc->io = io;
        if (!io) {
                r = dm_io_client_create(engine, (unsigned int)(kc->sub_job_sectors / PAGE_SECTORS),
                                        &kc->io);
                kc->owns_io = r == 0;
        }
        return r;
}

int dm_kcopyd_client_create(struct dmio_engine *engine, const struct dm_kcopyd_options *options,
                            struct dm_kcopyd_client **ret)
{
        static const struct dm_kcopyd_options defaults;
        struct dm_kcopyd_client *kc;
        struct dmio_queue *queue;
        int r;

        if (!options)
                options = &defaults;
        if (!engine || !ret || options->sub_job_sectors > SUB_JOB_SECTORS_MAX ||
            options->throttle > 100 || (options->io_client && options->io_client->engine != engine))
                return -EINVAL;
        queue = options->queue ?: queue_of_thread(engine) ?: dmio_engine_queue(engine);
        if (!queue || queue->engine != engine)
                return -EINVAL;

        kc = kcopyd_new();
        if (!kc)
                return -ENOMEM;
        kc->queue = queue;
        kc->sub_job_sectors =
                round_up(options->sub_job_sectors ?: SUB_JOB_SECTORS_DEFAULT, PAGE_SECTORS);
        kcopyd_throttle_init(kc, options->throttle ?: 100);
        r = kcopyd_open(kc, engine, options->io_client);
        if (r < 0) {
                (void)kcopyd_close(kc);
                kcopyd_unref(kc);
                return r;
        }
        *ret = kc;
        return 0;
}

int kcopyd_enter(struct dm_kcopyd_client *kc, bool is_job)
{
        int r = 0;

        pthread_mutex_lock(&kc->lock);
        if (is_job && kc->closing) {
                r = -ESHUTDOWN;
        } else {
                kc->n_busy++;
                kc->n_jobs += is_job;
                atomic_fetch_add(&kc->refs, 1);
        }
        pthread_mutex_unlock(&kc->lock);
        return r;
}

void kcopyd_leave(struct dm_kcopyd_client *kc, bool is_job)
{
        pthread_mutex_lock(&kc->lock);
        kc->n_busy--;
        kc->n_jobs -= is_job;
        pthread_cond_broadcast(&kc->changed);
        pthread_mutex_unlock(&kc->lock);
        kcopyd_unref(kc);
}

void kcopyd_run(struct dm_kcopyd_client *kc)
{
        struct dm_kcopyd_job *job;
        bool more;

        /* The last callback may be what the client's end has waited for. */
        atomic_fetch_add(&kc->refs, 1);
        do {
                more = false;
                while ((job = list_first(&kc->complete, struct dm_kcopyd_job, link)) != NULL) {
                        list_unlink(&job->link);
                        job_complete(job);
                        more = true;
                }
                more |= sub_jobs_run_pages(kc);
                more |= sub_jobs_run_ios(kc);
        } while (more);
        kcopyd_unref(kc);
}

/* --- waiting: by driving the queue if it is the caller's own, else nothing would ever end */

static bool kcopyd_is_done(struct dm_kcopyd_client *kc, const uint64_t *count)
{
        bool done;

        pthread_mutex_lock(&kc->lock);
        done = *count == 0;
        pthread_mutex_unlock(&kc->lock);
        return done;
}

/* Until *@count, which changes under the lock, is 0. */
static int kcopyd_wait(struct dm_kcopyd_client *kc, const uint64_t *count)
{
        int r = 1;

        while (r > 0 && !kcopyd_is_done(kc, count))
                r = queue_drive_own(kc->queue->engine);
        if (r < 0)
                return r;
        pthread_mutex_lock(&kc->lock);
        while (*count > 0)
                pthread_cond_wait(&kc->changed, &kc->lock);
        pthread_mutex_unlock(&kc->lock);
        return 0;
}

int dm_kcopyd_client_destroy(struct dm_kcopyd_client *kc)
{
        int r;

        if (!kc)
                return 0;
        if (queue_in_callback())
                return -EDEADLK;

        pthread_mutex_lock(&kc->lock);
        kc->closing = true;
        pthread_mutex_unlock(&kc->lock);
        r = kcopyd_wait(kc, &kc->n_jobs);
        if (r < 0)
                return r;
        kcopyd_timer_expire(kc); /* whatever it was for is over */
        r = kcopyd_wait(kc, &kc->n_busy);
        if (r == 0)
                r = kcopyd_close(kc);
        if (r < 0)
                return r;
        kcopyd_unref(kc);
        return 0;
}

struct flush {
        struct dmio_task task;
        struct dm_kcopyd_client *kc;
        uint64_t n_left;
};

static void flush_arrived(struct dmio_task *task)
{
        struct flush *flush = container_of(task, struct flush, task);
        struct dm_kcopyd_client *kc = flush->kc;

        pthread_mutex_lock(&kc->lock);
        flush->n_left = 0;
        pthread_cond_broadcast(&kc->changed);
        pthread_mutex_unlock(&kc->lock);
}

int dm_kcopyd_client_flush(struct dm_kcopyd_client *kc)
{
        struct flush flush = { .task.fn = flush_arrived, .kc = kc, .n_left = 1 };

        if (queue_in_callback())
                return -EDEADLK;
        dmio_queue_post(kc->queue, &flush.task);
        return kcopyd_wait(kc, &flush.n_left);
}

/* --- the throttle, seen from outside */

static void kcopyd_poked(struct dmio_task *task)
{
        struct dm_kcopyd_client *kc = container_of(task, struct dm_kcopyd_client, poke_task);

        pthread_mutex_lock(&kc->lock);
        kc->poked = false;
        pthread_mutex_unlock(&kc->lock);
        kcopyd_throttle_changed(kc);
        kcopyd_run(kc);
        kcopyd_leave(kc, false);
}

int dm_kcopyd_client_set_throttle(struct dm_kcopyd_client *kc, unsigned int percent)
{
        bool poke;

        if (!kc || percent > 100)
                return -EINVAL;
        atomic_store(&kc->throttle.percent, percent ?: 100);

        pthread_mutex_lock(&kc->lock);
        poke = kc->n_jobs > 0 && !kc->poked;
        if (poke) {
                kc->poked = true;
                kc->n_busy++;
                atomic_fetch_add(&kc->refs, 1);
        }
        pthread_mutex_unlock(&kc->lock);
        if (poke) {
                kc->poke_task.fn = kcopyd_poked;
                dmio_queue_post(kc->queue, &kc->poke_task);
        }
        return 0;
}

void dm_kcopyd_client_stats(struct dm_kcopyd_client *kc, struct dm_kcopyd_client_stats *ret)
{
        *ret = (struct dm_kcopyd_client_stats){
                .sub_jobs = atomic_load(&kc->n_sub_jobs),
                .busy_us = atomic_load(&kc->throttle.busy_us),
                .idle_us = atomic_load(&kc->throttle.idle_us),
                .pauses = atomic_load(&kc->throttle.pauses),
                .throttle = atomic_load(&kc->throttle.percent),
        };
        pthread_mutex_lock(&kc->lock);
        ret->jobs = kc->n_jobs;
        pthread_mutex_unlock(&kc->lock);
}
