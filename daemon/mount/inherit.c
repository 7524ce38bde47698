/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "descriptor-store.h"
#include "log.h"
#include "mount/inherit.h"
#include "mount/mount-internal.h"
#include "mount/resume.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* The kernel refuses to give a request to who has no room for the largest. */
#define REQUEST_SIZE (SESSION_MAX_WRITE + 4096)

#define CLONE_NAME DESCRIPTOR_STORE_FUSE "-%u"

/* Whatever has come by the name of something that outlives processes. */
static void take_clones(struct mount *mount)
{
        char name[32];

        for (unsigned int i = 1; i < MEMORY_QUEUES; i++) {
                int fd;

                (void)snprintf(name, sizeof(name), CLONE_NAME, i);
                fd = descriptor_store_take(mount->store, name);
                mount->clones[i] = fd < 0 ? -EBADF : fd;
        }
}

static void take_fences(struct mount *mount)
{
        char name[64];
        int fd;

        while ((fd = descriptor_store_take_prefix(mount->store, DESCRIPTOR_STORE_FENCE_PREFIX, name,
                                                  sizeof(name))) >= 0)
                orphans_add_fence(&mount->orphans, fd, name);
}

static void forget_clone(struct mount *mount, unsigned int i)
{
        char name[32];

        if (mount->clones[i] < 0)
                return;
        (void)snprintf(name, sizeof(name), CLONE_NAME, i);
        (void)descriptor_store_remove(mount->store, name);
        mount->clones[i] = close_fd(mount->clones[i]);
}

void inherit_drop_clones(struct mount *mount)
{
        for (unsigned int i = 1; i < MEMORY_QUEUES; i++)
                forget_clone(mount, i);
}

static void forget_memory(struct mount *mount)
{
        (void)descriptor_store_remove(mount->store, DESCRIPTOR_STORE_STATE);
        (void)descriptor_store_remove(mount->store, DESCRIPTOR_STORE_STATE_2);
}

void inherit_give_up(struct mount *mount)
{
        (void)descriptor_store_remove(mount->store, DESCRIPTOR_STORE_FUSE);
        forget_memory(mount);
        inherit_drop_clones(mount);
}

static bool is_pending(int fd, short events)
{
        struct pollfd pollfd = { .fd = fd, .events = events };

        return poll(&pollfd, 1, 0) == 1 && pollfd.revents & (events | POLLERR | POLLHUP);
}

/*
 * Has nobody answered INIT yet? It is received to find out; any other request that comes instead
 * will be sent again. Returns 1, 0 or a negative errno.
 */
static int receive_init(struct mount *mount, int fd)
{
        DMIO_CLEANUP(freep) struct fuse_in_header *in = NULL;
        int flags = fcntl(fd, F_GETFL);
        ssize_t n;

        if (!is_pending(fd, POLLIN))
                return 0;
        in = malloc(REQUEST_SIZE);
        if (!in)
                return -ENOMEM;
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        n = read(fd, in, REQUEST_SIZE);
        if (n < (ssize_t)sizeof(*in) || in->opcode != FUSE_INIT)
                return 0;
        mount->early_init_size = (size_t)n;
        mount->early_init = DMIO_TAKE(in);
        return 1;
}

/*
 * What was another build's has been copied: the copy is kept under the other name, and then what it
 * was made of is not any more. Whoever comes when both are there takes either: this process will
 * have been killed between the two, before it served anything.
 */
static void exchange_memory(struct mount *mount, const char *name, const char *other)
{
        int r;

        (void)descriptor_store_remove(mount->store, other);
        r = descriptor_store_push(mount->store, other, mount->memory.fd);
        if (r < 0)
                log_error_errno(r, "Cannot have the memory kept that was another build's: %m");
        (void)descriptor_store_remove(mount->store, name);
        log_notice("The daemon before was another build, whose open files are taken over");
}

/* What the process before has left in memory, if it can be gone on with. Returns 1, 0 or an errno.
 */
static int take_memory(struct mount *mount)
{
        const char *name = DESCRIPTOR_STORE_STATE, *other = DESCRIPTOR_STORE_STATE_2;
        DMIO_CLEANUP(close_fdp) int spare = -EBADF;
        const char *why = NULL;
        int fd, r;

        fd = descriptor_store_take(mount->store, name);
        spare = descriptor_store_take(mount->store, other);
        if (fd < 0) {
                name = DESCRIPTOR_STORE_STATE_2;
                other = DESCRIPTOR_STORE_STATE;
                fd = DMIO_TAKE_FD(spare);
        }
        if (fd < 0)
                return 0;
        if (spare >= 0)
                (void)descriptor_store_remove(mount->store, other);

        r = memory_file_open(&mount->memory, fd, &why);
        if (r > 0)
                exchange_memory(mount, name, other);
        if (r >= 0)
                return 1;
        forget_memory(mount);
        if (r == -EBADMSG)
                log_error("The memory that was kept of the daemon before is damaged: %s", why);
        else if (r == -EPROTO)
                log_error("The memory that was kept is of another build, which this one cannot "
                          "take up: %s",
                          why);
        else
                log_error_errno(r, "Cannot use the memory that was kept: %m");
        return 0;
}

/* Returns 1 if @fd can be served, 0 if not, or a negative errno. */
static int look_at(struct mount *mount, int fd)
{
        const struct memory_agreed *agreed;
        const void *init;
        size_t init_size;
        int r;

        if (is_pending(fd, 0)) {
                log_notice("The mount that was kept has been unmounted meanwhile");
                return 0;
        }

        r = take_memory(mount);
        if (r <= 0)
                return r < 0 ? r : receive_init(mount, fd);

        /* One that ended before INIT was there leaves nothing to be gone on with. */
        init_size = memory_file_init(&mount->memory, &init);
        if (init_size == 0)
                return 1;
        agreed = memory_file_agreed(&mount->memory);
        if (agreed && !session_can_keep(agreed)) {
                log_error("The daemon before was another build, which has promised the kernel what "
                          "this one cannot keep");
                return 0;
        }
        mount->resends = session_can_resend(init, init_size) && !getenv(RESUME_NO_RESEND);
        r = mount->resends ? receive_init(mount, fd) : 0;
        if (r < 0)
                return r;
        if (r > 0) {
                log_notice("The mount is a new one, and what was kept of another is dropped");
                memory_file_close(&mount->memory);
                forget_memory(mount);
        }
        mount->resumed = r == 0;
        return 1;
}

int inherit(struct mount *mount, const struct config *config)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        bool new_memory;
        int r = 0;

        take_clones(mount);
        take_fences(mount);
        fd = descriptor_store_take(mount->store, DESCRIPTOR_STORE_FUSE);
        if (fd >= 0)
                r = look_at(mount, fd);
        if (r < 0)
                return log_error_errno(r, "Cannot look at the mount that was kept: %m");
        if (r == 0) {
                inherit_give_up(mount);
                memory_file_close(&mount->memory);
                if (fd >= 0) {
                        log_error("The mount at %s cannot be gone on with, and is detached; files "
                                  "that were open there are lost (ENOTCONN)",
                                  config->mount);
                        fd = close_fd(fd);
                        mount_point_give_up(config->mount, config->user);
                }
        }

        new_memory = !mount->memory.header;
        if (new_memory)
                r = memory_file_new(&mount->memory);
        if (r < 0)
                return log_error_errno(r, "Cannot make memory that outlasts the process: %m");
        if (new_memory)
                (void)descriptor_store_push(mount->store, DESCRIPTOR_STORE_STATE, mount->memory.fd);
        return fd < 0 ? -ENOENT : DMIO_TAKE_FD(fd);
}

void inherit_keep(struct mount *mount, int fd)
{
        int r;

        r = descriptor_store_push(mount->store, DESCRIPTOR_STORE_FUSE, fd);
        if (r == -EOPNOTSUPP)
                return;
        if (r == 0)
                r = descriptor_store_barrier(mount->store);
        if (r < 0)
                log_warning_errno(r, "Cannot have the mount kept, it will end with this process: "
                                     "%m");
        mount->kept = r == 0;
}

void inherit_keep_clone(struct mount *mount, unsigned int index, int fd)
{
        char name[32];

        (void)snprintf(name, sizeof(name), CLONE_NAME, index);
        if (mount->kept)
                (void)descriptor_store_push(mount->store, name, fd);
}
