/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * From now on io_uring is denied to this process and its children, as in many containers:
 * io_uring_setup(2) is answered by EPERM. Returns 0, or a negative errno where that cannot be had.
 */
int deny_uring(void);
