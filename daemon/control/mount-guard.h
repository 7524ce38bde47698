/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Files of the daemon's own mount are not devices: the daemon would wait for itself. They are told
 * apart without touching the mount, since even stat(2) there is a request to ourselves: by the path
 * as it is written, and once there is a descriptor by model.mount_device.
 */

#include <stdbool.h>

/* True if the absolute @path lies, as it is written, in the folder @mount (NULL: nowhere). */
bool mount_guard_has_path(const char *mount, const char *path);
