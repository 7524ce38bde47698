/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"
#include "util/cleanup.h"

static bool uid_is_privileged(uid_t uid)
{
        return uid == 0 || uid == geteuid();
}

/* The number of groups is not known beforehand: the kernel says how much room it wants. */
static int read_groups(int fd, gid_t **ret_groups, size_t *ret_n)
{
        DMIO_CLEANUP(freep) gid_t *groups = NULL;
        socklen_t size = 0;

        for (;;) {
                gid_t *larger;

                if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
                        break;
                if (errno != ERANGE)
                        return -errno;

                larger = realloc(groups, size);
                if (!larger)
                        return -ENOMEM;
                groups = larger;
        }

        *ret_n = size / sizeof(gid_t);
        *ret_groups = DMIO_TAKE(groups);
        return 0;
}

int peer_from_socket(int fd, struct peer *ret)
{
        struct peer peer = PEER_NULL;
        struct ucred ucred;
        socklen_t size = sizeof(ucred);
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ucred, &size) < 0)
                return -errno;

        r = read_groups(fd, &peer.groups, &peer.n_groups);
        if (r < 0)
                return r;

        peer.uid = ucred.uid;
        peer.gid = ucred.gid;
        peer.privileged = uid_is_privileged(ucred.uid);
        *ret = peer;
        return 0;
}

struct peer peer_from_uid(uid_t uid)
{
        struct peer peer = PEER_NULL;

        peer.uid = uid;
        peer.privileged = uid_is_privileged(uid);
        return peer;
}

/* Whoever is not in the user data base has no further groups. */
static char *user_name(uid_t uid)
{
        DMIO_CLEANUP(freep) char *buffer = NULL;
        struct passwd passwd, *found = NULL;
        size_t size = 1024;

        for (;;) {
                char *larger = realloc(buffer, size);

                if (!larger)
                        return NULL;
                buffer = larger;
                if (getpwuid_r(uid, &passwd, buffer, size, &found) != ERANGE)
                        break;
                size *= 2;
        }
        return found ? strdup(found->pw_name) : NULL;
}

int peer_from_user(uid_t uid, gid_t gid, struct peer *ret)
{
        struct peer peer = peer_from_uid(uid);
        DMIO_CLEANUP(freep) char *name = user_name(uid);
        int n = 0;

        peer.gid = gid;
        /* The first time it only says how many there are. */
        while (name && getgrouplist(name, gid, peer.groups, &n) < 0) {
                gid_t *larger = realloc(peer.groups, (size_t)n * sizeof(gid_t));

                if (!larger) {
                        free(peer.groups);
                        return -ENOMEM;
                }
                peer.groups = larger;
        }
        peer.n_groups = (size_t)n;
        *ret = peer;
        return 0;
}

void peer_deinit(struct peer *peer)
{
        free(peer->groups);
        *peer = PEER_NULL;
}

bool peer_in_group(const struct peer *peer, gid_t gid)
{
        if (peer->gid == gid)
                return true;

        for (size_t i = 0; i < peer->n_groups; i++)
                if (peer->groups[i] == gid)
                        return true;
        return false;
}
