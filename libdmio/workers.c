/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <sys/eventfd.h>

#include "op-call.h"
#include "thread.h"
#include "workers.h"

static void *worker(void *argument)
{
        struct workers *workers = argument;
        struct dmio_op *op;
        bool first;

        (void)pthread_setname_np(pthread_self(), "dmio-worker");
        pthread_mutex_lock(&workers->lock);
        for (;;) {
                while (!workers->jobs.first && !workers->stop) {
                        workers->n_idle++;
                        pthread_cond_wait(&workers->wanted, &workers->lock);
                        workers->n_idle--;
                }
                op = fifo_pop(&workers->jobs);
                if (!op)
                        break;
                workers->n_jobs--;
                pthread_mutex_unlock(&workers->lock);

                op->result = op_call(op, 0);

                pthread_mutex_lock(&workers->lock);
                first = !workers->done.first;
                fifo_push(&workers->done, op);
                atomic_store_explicit(&workers->has_done, true, memory_order_relaxed);
                if (!first)
                        continue;
                pthread_mutex_unlock(&workers->lock);
                (void)eventfd_write(workers->event_fd, 1);
                pthread_mutex_lock(&workers->lock);
        }
        pthread_mutex_unlock(&workers->lock);
        return NULL;
}

void workers_init(struct workers *workers, int event_fd)
{
        *workers = (struct workers){ .event_fd = event_fd };
        pthread_mutex_init(&workers->lock, NULL);
        pthread_cond_init(&workers->wanted, NULL);
        fifo_init(&workers->jobs);
        fifo_init(&workers->done);
}

void workers_deinit(struct workers *workers)
{
        pthread_mutex_lock(&workers->lock);
        assert(!workers->jobs.first);
        workers->stop = true;
        pthread_cond_broadcast(&workers->wanted);
        pthread_mutex_unlock(&workers->lock);
        for (unsigned int i = 0; i < workers->n_threads; i++)
                pthread_join(workers->threads[i], NULL);
        pthread_cond_destroy(&workers->wanted);
        pthread_mutex_destroy(&workers->lock);
}

/* Without a single thread the caller does the work: slow, but it gets done. */
static void workers_run_here(struct workers *workers)
{
        struct dmio_op *op;

        while ((op = fifo_pop(&workers->jobs)) != NULL) {
                workers->n_jobs--;
                op->result = op_call(op, 0);
                fifo_push(&workers->done, op);
                atomic_store_explicit(&workers->has_done, true, memory_order_relaxed);
        }
}

void workers_submit(struct workers *workers, struct op_fifo *ops)
{
        unsigned int n = 0, n_wake, n_missing;

        if (!ops->first)
                return;
        for (const struct dmio_op *op = ops->first; op; op = op->next)
                n++;

        pthread_mutex_lock(&workers->lock);
        fifo_append(&workers->jobs, ops);
        workers->n_jobs += n;
        n_wake = n < workers->n_idle ? n : workers->n_idle;
        /* Those who are idle may already have been called for jobs that came before. */
        n_missing = workers->n_jobs > workers->n_idle ? workers->n_jobs - workers->n_idle : 0;
        pthread_mutex_unlock(&workers->lock);

        for (unsigned int i = 0; i < n_wake; i++)
                pthread_cond_signal(&workers->wanted);
        for (; n_missing > 0 && workers->n_threads < WORKERS_MAX; n_missing--) {
                if (thread_start(&workers->threads[workers->n_threads], worker, workers) < 0)
                        break;
                workers->n_threads++;
        }
        if (workers->n_threads == 0)
                workers_run_here(workers);
}

bool workers_take_back(struct workers *workers, struct dmio_op *op)
{
        bool found;

        pthread_mutex_lock(&workers->lock);
        found = fifo_remove(&workers->jobs, op);
        workers->n_jobs -= found;
        pthread_mutex_unlock(&workers->lock);
        return found;
}

void workers_collect(struct workers *workers, struct op_fifo *ret)
{
        pthread_mutex_lock(&workers->lock);
        fifo_append(ret, &workers->done);
        atomic_store_explicit(&workers->has_done, false, memory_order_relaxed);
        pthread_mutex_unlock(&workers->lock);
}
