/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * FUSE operations on names and attributes: thin adapters between libfuse and the model. Each asks
 * the model under its lock and answers afterwards.
 *
 * Everybody sees only what is theirs: who may not know of a client finds nothing of it by name
 * (LOOKUP, READDIR). What is already open may be used by whoever was given it.
 * Modes are checked by the kernel (default_permissions).
 *
 * Nothing is kept by the kernel: entries and attributes are valid for 0 seconds, because the model
 * changes without it. Node ids are never used twice, so the generation is always the same; it must
 * be the same in every answer, or the kernel gives the node up.
 *
 * An operation that is not in the table would be answered with ENOSYS, and the kernel would never
 * ask again; so it has an answer for everything that such a memory would be wrong for.
 */

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "model/client.h"
#include "model/export.h"
#include "mount/attr.h"
#include "mount/copy-range.h"
#include "mount/directory.h"
#include "mount/io-ops.h"
#include "mount/mount-internal.h"
#include "mount/open-ops.h"
#include "mount/ops.h"
#include "mount/request.h"
#include "mount/xattr.h"
#include "name.h"
#include "util/cleanup.h"

struct mount *request_mount(fuse_req_t req)
{
        return ((struct queue_thread *)fuse_req_userdata(req))->mount;
}

struct peer request_peer(fuse_req_t req)
{
        return peer_from_uid(fuse_req_ctx(req)->uid);
}

/* Attributes of a node for who asks. Takes the lock. */
static int request_stat(fuse_req_t req, node_id_t id, struct stat *ret)
{
        struct mount *mount = request_mount(req);
        struct peer peer = request_peer(req);
        int r;

        pthread_mutex_lock(&mount->model->lock);
        r = node_stat(mount->model, id, &peer, mount->start, ret);
        pthread_mutex_unlock(&mount->model->lock);
        return r;
}

struct node *visible_node(struct model *model, node_id_t id, const struct peer *peer)
{
        struct node *node = model_find_node(model, id);

        return node && node_is_visible(node, peer) ? node : NULL;
}

int request_export(fuse_req_t req, node_id_t id, struct export **ret)
{
        struct mount *mount = request_mount(req);
        const struct node *node;

        *ret = NULL;
        pthread_mutex_lock(&mount->model->lock);
        node = model_find_node(mount->model, id);
        if (node && node->type == NODE_TYPE_EXPORT)
                *ret = export_ref(node->export);
        pthread_mutex_unlock(&mount->model->lock);
        return node ? 0 : -ENODEV;
}

/* Looking up and attributes */

/* The number of @name in @parent. Returns 0 or -ENOENT. Under the lock. */
static int find_name(struct model *model, node_id_t parent, const char *name,
                     const struct peer *peer, node_id_t *ret)
{
        const struct client *client;
        const struct export *export;
        const struct node *node;

        if (parent == NODE_ROOT) {
                if (strcmp(name, STATUS_NAME) == 0) {
                        *ret = NODE_ROOT_STATUS;
                        return 0;
                }
                client = model_find_client(model, name);
                if (!client)
                        return -ENOENT;
                *ret = client->node.id;
                return 0;
        }

        node = visible_node(model, parent, peer);
        if (!node || node->type != NODE_TYPE_CLIENT)
                return -ENOENT;
        if (strcmp(name, STATUS_NAME) == 0) {
                *ret = node->client->status_node.id;
                return 0;
        }
        export = client_find_export(node->client, name);
        if (!export)
                return -ENOENT;
        *ret = export->node.id;
        return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        struct fuse_entry_param entry = { .generation = GENERATION };
        struct mount *mount = request_mount(req);
        struct peer peer = request_peer(req);
        node_id_t id = 0;
        int r;

        pthread_mutex_lock(&mount->model->lock);
        r = find_name(mount->model, parent, name, &peer, &id);
        if (r == 0 && !visible_node(mount->model, id, &peer))
                r = -ENOENT;
        if (r == 0)
                r = node_stat(mount->model, id, &peer, mount->start, &entry.attr);
        pthread_mutex_unlock(&mount->model->lock);

        entry.ino = id;
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                fuse_reply_entry(req, &entry);
}

/* Numbers are never used again, so nobody counts who knows of them. */
static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookup)
{
        fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct stat stat;
        int r;

        r = request_stat(req, ino, &stat);
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                fuse_reply_attr(req, &stat, 0);
}

/*
 * Replies: the attributes as they are; EPERM for a size, owner or mode that would be another one.
 *
 * - Size 0 is what O_TRUNC arrives as. It does nothing, as on a block device, so that "> file",
 *   cp and dd work; the true size in the answer keeps the kernel's idea of it right.
 * - Times are accepted without effect: they belong to the file's making, and programs that set
 *   them (touch, cp -p, rsync) mean no harm and would fail for nothing.
 */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int to_set,
                       struct fuse_file_info *fi)
{
        struct stat stat;
        int r;

        r = request_stat(req, ino, &stat);
        if (r == 0) {
                bool resize =
                        to_set & FUSE_SET_ATTR_SIZE && wanted->st_size != stat.st_size &&
                        (wanted->st_size != 0 || !S_ISREG(stat.st_mode) || !(stat.st_mode & 0200));
                bool change = (to_set & FUSE_SET_ATTR_MODE &&
                               (wanted->st_mode & 07777) != (stat.st_mode & 07777)) ||
                              (to_set & FUSE_SET_ATTR_UID && wanted->st_uid != stat.st_uid) ||
                              (to_set & FUSE_SET_ATTR_GID && wanted->st_gid != stat.st_gid);

                if (resize || change)
                        r = -EPERM;
        }

        if (r < 0)
                fuse_reply_err(req, -r);
        else
                fuse_reply_attr(req, &stat, 0);
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
        struct stat stat;

        fuse_reply_err(req, -request_stat(req, ino, &stat));
}

/* Sums up what who asks can see; nothing is free, because all of it is somebody's. */
static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
        struct mount *mount = request_mount(req);
        struct peer peer = request_peer(req);
        struct statvfs stat = {
                .f_bsize = DMIO_PAGE_SIZE,
                .f_frsize = DMIO_PAGE_SIZE,
                .f_namemax = NAME_LENGTH_MAX,
        };
        const struct client *client;
        const struct export *export;
        uint64_t sectors = 0;

        pthread_mutex_lock(&mount->model->lock);
        list_for_each (client, &mount->model->clients, link) {
                if (!client_is_visible(client, &peer))
                        continue;
                stat.f_files += 2;
                list_for_each (export, &client->exports, link) {
                        stat.f_files++;
                        sectors += export->sectors;
                }
        }
        pthread_mutex_unlock(&mount->model->lock);

        stat.f_files += 2;
        stat.f_blocks = sectors * DMIO_SECTOR_SIZE / DMIO_PAGE_SIZE;
        fuse_reply_statfs(req, &stat);
}

/* Extended attributes */

static void reply_xattr(fuse_req_t req, const char *value, size_t length, size_t size)
{
        if (size == 0)
                fuse_reply_xattr(req, length);
        else if (length > size)
                fuse_reply_err(req, ERANGE);
        else
                fuse_reply_buf(req, value, length);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
        DMIO_CLEANUP(freep) char *value = NULL;
        struct export *export;
        int r;

        r = request_export(req, ino, &export);
        if (r == 0)
                r = -ENODATA;
        if (export) {
                r = xattr_get(export, name, &value);
                export_unref(export);
        }

        if (r < 0)
                fuse_reply_err(req, -r);
        else
                reply_xattr(req, value, strlen(value), size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
        struct export *export;
        int r;

        r = request_export(req, ino, &export);
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                reply_xattr(req, xattr_names, export ? xattr_names_size : 0, size);
        export_unref(export);
}

/* Not ENOSYS and not ENOTSUP: the kernel would keep the first in mind, cp would warn of the second.
 */
static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
                        size_t size, int flags)
{
        fuse_reply_err(req, EPERM);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
        fuse_reply_err(req, EPERM);
}

/* What only the control channel does */

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
        fuse_reply_err(req, EPERM);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
        fuse_reply_err(req, EPERM);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
        fuse_reply_err(req, EPERM);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        fuse_reply_err(req, EPERM);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        fuse_reply_err(req, EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned int flags)
{
        fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
        fuse_reply_err(req, EPERM);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
        fuse_reply_err(req, EPERM);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
        fuse_reply_err(req, EINVAL);
}

/* What a file of ours cannot do */

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int command, void *argument,
                     struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_size,
                     size_t out_size)
{
        fuse_reply_err(req, ENOTTY);
}

/*
 * Left out on purpose, with ENOSYS as the right answer for ever: locks (the kernel keeps them by
 * itself), poll (always ready), bmap, opendir and releasedir (directories have no state), write_buf
 * and retrieve_reply (we neither splice nor notify).
 */
const struct fuse_lowlevel_ops ops_lowlevel = {
        .init = session_op_init,

        .lookup = op_lookup,
        .forget = op_forget,
        .getattr = op_getattr,
        .setattr = op_setattr,
        .access = op_access,
        .statfs = op_statfs,

        .readdir = op_readdir,
        .readdirplus = op_readdirplus,
        .fsyncdir = op_fsyncdir,

        .open = op_open,
        .release = op_release,
        .flush = op_flush,
        .read = op_read,
        .write = op_write,
        .fsync = op_fsync,
        .fallocate = op_fallocate,
        .lseek = op_lseek,

        .getxattr = op_getxattr,
        .listxattr = op_listxattr,
        .setxattr = op_setxattr,
        .removexattr = op_removexattr,

        .mknod = op_mknod,
        .create = op_create,
        .mkdir = op_mkdir,
        .unlink = op_unlink,
        .rmdir = op_rmdir,
        .rename = op_rename,
        .link = op_link,
        .symlink = op_symlink,
        .readlink = op_readlink,

        .ioctl = op_ioctl,
        .copy_file_range = op_copy_file_range,
};
