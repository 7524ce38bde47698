/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* fusermount3, the setuid helper with which who is not root mounts and unmounts. */

/* Detach what is mounted at @path, however busy. Returns 0 or a negative errno. */
int fusermount_detach(const char *path);

/* Why it cannot work for us, as far as one can see from here; or where to look for the reason. */
const char *fusermount_hint(void);
