/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "model/uncache.h"
#include "log.h"
#include "model/export.h"
#include "util/clock.h"
#include "util/macros.h"

/* How precisely the time of the latest write is known: not every write has to tell all threads. */
#define WROTE_USEC (UNCACHE_IDLE_USEC / 8)
/* So much is done between two looks at the clock. */
#define STEP_SECTORS ((sector_t)(UINT64_C(16) << 20) / DMIO_SECTOR_SIZE)

/* Returns how many bytes there were. Errors are for whoever flushes to hear. */
static uint64_t uncache_leg(const struct export *export, const struct leg *leg, uint64_t deadline)
{
        const struct leg_spec *spec = &leg->spec;
        sector_t end = spec->sector + spec->count;
        uint64_t before;

        if (!leg_is_active(leg))
                return 0;
        before = dmio_device_cached(spec->bdev, spec->sector, spec->count);
        if (before < UNCACHE_BYTES_MIN)
                return 0;

        for (sector_t at = spec->sector; at < end; at += STEP_SECTORS) {
                sector_t count = MIN(STEP_SECTORS, end - at);

                if (atomic_load(&export->gone) || now_usec() > deadline)
                        return 0;
                if (dmio_device_cached(spec->bdev, at, count) > 0)
                        (void)dmio_device_uncache(spec->bdev, at, count);
        }
        /* What lies across the steps. */
        (void)dmio_device_uncache(spec->bdev, spec->sector, spec->count);
        return before;
}

/* On a worker thread, in the bracket of an operation. */
static void uncache_run(struct worker_job *job)
{
        struct export *export = container_of(job, struct export, uncache.job);
        uint64_t deadline = now_usec() + UNCACHE_LIMIT_USEC;
        uint64_t gone = 0;

        for (unsigned int i = 0; i < export->n_legs; i++)
                gone += uncache_leg(export, &export->legs[i], deadline);
        if (gone > 0)
                log_debug("%ju KiB of '%s' that others left in the page cache are out of it",
                          (uintmax_t)(gone / 1024), export->path);
}

static void uncache_done(struct worker_job *job)
{
        struct export *export = container_of(job, struct export, uncache.job);

        atomic_store(&export->uncache.busy, false);
        export_end(export);
}

static void uncache_begin(struct dmio_task *task)
{
        struct export *export = container_of(task, struct export, uncache.task);

        export->uncache.job = (struct worker_job){
                .run = uncache_run,
                .done = uncache_done,
                .uid = peer_from_uid(export->uid).privileged ? 0 : export->uid,
        };
        worker_submit(export->model->worker, &export->uncache.job);
}

void uncache_init(struct uncache *uncache)
{
        uncache->task.fn = uncache_begin;
}

void uncache_writing(struct export *export, uint64_t now)
{
        struct uncache *uncache = &export->uncache;
        uint64_t before = atomic_load_explicit(&uncache->wrote_usec, memory_order_relaxed);

        if (now < before + WROTE_USEC)
                return;
        atomic_store_explicit(&uncache->wrote_usec, now, memory_order_relaxed);
        if (now < before + UNCACHE_IDLE_USEC || atomic_exchange(&uncache->busy, true))
                return;
        if (export_begin(export) == 0)
                dmio_queue_post(export->model->queue, &uncache->task);
        else
                atomic_store(&uncache->busy, false);
}
