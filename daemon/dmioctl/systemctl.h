/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the service manager knows of the daemon, by asking systemctl, which finds its own way to it.
 * Asking starts nothing.
 */

#include <stdbool.h>

/*
 * The @properties (with commas between them) of @unit as lines "Property=value", to be freed.
 * Returns 0, -ENOENT where there is no service manager, -ETIME if it has not answered after
 * @limit_msec, or another negative errno.
 */
int systemctl_show(bool user, const char *unit, const char *properties, int limit_msec, char **ret);

/* The value of @property in such lines, to be freed; NULL if it is not there. */
char *systemctl_value(const char *text, const char *property);

/* True if systemd listens at the daemon's own socket and has not started it yet: a call would. */
bool systemctl_daemon_is_idle(bool user, int limit_msec);
