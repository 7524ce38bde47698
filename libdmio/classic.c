/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The classic face: one engine and one client of the whole process behind the kernel document's
 * calls, which are dm_io() with other words.
 *
 * "users" counts the calls that are inside of the engine, so that the put that stops it does not
 * take it away under them. A child of fork() has none of the threads: it starts anew.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include <dmio/dm-io.h>
#include <dmio/dmio.h>

#include "engine-internal.h"
#include "queue-internal.h"

static struct {
        pthread_mutex_t lock;
        pthread_cond_t unused;      /* users has become 0 */
        struct dmio_engine *engine; /* under lock, as all that follows */
        struct dm_io_client *client;
        bool got; /* there was a dm_io_get(), perhaps of 0 pages */
        uint64_t pages;
        unsigned int users;
        bool fork_is_handled;
} classic = { .lock = PTHREAD_MUTEX_INITIALIZER, .unused = PTHREAD_COND_INITIALIZER };

static void classic_forget(void)
{
        pthread_mutex_init(&classic.lock, NULL);
        pthread_cond_init(&classic.unused, NULL);
        queue_forget_thread();
        classic.engine = NULL;
        classic.client = NULL;
        classic.got = false;
        classic.pages = 0;
        classic.users = 0;
}

/* Under the lock. */
static int classic_start(void)
{
        int r;

        if (classic.engine)
                return 0;
        if (!classic.fork_is_handled) {
                (void)pthread_atfork(NULL, NULL, classic_forget);
                classic.fork_is_handled = true;
        }
        r = dmio_engine_create(NULL, &classic.engine);
        if (r < 0)
                return r;
        r = dm_io_client_create(classic.engine, 0, &classic.client);
        if (r < 0) {
                (void)dmio_engine_destroy(classic.engine);
                classic.engine = NULL;
        }
        return r;
}

/* Under the lock, nobody inside, no callback running. */
static int classic_stop(void)
{
        int r = dm_io_client_destroy(classic.client);

        if (r < 0)
                return r;
        classic.client = NULL;
        r = dmio_engine_destroy(classic.engine);
        if (r == 0)
                classic.engine = NULL;
        classic.got = false;
        return r;
}

/*
 * One try at a put, under the lock. Not to 0 with requests in flight, nor from a callback. Whoever
 * is on his way out of a call or a callback, his request done, is waited for, without the lock,
 * because he may need it; what was true before the wait need not be afterwards: 1 says look again.
 */
static int classic_try_put(unsigned int num_pages)
{
        struct dm_io_client_stats stats;

        if (!classic.got || num_pages > classic.pages)
                return -EINVAL;
        if (num_pages < classic.pages)
                return dm_io_client_put(classic.client, num_pages);
        if (queue_in_callback())
                return -EBUSY;
        dm_io_client_stats(classic.client, &stats);
        if (stats.in_flight > 0)
                return -EBUSY;
        if (classic.users > 0) {
                pthread_cond_wait(&classic.unused, &classic.lock);
                return 1;
        }
        if (client_is_idle(classic.client))
                return classic_stop();

        classic.users++;
        pthread_mutex_unlock(&classic.lock);
        client_wait_callbacks(classic.client);
        pthread_mutex_lock(&classic.lock);
        if (--classic.users == 0)
                pthread_cond_broadcast(&classic.unused);
        return 1;
}

int dm_io_get(unsigned int num_pages)
{
        int r;

        pthread_mutex_lock(&classic.lock);
        r = classic_start();
        if (r == 0)
                r = dm_io_client_get(classic.client, num_pages);
        if (r == 0) {
                classic.pages += num_pages;
                classic.got = true;
        }
        pthread_mutex_unlock(&classic.lock);
        return r;
}

int dm_io_put(unsigned int num_pages)
{
        int r;

        pthread_mutex_lock(&classic.lock);
        do
                r = classic_try_put(num_pages);
        while (r > 0);
        if (r == 0)
                classic.pages -= num_pages;
        pthread_mutex_unlock(&classic.lock);
        return r;
}

static int classic_io(unsigned int num_regions, struct io_region *where, int rw,
                      const struct dm_io_memory *memory, io_notify_fn fn, void *context,
                      bool is_sync, unsigned long *error_bits)
{
        struct dm_io_request request = {
                .op = rw == DM_IO_READ ? DM_IO_READ : DM_IO_WRITE,
                .flags = is_sync ? DM_IO_SYNC : 0,
                .mem = *memory,
                .notify = { .fn = fn, .context = context },
        };
        int r = 0;

        if ((rw != DM_IO_READ && rw != DM_IO_WRITE) || (!is_sync && !fn))
                return -EINVAL;
        if (is_sync && queue_in_callback())
                return -EDEADLK;

        pthread_mutex_lock(&classic.lock);
        if (is_sync)
                r = classic_start();
        else if (!classic.got)
                r = -EINVAL;
        if (r == 0) {
                request.client = classic.client;
                classic.users++;
        }
        pthread_mutex_unlock(&classic.lock);
        if (r < 0)
                return r;

        request.queue = dmio_engine_queue(request.client->engine);
        r = dm_io(&request, num_regions, where, error_bits);

        pthread_mutex_lock(&classic.lock);
        if (--classic.users == 0)
                pthread_cond_broadcast(&classic.unused);
        pthread_mutex_unlock(&classic.lock);
        return r;
}

int dm_io_sync(unsigned int num_regions, struct io_region *where, int rw, struct page_list *pl,
               unsigned int offset, unsigned long *error_bits)
{
        struct dm_io_memory memory = { .type = DM_IO_PAGE_LIST, .offset = offset, .ptr.pl = pl };

        return classic_io(num_regions, where, rw, &memory, NULL, NULL, true, error_bits);
}

int dm_io_async(unsigned int num_regions, struct io_region *where, int rw, struct page_list *pl,
                unsigned int offset, io_notify_fn fn, void *context)
{
        struct dm_io_memory memory = { .type = DM_IO_PAGE_LIST, .offset = offset, .ptr.pl = pl };

        return classic_io(num_regions, where, rw, &memory, fn, context, false, NULL);
}

int dm_io_sync_bvec(unsigned int num_regions, struct io_region *where, int rw, struct bio_vec *bvec,
                    unsigned long *error_bits)
{
        struct dm_io_memory memory = { .type = DM_IO_BVEC, .ptr.bvec = bvec };

        return classic_io(num_regions, where, rw, &memory, NULL, NULL, true, error_bits);
}

int dm_io_async_bvec(unsigned int num_regions, struct io_region *where, int rw,
                     struct bio_vec *bvec, io_notify_fn fn, void *context)
{
        struct dm_io_memory memory = { .type = DM_IO_BVEC, .ptr.bvec = bvec };

        return classic_io(num_regions, where, rw, &memory, fn, context, false, NULL);
}

int dm_io_sync_vm(unsigned int num_regions, struct io_region *where, int rw, void *data,
                  unsigned long *error_bits)
{
        struct dm_io_memory memory = { .type = DM_IO_VMA, .ptr.vma = data };

        return classic_io(num_regions, where, rw, &memory, NULL, NULL, true, error_bits);
}

int dm_io_async_vm(unsigned int num_regions, struct io_region *where, int rw, void *data,
                   io_notify_fn fn, void *context)
{
        struct dm_io_memory memory = { .type = DM_IO_VMA, .ptr.vma = data };

        return classic_io(num_regions, where, rw, &memory, fn, context, false, NULL);
}
