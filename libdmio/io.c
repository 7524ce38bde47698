/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dm_io(): check a request, copy what the caller may reuse, start a leg for each region, and tell
 * the result when the last one is done.
 */
#include <assert.h>
#include <errno.h>
#include <semaphore.h>

#include "engine-internal.h"
#include "io-internal.h"
#include "queue-internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

#define IO_FLAGS (DM_IO_PREFLUSH | DM_IO_FUA | DM_IO_SYNC | DM_IO_MEMORY_SHARED | DM_IO_NOWAIT)

/* A synchronous caller: either drives its queue until done is set, or sleeps on the semaphore. */
struct io_sync {
        unsigned long error_bits;
        bool own_queue;
        bool done;
        sem_t sem;
};

static void io_sync_done(unsigned long error, void *context)
{
        struct io_sync *sync = context;

        sync->error_bits = error;
        if (sync->own_queue)
                sync->done = true;
        else
                sem_post(&sync->sem);
}

static bool io_op_is_known(enum dm_io_op op)
{
        switch (op) {
        case DM_IO_READ:
        case DM_IO_WRITE:
        case DM_IO_FLUSH:
        case DM_IO_DISCARD:
        case DM_IO_WRITE_ZEROES:
                return true;
        }
        return false;
}

static bool io_op_flushes(const struct dm_io_request *request)
{
        return request->op == DM_IO_FLUSH || request->flags & DM_IO_PREFLUSH;
}

/* Everything about the request that can be wrong, except its memory. */
static int io_check(const struct dm_io_request *request, unsigned int num_regions,
                    const struct io_region *regions)
{
        if (!request || !request->client || !io_op_is_known(request->op) ||
            request->flags & ~IO_FLAGS)
                return -EINVAL;
        if (num_regions > DM_IO_MAX_REGIONS || (num_regions > 0 && !regions))
                return -EINVAL;
        if (num_regions > 1 && !io_op_writes(request->op))
                return -EINVAL;
        if (request->flags & (DM_IO_PREFLUSH | DM_IO_FUA) && request->op != DM_IO_WRITE)
                return -EINVAL;
        if (request->mem.type > DM_IO_KMEM)
                return -EINVAL;
        /* A region that takes no part needs no device. */
        for (unsigned int i = 0; i < num_regions; i++)
                if (!regions[i].bdev && (regions[i].count > 0 || io_op_flushes(request)))
                        return -EINVAL;
        return 0;
}

/* Bytes of memory that the largest region asks for; more than any memory has if it overflows. */
static uint64_t io_bytes(const struct dm_io_request *request, unsigned int num_regions,
                         const struct io_region *regions)
{
        uint64_t bytes = 0;

        if (!io_op_transfers(request->op))
                return 0;
        for (unsigned int i = 0; i < num_regions; i++) {
                sector_t count = regions[i].count;

                /*
                 * A region that cannot lie on its device gets an error bit, and nothing of it is
                 * written. A read fills the memory all the same, with zeroes.
                 */
                if (count > INT64_MAX >> DMIO_SECTOR_SHIFT ||
                    (io_op_writes(request->op) && count > regions[i].sector + count))
                        continue;
                bytes = MAX(bytes, count << DMIO_SECTOR_SHIFT);
        }
        return bytes;
}

/* Everything but the request itself. */
static void io_deinit(struct io *io)
{
        memory_deinit(&io->memory);
        if (io->has_array)
                slab_put(&io->client->engine->leg_arrays, &io->client->leg_arrays, io->legs);
}

static void io_free(struct io *io)
{
        io_deinit(io);
        if (!io->is_sync)
                slab_put(&io->client->engine->requests, &io->client->requests, io);
}

/*
 * Fill in @io for the request; its legs lie in @legs, an array of DM_IO_MAX_REGIONS, or, if that is
 * NULL, wherever there is room for them. On failure there is nothing to deinit.
 */
static int io_init(struct io *io, const struct dm_io_request *request, unsigned int num_regions,
                   const struct io_region *regions, struct dmio_queue *queue, struct leg *legs)
{
        struct dm_io_client *client = request->client;
        int r;

        io->client = client;
        io->queue = queue;
        io->op = request->op;
        io->flags = request->flags;
        io->ioprio = request->ioprio;
        io->leg_errors = request->leg_errors;
        io->n_legs = num_regions;
        io->n_pending = 0;
        io->is_sync = legs;
        io->has_array = !legs && num_regions > IO_INLINE_LEGS;
        io->legs = legs ?: io->inline_legs;
        memory_init_empty(&io->memory);

        if (io->has_array) {
                io->legs = slab_get(&client->engine->leg_arrays, &client->leg_arrays);
                if (!io->legs)
                        return -ENOMEM;
        }
        io->memory_bytes = io_bytes(request, num_regions, regions);
        r = memory_init(&io->memory, &request->mem, io->memory_bytes, &client->engine->blocks,
                        &client->blocks);
        if (r < 0) {
                io_deinit(io);
                return r;
        }
        io->memory.shared = request->flags & DM_IO_MEMORY_SHARED;

        for (unsigned int i = 0; i < num_regions; i++) {
                io->legs[i] = (struct leg){
                        .io = io,
                        .bdev = regions[i].bdev,
                        .sector = regions[i].sector,
                        /* Too many to be counted in bytes are too many for any device. */
                        .bytes = MIN(regions[i].count, (sector_t)UINT64_MAX >> DMIO_SECTOR_SHIFT)
                                 << DMIO_SECTOR_SHIFT,
                };
                list_init(&io->legs[i].starved);
        }
        return 0;
}

/* A context, waited for if need be by who may wait. */
static struct io *io_alloc(const struct dm_io_request *request)
{
        struct dm_io_client *client = request->client;
        struct dmio_engine *engine = client->engine;

        if (request->flags & DM_IO_NOWAIT || queue_in_callback() || queue_of_thread(engine))
                return slab_get(&engine->requests, &client->requests);
        return slab_get_wait(&engine->requests, &client->requests);
}

/* Resources go first, so that the callback can submit with what has just become free. */
static void io_tell(struct io *io)
{
        struct dm_io_client *client = io->client;
        unsigned long error_bits = 0;
        static_assert(sizeof(error_bits) * 8 == DM_IO_MAX_REGIONS, "one bit for each region");
        void *context = io->context;
        io_notify_fn fn = io->fn;

        for (unsigned int i = 0; i < io->n_legs; i++) {
                if (io->legs[i].error)
                        error_bits |= 1UL << i;
                if (io->leg_errors)
                        io->leg_errors[i] = (struct dm_io_leg_error){
                                .error = io->legs[i].error,
                                .sector = io->legs[i].error_sector,
                                .done_usec = io->legs[i].done_usec,
                        };
        }
        io_free(io);
        client_told(client);
        fn(error_bits, context);
        client_end(client);
}

static void io_tell_task(struct dmio_task *task)
{
        io_tell(container_of(task, struct io, task));
}

/* Callbacks do not run inside the submitting call: they go through the mailbox. */
static void io_put_pending(struct io *io, bool submitting)
{
        if (--io->n_pending > 0)
                return;
        if (submitting) {
                io->task.fn = io_tell_task;
                dmio_queue_post(io->queue, &io->task);
        } else {
                io_tell(io);
        }
}

void io_leg_done(struct leg *leg)
{
        if (leg->io->leg_errors)
                leg->done_usec = now_usec();
        io_put_pending(leg->io, false);
}

static void io_start(struct io *io)
{
        io->n_pending = io->n_legs + 1;
        for (unsigned int i = 0; i < io->n_legs; i++)
                leg_start(&io->legs[i]);
        io_put_pending(io, true);
}

static void io_start_task(struct dmio_task *task)
{
        io_start(container_of(task, struct io, task));
}

static void io_submit(struct io *io)
{
        if (dmio_queue_is_mine(io->queue)) {
                struct dmio_queue *queue = io->queue;

                io_start(io); /* may be gone afterwards, inside of dmio_queue_process() */
                queue_kick(queue);
        } else {
                io->task.fn = io_start_task;
                dmio_queue_post(io->queue, &io->task);
        }
}

/* The queue that a request runs on, if it names none: the caller's own, or the engine's. */
static struct dmio_queue *io_choose_queue(const struct dm_io_request *request)
{
        struct dmio_engine *engine = request->client->engine;
        struct dmio_queue *own;

        if (request->queue)
                return request->queue->engine == engine ? request->queue : NULL;
        own = queue_of_thread(engine);
        return own ?: dmio_engine_queue(engine);
}

/* On another thread's queue: that thread may wait for one of ours meanwhile, so go on driving them.
 */
static void io_wait(struct io_sync *sync, struct dmio_queue *queue)
{
        if (sync->own_queue) {
                queue_process_until(queue, &sync->done);
                return;
        }
        while (sem_trywait(&sync->sem) < 0) {
                if (queue_drive_own(queue->engine) > 0)
                        continue;
                while (sem_wait(&sync->sem) < 0)
                        ; /* EINTR: the result is worth waiting for */
                return;
        }
}

/* These two count the request out again if it comes to nothing. */
static int io_run_async(const struct dm_io_request *request, unsigned int num_regions,
                        const struct io_region *regions, struct dmio_queue *queue)
{
        struct dm_io_client *client = request->client;
        struct io *io = io_alloc(request);
        int r = -ENOMEM;

        if (io)
                r = io_init(io, request, num_regions, regions, queue, NULL);
        if (r < 0) {
                slab_put(&client->engine->requests, &client->requests, io);
                client_abandon(client);
                return r == -ENOMEM && request->flags & DM_IO_NOWAIT ? -EAGAIN : r;
        }
        io->fn = request->notify.fn;
        io->context = request->notify.context;
        io_submit(io);
        return 0;
}

/* Everything lies on the caller's stack: what is waited for needs no reservation. */
static int io_run_sync(const struct dm_io_request *request, unsigned int num_regions,
                       const struct io_region *regions, struct dmio_queue *queue,
                       unsigned long *error_bits)
{
        struct leg legs[DM_IO_MAX_REGIONS];
        struct io_sync sync = { .own_queue = dmio_queue_is_mine(queue) };
        struct io io;
        int r;

        r = io_init(&io, request, num_regions, regions, queue, legs);
        if (r < 0) {
                client_abandon(request->client);
                return r;
        }
        io.fn = io_sync_done;
        io.context = &sync;
        sem_init(&sync.sem, 0, 0);
        io_submit(&io);
        io_wait(&sync, queue);
        sem_destroy(&sync.sem);
        if (error_bits)
                *error_bits = sync.error_bits;
        return sync.error_bits ? -EIO : 0;
}

int dm_io(const struct dm_io_request *request, unsigned int num_regions,
          const struct io_region *regions, unsigned long *sync_error_bits)
{
        struct dmio_queue *queue;
        bool is_sync;
        int r;

        r = io_check(request, num_regions, regions);
        if (r < 0)
                return r;
        queue = io_choose_queue(request);
        if (!queue)
                return -EINVAL;
        is_sync = !request->notify.fn;
        if (is_sync && queue_in_callback())
                return -EDEADLK;

        r = client_begin(request->client);
        if (r < 0)
                return r;
        return is_sync ? io_run_sync(request, num_regions, regions, queue, sync_error_bits)
                       : io_run_async(request, num_regions, regions, queue);
}
