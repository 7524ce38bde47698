/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Jobs. The way of one, with the thread in front:
 *
 *   main    job_start       may it be? claim the sectors, make a copier, begin
 *   main    job_copied      the copier's callback: the result, the claims back
 *   worker  job_close       the copier goes, which may wait for pages; the devices are closed
 *   main    job_closed      tell who wants to know; the client may end
 */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"
#include "model/job.h"
#include "model/quota.h"
#include "util/clock.h"
#include "util/macros.h"

#define PAGE_SECTORS (DMIO_PAGE_SIZE / DMIO_SECTOR_SIZE)

/* A chunk is this part of the reservation, so that reads and writes can overlap; and within limits:
 * a client without pages lives on those that belong to nobody. */
#define CHUNKS_OF_RESERVATION 4
#define CHUNK_PAGES_MIN 8
#define CHUNK_PAGES_MAX 128

/* --- what may be asked for */

static int __attribute__((__format__(__printf__, 3, 4)))
refuse_region(struct model_refusal *refusal, unsigned int region, const char *format, ...)
{
        va_list arguments;

        refusal->region = region;
        va_start(arguments, format);
        (void)vsnprintf(refusal->reason, sizeof(refusal->reason), format, arguments);
        va_end(arguments);
        return MODEL_E_REGION;
}

static int check_region(const struct client *client, const struct job_spec *spec,
                        unsigned int number, const struct io_region *region,
                        const struct dmio_device_info *info, struct model_refusal *refusal)
{
        sector_t block = info->logical_block / DMIO_SECTOR_SIZE;
        const struct grant *grant;

        if (region->count != spec->dests[0].count)
                return refuse_region(refusal, number, "is %ju sectors long, destination 0 is %ju",
                                     (uintmax_t)region->count, (uintmax_t)spec->dests[0].count);
        if (!range_fits(region->sector, region->count, info->capacity))
                return refuse_region(refusal, number, "does not fit the device: it has %ju sectors",
                                     (uintmax_t)info->capacity);
        if (block > 1 && (region->sector % block != 0 || region->count % block != 0))
                return refuse_region(refusal, number,
                                     "does not begin and end at a multiple of %ju sectors, which "
                                     "the blocks of the device are long",
                                     (uintmax_t)block);

        grant = region_table_find_foreign(client->model, client, &info->id, region->sector,
                                          region->count);
        if (!grant)
                return MODEL_OK;
        refusal->region = number;
        refusal->client = grant->client_name;
        refusal->export = grant->export_name;
        refusal->n_open = 0;
        return MODEL_E_BUSY;
}

/* Look at all regions, and note in @claims what they take. */
static int check_regions(const struct client *client, const struct job_spec *spec,
                         struct grant *claims, unsigned int *ret_n_claims,
                         struct model_refusal *refusal)
{
        unsigned int n = 0, first = spec->kind == JOB_COPY ? 0 : 1;
        int r;

        for (unsigned int i = first; i < 1 + spec->n_dests; i++) {
                const struct io_region *region = i == 0 ? &spec->source : &spec->dests[i - 1];
                unsigned int number = i == 0 ? JOB_SOURCE : i - 1;
                struct dmio_device_info info;

                dmio_device_info(region->bdev, &info);
                r = check_region(client, spec, number, region, &info, refusal);
                if (r != MODEL_OK)
                        return r;
                if (first == 0 && i > 0 && claims[0].id.device == info.id.device &&
                    claims[0].id.inode == info.id.inode &&
                    ranges_overlap(claims[0].sector, claims[0].count, region->sector,
                                   region->count))
                        return refuse_region(refusal, number, "shares sectors with the source");
                claims[n++] = (struct grant){ .id = info.id,
                                              .sector = region->sector,
                                              .count = region->count,
                                              .client_name = client->name,
                                              .export_name = "" };
        }
        *ret_n_claims = n;
        return MODEL_OK;
}

static void job_claim(struct job *job)
{
        struct model *model = job->client->model;

        pthread_mutex_lock(&model->lock);
        for (unsigned int i = 0; i < job->n_claims; i++)
                region_table_add(model, &job->claims[i]);
        pthread_mutex_unlock(&model->lock);
}

static void job_unclaim(struct job *job)
{
        struct model *model = job->client->model;

        pthread_mutex_lock(&model->lock);
        while (job->n_claims > 0)
                list_unlink(&job->claims[--job->n_claims].link);
        pthread_mutex_unlock(&model->lock);
}

/* --- the end */

static void job_free(struct job *job)
{
        list_unlink(&job->link);
        free(job);
}

/* The oldest ended ones go first. */
static void forget_old(struct client *client)
{
        unsigned int n = 0;
        struct job *job, *after;

        list_for_each (job, &client->jobs, link)
                n += job->ended;
        list_for_each_safe (job, after, &client->jobs, link) {
                if (n <= JOB_HISTORY)
                        return;
                if (!job->ended)
                        continue;
                job_free(job);
                n--;
        }
}

static void job_closed(struct worker_job *close_job)
{
        struct job *job = container_of(close_job, struct job, close_job);
        struct client *client = job->client;

        client_count(client, &client->counters->jobs[job->spec.kind], now_usec() - job->start_usec,
                     job->result.done << DMIO_SECTOR_SHIFT,
                     job->result.state != DM_KCOPYD_JOB_DONE);
        quota_release(client->model, client->uid, QUOTA_JOBS, 1);
        job->ended = true;
        if (job->on_end)
                job->on_end(job, job->on_end_userdata);
        forget_old(client);
        client_end_call(client);
}

static void job_close(struct worker_job *close_job)
{
        struct job *job = container_of(close_job, struct job, close_job);
        int r;

        r = dm_kcopyd_client_destroy(job->copier);
        if (r < 0)
                log_error_errno(r, "The copier of a job cannot be closed: %m");
        if (job->spec.kind == JOB_COPY)
                dmio_device_close(job->spec.source.bdev);
        for (unsigned int i = 0; i < job->spec.n_dests; i++)
                dmio_device_close(job->spec.dests[i].bdev);
}

static void job_copied(int read_err, unsigned long write_err, void *context)
{
        struct job *job = context;
        uid_t uid = job->client->uid;

        dm_kcopyd_job_status(job->handle, &job->result);
        dm_kcopyd_job_unref(job->handle);
        job->handle = NULL;
        job_unclaim(job);
        job->close_job = (struct worker_job){ .run = job_close,
                                              .done = job_closed,
                                              .uid = peer_from_uid(uid).privileged ? 0 : uid };
        worker_submit(job->client->model->worker, &job->close_job);
}

/* --- the beginning */

static unsigned int chunk_sectors(const struct client *client)
{
        uint64_t pages = client->pages / CHUNKS_OF_RESERVATION;

        pages = MAX(pages, (uint64_t)CHUNK_PAGES_MIN);
        return (unsigned int)(MIN(pages, (uint64_t)CHUNK_PAGES_MAX) * PAGE_SECTORS);
}

/* Returns 0 or a negative errno. */
static int job_submit(struct job *job)
{
        const struct job_spec *spec = &job->spec;
        const struct dm_kcopyd_options options = {
                .sub_job_sectors = chunk_sectors(job->client),
                .throttle = spec->throttle,
                .io_client = job->client->io,
                .queue = job->client->model->queue,
        };
        int r;

        r = dm_kcopyd_client_create(job->client->model->engine, &options, &job->copier);
        if (r < 0)
                return r;
        if (spec->kind == JOB_COPY)
                r = dm_kcopyd_copy(job->copier, &spec->source, spec->n_dests, spec->dests,
                                   spec->flags, job_copied, job, &job->handle);
        else
                r = dm_kcopyd_zero(job->copier, spec->n_dests, spec->dests, spec->flags, job_copied,
                                   job, &job->handle);
        /* One that has had nothing to do goes without waiting. */
        if (r < 0)
                (void)dm_kcopyd_client_destroy(job->copier);
        return r;
}

int job_start(struct client *client, const struct job_spec *spec, struct job **ret,
              struct model_refusal *refusal)
{
        struct model *model = client->model;
        struct job *job;
        uint64_t limit;
        int r;

        assert(spec->n_dests >= 1 && spec->n_dests <= DM_KCOPYD_MAX_REGIONS);
        if (!client_takes_work(client))
                return MODEL_E_CLOSING;
        job = calloc(1, sizeof(*job));
        if (!job)
                return -ENOMEM;
        list_init(&job->link);
        job->client = client;
        job->spec = *spec;
        job->start_usec = now_usec();

        r = check_regions(client, spec, job->claims, &job->n_claims, refusal);
        if (r != MODEL_OK)
                goto free_job;
        r = quota_charge(model, client->uid, QUOTA_JOBS, 1, &limit);
        if (r > 0) {
                refusal->limit = quota_name(QUOTA_JOBS);
                refusal->value = limit;
                r = MODEL_E_LIMIT;
        }
        if (r != MODEL_OK)
                goto free_job;
        r = job_submit(job);
        /* What is left of what may be wrong with regions. */
        if (r == -EINVAL)
                r = refuse_region(refusal, 0, "has a device whose blocks are larger than a chunk");
        if (r != MODEL_OK)
                goto release_quota;

        job_claim(job);
        job->number = ++model->last_job;
        list_append(&client->jobs, &job->link);
        if (model->jobs_stopped)
                job_cancel(job);
        *ret = job;
        return MODEL_OK;

release_quota:
        quota_release(model, client->uid, QUOTA_JOBS, 1);
free_job:
        job_free(job);
        return r;
}

/* --- afterwards */

void job_status(const struct job *job, struct dm_kcopyd_job_status *ret)
{
        if (job->handle)
                dm_kcopyd_job_status(job->handle, ret);
        else
                *ret = job->result;
        /* Its end is told when it holds nothing any more. */
        if (!job->ended)
                ret->state = DM_KCOPYD_JOB_RUNNING;
}

void job_cancel(struct job *job)
{
        if (job->handle)
                dm_kcopyd_job_cancel(job->handle);
}

struct job *job_find(struct model *model, uint64_t number, const struct peer *peer)
{
        struct client *client;
        struct job *job;

        list_for_each (client, &model->clients, link) {
                if (!client_is_visible(client, peer))
                        continue;
                list_for_each (job, &client->jobs, link)
                        if (job->number == number)
                                return job;
        }
        return NULL;
}

void jobs_cancel(struct client *client)
{
        struct job *job;

        list_for_each (job, &client->jobs, link)
                job_cancel(job);
}

void jobs_stop(struct model *model)
{
        struct client *client;

        model->jobs_stopped = true;
        list_for_each (client, &model->clients, link)
                jobs_cancel(client);
}

void jobs_forget(struct client *client)
{
        struct job *job, *after;

        list_for_each_safe (job, after, &client->jobs, link) {
                assert(job->ended);
                job_free(job);
        }
}
