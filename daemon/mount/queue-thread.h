/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A queue thread: one queue of the engine, one descriptor of /dev/fuse, one libfuse session.
 *
 * Requests are received into windows: pool pages of the mount's own client, laid out so that the
 * payload of a WRITE begins on a page boundary, and a slot of the memory file for the headers,
 * which outlive the process there (memory-file.h). A few windows wait in the kernel at any time;
 * one that a request arrived in is decoded and goes back at once, unless a transfer keeps its slot
 * or its pages, which are then replaced.
 *
 * Nothing in here waits for anything but the queue: a request that cannot go on is a transfer in
 * somebody's list (pages, range lock, device).
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <dmio/dmio.h>

#include "mount/interrupt.h"
#include "mount/memory-file.h"
#include "mount/session.h"
#include "util/list.h"

struct fuse_in_header;
struct mount;
struct transfer;

/* READs that wait in the kernel: fewer lose throughput, with more they wake each other in vain. */
#define WINDOWS 4
/* A page for the headers, of which only its end is used, and the longest payload. */
#define WINDOW_PAGES (1 + SESSION_MAX_WRITE / 4096)
/*
 * Pages for payloads that wait until their client gets pages of its own (parked). They let a thread
 * go on receiving for the other clients. They are there from the start, because nobody's writes may
 * make the daemon larger; when they are used up, windows stay empty until a payload has moved on.
 *
 * Only if that does not happen for a while, because a device hangs, more are reserved for the sake
 * of the other clients, twice as many each time; and put back when nothing is parked. They end
 * where the kernel's own limit on asynchronous requests lets one client have no more, and 64
 * writers that wait for their writes.
 */
#define PARKED_PAGES 2048
#define PARKED_PAGES_MAX ((SESSION_MAX_BACKGROUND + 64) * (SESSION_MAX_WRITE / 4096))
#define STALL_USEC 500000
/* What a thread wants to reserve for both, and the least that it can work with. */
#define THREAD_PAGES (WINDOWS * WINDOW_PAGES + PARKED_PAGES)
#define THREAD_PAGES_MIN WINDOW_PAGES

struct window {
        struct queue_thread *thread;
        struct memory_slot *slot; /* NULL until it gets one to receive into */
        struct page_list *pages;  /* NULL while it waits for some */
        struct dmio_op op;
        struct iovec iov[WINDOW_PAGES];
        unsigned int n_iov;  /* 0: to be made from the pages */
        bool copies_headers; /* out of the pages; they are not received into the slot */
        struct dmio_page_wait wait;
        bool receiving;
        bool waiting;
        bool without_slot; /* until a transfer ends */
        bool renew;        /* get other pages: these keep chunks of the pool from going */
};

struct queue_thread {
        struct mount *mount;
        unsigned int index;
        pthread_t id;
        bool running; /* and to be joined */
        int state;    /* 0, then 1 when it serves or a negative errno; under mount.start_lock */
        struct session session;
        struct dmio_queue *queue;
        struct slots slots;
        unsigned int n_without_slot; /* windows */
        struct window windows[WINDOWS];
        unsigned int n_windows; /* as many as there are pages for */

        struct window *current; /* where the request that is being decoded is */
        uint64_t current_unique;
        char *scratch; /* a request in one piece, should its window not be */

        struct list active;       /* struct transfer.link: under way */
        struct list spare;        /* the same: to be used again */
        unsigned int n_transfers; /* under way */
        struct interrupts interrupts;

        unsigned int n_parked;    /* transfers whose payload waits in pages of the mount */
        unsigned int extra_pages; /* reserved for them beyond PARKED_PAGES */
        uint64_t stalled_usec;    /* since when no window has had pages, and none moved on; or 0 */

        bool copies_headers; /* see window_describe() */
        bool resuming;       /* receives by itself, not by windows in the kernel */
        unsigned int spin_score;
        bool ended;    /* the connection is gone */
        bool draining; /* receives nothing more */
        bool drained;  /* and has told that nothing is under way */
        bool stopping;
        struct dmio_task drain_task;
        struct dmio_task stop_task;
};

/*
 * Start the thread, whose session is set up. Returns 0 or a negative errno; how it goes on is told
 * by mount_thread_started(): for the first thread when INIT has been answered.
 */
int queue_thread_start(struct queue_thread *thread);

/* Have it receive nothing more; mount_thread_drained() is called when nothing is under way. */
void queue_thread_drain(struct queue_thread *thread);

/* Have it end when nothing is under way, and wait for that. */
void queue_thread_stop(struct queue_thread *thread);

/*
 * On the first thread, before it serves and with no other thread there: receive and begin all that
 * the kernel sends again; it comes before anything new.
 */
void queue_thread_receive_resent(struct queue_thread *thread);

/*
 * On the thread: what is in a slot of its own as if it had been received just now. @keep: the slot
 * is still needed.
 */
void queue_thread_process_slot(struct queue_thread *thread, struct memory_slot *slot, bool keep);

/*
 * For transfers, on the thread: take the @n_pages pages of payload of the request that is being
 * decoded. They belong to the mount's client.
 */
struct page_list *queue_thread_take_payload(struct queue_thread *thread, unsigned int n_pages);

/* To be told when such pages are kept while waiting for others, and when they have been put. */
void queue_thread_parked(struct queue_thread *thread);
void queue_thread_unparked(struct queue_thread *thread);

/*
 * The same for the slot of that request, for who answers later; and to give it back when that has
 * been done. The slot of one that is answered at once stays with its window.
 */
struct memory_slot *queue_thread_take_slot(struct queue_thread *thread);
void queue_thread_put_slot(struct queue_thread *thread, struct memory_slot *slot);

/* The payload without taking it: valid until the operation returns. */
const struct page_list *queue_thread_payload(const struct queue_thread *thread);
