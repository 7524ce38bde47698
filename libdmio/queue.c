/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "engine-internal.h"
#include "queue-internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

/* How long a wait for something else stays with one queue. */
#define DRIVE_US 1000

/* The queue that this thread is inside of, and the queues that it drives. */
static __thread struct dmio_queue *current_queue;
static __thread struct dmio_queue *own_queues[4];

static void queue_arm_wakeup(struct dmio_queue *queue);
static void queue_start_waiting(struct dmio_queue *queue);

static void queue_woken(struct dmio_op *op, int result)
{
        struct dmio_queue *queue = container_of(op, struct dmio_queue, wakeup_op);

        queue->n_in_flight++; /* it is not counted, but every completion is taken off */
        if (result != -ECANCELED)
                queue_arm_wakeup(queue);
}

/* A read of the event counter is always under way: whoever posts completes it. */
static void queue_arm_wakeup(struct dmio_queue *queue)
{
        queue->wakeup_iov = (struct iovec){ &queue->wakeup_value, sizeof(queue->wakeup_value) };
        queue->wakeup_op = (struct dmio_op){
                .type = DMIO_OP_READV,
                .fd = queue->wakeup_fd,
                .iov = &queue->wakeup_iov,
                .n_iov = 1,
                .fn = queue_woken,
        };
        queue->wakeup_due = !queue->ops->start(queue->backend, &queue->wakeup_op);
}

/*
 * From any thread: wake the queue's thread, be it asleep in the ring or in a poll of its own. The
 * poll needs a ring of the bell for itself: that a completion which one event counter's write
 * brings about makes another one readable is not to be relied on (Linux 6.18 does it once).
 */
static void queue_wake(struct dmio_queue *queue)
{
        int poll_fd = atomic_load_explicit(&queue->poll_fd, memory_order_acquire);

        (void)eventfd_write(queue->wakeup_fd, 1);
        if (poll_fd >= 0)
                queue->ops->notify(queue->backend);
}

static int queue_reserve(struct dmio_queue *queue)
{
        int r = slab_reserve(&queue->engine->pieces, &queue->pieces, QUEUE_PIECES_MIN);

        if (r < 0)
                return r;
        r = slab_reserve(&queue->engine->blocks, &queue->blocks, QUEUE_PIECES_MIN);
        if (r < 0)
                slab_unreserve(&queue->engine->pieces, &queue->pieces, QUEUE_PIECES_MIN);
        return r;
}

static void queue_unreserve(struct dmio_queue *queue)
{
        slab_unreserve(&queue->engine->pieces, &queue->pieces, QUEUE_PIECES_MIN);
        slab_unreserve(&queue->engine->blocks, &queue->blocks, QUEUE_PIECES_MIN);
}

void queue_ask_to_trim(struct dmio_queue *queue)
{
        if (queue->ops->trim && !atomic_exchange(&queue->must_trim, true))
                queue_wake(queue);
}

/* A child of fork() has the thread, but the queues are its parent's. */
static void queue_forget_at_fork(void)
{
        (void)pthread_atfork(NULL, NULL, queue_forget_thread);
}

int dmio_queue_create(struct dmio_engine *engine, struct dmio_queue **ret)
{
        struct dmio_queue **slot = NULL;
        struct dmio_queue *queue;
        int r;

        static pthread_once_t once = PTHREAD_ONCE_INIT;

        if (!engine || !ret)
                return -EINVAL;
        (void)pthread_once(&once, queue_forget_at_fork);
        for (size_t i = 0; i < ARRAY_SIZE(own_queues) && !slot; i++)
                if (!own_queues[i])
                        slot = &own_queues[i];
        if (!slot)
                return -EMFILE;

        queue = calloc(1, sizeof(*queue));
        if (!queue)
                return -ENOMEM;
        queue->engine = engine;
        queue->ops = engine->backend;
        queue->owner = pthread_self();
        queue->depth = engine->depth;
        fifo_init(&queue->waiting);
        fifo_init(&queue->done);
        list_init(&queue->starved);
        atomic_init(&queue->poll_fd, -EBADF);
        r = queue_reserve(queue);
        if (r < 0)
                goto free_queue;
        queue->wakeup_fd = eventfd(0, EFD_CLOEXEC);
        if (queue->wakeup_fd < 0) {
                r = -errno;
                goto unreserve;
        }
        r = queue->ops->open(queue, queue->depth, &queue->backend);
        if (r < 0)
                goto close_wakeup;
        queue_arm_wakeup(queue);
        r = queue->ops->wait(queue->backend, 0);
        if (r < 0)
                goto close_backend;

        pthread_mutex_lock(&engine->queues_lock);
        list_append(&engine->queues, &queue->link);
        pthread_mutex_unlock(&engine->queues_lock);
        atomic_fetch_add(&engine->n_queues, 1);
        *slot = queue;
        *ret = queue;
        return 0;

close_backend:
        queue->ops->close(queue->backend);
close_wakeup:
        close_fd(queue->wakeup_fd);
unreserve:
        queue_unreserve(queue);
free_queue:
        free(queue);
        return r;
}

int dmio_queue_destroy(struct dmio_queue *queue)
{
        if (!queue)
                return 0;
        assert(dmio_queue_is_mine(queue));
        if (queue_in_callback())
                return -EDEADLK;
        if (queue->n_in_flight > 0 || queue->n_pieces > 0 || atomic_load(&queue->mailbox))
                return -EBUSY;

        /* A post that brought us here may not have returned yet; it is about to. */
        while (atomic_load_explicit(&queue->n_posting, memory_order_acquire) > 0)
                sched_yield();
        for (size_t i = 0; i < ARRAY_SIZE(own_queues); i++)
                if (own_queues[i] == queue)
                        own_queues[i] = NULL;
        pthread_mutex_lock(&queue->engine->queues_lock);
        list_unlink(&queue->link);
        pthread_mutex_unlock(&queue->engine->queues_lock);
        queue->ops->close(queue->backend);
        close_fd(queue->wakeup_fd);
        queue_unreserve(queue);
        atomic_fetch_sub(&queue->engine->n_queues, 1);
        free(queue);
        return 0;
}

int dmio_queue_fd(struct dmio_queue *queue)
{
        int fd = queue->ops->fd(queue->backend);

        atomic_store_explicit(&queue->poll_fd, fd, memory_order_release);
        return fd;
}

unsigned int dmio_queue_in_flight(const struct dmio_queue *queue)
{
        return queue->n_in_flight;
}

bool dmio_queue_is_mine(const struct dmio_queue *queue)
{
        return pthread_equal(queue->owner, pthread_self());
}

struct dmio_queue *queue_of_thread(const struct dmio_engine *engine)
{
        for (size_t i = 0; i < ARRAY_SIZE(own_queues); i++)
                if (own_queues[i] && own_queues[i]->engine == engine)
                        return own_queues[i];
        return NULL;
}

int queue_drive_own(const struct dmio_engine *engine)
{
        int n = 0, r;

        for (size_t i = 0; i < ARRAY_SIZE(own_queues); i++) {
                if (!own_queues[i] || own_queues[i]->engine != engine)
                        continue;
                r = dmio_queue_process(own_queues[i], DRIVE_US, 0);
                if (r < 0)
                        return r;
                n++;
        }
        return n;
}

void queue_forget_thread(void)
{
        current_queue = NULL;
        for (size_t i = 0; i < ARRAY_SIZE(own_queues); i++)
                own_queues[i] = NULL;
}

bool queue_in_callback(void)
{
        return current_queue != NULL;
}

void dmio_queue_post(struct dmio_queue *queue, struct dmio_task *task)
{
        struct dmio_task *newest = atomic_load_explicit(&queue->mailbox, memory_order_relaxed);

        atomic_fetch_add_explicit(&queue->n_posting, 1, memory_order_relaxed);
        do
                task->next = newest;
        while (!atomic_compare_exchange_weak_explicit(&queue->mailbox, &newest, task,
                                                      memory_order_acq_rel, memory_order_relaxed));

        /*
         * Whoever finds it empty rings; within process() it is looked at anyway. The task may have
         * run, and be gone, by now; the queue waits for us before it goes.
         */
        if (!newest && current_queue != queue)
                queue_wake(queue);
        atomic_fetch_sub_explicit(&queue->n_posting, 1, memory_order_release);
}

/* False if the back-end has no room. An operation that it takes is its own, links and all. */
static bool queue_start(struct dmio_queue *queue, struct dmio_op *op)
{
        if (queue->n_started >= queue->depth || !queue->ops->start(queue->backend, op))
                return false;
        queue->n_started++;
        return true;
}

void dmio_queue_submit(struct dmio_queue *queue, struct dmio_op *op)
{
        queue->n_in_flight++;
        if (queue->waiting.first || !queue_start(queue, op))
                fifo_push(&queue->waiting, op);
        queue_kick(queue);
}

void dmio_queue_cancel(struct dmio_queue *queue, struct dmio_op *op)
{
        if (fifo_remove(&queue->waiting, op)) {
                op->result = -ECANCELED;
                fifo_push(&queue->done, op);
                queue_kick(queue);
                return;
        }
        while (!queue->ops->cancel(queue->backend, op))
                (void)queue->ops->wait(queue->backend, 0);
        queue_kick(queue);
}

void queue_complete(struct dmio_queue *queue, struct dmio_op *op, int result)
{
        if (op != &queue->wakeup_op)
                queue->n_started--;
        op->result = result;
        fifo_push(&queue->done, op);
}

void queue_finish(struct dmio_queue *queue, struct dmio_op *op, int result)
{
        queue->n_in_flight++;
        op->result = result;
        fifo_push(&queue->done, op);
        queue_kick(queue);
}

static bool queue_is_due(const struct dmio_queue *queue)
{
        return queue->done.first || atomic_load_explicit(&queue->mailbox, memory_order_relaxed);
}

/* Who polls must find the descriptor readable as long as there is something to do. */
static void queue_notify(struct dmio_queue *queue)
{
        if (queue_is_due(queue) || queue->ops->is_due(queue->backend))
                queue->ops->notify(queue->backend);
}

void queue_kick(struct dmio_queue *queue)
{
        if (current_queue == queue || queue->processing)
                return;
        (void)queue->ops->wait(queue->backend, 0);
        queue_start_waiting(queue);
        while (queue->ops->has_unsubmitted(queue->backend) &&
               queue->ops->wait(queue->backend, 0) >= 0)
                queue_start_waiting(queue);
        queue_notify(queue);
}

static void queue_start_waiting(struct dmio_queue *queue)
{
        struct dmio_op *op;

        if (queue->wakeup_due)
                queue_arm_wakeup(queue);
        while ((op = fifo_pop(&queue->waiting)) != NULL) {
                if (queue_start(queue, op))
                        continue;
                fifo_push_first(&queue->waiting, op);
                return;
        }
}

/* Callbacks of what is done. Those that become due meanwhile are left for the next round. */
static unsigned int queue_run_done(struct dmio_queue *queue)
{
        struct dmio_op *op, *next = queue->done.first;
        unsigned int n = 0;

        fifo_init(&queue->done);
        while ((op = next) != NULL) {
                next = op->next;
                queue->n_in_flight--;
                n += op != &queue->wakeup_op;
                op->fn(op, op->result);
        }
        return n;
}

/* Tasks are kept newest first: turn them round, so that each sender's keep their order. */
static unsigned int queue_run_tasks(struct dmio_queue *queue)
{
        struct dmio_task *task, *first = NULL;
        unsigned int n = 0;

        if (!atomic_load_explicit(&queue->mailbox, memory_order_relaxed))
                return 0;
        task = atomic_exchange_explicit(&queue->mailbox, NULL, memory_order_acquire);
        while (task) {
                struct dmio_task *next = task->next;

                task->next = first;
                first = task;
                task = next;
        }
        while ((task = first) != NULL) {
                first = task->next;
                task->fn(task);
                n++;
        }
        return n;
}

static unsigned int queue_run(struct dmio_queue *queue)
{
        unsigned int n;

        if (atomic_load_explicit(&queue->must_trim, memory_order_relaxed)) {
                atomic_store(&queue->must_trim, false);
                if (queue->ops->trim)
                        queue->ops->trim(queue->backend);
        }
        queue->ops->reap(queue->backend);
        n = queue_run_done(queue);
        n += queue_run_tasks(queue);
        queue_start_waiting(queue);
        return n;
}

/* Poll for a while in the hope that going to sleep is not worth it. */
static int queue_spin(struct dmio_queue *queue, unsigned int spin_us)
{
        uint64_t end = now_usec() + spin_us;
        int r;

        r = queue->ops->wait(queue->backend, 0);
        while (r >= 0 && !queue_is_due(queue)) {
                if (queue->ops->is_due(queue->backend)) {
                        r = queue->ops->wait(queue->backend, 0);
                        queue->ops->reap(queue->backend);
                } else if (now_usec() >= end) {
                        break;
                } else {
                        (void)sched_yield(); /* what is waited for may want this processor */
                }
        }
        return r;
}

/* There was nothing to do: submit and look, poll, or sleep, as the caller wishes. */
static int queue_rest(struct dmio_queue *queue, int64_t timeout_us, unsigned int spin_us)
{
        int r;

        if (timeout_us != 0 && spin_us > 0 && !queue->ops->is_due_is_blind) {
                r = queue_spin(queue, spin_us);
                if (r < 0 || queue_is_due(queue))
                        return r;
        }
        /* What found no room in the ring goes out before anybody sleeps: nothing else may end it.
         */
        while (queue->wakeup_due || (queue->waiting.first && queue->n_started < queue->depth)) {
                r = queue->ops->wait(queue->backend, 0);
                if (r < 0)
                        return r;
                queue_start_waiting(queue);
        }
        return queue->ops->wait(queue->backend, timeout_us);
}

int dmio_queue_process(struct dmio_queue *queue, int64_t timeout_us, unsigned int spin_us)
{
        /*
         * Who asks without a limit comes again at once, and submits with the next system call; but
         * not who has a poll to go back to.
         */
        bool comes_again =
                timeout_us < 0 && atomic_load_explicit(&queue->poll_fd, memory_order_relaxed) < 0;
        unsigned int n;
        int r = 0;

        assert(dmio_queue_is_mine(queue));
        if (queue_in_callback())
                return -EDEADLK;

        current_queue = queue;
        queue->processing = true;
        n = queue_run(queue);
        while (n == 0 && r >= 0) {
                if (!queue_is_due(queue))
                        r = queue_rest(queue, timeout_us, spin_us);
                if (r >= 0)
                        n = queue_run(queue);
                /* A wait without limit goes on until there is something to report. */
                if (timeout_us >= 0)
                        break;
        }
        while (r >= 0 && !comes_again && queue->ops->has_unsubmitted(queue->backend)) {
                r = queue->ops->wait(queue->backend, 0);
                queue_start_waiting(queue);
        }
        if (!comes_again)
                queue_notify(queue);
        else if (r >= 0 && queue_is_due(queue))
                r = queue->ops->wait(queue->backend,
                                     0); /* tasks that beget tasks must not keep I/O out */
        queue->processing = false;
        current_queue = NULL;
        return r < 0 ? r : (int)n;
}

void queue_process_until(struct dmio_queue *queue, const bool *done)
{
        const struct timespec pause = { .tv_nsec = 1000000 };

        /* What the ring is busy with refers to the caller: there is no leaving before it is done.
         */
        while (!*done)
                if (dmio_queue_process(queue, -1, 0) < 0)
                        (void)nanosleep(&pause, NULL);
        queue_kick(queue);
}
