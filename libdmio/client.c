/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clients: a share of the pool and of what requests are made of, and a count of what is in flight.
 *
 * For each page that a client reserves it can have DMIO_CONTEXTS_PER_PAGE requests in flight, which
 * is the kernel's proportion. What only large requests need is reserved in a smaller one.
 *
 * A request counts as in flight until its result is told, so that whoever learns the result in a
 * callback may count on it; the end of a client waits for the callbacks to return as well.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine-internal.h"
#include "queue-internal.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* Pages for one request with many regions, or many ranges of memory. */
#define PAGES_PER_LARGE 8

static size_t large_of(uint64_t pages)
{
        return DIV_ROUND_UP(pages, PAGES_PER_LARGE);
}

/* Under reserve_lock: of each slab what @before and @after pages differ by. */
struct share {
        struct slab *slab;
        struct slab_account *account;
        size_t n;
};
#define SHARES 4

static void client_shares(struct dm_io_client *client, uint64_t before, uint64_t after,
                          struct share *ret)
{
        struct dmio_engine *engine = client->engine;
        size_t requests = (size_t)(after - before) * DMIO_CONTEXTS_PER_PAGE;
        size_t large = large_of(after) - large_of(before);

        ret[0] = (struct share){ &engine->requests, &client->requests, requests };
        ret[1] = (struct share){ &engine->pieces, &client->pieces, requests };
        ret[2] = (struct share){ &engine->leg_arrays, &client->leg_arrays, large };
        ret[3] = (struct share){ &engine->blocks, &client->blocks, large };
}

static void shares_unreserve(const struct share *shares, size_t n)
{
        while (n-- > 0)
                slab_unreserve(shares[n].slab, shares[n].account, shares[n].n);
}

static int shares_reserve(const struct share *shares)
{
        int r = 0;

        for (size_t i = 0; i < SHARES && r == 0; i++) {
                r = slab_reserve(shares[i].slab, shares[i].account, shares[i].n);
                if (r < 0)
                        shares_unreserve(shares, i);
        }
        return r;
}

/*
 * All of it or nothing. The pages come last, because they are what somebody may begin to wait for;
 * but a number that is too large is refused before anything is asked of the system.
 */
static int client_reserve(struct dm_io_client *client, uint64_t n)
{
        struct pool *pool = &client->engine->pool;
        struct share shares[SHARES];
        uint64_t reserved;
        int r;

        pthread_mutex_lock(&client->reserve_lock);
        reserved = pool_account_reserved(pool, &client->account);
        r = pool_fits_limit(pool, n) ? 0 : -EINVAL;
        if (r == 0) {
                client_shares(client, reserved, reserved + n, shares);
                r = shares_reserve(shares);
        }
        if (r == 0) {
                r = pool_reserve(pool, &client->account, n);
                if (r < 0)
                        shares_unreserve(shares, SHARES);
        }
        pthread_mutex_unlock(&client->reserve_lock);
        return r;
}

static int client_unreserve(struct dm_io_client *client, uint64_t n)
{
        struct pool *pool = &client->engine->pool;
        struct share shares[SHARES];
        uint64_t reserved;
        int r;

        pthread_mutex_lock(&client->reserve_lock);
        reserved = pool_account_reserved(pool, &client->account);
        r = pool_unreserve(pool, &client->account, n);
        if (r == 0) {
                client_shares(client, reserved - n, reserved, shares);
                shares_unreserve(shares, SHARES);
        }
        pthread_mutex_unlock(&client->reserve_lock);
        return r;
}

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
        pthread_mutex_init(&client->reserve_lock, NULL);
        pthread_mutex_init(&client->lock, NULL);
        pthread_cond_init(&client->idle, NULL);
        atomic_fetch_add(&engine->n_clients, 1);
        r = client_reserve(client, num_pages);
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
        int r = 1;

        while (r > 0 && !client_is_idle(client))
                r = queue_drive_own(client->engine);

        pthread_mutex_lock(&client->lock);
        while (r >= 0 && client->n_in_flight + client->n_in_callbacks > 0)
                pthread_cond_wait(&client->idle, &client->lock);
        pthread_mutex_unlock(&client->lock);
        return MIN(r, 0);
}

int dm_io_client_destroy(struct dm_io_client *client)
{
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

        (void)client_unreserve(client,
                               pool_account_reserved(&client->engine->pool, &client->account));
        atomic_fetch_sub(&client->engine->n_clients, 1);
        pthread_cond_destroy(&client->idle);
        pthread_mutex_destroy(&client->lock);
        pthread_mutex_destroy(&client->reserve_lock);
        free(client);
        return 0;
}

int dm_io_client_get(struct dm_io_client *client, unsigned int num_pages)
{
        return client ? client_reserve(client, num_pages) : -EINVAL;
}

int dm_io_client_put(struct dm_io_client *client, unsigned int num_pages)
{
        return client ? client_unreserve(client, num_pages) : -EINVAL;
}

void dm_io_client_stats(struct dm_io_client *client, struct dm_io_client_stats *ret)
{
        uint64_t reserved, in_use, waits;
        struct slab_account requests;
        size_t idle;

        pool_account_stats(&client->engine->pool, &client->account, &reserved, &in_use, &waits);
        requests = slab_account_look(&client->engine->requests, &client->requests, &idle);
        pthread_mutex_lock(&client->lock);
        *ret = (struct dm_io_client_stats){
                .reserved = reserved,
                .in_use = in_use,
                .waits = waits + requests.waits,
                .contexts = requests.reserved,
                .contexts_idle = idle,
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

void client_abandon(struct dm_io_client *client)
{
        pthread_mutex_lock(&client->lock);
        client->n_requests--;
        client->n_in_flight--;
        pthread_cond_broadcast(&client->idle);
        pthread_mutex_unlock(&client->lock);
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
