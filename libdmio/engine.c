/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of an engine. Its own thread, if it has one, makes its queue itself, because a queue
 * belongs to the thread that made it, and reports back before dmio_engine_create() returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/sysinfo.h>

#include "engine-internal.h"
#include "io-internal.h"
#include "memory.h"
#include "piece.h"
#include "queue-internal.h"
#include "thread.h"
#include "util/macros.h"

#define DEPTH_DEFAULT 256
#define DEPTH_MAX 4096

struct thread_start {
        struct dmio_engine *engine;
        sem_t ready;
        int result;
};

static void sem_wait_always(sem_t *sem)
{
        while (sem_wait(sem) < 0)
                ;
}

static void engine_stop(struct dmio_task *task)
{
        struct dmio_engine *engine = container_of(task, struct dmio_engine, stop_task);

        engine->stop = true;
}

static void *engine_thread(void *argument)
{
        struct thread_start *start = argument;
        struct dmio_engine *engine = start->engine;
        int r;

        r = dmio_queue_create(engine, &engine->queue);
        start->result = r;
        sem_post(&start->ready); /* start is gone from here on */
        if (r < 0)
                return NULL;

        /* A ring that fails cannot be mended; nothing of it is left to report to but the waiters.
         */
        while (!engine->stop && r >= 0)
                r = dmio_queue_process(engine->queue, -1, 0);
        /* Who asked for the stop may still be busy with waking the queue. */
        sem_wait_always(&engine->stop_posted);
        while (dmio_queue_destroy(engine->queue) == -EBUSY && r >= 0)
                r = dmio_queue_process(engine->queue, 1000, 0);
        return NULL;
}

static int engine_start_thread(struct dmio_engine *engine)
{
        struct thread_start start = { .engine = engine };
        int r;

        sem_init(&start.ready, 0, 0);
        r = thread_start(&engine->thread, engine_thread, &start);
        if (r == 0) {
                sem_wait_always(&start.ready);
                r = start.result;
                if (r < 0)
                        pthread_join(engine->thread, NULL);
        }
        sem_destroy(&start.ready);
        engine->has_thread = r == 0;
        return r;
}

static void engine_pool_shrunk(struct pool *pool)
{
        struct dmio_engine *engine = container_of(pool, struct dmio_engine, pool);
        struct dmio_queue *queue;

        pthread_mutex_lock(&engine->queues_lock);
        list_for_each (queue, &engine->queues, link)
                queue_ask_to_trim(queue);
        pthread_mutex_unlock(&engine->queues_lock);
}

static uint64_t half_of_memory(void)
{
        struct sysinfo info;

        if (sysinfo(&info) < 0)
                return UINT64_C(1) << 18;
        return (uint64_t)info.totalram * info.mem_unit / 2 / DMIO_PAGE_SIZE;
}

static void engine_free(struct dmio_engine *engine)
{
        pool_deinit(&engine->pool);
        faults_deinit(&engine->faults);
        slab_deinit(&engine->requests);
        slab_deinit(&engine->leg_arrays);
        slab_deinit(&engine->pieces);
        slab_deinit(&engine->blocks);
        sem_destroy(&engine->stop_posted);
        pthread_mutex_destroy(&engine->queues_lock);
        free(engine);
}

int dmio_engine_create(const struct dmio_engine_options *options, struct dmio_engine **ret)
{
        static const struct dmio_engine_options defaults;
        const struct backend_ops *backend;
        struct dmio_engine *engine;
        int r;

        if (!options)
                options = &defaults;
        if (!ret || options->flags & ~(DMIO_ENGINE_NO_THREAD | DMIO_ENGINE_HELD_FD) ||
            options->depth > DEPTH_MAX)
                return -EINVAL;
        if (options->flags & DMIO_ENGINE_HELD_FD && fcntl(options->held_fd, F_GETFD) < 0)
                return -EBADF;
        r = backend_find(options->backend, &backend);
        if (r < 0)
                return r;

        engine = calloc(1, sizeof(*engine));
        if (!engine)
                return -ENOMEM;
        engine->backend = backend;
        engine->depth = options->depth ? options->depth : DEPTH_DEFAULT;
        engine->held_fd = options->flags & DMIO_ENGINE_HELD_FD ? options->held_fd : -EBADF;
        engine->stop_task.fn = engine_stop;
        sem_init(&engine->stop_posted, 0, 0);
        pthread_mutex_init(&engine->queues_lock, NULL);
        list_init(&engine->queues);
        faults_init(&engine->faults);
        slab_init(&engine->requests, sizeof(struct io));
        slab_init(&engine->leg_arrays, DM_IO_MAX_REGIONS * sizeof(struct leg));
        slab_init(&engine->pieces, piece_size());
        slab_init(&engine->blocks, sizeof(struct memory_block));
        r = pool_init(
                &engine->pool, options->floor_pages ? options->floor_pages : DMIO_POOL_CHUNK_PAGES,
                options->max_pages ? options->max_pages : half_of_memory(), engine_pool_shrunk);
        if (r == 0 && !(options->flags & DMIO_ENGINE_NO_THREAD))
                r = engine_start_thread(engine);
        if (r < 0) {
                engine_free(engine);
                return r;
        }
        *ret = engine;
        return 0;
}

int dmio_engine_destroy(struct dmio_engine *engine)
{
        unsigned int own = engine && engine->has_thread ? 1 : 0;

        if (!engine)
                return 0;
        if (queue_in_callback())
                return -EDEADLK;
        if (atomic_load(&engine->n_clients) > 0 || atomic_load(&engine->n_queues) > own)
                return -EBUSY;

        if (engine->has_thread) {
                dmio_queue_post(engine->queue, &engine->stop_task);
                sem_post(&engine->stop_posted);
                pthread_join(engine->thread, NULL);
        }
        engine_free(engine);
        return 0;
}

const char *dmio_engine_backend(const struct dmio_engine *engine)
{
        return engine->backend->name;
}

struct dmio_queue *dmio_engine_queue(struct dmio_engine *engine)
{
        return engine->has_thread ? engine->queue : NULL;
}

void dmio_pool_stats(struct dmio_engine *engine, struct dmio_pool_stats *ret)
{
        pool_stats(&engine->pool, ret);
}

const char *dmio_version(void)
{
        return DMIO_VERSION;
}
