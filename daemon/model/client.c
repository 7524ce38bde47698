/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The end of a client takes steps, each of which may have to wait:
 *
 *   closing     no new work; its exports are being removed and drain, its calls
 *               and jobs finish
 *   destroying  nothing is left: the engine's client goes, on a worker thread, because
 *               dm_io_client_destroy() waits and is not allowed in a callback of the engine
 *   gone        the name is free, closed() is told
 *
 * client_continue_close() is called whenever something that a step waits for has happened.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "model/client.h"
#include "model/commit.h"
#include "model/counters-file.h"
#include "model/event.h"
#include "model/export.h"
#include "model/job.h"
#include "model/quota.h"
#include "model/request.h"
#include "util/cleanup.h"
#include "util/fnv.h"

/* Pages are given back a moment after the operation that held them has ended. */
#define DESTROY_RETRIES 2000
#define DESTROY_RETRY_NSEC 1000000

static void refuse_pool(struct model *model, uint64_t pages, struct model_refusal *refusal)
{
        refusal->requested = pages;
        refusal->available = model->page_limit - model->pages;
}

/* Returns MODEL_OK, MODEL_E_LIMIT or a negative errno. */
static int charge(struct model *model, uid_t uid, enum quota quota, uint64_t n,
                  struct model_refusal *refusal)
{
        uint64_t limit;
        int r;

        r = quota_charge(model, uid, quota, n, &limit);
        if (r <= 0)
                return r;
        refusal->limit = quota_name(quota);
        refusal->value = limit;
        return MODEL_E_LIMIT;
}

/* Those that it had in another process, if it was there. */
static int get_counters(struct client *client)
{
        const struct counters_key key = {
                .node = client->node.id,
                .check = fnv(FNV_START, client->name, strlen(client->name)),
        };
        bool lasts = client->linger && model_can_last(client->model);
        int r;

        r = counters_file_get_client(lasts ? client->model->counters : NULL, &key,
                                     &client->counters, &client->counters_block);
        if (r == 0)
                client->waits_before = atomic_load(&client->counters->waits);
        return r;
}

static int client_enter(struct client *client)
{
        struct model *model = client->model;
        int r;

        pthread_mutex_lock(&model->lock);
        r = model_add_node(model, &client->node);
        if (r == 0) {
                r = model_add_node(model, &client->status_node);
                if (r < 0)
                        model_remove_node(model, &client->node);
        }
        if (r == 0) {
                if (client->counters_block >= 0)
                        counters_file_enter(model->counters, (uint32_t)client->counters_block,
                                            client->node.id);
                list_append(&model->clients, &client->link);
                model->n_clients++;
        }
        pthread_mutex_unlock(&model->lock);
        return r;
}

static void drop_counters(struct client *client)
{
        if (!client->counters)
                return;
        if (client->counters_block < 0)
                free(client->counters);
        else if (!model_is_taken_apart(client->model))
                counters_file_put(client->model->counters, (uint32_t)client->counters_block);
}

static struct client *client_free(struct client *client)
{
        jobs_forget(client);
        drop_counters(client);
        free(client->name);
        free(client);
        return NULL;
}

static int client_allocate(struct model *model, const char *name, const struct peer *owner,
                           struct client **ret)
{
        struct client *client;

        client = calloc(1, sizeof(*client));
        if (!client)
                return -ENOMEM;
        client->model = model;
        client->uid = owner->uid;
        client->gid = owner->gid;
        list_init(&client->link);
        list_init(&client->exports);
        list_init(&client->draining);
        list_init(&client->jobs);
        list_init(&client->requests);
        list_init(&client->waits);
        client->node.type = NODE_TYPE_CLIENT;
        client->node.client = client;
        client->status_node.type = NODE_TYPE_CLIENT_STATUS;
        client->status_node.client = client;

        client->name = strdup(name);
        if (!client->name) {
                client_free(client);
                return -ENOMEM;
        }
        *ret = client;
        return 0;
}

/* The pages of a client are charged to its user and reserved in the pool, or neither. */
static int reserve(struct client *client, uint64_t pages, struct model_refusal *refusal)
{
        struct model *model = client->model;
        int r;

        r = charge(model, client->uid, QUOTA_PAGES, pages, refusal);
        if (r != 0)
                return r;

        if (pages > UINT32_MAX || pages > model->page_limit - model->pages)
                r = -EINVAL;
        else if (client->io)
                r = dm_io_client_get(client->io, (unsigned int)pages);
        else
                r = dm_io_client_create(model->engine, (unsigned int)pages, &client->io);
        if (r < 0) {
                quota_release(model, client->uid, QUOTA_PAGES, pages);
                /* Past the limit, or more than the machine has left. */
                if (r != -EINVAL && r != -ENOMEM)
                        return r;
                refuse_pool(model, pages, refusal);
                return MODEL_E_POOL;
        }

        pthread_mutex_lock(&model->lock);
        client->pages += pages;
        model->pages += pages;
        pthread_mutex_unlock(&model->lock);
        return MODEL_OK;
}

/* Node ids may be 0: the next free ones. */
static int client_make(struct model *model, const char *name, const struct peer *owner,
                       uint64_t pages, bool linger, uint64_t connection, node_id_t node,
                       node_id_t status_node, struct client **ret, struct model_refusal *refusal)
{
        struct client *client;
        int r;

        if (!model_name_is_valid(name))
                return MODEL_E_NAME;
        if (model_find_client(model, name))
                return MODEL_E_EXISTS;
        r = charge(model, owner->uid, QUOTA_CLIENTS, 1, refusal);
        if (r != 0)
                return r;

        r = client_allocate(model, name, owner, &client);
        if (r < 0)
                goto release_client;
        client->linger = linger;
        client->connection = linger ? 0 : connection;
        client->node.id = node;
        client->status_node.id = status_node;

        r = get_counters(client);
        if (r < 0)
                goto free_client;
        r = reserve(client, pages, refusal);
        if (r != 0)
                goto free_client;
        r = client_enter(client);
        if (r < 0)
                goto put_pages;

        event_client(EVENT_CLIENT_OPENED, client);
        *ret = client;
        return MODEL_OK;

put_pages:
        (void)dm_io_client_destroy(client->io);
        model->pages -= pages;
        quota_release(model, owner->uid, QUOTA_PAGES, pages);
free_client:
        client_free(client);
release_client:
        quota_release(model, owner->uid, QUOTA_CLIENTS, 1);
        return r;
}

int client_new(struct model *model, const char *name, const struct peer *owner, uint64_t pages,
               bool linger, uint64_t connection, struct client **ret, struct model_refusal *refusal)
{
        return client_make(model, name, owner, pages, linger, connection, 0, 0, ret, refusal);
}

int client_restore(struct model *model, const char *name, const struct peer *owner, uint64_t pages,
                   node_id_t node, node_id_t status_node, struct client **ret,
                   struct model_refusal *refusal)
{
        return client_make(model, name, owner, pages, true, 0, node, status_node, ret, refusal);
}

static void client_destroy_run(struct worker_job *job)
{
        struct client *client = container_of(job, struct client, destroy_job);
        const struct timespec pause = { .tv_nsec = DESTROY_RETRY_NSEC };
        int r = -EBUSY;

        for (unsigned int i = 0; r == -EBUSY && i < DESTROY_RETRIES; i++) {
                if (i > 0)
                        (void)nanosleep(&pause, NULL);
                r = dm_io_client_destroy(client->destroy_io);
        }
        client->destroy_result = r;
}

static void client_destroy_done(struct worker_job *job)
{
        struct client *client = container_of(job, struct client, destroy_job);
        struct model *model = client->model;
        void (*closed)(void *userdata) = client->closed;
        void *userdata = client->closed_userdata;

        /* Somebody keeps pages that he ought to have given back: they are lost, not the daemon. */
        if (client->destroy_result < 0)
                log_error_errno(client->destroy_result,
                                "The pages of client '%s' cannot be given back: %m", client->name);

        pthread_mutex_lock(&model->lock);
        list_unlink(&client->link);
        model->n_clients--;
        model->pages -= client->pages;
        model_remove_node(model, &client->node);
        model_remove_node(model, &client->status_node);
        pthread_mutex_unlock(&model->lock);

        quota_release(model, client->uid, QUOTA_PAGES, client->pages);
        quota_release(model, client->uid, QUOTA_CLIENTS, 1);
        log_debug("Client '%s' is closed", client->name);
        event_client(EVENT_CLIENT_CLOSED, client);
        client_free(client);

        if (closed)
                closed(userdata);
        if (model->n_clients == 0 && model->emptied)
                model->emptied(model->emptied_userdata);
}

void client_continue_close(struct client *client)
{
        if (!client->closing || client->n_calls > 0 || client->n_exports > 0 ||
            client->n_draining > 0 || client->destroy_job.run)
                return;

        requests_forget(client);

        /* It is still found by its name, but what the job destroys must not be looked into. */
        pthread_mutex_lock(&client->model->lock);
        client->destroy_io = DMIO_TAKE(client->io);
        pthread_mutex_unlock(&client->model->lock);
        client->destroy_job.run = client_destroy_run;
        client->destroy_job.done = client_destroy_done;
        worker_submit(client->model->worker, &client->destroy_job);
}

int client_close(struct client *client, void (*closed)(void *userdata), void *userdata)
{
        struct export *export, *after;

        if (client->closing)
                return MODEL_E_CLOSING;

        pthread_mutex_lock(&client->model->lock);
        client->closing = true;
        pthread_mutex_unlock(&client->model->lock);
        client->closed = closed;
        client->closed_userdata = userdata;

        jobs_cancel(client);
        list_for_each_safe (export, after, &client->exports, link)
                (void)export_remove(export, true, NULL, NULL, NULL);
        client_continue_close(client);
        return MODEL_OK;
}

int client_begin_call(struct client *client)
{
        if (!client_takes_work(client))
                return MODEL_E_CLOSING;
        client->n_calls++;
        if (client->model->calls_noted)
                atomic_fetch_add(client->model->calls_noted, 1);
        return MODEL_OK;
}

void client_end_call(struct client *client)
{
        client->n_calls--;
        if (client->model->calls_noted)
                atomic_fetch_sub(client->model->calls_noted, 1);
        client_continue_close(client);
}

int client_get(struct client *client, uint64_t pages, struct model_refusal *refusal)
{
        uint64_t before = client->pages;
        int r;

        if (client->closing)
                return MODEL_E_CLOSING;
        r = reserve(client, pages, refusal);
        event_pages(client, before);
        return r;
}

int client_put(struct client *client, uint64_t pages)
{
        struct model *model = client->model;
        uint64_t before = client->pages;
        int r = 0;

        if (client->closing)
                return MODEL_E_CLOSING;
        if (pages > client->pages)
                return MODEL_E_NOT_RESERVED;

        /* What fits the reservation fits an unsigned int only if it was got in one piece. */
        while (pages > 0) {
                unsigned int n = pages < UINT32_MAX ? (unsigned int)pages : UINT32_MAX;

                r = dm_io_client_put(client->io, n);
                if (r < 0)
                        break;
                quota_release(model, client->uid, QUOTA_PAGES, n);
                pthread_mutex_lock(&model->lock);
                client->pages -= n;
                model->pages -= n;
                pthread_mutex_unlock(&model->lock);
                pages -= n;
        }
        event_pages(client, before);
        return r;
}

void client_count(struct client *client, struct counters *set, uint64_t usec, uint64_t bytes,
                  bool failed)
{
        struct counters_file *file = client->model->counters;

        if (client->counters_block < 0)
                counters_add(set, usec, bytes, failed);
        else
                counters_file_add(file, counters_file_journal(file, COUNTERS_MAIN_LANE), set, usec,
                                  bytes, failed, NULL);
}

/* Whoever has been told of it will not be told of less, by another process either. */
uint64_t client_waits(const struct client *client, const struct dm_io_client_stats *stats)
{
        _Atomic(uint64_t) *told = &client->counters->waits;
        uint64_t waits = client->waits_before + stats->waits;
        uint64_t before = atomic_load(told);

        while (before < waits && !atomic_compare_exchange_weak(told, &before, waits))
                ;
        return before > waits ? before : waits;
}

void client_raise_waits(struct client *client, uint64_t waits)
{
        if (waits <= client->waits_before)
                return;
        client->waits_before = waits;
        atomic_store(&client->counters->waits, waits);
}

struct export *client_find_export(struct client *client, const char *name)
{
        struct export *export;

        list_for_each (export, &client->exports, link)
                if (strcmp(export->name, name) == 0)
                        return export;
        return NULL;
}
