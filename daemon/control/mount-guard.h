/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Files of the daemon's own mount are not devices: the daemon would wait for itself. They are told
 * apart without touching the mount, since even stat(2) there is a request to ourselves.
 */

#include <stdbool.h>
#include <sys/types.h>

/* True if the absolute @path lies, as it is written, in the folder @mount (NULL: nowhere). */
bool mount_guard_has_path(const char *mount, const char *path);

/* The device number of the file system at @mount, from /proc/self/mountinfo; 0 if there is none. */
dev_t mount_guard_device(const char *mount);
