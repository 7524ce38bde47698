/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a supervisor kept of a mount (descriptor-store.h), and whether it can be gone on with.
 *
 * There is "fuse" alone when somebody mounted for us and nobody has served it yet: then the kernel
 * has an INIT request waiting. There is "state" as well when a process before this one served it.
 * Whatever does not belong together is given up: the mount is detached, and files that were open on
 * it are lost, which is said.
 */

#include <stddef.h>

struct config;
struct mount;

/*
 * Sets mount->memory, mount->resumed, mount->resends, mount->clones and the fences, and
 * mount->early_init if it had to be received. Returns the descriptor to serve; -ENOENT if there is
 * none, so that one is to be mounted; or another negative errno, logged.
 */
int inherit(struct mount *mount, const struct config *config);

/* Have the mount kept that is served by @fd, and what belongs to it. */
void inherit_keep(struct mount *mount, int fd);

/* The clone of queue thread @index: kept as well, since its requests end with it. */
void inherit_keep_clone(struct mount *mount, unsigned int index, int fd);

/* Clones that nobody needs any more: all that was received by them has been sent again. */
void inherit_drop_clones(struct mount *mount);

/* Nobody can serve it: it is not to be passed to the next one either. */
void inherit_give_up(struct mount *mount);
