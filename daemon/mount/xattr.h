/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Extended attributes of exports, for scripts that have nothing but the file. */

#include <stddef.h>

struct export;

/*
 * The value of the attribute @name:
 *
 *      user.dmio.legs    a line for each leg: DEVICE:SECTOR+COUNT STATE
 *      user.dmio.failed  the numbers of the failed legs, with commas between; empty if there is
 * none user.dmio.state   "ok", "degraded" or "failed": all legs are active, some, or none
 *
 * Returns 0 and a string to be freed, -ENODATA for any other name, or -ENOMEM.
 */
int xattr_get(const struct export *export, const char *name, char **ret);

/* The names as listxattr(2) gives them, each ended by a NUL. */
extern const char xattr_names[];
extern const size_t xattr_names_size;
