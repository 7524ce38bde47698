/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* FUSE operations on the data of an open file. They are entries of ops_lowlevel (ops.h). */

#include <stddef.h>

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

struct open_file;
struct transfer;

/* The open file, or NULL after answering: EBADF, or ENODEV if what it shows has been removed. */
struct open_file *io_find_file(fuse_req_t req, const struct fuse_file_info *fi);

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
              struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi);

/* Of a transfer that has its range, and the blocks of its edges if it needs any: make zeroes. */
void io_zero(struct transfer *transfer);
