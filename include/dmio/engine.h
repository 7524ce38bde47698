/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The engine and its queues.
 *
 * An engine is the page pool, the clients and the queues that belong together. A queue is one
 * io_uring and the one thread that drives it: everything that is submitted to a queue is carried
 * out, completed and called back there. Where there is no io_uring another back-end takes its place
 * (see below). A program chooses:
 *
 * - The engine's own thread (the default): dmio_engine_create() starts one queue and a thread for
 *   it; requests come from any thread, callbacks run on that thread.
 * - Its own event loop (DMIO_ENGINE_NO_THREAD): the program creates queues with
 *   dmio_queue_create() on the threads that will drive them, watches dmio_queue_fd() for POLLIN
 *   with its other descriptors and calls dmio_queue_process(); or lets dmio_queue_process() sleep.
 *
 * Callbacks never run inside the call that submits. They run inside dmio_queue_process(), and
 * inside the calls that wait by driving the caller's own queues: a synchronous dm_io(),
 * dm_io_client_destroy(), dm_kcopyd_client_destroy() and dm_kcopyd_client_flush(). They drive them
 * also while they wait for another thread's queue.
 */

#include <stdbool.h>
#include <sys/uio.h>

#include <dmio/pool.h>
#include <dmio/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* No thread of the library's own: the program drives the queues that it creates. */
#define DMIO_ENGINE_NO_THREAD (1u << 0)
/*
 * What the kernel has been given to do with a ring goes on when the program is killed: the process
 * is gone, and its writes may still be on their way to a device. With this flag each queue keeps
 * the file of @held_fd open in the kernel until all that it was given is done. When held_fd is the
 * end of a pipe for writing that nobody else has, its other end says so (POLLHUP), to whoever goes
 * on with the same devices. Without io_uring the process itself does not go before.
 */
#define DMIO_ENGINE_HELD_FD (1u << 1)

/*
 * How operations are carried out, by name:
 * "uring"    io_uring; a queue has a ring.
 * "threads"  for places where io_uring is denied: plain system calls, on a few threads of each
 *            queue, which are started as needed and end with it, and take no signals. Operations on
 *            pipes, sockets and the like are waited for without occupying one. I/O priorities have
 *            no effect, and spinning neither.
 * "memory"   for tests and measurements: nothing is read from or written to a device. In its place
 *            stands a RAM disk, blank at first, of the capacity that the device had at first use,
 *            and of its limits; it belongs to the struct block_device, so whoever is given the
 *            same one shares it, and it goes with the last reference. Durability is whatever
 *            memory has. Operations on descriptors are real all the same, by "uring" or else
 *            "threads".
 * NULL is the best of the first two that works here; dmio_engine_backend() tells which.
 */
struct dmio_engine_options {
        const char *backend;      /* see above */
        unsigned int flags;       /* DMIO_ENGINE_* */
        unsigned int depth;       /* operations that a queue has in flight, at most; 0 means 256 */
        unsigned int floor_pages; /* pages that belong to nobody; 0 means one chunk */
        uint64_t max_pages;       /* most pages that may be reserved; 0 means half the memory */
        int held_fd;              /* with DMIO_ENGINE_HELD_FD; stays the caller's, open */
};

/*
 * Create an engine. @options may be NULL for the defaults. Returns 0, -EINVAL for an unknown flag
 * or a depth above 4096, -EBADF for a held_fd that is not open, -EOPNOTSUPP for a back-end that is
 * not known or does not work here, -ENOMEM, or what io_uring_setup(2) or pthread_create(3) return.
 * *@ret is untouched on failure.
 */
int dmio_engine_create(const struct dmio_engine_options *options, struct dmio_engine **ret);

/*
 * Stop the engine's thread, once the operations on its queue are done, and free everything; no
 * other call on the engine may be under way. Returns 0; -EBUSY if clients, or queues made by the
 * program, still exist; -EDEADLK from one of its callbacks. NULL is allowed.
 */
int dmio_engine_destroy(struct dmio_engine *engine);

/* The name of the back-end in use. */
const char *dmio_engine_backend(const struct dmio_engine *engine);

/* The queue that the engine's own thread drives; NULL with DMIO_ENGINE_NO_THREAD. */
struct dmio_queue *dmio_engine_queue(struct dmio_engine *engine);

/*
 * Create a queue that belongs to the calling thread, which must be the one that destroys it.
 * Only dmio_queue_post() and dm_io() may be called on it from other threads. Errors as
 * dmio_engine_create(), and -EMFILE for a fifth queue of one thread.
 */
int dmio_queue_create(struct dmio_engine *engine, struct dmio_queue **ret);

/* Returns 0; -EBUSY with operations in flight; -EDEADLK from a callback. NULL is allowed. */
int dmio_queue_destroy(struct dmio_queue *queue);

/*
 * A descriptor that is readable (POLLIN) when dmio_queue_process() has, or may have, something to
 * do. Owned by the queue, to be polled and nothing else; it is made at the first call, on the
 * queue's own thread. Returns a negative errno if it cannot be had.
 */
int dmio_queue_fd(struct dmio_queue *queue);

/*
 * Submit what is waiting, run the callbacks of what is done, run what was posted. If there was
 * nothing to do, sleep until there is: not at all (@timeout_us 0), at most that many microseconds,
 * or for as long as it takes (negative). With @spin_us > 0 the queue is polled that long before the
 * thread goes to sleep. Returns the number of callbacks that ran (0 after a timeout), or a negative
 * errno if the ring itself failed. -EDEADLK from a callback.
 */
int dmio_queue_process(struct dmio_queue *queue, int64_t timeout_us, unsigned int spin_us);

/* Operations submitted and not yet called back. */
unsigned int dmio_queue_in_flight(const struct dmio_queue *queue);

/* True if the calling thread is the one that drives @queue. */
bool dmio_queue_is_mine(const struct dmio_queue *queue);

/*
 * Run @task->fn once on @queue's thread. From any thread; tasks of one sender keep their order. The
 * caller owns the memory of @task and keeps it until fn runs.
 */
void dmio_queue_post(struct dmio_queue *queue, struct dmio_task *task);

/*
 * One operation on a descriptor or device, carried by the same ring as everything else: for
 * programs that talk to something beside the devices (a FUSE device, a socket) and want one system
 * call for all of it.
 *
 * DMIO_OP_DISCARD takes whole blocks of a block device, and what is less than a unit of discarding
 * may stay as it is. It is -EOPNOTSUPP for a device without, for anything that is no block device,
 * and by "uring" before Linux 6.12; dm_io() then knows another way.
 */
enum dmio_op_type {
        DMIO_OP_READV,     /* iov, offset, rw_flags */
        DMIO_OP_WRITEV,    /* iov, offset, rw_flags */
        DMIO_OP_FDATASYNC, /* nothing else */
        DMIO_OP_FALLOCATE, /* mode, offset, length */
        DMIO_OP_DISCARD,   /* offset, length */
        DMIO_OP_NOP,       /* nothing else; completes with 0 */
};

struct dmio_op;
/* @result is what the system call would return: a count, or a negative errno. */
typedef void (*dmio_op_fn)(struct dmio_op *op, int result);

struct dmio_op {
        enum dmio_op_type type;
        int fd;
        struct block_device *bdev; /* used instead of fd if not NULL */
        struct iovec *iov;         /* kept by the caller until fn runs, like the memory itself */
        unsigned int n_iov;        /* at most 1024 (IOV_MAX) */
        int rw_flags;              /* RWF_*, see preadv2(2) */
        uint64_t offset;           /* in bytes */
        uint64_t length;
        int mode;        /* FALLOC_FL_*, see fallocate(2) */
        uint16_t ioprio; /* as in ioprio_set(2); 0 for the thread's own */
        bool shared;     /* the memory may vanish: EFAULT then, see DM_IO_MEMORY_SHARED */
        dmio_op_fn fn;

        struct dmio_op *next; /* private, as is all that follows */
        struct dmio_op *next_waiting;
        unsigned int how;
        int result;
};

/*
 * Carry out @op; only on the queue's own thread. The caller keeps @op until fn runs, exactly once,
 * inside dmio_queue_process(). Short transfers, EINTR and EAGAIN are the caller's business. A
 * descriptor that would block is waited for, whether it has O_NONBLOCK or not, and must stay open
 * until then.
 */
void dmio_queue_submit(struct dmio_queue *queue, struct dmio_op *op);

/*
 * Ask for @op to be given up. It is called back all the same: with -ECANCELED if it had not begun.
 */
void dmio_queue_cancel(struct dmio_queue *queue, struct dmio_op *op);

#ifdef __cplusplus
}
#endif
