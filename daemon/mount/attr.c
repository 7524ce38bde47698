/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/client.h"
#include "model/describe.h"
#include "model/export.h"
#include "mount/attr.h"
#include "mount/holes.h"
#include "util/cleanup.h"
#include "util/macros.h"

bool node_is_visible(const struct node *node, const struct peer *peer)
{
        return !node->client || client_is_visible(node->client, peer);
}

mode_t node_mode(enum node_type type, bool read_only)
{
        static const mode_t modes[] = {
                [NODE_TYPE_ROOT] = S_IFDIR | 0755,   [NODE_TYPE_ROOT_STATUS] = S_IFREG | 0444,
                [NODE_TYPE_CLIENT] = S_IFDIR | 0700, [NODE_TYPE_CLIENT_STATUS] = S_IFREG | 0400,
                [NODE_TYPE_EXPORT] = S_IFREG | 0600,
        };

        return modes[type] & ~(read_only ? (mode_t)0222 : 0);
}

static int status_stat(struct model *model, const struct node *node, const struct peer *peer,
                       struct stat *stat)
{
        DMIO_CLEANUP(freep) char *text = NULL;

        text = describe_status_file(model, node, peer);
        if (!text)
                return -ENOMEM;
        stat->st_size = (off_t)strlen(text);
        stat->st_blocks = (blkcnt_t)DIV_ROUND_UP(strlen(text), DMIO_SECTOR_SIZE);
        return 0;
}

/* Numbers of others would tell that they exist. */
static unsigned int visible_clients(const struct model *model, const struct peer *peer)
{
        const struct client *client;
        unsigned int n = 0;

        list_for_each (client, &model->clients, link)
                n += client_is_visible(client, peer);
        return n;
}

int node_stat(struct model *model, node_id_t id, const struct peer *peer, time_t start,
              struct stat *ret)
{
        const struct node *node;
        struct stat stat = { 0 };
        int r;

        node = model_find_node(model, id);
        if (!node)
                return -ENODEV;

        stat.st_ino = id;
        stat.st_mode = node_mode(node->type, node->export && node->export->read_only);
        stat.st_nlink = 1;
        stat.st_blksize = (blksize_t)DMIO_PAGE_SIZE;
        stat.st_ctim.tv_sec = start;

        stat.st_uid = node->client ? node->client->uid : geteuid();
        stat.st_gid = node->client ? node->client->gid : getegid();

        switch (node->type) {
        case NODE_TYPE_ROOT:
                stat.st_nlink = 2 + visible_clients(model, peer);
                break;
        case NODE_TYPE_CLIENT:
                stat.st_nlink = 2;
                break;
        case NODE_TYPE_ROOT_STATUS:
        case NODE_TYPE_CLIENT_STATUS:
                r = status_stat(model, node, peer, &stat);
                if (r < 0)
                        return r;
                break;
        case NODE_TYPE_EXPORT:
                stat.st_size = (off_t)(node->export->sectors << DMIO_SECTOR_SHIFT);
                stat.st_blocks = (blkcnt_t)export_allocated(node->export);
                stat.st_blksize = (blksize_t)MAX(DMIO_PAGE_SIZE, node->export->logical_block);
                stat.st_ctim.tv_sec = (time_t)node->export->ctime_sec;
                break;
        }

        stat.st_atim = stat.st_mtim = stat.st_ctim;
        *ret = stat;
        return 0;
}
