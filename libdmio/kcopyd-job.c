/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs of the copier: what may be asked for, and how it ends.
 *
 * A job is one object, sub-jobs included, of a slab of its client. It is made and checked by the
 * caller's thread and posted to the queue's, where it uses up to 8 sub-jobs until there are no
 * chunks left, or an error or a cancellation stops it. n_active counts the chunks that are under
 * way, plus one while they are being begun.
 */
#include <errno.h>

#include "kcopyd-internal.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define JOB_FLAGS (DM_KCOPYD_IGNORE_ERROR | DM_KCOPYD_WRITE_SEQ)

static bool job_has_error(const struct dm_kcopyd_job *job)
{
        return job->status.read_err || job->status.write_err;
}

static bool job_is_stopped_by_error(const struct dm_kcopyd_job *job)
{
        return job_has_error(job) && !(job->flags & DM_KCOPYD_IGNORE_ERROR);
}

bool job_goes_on(const struct dm_kcopyd_job *job)
{
        return !atomic_load(&job->cancelled) && !job_is_stopped_by_error(job);
}

/* --- errors */

static void job_stop(struct dm_kcopyd_job *job)
{
        for (unsigned int i = 0; i < DM_KCOPYD_SUB_JOBS; i++)
                sub_job_stop(&job->subs[i]);
}

/* The first one is told. */
static void error_note(struct dm_io_leg_error *first, const struct dm_io_leg_error *error)
{
        if (!first->error)
                *first = *error;
}

void job_note_read_error(struct dm_kcopyd_job *job, const struct dm_io_leg_error *error)
{
        pthread_mutex_lock(&job->client->lock);
        job->status.read_err = 1;
        error_note(&job->status.source, error);
        pthread_mutex_unlock(&job->client->lock);
        if (!job_goes_on(job))
                job_stop(job);
}

void job_note_write_errors(struct dm_kcopyd_job *job, unsigned long bits,
                           const struct dm_io_leg_error *errors)
{
        pthread_mutex_lock(&job->client->lock);
        job->status.write_err |= bits;
        for (unsigned int i = 0; i < job->num_dests; i++)
                error_note(&job->status.dests[i], &errors[i]);
        pthread_mutex_unlock(&job->client->lock);
        if (!job_goes_on(job))
                job_stop(job);
}

/* --- the way of a job, on the queue's thread */

static enum dm_kcopyd_job_state job_result(const struct dm_kcopyd_job *job)
{
        if (job_is_stopped_by_error(job))
                return DM_KCOPYD_JOB_FAILED;
        if (atomic_load(&job->cancelled) && job->status.done < job->status.total)
                return DM_KCOPYD_JOB_CANCELLED;
        return job_has_error(job) ? DM_KCOPYD_JOB_FAILED : DM_KCOPYD_JOB_DONE;
}

void job_put_active(struct dm_kcopyd_job *job)
{
        struct dm_kcopyd_client *kc = job->client;

        if (--job->n_active > 0)
                return;
        pthread_mutex_lock(&kc->lock);
        job->status.state = job_result(job);
        pthread_mutex_unlock(&kc->lock);
        list_append(&kc->complete, &job->link);
}

void job_complete(struct dm_kcopyd_job *job)
{
        struct dm_kcopyd_client *kc = job->client;

        job->fn(job->status.read_err, job->status.write_err, job->context);
        kcopyd_leave(kc, true);
        dm_kcopyd_job_unref(job);
}

static void job_start(struct dmio_task *task)
{
        struct dm_kcopyd_job *job = container_of(task, struct dm_kcopyd_job, task);

        job->n_active = 1;
        for (unsigned int i = 0; i < DM_KCOPYD_SUB_JOBS; i++)
                sub_job_begin(&job->subs[i]);
        job_put_active(job);
        kcopyd_run(job->client);
}

static void job_cancel(struct dmio_task *task)
{
        struct dm_kcopyd_job *job = container_of(task, struct dm_kcopyd_job, cancel_task);
        struct dm_kcopyd_client *kc = job->client;

        job_stop(job);
        kcopyd_run(kc);
        dm_kcopyd_job_unref(job);
        kcopyd_leave(kc, false);
}

/* --- making jobs, on the caller's thread */

static void job_free(struct dm_kcopyd_job *job)
{
        struct dm_kcopyd_client *kc = job->client;

        slab_put(&kc->jobs, &kc->jobs_account, job);
        kcopyd_unref(kc);
}

static struct dm_kcopyd_job *job_new(struct dm_kcopyd_client *kc, dm_kcopyd_notify_fn fn,
                                     void *context)
{
        struct dm_kcopyd_job *job = slab_get(&kc->jobs, &kc->jobs_account);

        if (!job)
                return NULL;
        *job = (struct dm_kcopyd_job){ .client = kc, .fn = fn, .context = context };
        atomic_init(&job->refs, 1);
        atomic_fetch_add(&kc->refs, 1);
        list_init(&job->link);
        for (unsigned int i = 0; i < DM_KCOPYD_SUB_JOBS; i++) {
                job->subs[i].job = job;
                list_init(&job->subs[i].link);
        }
        return job;
}

/*
 * Look at a region of a job. Returns 0 and whether it lies on its device, or -EINVAL; *@block
 * becomes the largest logical block so far, in sectors.
 */
static int region_check(const struct io_region *region, sector_t count, sector_t *block,
                        struct dmio_device_info *info, bool *ret_fits)
{
        sector_t own;

        if (!region->bdev || region->count != count)
                return -EINVAL;
        dmio_device_info(region->bdev, info);
        own = MAX(info->logical_block >> DMIO_SECTOR_SHIFT, 1U);
        if (!is_aligned(region->sector, own) || !is_aligned(count, own))
                return -EINVAL;
        *block = MAX(*block, own);
        *ret_fits = range_fits(region->sector, count, info->capacity);
        return 0;
}

static bool same_device(const struct dmio_device_info *a, const struct dmio_device_info *b)
{
        return a->id.device == b->id.device && a->id.inode == b->id.inode;
}

/* Take over the regions; -EINVAL for those that make no sense. */
static int job_set_regions(struct dm_kcopyd_job *job, const struct io_region *from,
                           unsigned int num_dests, const struct io_region *dests)
{
        struct dmio_device_info source = {}, dest;
        sector_t block = 1, count = dests[0].count;
        bool fits;
        int r;

        if (from) {
                r = region_check(from, count, &block, &source, &fits);
                if (r < 0)
                        return r;
                job->copies = true;
                job->from = *from;
                job->unfit_source = !fits;
        }
        for (unsigned int i = 0; i < num_dests; i++) {
                r = region_check(&dests[i], count, &block, &dest, &fits);
                if (r < 0)
                        return r;
                job->dests[i] = dests[i];
                job->plain |= dest.write_zeroes_max == 0;
                if (!fits)
                        job->unfit |= 1UL << i;
                else if (from && !job->unfit_source && same_device(&source, &dest) &&
                         ranges_overlap(from->sector, count, dests[i].sector, count))
                        return -EINVAL;
        }
        job->num_dests = num_dests;
        job->status.num_dests = num_dests;
        job->status.total = count;
        job->chunk = round_down(job->client->sub_job_sectors, block);
        return job->chunk > 0 ? 0 : -EINVAL;
}

static int job_submit(struct dm_kcopyd_client *kc, const struct io_region *from,
                      unsigned int num_dests, const struct io_region *dests, unsigned int flags,
                      dm_kcopyd_notify_fn fn, void *context, struct dm_kcopyd_job **ret_job)
{
        struct dm_kcopyd_job *job;
        int r;

        if (!kc || !fn || !dests || num_dests == 0 || num_dests > DM_KCOPYD_MAX_REGIONS ||
            flags & ~JOB_FLAGS)
                return -EINVAL;
        job = job_new(kc, fn, context);
        if (!job)
                return -ENOMEM;
        job->flags = flags & DM_KCOPYD_WRITE_SEQ ? DM_KCOPYD_WRITE_SEQ : flags;
        r = job_set_regions(job, from, num_dests, dests);
        if (r == 0)
                r = kcopyd_enter(kc, true);
        if (r < 0) {
                job_free(job);
                return r;
        }
        if (ret_job)
                *ret_job = dm_kcopyd_job_ref(job);
        job->task.fn = job_start;
        dmio_queue_post(kc->queue, &job->task);
        return 0;
}

int dm_kcopyd_copy(struct dm_kcopyd_client *kc, const struct io_region *from,
                   unsigned int num_dests, const struct io_region *dests, unsigned int flags,
                   dm_kcopyd_notify_fn fn, void *context, struct dm_kcopyd_job **ret_job)
{
        return from ? job_submit(kc, from, num_dests, dests, flags, fn, context, ret_job) : -EINVAL;
}

int dm_kcopyd_zero(struct dm_kcopyd_client *kc, unsigned int num_dests,
                   const struct io_region *dests, unsigned int flags, dm_kcopyd_notify_fn fn,
                   void *context, struct dm_kcopyd_job **ret_job)
{
        return job_submit(kc, NULL, num_dests, dests, flags, fn, context, ret_job);
}

/* --- prepared callbacks: a job without regions, which is complete when it is told to be */

static void job_is_told(struct dmio_task *task)
{
        struct dm_kcopyd_job *job = container_of(task, struct dm_kcopyd_job, task);
        struct dm_kcopyd_client *kc = job->client;

        list_append(&kc->complete, &job->link);
        kcopyd_run(kc);
}

void *dm_kcopyd_prepare_callback(struct dm_kcopyd_client *kc, dm_kcopyd_notify_fn fn, void *context)
{
        struct dm_kcopyd_job *job;

        if (!kc || !fn)
                return NULL;
        job = job_new(kc, fn, context);
        if (!job)
                return NULL;
        if (kcopyd_enter(kc, true) < 0) {
                job_free(job);
                return NULL;
        }
        return job;
}

void dm_kcopyd_do_callback(void *prepared, int read_err, unsigned long write_err)
{
        struct dm_kcopyd_job *job = prepared;

        job->status.read_err = read_err;
        job->status.write_err = write_err;
        job->task.fn = job_is_told;
        dmio_queue_post(job->client->queue, &job->task);
}

/* --- handles */

struct dm_kcopyd_job *dm_kcopyd_job_ref(struct dm_kcopyd_job *job)
{
        atomic_fetch_add(&job->refs, 1);
        return job;
}

void dm_kcopyd_job_unref(struct dm_kcopyd_job *job)
{
        if (job && atomic_fetch_sub(&job->refs, 1) == 1)
                job_free(job);
}

void dm_kcopyd_job_status(struct dm_kcopyd_job *job, struct dm_kcopyd_job_status *ret)
{
        pthread_mutex_lock(&job->client->lock);
        *ret = job->status;
        pthread_mutex_unlock(&job->client->lock);
}

void dm_kcopyd_job_cancel(struct dm_kcopyd_job *job)
{
        struct dm_kcopyd_client *kc = job->client;
        bool post;

        if (atomic_exchange(&job->cancelled, true))
                return;
        /* As long as it runs the queue is there, and from then on because of n_busy. */
        pthread_mutex_lock(&kc->lock);
        post = job->status.state == DM_KCOPYD_JOB_RUNNING;
        if (post) {
                kc->n_busy++;
                atomic_fetch_add(&kc->refs, 1);
        }
        pthread_mutex_unlock(&kc->lock);
        if (!post)
                return;
        job->cancel_task.fn = job_cancel;
        dmio_queue_post(kc->queue, &dm_kcopyd_job_ref(job)->cancel_task);
}
