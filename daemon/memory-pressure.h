/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * When memory is short, the system writes dirty pages out, perhaps through a file system on one of
 * our exports: then it waits for us, and we must not wait for it.
 *
 * - The process is an IO flusher (PR_SET_IO_FLUSHER): what the kernel allocates for it does not
 *   wait for I/O, and its own writes are not slowed down like those of others. CAP_SYS_RESOURCE.
 * - Its memory is locked as it is touched, so a page fault never reads from a disk. CAP_IPC_LOCK,
 *   or a limit (RLIMIT_MEMLOCK) that is none: with less, a later allocation would fail.
 *
 * What is not permitted is done without, and the log (debug) says so.
 */

#include <stdbool.h>

/* Before there are threads, which inherit it. */
void memory_pressure_prepare(void);

/* Give the unused memory of the heap back to the system, for which locked memory has to be let go.
 */
void memory_pressure_trim(void);
