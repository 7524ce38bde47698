/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Two queues under one lock: jobs that wait for a thread, and jobs that wait for the main loop. An
 * eventfd tells the main loop that the second one is not empty.
 *
 * The first thread is made with the worker, so that worker_submit() cannot fail; others follow when
 * a job would have to wait for one that is still running.
 */

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "log.h"
#include "memory-pressure.h"
#include "util/cleanup.h"
#include "worker.h"

struct job_queue {
        struct worker_job *first;
        struct worker_job **end;
};

struct worker {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct job_queue waiting;          /* under lock */
        struct job_queue finished;         /* under lock */
        unsigned int n_waiting;            /* under lock */
        unsigned int n_idle;               /* under lock; threads that wait for a job */
        unsigned int n_running;            /* under lock */
        uid_t running[WORKER_THREADS_MAX]; /* under lock; for whom, in no order */
        bool stopping;                     /* under lock */

        pthread_t threads[WORKER_THREADS_MAX]; /* main loop, like all that follows */
        unsigned int n_threads;
        sd_event *event;
        int event_fd;
        sd_event_source *source;
};

static void job_queue_init(struct job_queue *queue)
{
        queue->first = NULL;
        queue->end = &queue->first;
}

static void job_queue_push(struct job_queue *queue, struct worker_job *job)
{
        job->next = NULL;
        *queue->end = job;
        queue->end = &job->next;
}

/* Take the job that @at, which is part of @queue, points to. */
static struct worker_job *job_queue_take(struct job_queue *queue, struct worker_job **at)
{
        struct worker_job *job = *at;

        *at = job->next;
        if (!*at)
                queue->end = at;
        return job;
}

static bool may_run(const struct worker *worker, const struct worker_job *job)
{
        unsigned int n = 0;

        if (job->uid == 0)
                return true;
        for (unsigned int i = 0; i < worker->n_running; i++)
                n += worker->running[i] == job->uid;
        return n < WORKER_JOBS_PER_UID;
}

/* The next job that may run, or NULL. */
static struct worker_job *worker_take_job(struct worker *worker)
{
        struct job_queue *queue = &worker->waiting;

        for (struct worker_job **at = &queue->first; *at; at = &(*at)->next)
                if (may_run(worker, *at))
                        return job_queue_take(queue, at);
        return NULL;
}

static void worker_forget_running(struct worker *worker, uid_t uid)
{
        unsigned int i = 0;

        while (worker->running[i] != uid)
                i++;
        worker->running[i] = worker->running[--worker->n_running];
}

static void *worker_thread(void *argument)
{
        struct worker *worker = argument;
        struct worker_job *job;

        memory_pressure_prepare_thread();
        pthread_mutex_lock(&worker->lock);
        for (;;) {
                void (*done)(struct worker_job * job);
                uid_t uid;

                /* When we stop, whoever runs the job that holds up others will take them, too. */
                while (!(job = worker_take_job(worker)) && !worker->stopping) {
                        worker->n_idle++;
                        pthread_cond_wait(&worker->wake, &worker->lock);
                        worker->n_idle--;
                }
                if (!job)
                        break;
                uid = job->uid;
                worker->running[worker->n_running++] = uid;
                worker->n_waiting--;
                pthread_mutex_unlock(&worker->lock);

                done = job->done; /* a job without done may be gone after run */
                job->run(job);

                pthread_mutex_lock(&worker->lock);
                worker_forget_running(worker, uid);
                if (done) {
                        job_queue_push(&worker->finished, job);
                        (void)eventfd_write(worker->event_fd, 1);
                }
        }
        pthread_mutex_unlock(&worker->lock);
        return NULL;
}

/* Calls done of what has finished so far; what finishes meanwhile wakes the main loop again. */
static unsigned int worker_reap(struct worker *worker)
{
        struct worker_job *job, *next;
        unsigned int n = 0;

        pthread_mutex_lock(&worker->lock);
        job = worker->finished.first;
        job_queue_init(&worker->finished);
        pthread_mutex_unlock(&worker->lock);

        for (; job; job = next) {
                next = job->next;
                job->done(job);
                n++;
        }
        return n;
}

static int worker_on_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct worker *worker = userdata;
        eventfd_t count;

        (void)eventfd_read(fd, &count);
        (void)worker_reap(worker);
        return 0;
}

static int worker_add_thread(struct worker *worker)
{
        int r;

        r = pthread_create(&worker->threads[worker->n_threads], NULL, worker_thread, worker);
        if (r > 0)
                return -r;
        worker->n_threads++;
        return 0;
}

int worker_new(sd_event *event, struct worker **ret)
{
        struct worker *worker;
        int r;

        worker = calloc(1, sizeof(*worker));
        if (!worker)
                return -ENOMEM;

        pthread_mutex_init(&worker->lock, NULL);
        pthread_cond_init(&worker->wake, NULL);
        job_queue_init(&worker->waiting);
        job_queue_init(&worker->finished);

        worker->event = sd_event_ref(event);
        worker->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = worker->event_fd < 0 ? -errno : 0;
        if (r == 0)
                r = sd_event_add_io(event, &worker->source, worker->event_fd, EPOLLIN,
                                    worker_on_event, worker);
        if (r >= 0)
                r = worker_add_thread(worker);
        if (r < 0) {
                worker_free(worker);
                return r;
        }

        *ret = worker;
        return 0;
}

sd_event *worker_event(const struct worker *worker)
{
        return worker->event;
}

struct worker *worker_free(struct worker *worker)
{
        struct worker_job *job;

        if (!worker)
                return NULL;

        pthread_mutex_lock(&worker->lock);
        worker->stopping = true;
        pthread_cond_broadcast(&worker->wake);
        pthread_mutex_unlock(&worker->lock);
        for (unsigned int i = 0; i < worker->n_threads; i++)
                pthread_join(worker->threads[i], NULL);
        worker->n_threads = 0;

        /* A done may submit again; no thread is left, so it is run here. */
        for (;;) {
                void (*done)(struct worker_job * job);

                if (worker_reap(worker) > 0)
                        continue;
                job = worker_take_job(worker);
                if (!job)
                        break;
                done = job->done;
                job->run(job);
                if (done)
                        done(job);
        }

        sd_event_source_disable_unref(worker->source);
        sd_event_unref(worker->event);
        close_fd(worker->event_fd);
        pthread_cond_destroy(&worker->wake);
        pthread_mutex_destroy(&worker->lock);
        free(worker);
        return NULL;
}

void worker_submit(struct worker *worker, struct worker_job *job)
{
        bool short_of_threads;

        pthread_mutex_lock(&worker->lock);
        job_queue_push(&worker->waiting, job);
        worker->n_waiting++;
        short_of_threads = worker->n_waiting > worker->n_idle;
        pthread_mutex_unlock(&worker->lock);
        pthread_cond_signal(&worker->wake); /* who wakes finds the lock free */

        if (short_of_threads && worker->n_threads > 0 && worker->n_threads < WORKER_THREADS_MAX) {
                int r = worker_add_thread(worker);

                /* The threads that there are will come to it. */
                if (r < 0)
                        log_debug_errno(r, "Cannot start another worker thread: %m");
        }
}
