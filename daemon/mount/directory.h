/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* FUSE operations on directories, for the table in ops.c. */

#include <sys/types.h>

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t after,
                struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t after,
                    struct fuse_file_info *fi);

/* There is nothing to make durable. */
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
