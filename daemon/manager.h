/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The manager owns everything that there is one of: the main loop, the engine, the model, the mount
 * and the control socket. It starts them in the order in which they need each other, tells the
 * service manager, answers signals, and ends them in the reverse order.
 */

#include "config.h"
#include "options.h"

struct manager;

/*
 * Start. @options stays the caller's and must last; @config is taken, also on failure. Returns 0,
 * or a negative errno after logging what failed and undoing all that was done: -ECANCELED if a
 * signal has asked to stop meanwhile, which is no failure.
 */
int manager_new(const struct options *options, struct config *config, struct manager **ret);

/* Serve until a signal ends it. Returns the exit status. */
int manager_run(struct manager *manager);

/* Returns NULL. */
struct manager *manager_free(struct manager *manager);
