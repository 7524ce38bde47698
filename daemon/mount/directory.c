/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reading directories: the root, with the clients that who asks may see, and the folder of a
 * client. Made anew for each request from the model, under its lock, a buffer at a time.
 */

#include <errno.h>
#include <stdlib.h>

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "model/client.h"
#include "model/export.h"
#include "mount/attr.h"
#include "mount/directory.h"
#include "mount/mount-internal.h"
#include "mount/request.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* Bytes of a directory that are made at a time; the kernel comes again for the rest. */
#define READDIR_MAX ((size_t)64 * 1024)

struct listing {
        fuse_req_t req;
        struct mount *mount;
        struct peer peer;
        bool plus;
        uint64_t after; /* where the previous answer ended */
        char *buffer;
        size_t size;
        size_t used;
        bool full;
};

/*
 * Where an entry stands in its directory, for the kernel to come back to: made from the number of
 * the node, which grows, so that entries that come and go meanwhile shift no others.
 */
enum {
        POSITION_SELF = 1,
        POSITION_PARENT = 2,
        POSITION_STATUS = 3,
        POSITION_NODES = 4,
};

static void listing_add(struct listing *listing, uint64_t position, const char *name, node_id_t id,
                        enum node_type type)
{
        struct fuse_entry_param entry = { .generation = GENERATION };
        bool is_dots = position == POSITION_SELF || position == POSITION_PARENT;
        size_t left = listing->size - listing->used;
        size_t n;

        if (listing->full || position <= listing->after)
                return;

        /* With a number the kernel counts it as looked up, which the dots must not be. */
        entry.attr.st_ino = id;
        entry.attr.st_mode = node_mode(type, false);
        if (listing->plus && !is_dots) {
                entry.ino = id;
                if (node_stat(listing->mount->model, id, &listing->peer, listing->mount->start,
                              &entry.attr) < 0)
                        return;
        }

        if (listing->plus)
                n = fuse_add_direntry_plus(listing->req, listing->buffer + listing->used, left,
                                           name, &entry, (off_t)position);
        else
                n = fuse_add_direntry(listing->req, listing->buffer + listing->used, left, name,
                                      &entry.attr, (off_t)position);
        if (n > left)
                listing->full = true;
        else
                listing->used += n;
}

static void list_root(struct listing *listing)
{
        const struct client *client;

        listing_add(listing, POSITION_SELF, ".", NODE_ROOT, NODE_TYPE_ROOT);
        listing_add(listing, POSITION_PARENT, "..", NODE_ROOT, NODE_TYPE_ROOT);
        listing_add(listing, POSITION_STATUS, STATUS_NAME, NODE_ROOT_STATUS, NODE_TYPE_ROOT_STATUS);
        list_for_each (client, &listing->mount->model->clients, link)
                if (client_is_visible(client, &listing->peer))
                        listing_add(listing, POSITION_NODES + client->node.id, client->name,
                                    client->node.id, NODE_TYPE_CLIENT);
}

static void list_client(struct listing *listing, const struct client *client)
{
        const struct export *export;

        listing_add(listing, POSITION_SELF, ".", client->node.id, NODE_TYPE_CLIENT);
        listing_add(listing, POSITION_PARENT, "..", NODE_ROOT, NODE_TYPE_ROOT);
        listing_add(listing, POSITION_STATUS, STATUS_NAME, client->status_node.id,
                    NODE_TYPE_CLIENT_STATUS);
        list_for_each (export, &client->exports, link)
                listing_add(listing, POSITION_NODES + export->node.id, export->name,
                            export->node.id, NODE_TYPE_EXPORT);
}

static void list_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t after, bool plus)
{
        DMIO_CLEANUP(freep) char *buffer = NULL;
        struct mount *mount = request_mount(req);
        struct listing listing = {
                .req = req,
                .mount = mount,
                .peer = request_peer(req),
                .plus = plus,
                .after = (uint64_t)after,
                .size = MIN(size, READDIR_MAX),
        };
        const struct node *node;
        int r = 0;

        buffer = malloc(MAX(listing.size, 1U));
        if (!buffer) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        listing.buffer = buffer;

        pthread_mutex_lock(&mount->model->lock);
        node = visible_node(mount->model, ino, &listing.peer);
        if (!node)
                r = -ENOENT;
        else if (node->type == NODE_TYPE_ROOT)
                list_root(&listing);
        else if (node->type != NODE_TYPE_CLIENT)
                r = -ENOTDIR;
        else
                list_client(&listing, node->client);
        pthread_mutex_unlock(&mount->model->lock);

        if (r < 0)
                fuse_reply_err(req, -r);
        else
                fuse_reply_buf(req, buffer, listing.used);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t after, struct fuse_file_info *fi)
{
        list_directory(req, ino, size, after, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t after,
                    struct fuse_file_info *fi)
{
        list_directory(req, ino, size, after, true);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        fuse_reply_err(req, 0);
}
