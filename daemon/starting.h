/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A start that has to wait. Whoever does so comes back here every now and then: the service manager
 * is told what for, and given as much more time; and a signal that asks to stop is seen, though the
 * main loop does not run yet.
 */

#include <stdbool.h>
#include <stdint.h>

/* How often to come. */
#define STARTING_LOOK_USEC UINT64_C(100000)

/*
 * @text: what is waited for, as a status line; @left_usec: for how long at most. Returns true;
 * false if SIGTERM or SIGINT has come, which are blocked and stay pending: then the start ends with
 * -ECANCELED, which is no failure.
 */
bool starting_goes_on(const char *text, uint64_t left_usec);
