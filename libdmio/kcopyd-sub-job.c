/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The way of a chunk: pages, a read, a write to all destinations; of zeroes only the last.
 *
 * Pages are all or nothing, and taken in order: nobody holds some and waits for more, and nobody
 * overtakes. As long as another chunk of the client has pages, its end is waited for, so that a
 * client with its own reservation never waits in the pool; only who has none at all does that,
 * which a client on somebody else's account may come to.
 */
#include <errno.h>

#include "kcopyd-internal.h"
#include "util/macros.h"

#define PAGE_SECTORS (DMIO_PAGE_SIZE / DMIO_SECTOR_SIZE)

/* Without memory for a request, and nothing in flight whose end could help. */
#define RETRY_US 10000

/* No device has it: what is there fails as one that does not fit, for dm_io() to say how. */
#define NOWHERE UINT64_MAX

static unsigned int sub_job_pages(const struct sub_job *sub)
{
        return (unsigned int)DIV_ROUND_UP(sub->count, PAGE_SECTORS);
}

static void sub_job_want_pages(struct sub_job *sub)
{
        sub->place = SUB_JOB_WAITING;
        list_append(&sub->job->client->pages, &sub->link);
}

static void sub_job_want_io_first(struct sub_job *sub)
{
        sub->place = SUB_JOB_WAITING;
        list_prepend(&sub->job->client->ios, &sub->link);
}

/* What is cancelled is not held up by the throttle, so it must not stand behind what is. */
static void sub_job_want_io(struct sub_job *sub)
{
        if (atomic_load(&sub->job->cancelled) && sub->started) {
                sub_job_want_io_first(sub);
                return;
        }
        sub->place = SUB_JOB_WAITING;
        list_append(&sub->job->client->ios, &sub->link);
}

/* With WRITE_SEQ a write has its turn, and none after an error. */
static bool sub_job_may_write(const struct sub_job *sub)
{
        const struct dm_kcopyd_job *job = sub->job;

        return !(job->flags & DM_KCOPYD_WRITE_SEQ) ||
               (!job->status.read_err && !job->status.write_err);
}

static void sub_job_want_write(struct sub_job *sub)
{
        struct dm_kcopyd_job *job = sub->job;

        sub->writing = true;
        if (job->flags & DM_KCOPYD_WRITE_SEQ && sub->offset != job->next_write)
                sub->place = SUB_JOB_PARKED;
        else
                sub_job_want_io(sub);
}

/* The next one's turn has come, if it is waiting for it. */
static void sub_job_pass_turn(struct dm_kcopyd_job *job)
{
        for (unsigned int i = 0; i < DM_KCOPYD_SUB_JOBS; i++)
                if (job->subs[i].place == SUB_JOB_PARKED && job->subs[i].offset == job->next_write)
                        sub_job_want_write(&job->subs[i]);
}

void sub_job_begin(struct sub_job *sub)
{
        struct dm_kcopyd_job *job = sub->job;
        struct dm_kcopyd_client *kc = job->client;

        if (job->next >= job->status.total || !job_goes_on(job))
                return;
        sub->offset = job->next;
        sub->count = MIN(job->chunk, job->status.total - job->next);
        sub->started = false;
        sub->writing = false;
        sub->zeroing = false;
        job->next += sub->count;
        job->n_active++;
        atomic_fetch_add(&kc->n_sub_jobs, 1);
        if (job->copies)
                sub_job_want_pages(sub);
        else
                sub_job_want_write(sub);
}

static void sub_job_end(struct sub_job *sub, bool done)
{
        struct dm_kcopyd_job *job = sub->job;
        struct dm_kcopyd_client *kc = job->client;

        if (sub->pages) {
                dmio_pages_put(kc->io, sub->pages);
                sub->pages = NULL;
                kc->n_with_pages--;
        }
        if (done) {
                pthread_mutex_lock(&kc->lock);
                job->status.done += sub->count;
                pthread_mutex_unlock(&kc->lock);
        }
        sub->place = SUB_JOB_IDLE;
        sub_job_begin(sub);
        job_put_active(job);
}

void sub_job_stop(struct sub_job *sub)
{
        if (sub->place != SUB_JOB_WAITING && sub->place != SUB_JOB_PARKED)
                return;
        if (!sub->started || !sub_job_may_write(sub)) {
                list_unlink(&sub->link);
                sub_job_end(sub, false);
        } else if (sub->place == SUB_JOB_WAITING) {
                list_unlink(&sub->link);
                sub_job_want_io(sub);
        }
}

/* --- pages */

static void sub_job_got_pages(struct sub_job *sub, struct page_list *pages)
{
        struct dm_kcopyd_client *kc = sub->job->client;

        sub->pages = pages;
        kc->n_with_pages++;
        list_unlink(&sub->link);
        sub_job_want_io(sub);
}

/* Put all but the first @n back. */
static void pages_cut(struct dm_kcopyd_client *kc, struct page_list *pages, unsigned int n)
{
        struct page_list *rest;

        while (--n > 0)
                pages = pages->next;
        rest = pages->next;
        pages->next = NULL;
        dmio_pages_put(kc->io, rest);
}

/* They were waited for on behalf of the one that was the first then, which may have been stopped.
 */
static void pages_came(struct dmio_page_wait *wait, struct page_list *pages)
{
        struct dm_kcopyd_client *kc = container_of(wait, struct dm_kcopyd_client, page_wait);
        struct sub_job *sub = list_first(&kc->pages, struct sub_job, link);

        kc->waits_for_pages = false;
        if (sub && sub_job_pages(sub) <= wait->n_pages) {
                pages_cut(kc, pages, sub_job_pages(sub));
                sub_job_got_pages(sub, pages);
        } else {
                dmio_pages_put(kc->io, pages);
        }
        kcopyd_run(kc);
        kcopyd_leave(kc, false);
}

static int pages_wait(struct dm_kcopyd_client *kc, unsigned int n)
{
        int r;

        kc->page_wait = (struct dmio_page_wait){
                .client = kc->io,
                .queue = kc->queue,
                .n_pages = n,
                .fn = pages_came,
        };
        r = dmio_pages_wait(&kc->page_wait);
        if (r < 0)
                return r;
        kc->waits_for_pages = true;
        (void)kcopyd_enter(kc, false);
        return 0;
}

static void sub_job_fail_read(struct sub_job *sub, int error)
{
        const struct dm_io_leg_error what = { .error = error,
                                              .sector = sub->job->from.sector + sub->offset };

        job_note_read_error(sub->job, &what);
}

bool sub_jobs_run_pages(struct dm_kcopyd_client *kc)
{
        struct page_list *pages;
        struct sub_job *sub;
        bool any = false;

        while (!kc->waits_for_pages && (sub = list_first(&kc->pages, struct sub_job, link))) {
                pages = dmio_pages_get(kc->io, sub_job_pages(sub));
                if (pages) {
                        sub_job_got_pages(sub, pages);
                } else if (kc->n_with_pages > 0 || pages_wait(kc, sub_job_pages(sub)) == 0) {
                        break;
                } else {
                        list_unlink(&sub->link);
                        sub->place = SUB_JOB_IN_FLIGHT;
                        sub_job_fail_read(sub, ENOMEM);
                        sub_job_end(sub, false);
                }
                any = true;
        }
        return any;
}

/* --- I/O */

static void sub_job_read(unsigned long error, void *context)
{
        struct sub_job *sub = context;
        struct dm_kcopyd_job *job = sub->job;
        struct dm_kcopyd_client *kc = job->client;

        kcopyd_throttle_end(kc);
        if (error) {
                if (job->unfit_source)
                        sub->leg_errors[0].sector = job->from.sector;
                job_note_read_error(job, &sub->leg_errors[0]);
        }
        if ((error && !(job->flags & DM_KCOPYD_IGNORE_ERROR)) || !sub_job_may_write(sub))
                sub_job_end(sub, false);
        else
                sub_job_want_write(sub);
        kcopyd_run(kc);
}

static bool sub_job_is_unsupported(const struct sub_job *sub)
{
        for (unsigned int i = 0; i < sub->job->num_dests; i++)
                if (sub->leg_errors[i].error == EOPNOTSUPP)
                        return true;
        return false;
}

static void sub_job_written(unsigned long error, void *context)
{
        struct sub_job *sub = context;
        struct dm_kcopyd_job *job = sub->job;
        struct dm_kcopyd_client *kc = job->client;

        kcopyd_throttle_end(kc);
        if (error && sub->zeroing && sub_job_is_unsupported(sub) && sub_job_may_write(sub)) {
                job->plain = true;
                sub_job_want_io_first(sub);
        } else {
                for (unsigned int i = 0; i < job->num_dests; i++)
                        if (job->unfit & 1UL << i)
                                sub->leg_errors[i].sector = job->dests[i].sector;
                if (error)
                        job_note_write_errors(job, error, sub->leg_errors);
                sub_job_end(sub, !error || job->flags & DM_KCOPYD_IGNORE_ERROR);
        }
        kcopyd_run(kc);
}

/* The chunk's part of a region of the job. */
static struct io_region sub_job_region(const struct sub_job *sub, const struct io_region *region,
                                       bool unfit)
{
        return (struct io_region){
                .bdev = region->bdev,
                .sector = unfit ? NOWHERE : region->sector + sub->offset,
                .count = sub->count,
        };
}

static int sub_job_submit(struct sub_job *sub)
{
        const struct dm_kcopyd_job *job = sub->job;
        struct dm_kcopyd_client *kc = job->client;
        struct io_region regions[DM_KCOPYD_MAX_REGIONS];
        struct dm_io_request request = {
                .op = DM_IO_READ,
                .flags = DM_IO_NOWAIT,
                .mem = { .type = DM_IO_PAGE_LIST, .ptr.pl = sub->pages },
                .notify = { .fn = sub_job_read, .context = sub },
                .client = kc->io,
                .queue = kc->queue,
                .leg_errors = sub->leg_errors,
        };

        if (!sub->writing) {
                regions[0] = sub_job_region(sub, &job->from, job->unfit_source);
                return dm_io(&request, 1, regions, NULL);
        }
        sub->zeroing = !job->copies && !job->plain;
        request.op = sub->zeroing ? DM_IO_WRITE_ZEROES : DM_IO_WRITE;
        if (!job->copies)
                request.mem.ptr.pl = &kc->zeroes;
        request.notify.fn = sub_job_written;
        for (unsigned int i = 0; i < job->num_dests; i++)
                regions[i] = sub_job_region(sub, &job->dests[i], job->unfit & 1UL << i);
        return dm_io(&request, job->num_dests, regions, NULL);
}

/* dm_io() will have none of it: every region of the request has failed. */
static void sub_job_refused(struct sub_job *sub, int error)
{
        struct dm_kcopyd_job *job = sub->job;

        if (!sub->writing) {
                sub_job_fail_read(sub, error);
        } else {
                for (unsigned int i = 0; i < job->num_dests; i++)
                        sub->leg_errors[i] = (struct dm_io_leg_error){
                                .error = error, .sector = job->dests[i].sector + sub->offset
                        };
                job_note_write_errors(job, (1UL << job->num_dests) - 1, sub->leg_errors);
        }
        sub_job_end(sub, false);
}

/* Its I/O begins. A write has its turn once: plain zeroes come after it was another one's. */
static void sub_job_go(struct sub_job *sub)
{
        struct dm_kcopyd_job *job = sub->job;

        sub->started = true;
        if (job->flags & DM_KCOPYD_WRITE_SEQ && sub->writing && sub->offset == job->next_write) {
                job->next_write += sub->count;
                sub_job_pass_turn(job);
        }
}

bool sub_jobs_run_ios(struct dm_kcopyd_client *kc)
{
        struct sub_job *sub;
        bool any = false;
        int r;

        while ((sub = list_first(&kc->ios, struct sub_job, link)) != NULL) {
                if (!atomic_load(&sub->job->cancelled) && !kcopyd_throttle_allows(kc))
                        break;
                list_unlink(&sub->link);
                sub->place = SUB_JOB_IN_FLIGHT;
                kcopyd_throttle_begin(kc);
                r = sub_job_submit(sub);
                if (r == 0) {
                        sub_job_go(sub);
                } else {
                        kcopyd_throttle_end(kc);
                        if (r == -EAGAIN) {
                                sub_job_want_io_first(sub);
                                if (kc->throttle.n_ios == 0)
                                        kcopyd_timer_arm(kc, RETRY_US);
                                break;
                        }
                        sub_job_refused(sub, -r);
                }
                any = true;
        }
        return any;
}
