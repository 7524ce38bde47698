/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * FUSE operations that open and close files, for the table in ops.c. An open file is an entry of
 * the handle table: an export, with its count of who has it open, or the text of a .status as it
 * was then.
 */

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* Each close, for which there is nothing to do: nothing is kept back. */
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
