/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* copy_file_range(2) between exports: an entry of ops_lowlevel (ops.h). */

#include <stddef.h>
#include <stdint.h>

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

/* A copy is cut into pieces of that size, and is never longer than that. */
#define COPY_CHUNK_BYTES (UINT64_C(256) * 1024)
#define COPY_MAX (UINT64_C(64) * 1024 * 1024)

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in,
                        struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t offset_out,
                        struct fuse_file_info *fi_out, size_t length, int flags);
