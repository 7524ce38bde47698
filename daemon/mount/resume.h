/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Taking up the mount of a process that was killed: what becomes of the requests that it had
 * received, by what the memory file says of them (memory-file.h).
 *
 * DONE      The result is told at once. If it had been told before, the kernel does not know such
 *           a request any more, and says so.
 * BEGUN,    An orphan: its range is closed to all others until it has been done again, or put in
 * ANSWERED  order (orphan.h).
 * IDLE      Nothing has been changed; it comes again as if it came for the first time.
 *
 * So no write is carried out after one that came later to the same bytes.
 *
 * A kernel that cannot send requests again (before 6.9) is answered from the memory file: what is
 * whole in there is decoded from there once more; for the others, above all a WRITE, whose payload
 * is gone, it is EIO.
 */

#include <stdbool.h>

struct mount;
struct queue_thread;

/* Makes a new kernel an old one, for tests. */
#define RESUME_NO_RESEND "DMIO_TEST_NO_RESEND"

/*
 * Before anything is served, with mount->clones set: tell results, enter orphans, have the rest
 * sent again. @fd is the first descriptor. Returns 0 or a negative errno, logged.
 */
int resume_prepare(struct mount *mount, int fd);

/*
 * On a queue thread that can process requests: receive all that the kernel sends again, before
 * anybody else may receive (the first thread's task); or, where it does not, what is in the slots.
 */
void resume_receive(struct queue_thread *thread);
