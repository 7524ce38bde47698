/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptor-store.h"
#include "log.h"
#include "mount/inherit.h"
#include "mount/mount-internal.h"
#include "mount/resume.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* How long the kernel may take to say what it can; it does so while mount(2) runs. */
#define INIT_TIMEOUT_SEC 10

#define THREADS_MAX 4

/* How long it is waited for calls of a dead daemon that may still be on their way to devices. */
#define FENCE_WAIT_SEC 30

unsigned int mount_n_threads(const struct config *config)
{
        long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);

        if (config->queues > 0)
                return config->queues;
        /* With two processors a second thread only takes turns with its clients. */
        return n_cpus <= 2 ? 1 : (unsigned int)MIN(n_cpus / 2, THREADS_MAX);
}

/*
 * Reserve pages for the windows of all threads; where the pool may not become that large, do with
 * less. Returns how many each thread gets, or a negative errno.
 */
static int reserve_pages(struct mount *mount)
{
        int r = -EINVAL;

        for (unsigned int n = THREAD_PAGES; r == -EINVAL && n >= THREAD_PAGES_MIN;
             n = n > THREAD_PAGES_MIN ? MAX(n / 2, (unsigned int)THREAD_PAGES_MIN) : 0) {
                r = dm_io_client_create(mount->model->engine, n * mount->n_threads, &mount->io);
                if (r == 0)
                        return (int)n;
        }
        return log_error_errno(r, "Cannot reserve pages to receive requests: %m");
}

void mount_thread_started(struct queue_thread *thread, int state)
{
        struct mount *mount = thread->mount;

        pthread_mutex_lock(&mount->start_lock);
        thread->state = state;
        pthread_cond_signal(&mount->start_changed);
        pthread_mutex_unlock(&mount->start_lock);
}

/*
 * Start a thread and wait until it serves. To receive what the kernel sends again may take as long
 * as devices do.
 */
static int start_thread(struct queue_thread *thread)
{
        struct mount *mount = thread->mount;
        struct timespec limit;
        int r;

        r = queue_thread_start(thread);
        if (r < 0)
                return log_error_errno(r, "Cannot start a queue thread: %m");

        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += INIT_TIMEOUT_SEC;
        pthread_mutex_lock(&mount->start_lock);
        while (r == 0 && thread->state == 0)
                r = mount->resumed ? -pthread_cond_wait(&mount->start_changed, &mount->start_lock)
                                   : -pthread_cond_timedwait(&mount->start_changed,
                                                             &mount->start_lock, &limit);
        if (thread->state != 0)
                r = MIN(thread->state, 0);
        pthread_mutex_unlock(&mount->start_lock);

        if (r == -ETIMEDOUT)
                log_error("The kernel did not begin to speak FUSE");
        return r;
}

/* @fd: of a mount that is there already, or -ENOENT. */
static int start_first_thread(struct mount *mount, const struct config *config, int fd)
{
        struct queue_thread *thread = &mount->threads[0];
        bool made = fd < 0;
        int r = 0;

        if (!made) {
                mount->kept = descriptor_store_is_there(mount->store);
        } else if (config->user) {
                r = session_init_fusermount(&thread->session, thread, mount->point.path);
        } else {
                fd = mount_point_attach(&mount->point);
                r = fd;
        }
        if (r >= 0 && fd >= 0)
                r = session_init(&thread->session, thread, fd);
        if (r < 0)
                return r;

        /* Before INIT is answered: from then on nobody else could serve it. */
        if (made)
                inherit_keep(mount, thread->session.fd);
        if (mount->resumed) {
                r = resume_prepare(mount, thread->session.fd);
                if (r < 0)
                        return r;
        }
        return start_thread(thread);
}

/* One that cannot be had is no reason to give up. */
static int start_further_thread(struct mount *mount, struct queue_thread *thread)
{
        bool made = mount->clones[thread->index] < 0;
        int r;

        r = made ? session_clone_fd(mount->threads[0].session.fd)
                 : DMIO_TAKE_FD(mount->clones[thread->index]);
        if (r >= 0)
                r = session_init(&thread->session, thread, r);
        if (r >= 0 && made)
                inherit_keep_clone(mount, thread->index, thread->session.fd);
        if (r >= 0)
                r = start_thread(thread);
        if (r < 0)
                log_warning_errno(r, "Cannot start queue thread %u, going on without: %m",
                                  thread->index);
        return r;
}

static void drained_task(struct dmio_task *task)
{
        struct mount *mount = container_of(task, struct mount, drained_task);

        mount->drained_told = true;
        mount->drained(mount->drained_userdata);
}

static struct mount *mount_alloc(struct model *model, const struct config *config)
{
        unsigned int n_threads = mount_n_threads(config);
        struct mount *mount;

        mount = calloc(1, sizeof(*mount));
        if (!mount)
                return NULL;
        mount->threads = calloc(n_threads, sizeof(*mount->threads));
        if (!mount->threads) {
                free(mount);
                return NULL;
        }

        mount->model = model;
        mount->n_threads = n_threads;
        mount->spin_usec = config->spin_usec;
        mount->start = time(NULL);
        mount->drained_task.fn = drained_task;
        handle_table_init(&mount->handles, &mount->memory);
        orphans_init(&mount->orphans, mount);
        mount->memory = (struct memory_file)MEMORY_FILE_NULL;
        for (unsigned int i = 0; i < MEMORY_QUEUES; i++)
                mount->clones[i] = -EBADF;
        pthread_mutex_init(&mount->judge_lock, NULL);
        pthread_mutex_init(&mount->start_lock, NULL);
        pthread_cond_init(&mount->start_changed, NULL);
        for (unsigned int i = 0; i < n_threads; i++) {
                mount->threads[i].mount = mount;
                mount->threads[i].index = i;
                mount->threads[i].session = (struct session)SESSION_NULL;
                interrupts_init(&mount->threads[i].interrupts);
        }
        return mount;
}

static void mount_freep(struct mount **mount)
{
        *mount = mount_free(*mount);
}

/* Everything up to there has been done by a process before this one, or none has. */
static int take_over(struct mount *mount, const struct config *config)
{
        int fd, r;

        fd = inherit(mount, config);
        if (fd < 0 && fd != -ENOENT)
                return fd;
        if (!orphans_wait_fence(&mount->orphans, 0) && mount->resumed &&
            atomic_load(memory_file_calls(&mount->memory)) > 0) {
                log_notice("Waiting for what the daemon before had given to devices on behalf of "
                           "calls on the control channel");
                if (!orphans_wait_fence(&mount->orphans, FENCE_WAIT_SEC))
                        log_warning("It has not arrived after %d seconds; going on",
                                    FENCE_WAIT_SEC);
        }
        atomic_store(memory_file_calls(&mount->memory), 0);
        mount->model->calls_noted = memory_file_calls(&mount->memory);

        r = fd < 0 ? mount_point_init(&mount->point, config->mount, config->user)
                   : mount_point_adopt(&mount->point, config->mount);
        /* Exports may be there already, which are named by it. */
        if (r == 0)
                r = model_set_mount(mount->model, mount->point.path);
        if (!mount->resumed)
                counted_none(mount);
        if (r == 0 && mount->resumed)
                r = handle_table_restore(&mount->handles, mount->model);
        if (r < 0) {
                (void)close_fd(fd);
                return r;
        }
        return start_first_thread(mount, config, fd);
}

int mount_new(struct model *model, const struct config *config, struct descriptor_store *store,
              struct mount **ret)
{
        DMIO_CLEANUP(mount_freep) struct mount *mount = NULL;
        DMIO_CLEANUP(freep) char *transport = NULL;
        unsigned int n_windows;
        dev_t device;
        int r;

        mount = mount_alloc(model, config);
        if (!mount)
                return log_error_errno(-ENOMEM, "Cannot mount: %m");
        /* The threads count where exports that may be there already have room for so many. */
        assert(model->n_lanes >= mount->n_threads);
        mount->store = store;

        r = reserve_pages(mount);
        if (r < 0)
                return r;
        n_windows = MIN((unsigned int)r / WINDOW_PAGES, (unsigned int)WINDOWS);
        for (unsigned int i = 0; i < mount->n_threads; i++)
                mount->threads[i].n_windows = n_windows;

        transport = strdup("dev-fuse");
        if (!transport)
                return log_error_errno(-ENOMEM, "Cannot mount: %m");

        r = take_over(mount, config);
        if (r < 0) {
                inherit_give_up(mount);
                return r;
        }
        for (unsigned int i = 1; i < mount->n_threads; i++)
                if (start_further_thread(mount, &mount->threads[i]) < 0)
                        break;
        inherit_drop_clones(mount);
        counted_settled(mount);
        orphans_finish(&mount->orphans);

        device = mount_point_device(&mount->point, mount->threads[0].session.fd);
        if (device == 0)
                log_warning("Cannot tell which files are those of our own mount: whoever uses one "
                            "as a device will wait for ever");

        /* The threads serve already, and somebody may be reading a .status file. */
        pthread_mutex_lock(&model->lock);
        model->own_io = mount->io;
        model->mount_device = device;
        free(model->transport);
        model->transport = DMIO_TAKE(transport);
        pthread_mutex_unlock(&model->lock);
        *ret = DMIO_TAKE(mount);
        return 0;
}

bool mount_is_kept(const struct mount *mount)
{
        return mount->kept;
}

int mount_watch(struct mount *mount, struct watchdog *watchdog)
{
        for (unsigned int i = 0; i < mount->n_threads; i++) {
                struct queue_thread *thread = &mount->threads[i];

                if (!thread->running || thread->state < 0)
                        continue;
                if (watchdog_add(watchdog, thread->queue) < 0)
                        return -ENOMEM;
        }
        return 0;
}

void mount_thread_drained(struct mount *mount)
{
        if (atomic_fetch_sub(&mount->n_undrained, 1) == 1)
                dmio_queue_post(mount->model->queue, &mount->drained_task);
}

void mount_drain(struct mount *mount, void (*drained)(void *userdata), void *userdata)
{
        assert(!mount->draining);

        mount->draining = true;
        mount->drained = drained;
        mount->drained_userdata = userdata;

        /* One more than there are threads, so that the last one is the last one. */
        atomic_store(&mount->n_undrained, 1);
        for (unsigned int i = 0; i < mount->n_threads; i++) {
                if (!mount->threads[i].running || mount->threads[i].state < 0)
                        continue;
                atomic_fetch_add(&mount->n_undrained, 1);
                queue_thread_drain(&mount->threads[i]);
        }
        mount_thread_drained(mount);
}

struct mount *mount_free(struct mount *mount)
{
        if (!mount)
                return NULL;

        /* Detached first: who opens files now gets to see what lies below, and does not wait. */
        if (!mount->kept)
                mount_point_detach(&mount->point);
        for (unsigned int i = 0; i < mount->n_threads; i++)
                queue_thread_stop(&mount->threads[i]);

        /* The task is ours: it must not be left in the queue. */
        while (mount->draining && !mount->drained_told)
                if (dmio_queue_process(mount->model->queue, -1, 0) < 0)
                        break;

        for (unsigned int i = 0; i < mount->n_threads; i++) {
                if (!mount->kept)
                        session_unmount(&mount->threads[i].session);
                session_deinit(&mount->threads[i].session);
                interrupts_deinit(&mount->threads[i].interrupts);
        }
        mount->model->calls_noted = NULL;
        orphans_deinit(&mount->orphans);
        counted_deinit(&mount->counted);
        handle_table_deinit(&mount->handles);
        memory_file_close(&mount->memory);
        for (unsigned int i = 0; i < MEMORY_QUEUES; i++)
                (void)close_fd(mount->clones[i]);
        free(mount->early_init);
        mount->model->own_io = NULL;
        if (dm_io_client_destroy(mount->io) < 0)
                log_error("Pages of the mount are still in use");
        if (mount->kept)
                mount->point = (struct mount_point){ .path = mount->point.path };
        mount_point_deinit(&mount->point);

        pthread_cond_destroy(&mount->start_changed);
        pthread_mutex_destroy(&mount->start_lock);
        pthread_mutex_destroy(&mount->judge_lock);
        free(mount->threads);
        free(mount);
        return NULL;
}
