/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Operations as the plain system calls, for whoever does not leave them to a ring. */

#include <dmio/engine.h>

/*
 * The system call that @op is, with @rw_flags beside its own; blocks as long as it takes. Returns
 * its result or -errno.
 */
int op_call(const struct dmio_op *op, int rw_flags);

/*
 * Is it best done at once, on the queue's own thread? If it is a copy within memory that nobody has
 * to be waited for, and not so long that it would hold up the queue's other operations.
 */
bool op_is_brief(const struct dmio_op *op);
