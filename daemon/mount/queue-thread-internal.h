/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Between the two halves of a queue thread: its windows, with what comes in by them (window.c), and
 * its life (queue-thread.c). All on the thread.
 */

#include "mount/queue-thread.h"

/*
 * The largest request but a WRITE: SETXATTR, with a value of 64 KiB and a name. Needed only for
 * those that do not fit a slot.
 */
#define SCRATCH_SIZE ((size_t)68 * 1024)

/* Have a request received, when there are pages and a slot for it. */
void window_receive(struct window *window);

/* Decode INIT, and tell the mount that the thread serves, or that it cannot. */
void queue_thread_process_init(struct queue_thread *thread, const struct fuse_in_header *in,
                               size_t length);

/* A descriptor that another process has served cannot be served without what it has heard. */
bool queue_thread_has_init(const struct queue_thread *thread);

/* What INIT has said of the kernel is known: where headers go. */
void queue_thread_choose_layout(struct queue_thread *thread);

/* Receive nothing more. */
void queue_thread_drain_begin(struct queue_thread *thread);

/* More room for parked payloads, if nothing has moved for a while. The windows wait for it. */
void queue_thread_look_at_stall(struct queue_thread *thread, uint64_t now);
