/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "model/client.h"
#include "model/export.h"
#include "model/model.h"
#include "util/clock.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define NAME_MAX_LENGTH 64

static int compare_nodes(const void *a, const void *b)
{
        node_id_t x = ((const struct node *)a)->id;
        node_id_t y = ((const struct node *)b)->id;

        return x < y ? -1 : x > y;
}

static int enter_node(struct model *model, struct node *node)
{
        return tsearch(node, &model->nodes, compare_nodes) ? 0 : -ENOMEM;
}

/* What the configuration says, or as much as the engine gives. */
static uint64_t find_page_limit(const struct config *config, struct dmio_engine *engine)
{
        struct dmio_pool_stats stats;

        if (config->max_pages)
                return config->max_pages;
        dmio_pool_stats(engine, &stats);
        return stats.limit;
}

int model_init(struct model *model, struct dmio_engine *engine, struct dmio_queue *queue,
               const struct config *config, struct worker *worker)
{
        *model = (struct model){
                .engine = engine,
                .queue = queue,
                .config = config,
                .worker = worker,
                .start_usec = now_usec(),
                .next_node = NODE_FIRST_FREE,
                .page_limit = find_page_limit(config, engine),
                .root = { .id = NODE_ROOT, .type = NODE_TYPE_ROOT },
                .root_status = { .id = NODE_ROOT_STATUS, .type = NODE_TYPE_ROOT_STATUS },
        };
        list_init(&model->clients);
        list_init(&model->users);
        list_init(&model->regions);
        list_init(&model->watchers);

        if (enter_node(model, &model->root) < 0 || enter_node(model, &model->root_status) < 0) {
                tdelete(&model->root, &model->nodes, compare_nodes);
                return -ENOMEM;
        }
        pthread_mutex_init(&model->lock, NULL);
        return 0;
}

void model_deinit(struct model *model)
{
        assert(list_is_empty(&model->clients));
        assert(list_is_empty(&model->regions));
        assert(list_is_empty(&model->watchers));

        model_remove_node(model, &model->root);
        model_remove_node(model, &model->root_status);
        free(model->mount);
        free(model->transport);
        pthread_mutex_destroy(&model->lock);
}

int model_set_mount(struct model *model, const char *path)
{
        char *copy = strdup(path);
        struct client *client;
        struct export *export;
        int r = copy ? 0 : -ENOMEM;

        if (r < 0)
                return r;
        pthread_mutex_lock(&model->lock);
        free(model->mount);
        model->mount = copy;
        list_for_each (client, &model->clients, link)
                list_for_each (export, &client->exports, link)
                        if (r == 0)
                                r = export_name_path(export);
        pthread_mutex_unlock(&model->lock);
        return r;
}

void model_set_config(struct model *model, const struct config *config)
{
        pthread_mutex_lock(&model->lock);
        model->config = config;
        pthread_mutex_unlock(&model->lock);
}

int model_add_node(struct model *model, struct node *node)
{
        bool fresh = node->id == 0;
        int r;

        if (fresh)
                node->id = model->next_node;
        r = enter_node(model, node);
        if (r == 0 && fresh)
                model->next_node++;
        return r;
}

void model_remove_node(struct model *model, struct node *node)
{
        tdelete(node, &model->nodes, compare_nodes);
}

struct node *model_find_node(struct model *model, node_id_t id)
{
        const struct node key = { .id = id };
        struct node **found;

        found = tfind(&key, &model->nodes, compare_nodes);
        return found ? *found : NULL;
}

bool model_name_is_valid(const char *name)
{
        size_t length = strlen(name);

        return length > 0 && length <= NAME_MAX_LENGTH && name[0] != '.' &&
               strspn(name, NAME_CHARACTERS) == length;
}

bool client_is_visible(const struct client *client, const struct peer *peer)
{
        return peer->privileged || peer->uid == client->uid;
}

struct client *model_find_client(struct model *model, const char *name)
{
        struct client *client;

        list_for_each (client, &model->clients, link)
                if (strcmp(client->name, name) == 0)
                        return client;
        return NULL;
}
