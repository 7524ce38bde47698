/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clients: a share of the pool, and a count of what is in flight.
 *
 * A request counts as in flight until its result is told, so that whoever learns the result in a
 * callback may count on it; the end of a client waits for the callbacks to return as well.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine-internal.h"
#include "queue-internal.h"
#include "util/cleanup.h"

int dm_io_client_create(struct dmio_engine *engine, unsigned int num_pages,
                        struct dm_io_client **ret)
{
        struct dm_io_client *client;
        int r;

        if (!engine || !ret)
                return -EINVAL;
        client = calloc(1, sizeof(*client));
        if (!client)
                return -ENOMEM;
        client->engine = engine;
        pool_account_init(&client->account);
        pthread_mutex_init(&client->lock, NULL);
        pthread_cond_init(&client->idle, NULL);
        atomic_fetch_add(&engine->n_clients, 1);
        r = pool_reserve(&engine->pool, &client->account, num_pages);
        if (r < 0) {
                (void)dm_io_client_destroy(client);
                return r;
        }
        *ret = client;
        return 0;
}

/* In its own event loop a program waits by driving its queue, else nothing would ever end. */
static int client_wait_idle(struct dm_io_client *client)
{
        struct dmio_queue *own = queue_of_thread(client->engine);
        int r = 0;

        while (own && r >= 0 && !client_is_idle(client))
                r = dmio_queue_process(own, 1000, 0);

        pthread_mutex_lock(&client->lock);
        while (r >= 0 && client->n_in_flight + client->n_in_callbacks > 0)
                pthread_cond_wait(&client->idle, &client->lock);
        pthread_mutex_unlock(&client->lock);
        return r;
}

int dm_io_client_destroy(struct dm_io_client *client)
{
        uint64_t reserved, in_use, waits;
        int r;

        if (!client)
                return 0;
        /* A callback cannot wait: for others it would hold up their queue, for itself for ever. */
        if (queue_in_callback() && !client_is_idle(client))
                return -EBUSY;

        pthread_mutex_lock(&client->lock);
        client->closing = true;
        pthread_mutex_unlock(&client->lock);
        r = queue_in_callback() ? 0 : client_wait_idle(client);
        if (r < 0)
                return r;
        if (!pool_account_is_home(&client->engine->pool, &client->account)) {
                pthread_mutex_lock(&client->lock);
                client->closing = false;
                pthread_mutex_unlock(&client->lock);
                return -EBUSY;
        }

        pool_account_stats(&client->engine->pool, &client->account, &reserved, &in_use, &waits);
        (void)pool_unreserve(&client->engine->pool, &client->account, reserved);
        atomic_fetch_sub(&client->engine->n_clients, 1);
        pthread_cond_destroy(&client->idle);
        pthread_mutex_destroy(&client->lock);
        free(client);
        return 0;
}

int dm_io_client_get(struct dm_io_client *client, unsigned int num_pages)
{
        return client ? pool_reserve(&client->engine->pool, &client->account, num_pages) : -EINVAL;
}

int dm_io_client_put(struct dm_io_client *client, unsigned int num_pages)
{
        return client ? pool_unreserve(&client->engine->pool, &client->account, num_pages)
                      : -EINVAL;
}

void dm_io_client_stats(struct dm_io_client *client, struct dm_io_client_stats *ret)
{
        uint64_t reserved, in_use, waits;

        pool_account_stats(&client->engine->pool, &client->account, &reserved, &in_use, &waits);
        pthread_mutex_lock(&client->lock);
        *ret = (struct dm_io_client_stats){
                .reserved = reserved,
                .in_use = in_use,
                .waits = waits,
                .in_flight = client->n_in_flight,
                .requests = client->n_requests,
        };
        pthread_mutex_unlock(&client->lock);
}

int client_begin(struct dm_io_client *client)
{
        int r = 0;

        pthread_mutex_lock(&client->lock);
        if (client->closing) {
                r = -ESHUTDOWN;
        } else {
                client->n_requests++;
                client->n_in_flight++;
        }
        pthread_mutex_unlock(&client->lock);
        return r;
}

void client_told(struct dm_io_client *client)
{
        pthread_mutex_lock(&client->lock);
        client->n_in_flight--;
        client->n_in_callbacks++;
        pthread_mutex_unlock(&client->lock);
}

void client_end(struct dm_io_client *client)
{
        pthread_mutex_lock(&client->lock);
        client->n_in_callbacks--;
        if (client->n_in_callbacks == 0)
                pthread_cond_broadcast(&client->idle);
        pthread_mutex_unlock(&client->lock);
}

bool client_is_idle(struct dm_io_client *client)
{
        bool idle;

        pthread_mutex_lock(&client->lock);
        idle = client->n_in_flight + client->n_in_callbacks == 0;
        pthread_mutex_unlock(&client->lock);
        return idle;
}

void client_wait_callbacks(struct dm_io_client *client)
{
        pthread_mutex_lock(&client->lock);
        while (client->n_in_callbacks > 0)
                pthread_cond_wait(&client->idle, &client->lock);
        pthread_mutex_unlock(&client->lock);
}

struct page_list *dmio_pages_get(struct dm_io_client *client, unsigned int n_pages)
{
        return pool_get(&client->engine->pool, &client->account, n_pages);
}

void dmio_pages_put(struct dm_io_client *client, struct page_list *pages)
{
        pool_put(&client->engine->pool, &client->account, pages);
}

int dmio_pages_move(struct dm_io_client *from, struct dm_io_client *to, struct page_list *pages)
{
        return pool_move(&from->engine->pool, &from->account, &to->account, pages);
}

int dmio_pages_wait(struct dmio_page_wait *wait)
{
        return pool_wait(&wait->client->engine->pool, &wait->client->account, wait);
}
