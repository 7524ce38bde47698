/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One fuse_session for each queue thread: libfuse as the decoder of requests and the encoder of all
 * replies but those that carry data (transfer.h).
 *
 * Receiving is ours (queue-thread.h). Replies come back through a hook and are written to
 * /dev/fuse at once: that never blocks, and namespace operations are too rare for a place in the
 * ring. What libfuse 3.14 cannot say in the INIT reply is amended in the hook, and nowhere else.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mount/mount-point.h"

struct fuse_in_header;
struct fuse_init_in;
struct fuse_session;
struct memory_agreed;
struct queue_thread;

/* Largest payload of a WRITE; a multiple of a page. */
#define SESSION_MAX_WRITE MOUNT_MAX_READ
/*
 * One page more than that needs: memory of a client that does not begin on a page boundary reaches
 * into one more, and with 128 the kernel would cut such requests at odd places.
 */
#define SESSION_MAX_PAGES (SESSION_MAX_WRITE / 4096 + 1)

struct session {
        struct fuse_session *fuse;
        int fd;          /* of /dev/fuse; belongs to fuse once it is set up */
        bool fusermount; /* mounted by libfuse's helper, and to be unmounted by it */
        bool swallow;    /* replies go nowhere: INIT is being replayed */
        const struct fuse_init_in *init; /* while INIT is being answered */
};

/* Asynchronous requests that the kernel has under way at once; the others wait, whoever's they are.
 */
#define SESSION_MAX_BACKGROUND 256U

#define SESSION_NULL                                                                               \
        {                                                                                          \
                .fd = -EBADF                                                                       \
        }

/* Set up for a descriptor, which is taken over in any case. Returns 0 or a negative errno, logged.
 */
int session_init(struct session *session, struct queue_thread *thread, int fd);

/* The same, mounting at @path through fusermount3 first. */
int session_init_fusermount(struct session *session, struct queue_thread *thread, const char *path);

/* One more descriptor for the connection of @fd, with requests and replies of its own. */
int session_clone_fd(int fd);

/* Closes the descriptor. */
void session_deinit(struct session *session);

/*
 * Detach the mount that session_init_fusermount() made. Closes the descriptor, as libfuse does.
 */
void session_unmount(struct session *session);

/*
 * Have a request of @length bytes answered. INIT is recognized: *@ret_init becomes true once it has
 * been answered well. Returns 0, -EPROTO if INIT was refused, or -EBADMSG for what is no request.
 */
int session_process(struct session *session, const struct fuse_in_header *in, size_t length,
                    bool *ret_init);

/* True if the kernel that sent this INIT can send requests again that were not answered. */
bool session_can_resend(const void *init, size_t length);

/* True if this build can serve a mount on which another one has agreed with the kernel so. */
bool session_can_keep(const struct memory_agreed *agreed);

/* Have the kernel send them again. Returns 0 or a negative errno. */
int session_resend(int fd);

/*
 * True if it throws pages of a file out of its cache when that is written with FOPEN_DIRECT_IO:
 * from Linux 6.6 on, where such files can be mapped.
 */
bool session_direct_is_coherent(const void *init, size_t length);

/* Answer the request @unique with @error (negative errno), or with @size bytes. Returns 0; -ENOENT
 * if it has been answered before; or another negative errno. */
int session_answer(int fd, uint64_t unique, int error, const void *data, size_t size);

/* Have a saved INIT request decoded again, with no reply. Returns 0 or -EPROTO. */
int session_replay_init(struct session *session, const void *init, size_t length);
