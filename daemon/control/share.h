/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The main loop's time, shared among users. A call may cost a tenth of a second (1 MiB of JSON in
 * small pieces), and one user may have a thousand connections that send one after the other. So
 * whoever has used more than SHARE_USEC within SHARE_WINDOW_USEC comes after everybody else until
 * that time is over: others then wait for one of his calls at most. Those who are privileged always
 * keep their place. Main loop only.
 */

#include <sys/types.h>

#include <systemd/sd-event.h>

#include "peer.h"
#include "util/list.h"

#define SHARE_WINDOW_USEC UINT64_C(1000000)
#define SHARE_USEC UINT64_C(100000)

/* A connection's part in it. */
struct share {
        struct list link; /* of those of the same user; private */
        struct share_user *user;
        sd_event_source *source;
};

/* What one user has used. */
struct share_user;

/* @users: where they are kept, an empty list at first. @source, of @peer, is what has its turn. Of
 * those who are privileged nothing is kept. Returns 0 or a negative errno. */
int share_join(struct share *share, struct list *users, const struct peer *peer,
               sd_event_source *source);

/* Harmless if it has not joined. The source must still be there. */
void share_leave(struct share *share);

/* Bracket of a turn, in which it may leave: its time is its user's. NULL is what it returns for
 * those who are privileged, and takes. */
struct share_user *share_begin(struct share *share);
void share_end(struct share_user *user);

/* Forget those who have left. Nobody must have joined. */
void share_forget(struct list *users);
