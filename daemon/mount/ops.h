/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The table of FUSE operations. The userdata of a session is its struct queue_thread. */

#include <stdint.h>

struct fuse_conn_info;
struct fuse_lowlevel_ops;
struct mount;

extern const struct fuse_lowlevel_ops ops_lowlevel;

/* session.c: what is negotiated with the kernel. */
void session_op_init(void *userdata, struct fuse_conn_info *conn);

/* open-ops.c: the flags of the reply to an OPEN of the node with @flags. */
void ops_open_flags(struct mount *mount, uint64_t node, uint32_t flags, uint32_t *ret);
