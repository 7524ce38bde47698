/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * When memory is short, the system writes dirty pages out, perhaps through a file system on one of
 * our exports: then it waits for us, and we must not wait for it.
 *
 * - The process is an IO flusher (PR_SET_IO_FLUSHER): what the kernel allocates for it does not
 *   wait for I/O, and its own writes are not slowed down like those of others. CAP_SYS_RESOURCE.
 * - Its memory is locked as it is touched, and its programs and libraries are read in at once, so a
 *   page fault never reads from a disk. CAP_IPC_LOCK, or a limit (RLIMIT_MEMLOCK) that is none:
 * with less, a later allocation would fail.
 * - Where memory is locked, what the way of a request needs is touched beforehand.
 *
 * What is not permitted is done without, and the log says so.
 */

#include <stdbool.h>
#include <stddef.h>

/* Before there are threads, which inherit it. */
void memory_pressure_prepare(void);

/* Memory is locked: what is touched now will not have to be found when it is short. */
bool memory_pressure_is_prepared_for(void);

/* Each thread for its stack, when it begins. */
void memory_pressure_prepare_thread(void);

/* Have the pages of @memory there; it keeps what it holds. */
void memory_pressure_touch(void *memory, size_t size);

/* Give the unused memory of the heap back to the system, for which locked memory has to be let go.
 */
void memory_pressure_trim(void);
