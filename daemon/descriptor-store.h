/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Descriptors that outlive the process: kept by the service manager, or by another supervisor that
 * speaks the same protocol (docs/supervisor.md), and passed to whoever is started next.
 *
 * They come with the sockets of socket activation: LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES. They
 * are given to the supervisor as messages to $NOTIFY_SOCKET.
 *
 * Names that are ours: "fuse" (/dev/fuse of the mount), "fuse-N" (its clones), "state" (the memory
 * file), "fuse-counters" (model/counters-file.h), "fence-X" (the ends of pipes that processes hold
 * as long as something of theirs is on its way to devices), "dmio-dev-N" (devices that came as
 * descriptors) and "control" (the listening socket, which may also come under any other name, such
 * as that of a socket unit).
 *
 * Main thread only, except that pushing and removing may be done by any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#define DESCRIPTOR_STORE_CONTROL "control"
#define DESCRIPTOR_STORE_FUSE "fuse"
#define DESCRIPTOR_STORE_STATE "state"
/* It begins like one that earlier versions let pass, should one of them come next. */
#define DESCRIPTOR_STORE_COUNTERS "fuse-counters"
#define DESCRIPTOR_STORE_DEVICE_PREFIX "dmio-dev-"
#define DESCRIPTOR_STORE_FENCE_PREFIX "fence-"

struct descriptor_store_entry {
        char *name;
        int fd; /* -EBADF: taken */
};

struct descriptor_store {
        struct descriptor_store_entry *entries;
        size_t n_entries;
        bool there;
};

/*
 * Take all that was passed, with close-on-exec, out of the environment: neither children nor
 * libraries see it. With an error *@store is empty: -EINVAL and its like for an environment that
 * contradicts itself, -ENOMEM.
 */
int descriptor_store_open(struct descriptor_store *store);

/*
 * True if the supervisor keeps descriptors: it has a socket for messages and says so by $FDSTORE,
 * the most that it keeps. (systemd sets that from version 254 on; for older ones the unit does.) Or
 * it has passed descriptors that only a store can have.
 */
bool descriptor_store_is_there(const struct descriptor_store *store);

/* The descriptor of that name, which is the caller's from now on; -ENOENT if there is none. */
int descriptor_store_take(struct descriptor_store *store, const char *name);

/* The first that begins with @prefix, and its name. */
int descriptor_store_take_prefix(struct descriptor_store *store, const char *prefix, char *ret_name,
                                 size_t size);

/*
 * The one listening Unix stream socket, whatever its name is; -ENOENT if there is none. -ENOTUNIQ
 * if there is more than one, -ENOTSOCK if there is one of another name that is not ours and no such
 * socket.
 */
int descriptor_store_take_listener(struct descriptor_store *store);

/*
 * Have a duplicate of @fd kept, until descriptor_store_remove(). One that is kept already under
 * that name is kept as well: remove it first. It has been sent when this returns, and will be seen
 * even if the process dies now; a process that ends by itself, without being the main one of its
 * service, calls descriptor_store_barrier() first. Returns 0; -EOPNOTSUPP without a store; -EINVAL
 * for a bad name; or a negative errno.
 */
int descriptor_store_push(const struct descriptor_store *store, const char *name, int fd);

/* Have all of that name forgotten. Returns as above. */
int descriptor_store_remove(const struct descriptor_store *store, const char *name);

/*
 * Wait until the supervisor has seen everything that was sent. Returns 0; -ETIMEDOUT after five
 * seconds; or a negative errno.
 */
int descriptor_store_barrier(const struct descriptor_store *store);

/*
 * Nothing will be taken any more: what is left is closed, and forgotten by the supervisor if no
 * other of that name was taken. Pushing and removing go on working.
 */
void descriptor_store_drop(struct descriptor_store *store);

/* The same for an end: what is left is closed, and kept by the supervisor. */
void descriptor_store_close(struct descriptor_store *store);
