/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where an export has holes, and what of it is allocated: what the leg that reads come from knows.
 *
 * Somebody who has the file open for writing may have mapped it and stored to a page that is a hole
 * on the leg until the kernel writes it back, which nobody tells us. So while it is open for
 * writing all of it is data, which is never wrong.
 *
 * Only files of this machine are asked, and they are asked on the spot (<dmio/device.h>).
 */

#include <stdint.h>

#include "model/export.h"

/* lseek(2) with SEEK_DATA or SEEK_HOLE in what has none: 0, -ENXIO from @size on, or -EINVAL. */
int seek_in_data(uint64_t size, int whence, uint64_t offset, uint64_t *ret);

/*
 * lseek(2) with SEEK_DATA or SEEK_HOLE from byte @offset on. Returns 0, -ENXIO or -EINVAL. In the
 * bracket of an operation, export_begin().
 */
int export_seek(struct export *export, int whence, uint64_t offset, uint64_t *ret);

/*
 * Sectors that are allocated. A leg that is a part of a file counts as allocated, because only
 * the whole file is counted. Under the model's lock, of an export that has not been removed.
 */
sector_t export_allocated(const struct export *export);
