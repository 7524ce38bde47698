/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Operations as the plain system calls, for whoever does not leave them to a ring. */

#include <dmio/engine.h>

/*
 * The system call that @op is, with @rw_flags beside its own; blocks as long as it takes. Returns
 * its result or -errno.
 */
int op_call(const struct dmio_op *op, int rw_flags);
