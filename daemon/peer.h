/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who asks: the uid and groups at the other end of a socket, or of a FUSE request. Root and the
 * daemon's own uid are privileged: they see everything and may name paths.
 */

#include <stdbool.h>
#include <sys/types.h>

struct peer {
        uid_t uid;
        gid_t gid;
        gid_t *groups; /* supplementary; may be NULL */
        size_t n_groups;
        bool privileged;
};

#define PEER_NULL ((struct peer){ .uid = (uid_t)-1, .gid = (gid_t)-1 })

/* Ask the kernel who is connected to the Unix socket @fd. Returns 0 or a negative errno. */
int peer_from_socket(int fd, struct peer *ret);

/* A peer of which only the uid is known (a FUSE request). */
struct peer peer_from_uid(uid_t uid);

/* A user who is not here, with @gid and the groups that the user data base gives. 0 or -ENOMEM. */
int peer_from_user(uid_t uid, gid_t gid, struct peer *ret);

void peer_deinit(struct peer *peer);

/* True if @gid is the peer's group or one of its supplementary groups. */
bool peer_in_group(const struct peer *peer, gid_t gid);
