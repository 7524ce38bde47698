/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>

#include "model/describe.h"
#include "model/export.h"
#include "mount/attr.h"
#include "mount/mount-internal.h"
#include "mount/open-ops.h"
#include "mount/ops.h"
#include "mount/request.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* The text of a .status as it is now for who asks. */
static int open_status(struct mount *mount, const struct open_origin *origin,
                       const struct peer *peer, uint64_t *ret_fh)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        const struct node *node;
        int r = 0;

        pthread_mutex_lock(&mount->model->lock);
        node = visible_node(mount->model, origin->node, peer);
        if (!node) {
                r = -ENOENT;
        } else if (S_ISDIR(node_mode(node->type, false))) {
                r = -EISDIR;
        } else {
                text = describe_status_file(mount->model, node, peer);
                if (!text)
                        r = -ENOMEM;
        }
        pthread_mutex_unlock(&mount->model->lock);
        if (r < 0)
                return r;

        r = handle_table_add(&mount->handles, NULL, false, text, strlen(text), origin, ret_fh);
        if (r == 0)
                (void)DMIO_TAKE(text);
        return r;
}

/* Takes the reference to the export, also on failure. */
static int open_export(struct mount *mount, struct export *export, bool writing,
                       const struct open_origin *origin, uint64_t *ret_fh)
{
        int r;

        r = writing && export->read_only ? -EROFS : export_open(export);
        if (r < 0) {
                export_unref(export);
                return r;
        }

        r = handle_table_add(&mount->handles, export, writing, NULL, 0, origin, ret_fh);
        if (r < 0) {
                export_close(export);
                export_unref(export);
        } else if (writing) {
                uncache_writing(export, now_usec());
        }
        return r;
}

/*
 * The flags of the reply: DIRECT_IO sends requests as they are, past the page cache;
 * PARALLEL_DIRECT_WRITES spares writers each other's inode lock, and libfuse has no word for it, so
 * the reply is made here; NOFLUSH saves a request at each close, for which there is nothing to do.
 *
 * Of an export with cache=page, files opened without O_DIRECT are read and written through the page
 * cache, which the kernel keeps until the next open. Those with O_DIRECT go past it by DIRECT_IO,
 * too, if the kernel keeps both together then; or else by its own ways.
 */
static uint32_t open_flags(const struct mount *mount, const struct export *export, int flags)
{
        const void *init;
        size_t size;

        if (export && export->cache == EXPORT_CACHE_PAGE) {
                size = memory_file_init(&mount->memory, &init);
                if (!(flags & O_DIRECT) || !session_direct_is_coherent(init, size))
                        return FOPEN_NOFLUSH;
        }
        return FOPEN_DIRECT_IO | FOPEN_NOFLUSH | FOPEN_PARALLEL_DIRECT_WRITES;
}

void ops_open_flags(struct mount *mount, uint64_t node, uint32_t flags, uint32_t *ret)
{
        const struct node *found;

        pthread_mutex_lock(&mount->model->lock);
        found = model_find_node(mount->model, node);
        *ret = open_flags(mount, found ? found->export : NULL, (int)flags);
        pthread_mutex_unlock(&mount->model->lock);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct fuse_open_out out = {};
        bool writing = (fi->flags & O_ACCMODE) != O_RDONLY;
        const struct queue_thread *thread = fuse_req_userdata(req);
        const struct open_origin origin = {
                .node = ino,
                .unique = thread->current_unique,
                .uid = fuse_req_ctx(req)->uid,
                .slot = thread->current->slot,
        };
        struct mount *mount = request_mount(req);
        struct peer peer = request_peer(req);
        struct export *export;
        int r;

        r = request_export(req, ino, &export);
        out.open_flags = open_flags(mount, export, fi->flags);
        if (r < 0)
                r = -ESTALE; /* removed since it was looked up: the kernel looks again */
        else if (export)
                r = open_export(mount, export, writing, &origin, &out.fh);
        else if (writing)
                r = -EACCES;
        else
                r = open_status(mount, &origin, &peer, &out.fh);
        if (r < 0) {
                fuse_reply_err(req, -r);
                return;
        }

        /* Who has gone meanwhile will not send a RELEASE. */
        if (fuse_reply_buf(req, (const char *)&out, sizeof(out)) == -ENOENT)
                handle_table_remove(&mount->handles, out.fh);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        handle_table_remove(&request_mount(req)->handles, fi->fh);
        fuse_reply_err(req, 0);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        fuse_reply_err(req, 0);
}
