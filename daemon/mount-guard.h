/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Files of the daemon's own mount are not devices: the daemon would wait for itself. They are told
 * apart without touching the mount, since even stat(2) there is a request to ourselves: by the path
 * as it is written, and once there is a descriptor by model.mount_device.
 */

#include <stdbool.h>
#include <sys/types.h>

/* True if the absolute @path lies, as it is written, in the folder @mount (NULL: nowhere). */
bool mount_guard_has_path(const char *mount, const char *path);

/* The file system that is mounted at @mount, whoever serves it, and if nobody does; 0 if none is.
 */
dev_t mount_guard_device(const char *mount);

/*
 * Open the absolute @path with O_PATH, following links, but not into the file system @device, which
 * nobody may be serving yet: that is -EXDEV. Returns a descriptor or a negative errno.
 */
int mount_guard_open(const char *path, dev_t device);
