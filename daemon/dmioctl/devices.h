/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The descriptors that travel with a call. What the user names as a file is opened here, with the
 * user's own rights, so the daemon needs none; the call then says "fd:N". A name without a slash
 * that is no file here belongs to the daemon's configuration and travels as it is.
 */

#include <stdbool.h>

#include "dmioctl/call.h"

struct devices {
        int fds[CONTROL_MAX_DESCRIPTORS];
        char *names[CONTROL_MAX_DESCRIPTORS]; /* NULL: not a device */
        unsigned int n;
};

void devices_deinit(struct devices *devices);

#define DEVICES_NAME_MAX 16

/*
 * How to speak of the device @name: *@ret is "fd:N" in @buffer, or @name itself. Each name is
 * opened once. Returns STATUS_OK or, after complaining, another status.
 */
int devices_resolve(struct devices *devices, const char *name, bool read_only,
                    char buffer[static DEVICES_NAME_MAX], const char **ret);

/* Open @path as the next descriptor, for reading only if nothing more is allowed. Or complains. */
int devices_open(struct devices *devices, const char *path);

/* Send @fd along, which is taken. Returns STATUS_OK and its number, or complains. */
int devices_add(struct devices *devices, int fd, unsigned int *ret);

/* What the user wrote for @name, if that is one of our "fd:N"; else @name. */
const char *devices_original(const struct devices *devices, const char *name);
