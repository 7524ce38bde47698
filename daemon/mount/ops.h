/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The table of FUSE operations. The userdata of a session is its struct queue_thread. */

struct fuse_conn_info;
struct fuse_lowlevel_ops;

extern const struct fuse_lowlevel_ops ops_lowlevel;

/* session.c: what is negotiated with the kernel. */
void session_op_init(void *userdata, struct fuse_conn_info *conn);
