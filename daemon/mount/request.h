/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the operations on names need of a request: whose it is, and what that peer may see. */

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "model/model.h"

#define STATUS_NAME ".status"

/* Of every node, in every answer: see ops.c. */
#define GENERATION 1

struct export;
struct mount;

struct mount *request_mount(fuse_req_t req);
struct peer request_peer(fuse_req_t req);

/* A node that is in the model, if @peer may see it. Under the model's lock. */
struct node *visible_node(struct model *model, node_id_t id, const struct peer *peer);

/*
 * The export of that number with a reference, or NULL in *@ret for a node that is none. Returns 0
 * or -ENODEV for a number that names nothing any more. Takes the lock.
 */
int request_export(fuse_req_t req, node_id_t id, struct export **ret);
