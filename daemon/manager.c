/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "control/server.h"
#include "descriptor-store.h"
#include "log.h"
#include "loop.h"
#include "manager.h"
#include "memory-pressure.h"
#include "model/client.h"
#include "model/commit.h"
#include "model/event.h"
#include "model/fault.h"
#include "model/model.h"
#include "mount/mount.h"
#include "state/state.h"
#include "stop.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"
#include "watchdog.h"
#include "worker.h"

#define STATUS_USEC UINT64_C(1000000)

/* Signals so shortly after the one that asked to stop are of the same wish: timeout(1), for one,
 * sends its own to the process and to its group. */
#define SAME_STOP_USEC UINT64_C(500000)

struct manager {
        const struct options *options;
        struct config *config;
        struct descriptor_store store;
        int fence; /* what our rings hold, or -EBADF */
        sd_event *event;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct loop *loop;
        struct worker *worker;
        struct model model;
        bool has_model;
        bool ending; /* a start that failed: there is nothing to be stopped */
        struct state *state;
        struct mount *mount;
        struct server *server;
        struct stop *stop;
        uint64_t stop_usec; /* when it began */
        struct watchdog *watchdog;
        sd_event_source *status_timer;
        char status[128]; /* as the service manager knows it */
};

DMIO_DEFINE_CLEANUP(struct config, config_free)
DMIO_DEFINE_CLEANUP(struct manager, manager_free)

/* Writes "STATUS=..." and returns true if it differs from what was told before. */
static bool update_status(struct manager *manager)
{
        struct model *model = &manager->model;
        struct dmio_pool_stats pool;
        char status[sizeof(manager->status)];

        dmio_pool_stats(manager->engine, &pool);
        (void)snprintf(status, sizeof(status),
                       "STATUS=%u clients, %u exports, %" PRIu64 " of %" PRIu64 " pages in use",
                       model->n_clients, model->n_exports, pool.in_use, pool.total);
        if (strcmp(status, manager->status) == 0)
                return false;
        memcpy(manager->status, status, sizeof(status));
        return true;
}

static int on_status_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct manager *manager = userdata;
        int r;

        if (!manager->stop && update_status(manager))
                (void)sd_notify(0, manager->status);

        r = sd_event_source_set_time_relative(source, STATUS_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_stop_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                          void *userdata)
{
        struct manager *manager = userdata;
        int r;

        if (manager->ending)
                return 0;
        if (manager->stop) {
                if (now_usec() - manager->stop_usec < SAME_STOP_USEC)
                        return 0;
                log_error("A second signal asks to stop");
                stop_now(manager->stop);
        }

        manager->stop_usec = now_usec();
        log_info("Stopping");
        (void)sd_notify(0, "STOPPING=1\nSTATUS=Stopping");
        event_daemon(EVENT_STOPPING, &manager->model);
        r = stop_new(manager->event, &manager->model, manager->server, manager->mount,
                     &manager->stop);
        if (r < 0) {
                log_error_errno(r, "Cannot stop in good order: %m");
                return sd_event_exit(manager->event, EXIT_FAILURE);
        }
        return 0;
}

/* All or nothing: with an error the old configuration stays. */
static void reload(struct manager *manager)
{
        DMIO_CLEANUP(config_freep) struct config *config = NULL;
        DMIO_CLEANUP(freep) char *message = NULL;
        DMIO_CLEANUP(freep) char *fixed = NULL;
        struct config *old;
        int r;

        r = options_load(manager->options, &config, &message);
        if (r == 0)
                r = config_keep_fixed(config, manager->config, &fixed);
        if (r < 0) {
                log_error("The configuration stays as it was: %s", message ?: strerrordesc_np(-r));
                return;
        }
        if (fixed)
                log_warning("Changed, but read at the start only: %s", fixed);

        old = manager->config;
        manager->config = DMIO_TAKE(config);
        model_set_config(&manager->model, manager->config);
        config_free(old);
        log_set_level(manager->config->log_level);
        if (!manager->config->drills && faults_stop(&manager->model) > 0)
                log_notice("Drills are off now: all faults have ended");
        log_info("The configuration has been read again");
        event_daemon(EVENT_CONFIGURATION_RELOADED, &manager->model);
}

static int on_reload_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                            void *userdata)
{
        struct manager *manager = userdata;
        struct timespec now;

        if (manager->stop || manager->ending)
                return 0;

        clock_gettime(CLOCK_MONOTONIC, &now);
        (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                         (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
        reload(manager);
        (void)sd_notify(0, "READY=1");
        return 0;
}

/*
 * What is given back goes back to the system: large blocks are mappings of their own (glibc would
 * raise the threshold at the first one that is freed), and threads share a few heaps.
 */
static void prepare_heap(void)
{
        (void)mallopt(M_MMAP_THRESHOLD, 128 * 1024);
        (void)mallopt(M_TRIM_THRESHOLD, 256 * 1024);
        (void)mallopt(M_ARENA_MAX, 2);
}

/* Before there is any thread, so that none of them is asked instead of the main loop. */
static int prepare_process(void)
{
        /*
         * Devices, connections and what they send are all descriptors; and a limit on the size of
         * files, which is meant for whoever started us, would be an error of a leg.
         */
        static const enum __rlimit_resource raised[] = { RLIMIT_NOFILE, RLIMIT_FSIZE };
        struct rlimit limit;
        sigset_t signals;

        prepare_heap();
        memory_pressure_prepare();
        (void)umask(077);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN);
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGHUP);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return log_error_errno(-errno, "Cannot block signals: %m");

        for (size_t i = 0; i < ARRAY_SIZE(raised); i++) {
                if (getrlimit(raised[i], &limit) < 0 || limit.rlim_cur >= limit.rlim_max)
                        continue;
                limit.rlim_cur = limit.rlim_max;
                (void)setrlimit(raised[i], &limit);
        }
        return 0;
}

static int start_event(struct manager *manager)
{
        static const struct {
                int signal;
                sd_event_signal_handler_t handler;
        } signals[] = {
                { SIGTERM, on_stop_signal },
                { SIGINT, on_stop_signal },
                { SIGHUP, on_reload_signal },
        };
        int r;

        r = sd_event_new(&manager->event);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(signals); i++)
                r = sd_event_add_signal(manager->event, NULL, signals[i].signal, signals[i].handler,
                                        manager);
        if (r < 0)
                return log_error_errno(r, "Cannot set up the main loop: %m");

        return 0;
}

/*
 * The next process must be able to wait for what ours has on its way to devices when it is killed
 * (mount/orphan.h): it gets the other end of a pipe that our rings hold.
 */
static int start_fence(struct manager *manager)
{
        DMIO_CLEANUP(close_fdp) int other = -EBADF;
        char name[64];
        int fds[2];
        int r;

        if (!descriptor_store_is_there(&manager->store))
                return 0;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return log_error_errno(-errno, "Cannot make a pipe: %m");
        other = fds[0];
        manager->fence = fds[1];
        (void)snprintf(name, sizeof(name), DESCRIPTOR_STORE_FENCE_PREFIX "%d-%" PRIu64,
                       (int)getpid(), now_usec());
        r = descriptor_store_push(&manager->store, name, other);
        if (r < 0)
                return log_error_errno(r, "Cannot have a pipe kept: %m");
        return 0;
}

static int start_engine(struct manager *manager)
{
        const struct dmio_engine_options options = {
                .backend = manager->config->backend,
                .flags = DMIO_ENGINE_NO_THREAD | (manager->fence >= 0 ? DMIO_ENGINE_HELD_FD : 0),
                /* The clients' limit is the model's; the engine's must also hold the mount's share.
                 */
                .max_pages = manager->config->max_pages ? UINT32_MAX : 0,
                .held_fd = manager->fence,
        };
        int r;

        r = dmio_engine_create(&options, &manager->engine);
        if (r == -EOPNOTSUPP && options.backend)
                return log_error_errno(r, "The back-end '%s' is not there, or does not work here",
                                       options.backend);
        if (r < 0)
                return log_error_errno(r, "Cannot start the engine: %m");

        r = dmio_queue_create(manager->engine, &manager->queue);
        if (r >= 0)
                r = loop_new(manager->event, manager->queue, &manager->loop);
        if (r < 0)
                return log_error_errno(r, "Cannot set up the main loop's queue: %m");
        return 0;
}

static int start_model(struct manager *manager)
{
        int r;

        r = worker_new(manager->event, &manager->worker);
        if (r < 0)
                return log_error_errno(r, "Cannot start a worker thread: %m");

        r = model_init(&manager->model, manager->engine, manager->queue, manager->config,
                       manager->worker);
        if (r < 0)
                return log_error_errno(r, "Cannot set up the model: %m");
        manager->has_model = true;
        manager->model.n_lanes = mount_n_threads(manager->config);
        return 0;
}

/* What the service manager passed; its listening socket in *@ret, or -EBADF if there is none. */
static int take_descriptors(struct manager *manager, int *ret)
{
        int r;

        r = descriptor_store_open(&manager->store);
        if (r < 0)
                return log_error_errno(r, "Cannot take the sockets of the service manager: %m");

        r = descriptor_store_take_listener(&manager->store);
        if (r == -ENOTUNIQ || r == -ENOTSOCK)
                return log_error_errno(r, "The service manager must pass one listening Unix "
                                          "stream socket and nothing else");
        *ret = r < 0 ? -EBADF : r;
        return 0;
}

/*
 * What nobody has taken belongs to nothing that lasts: a daemon was killed between keeping it and
 * writing that down, or the other way round. Without a state folder that cannot be told.
 */
static void drop_descriptors(struct manager *manager)
{
        if (manager->state)
                descriptor_store_drop(&manager->store);
        else
                descriptor_store_close(&manager->store);
}

static int start_watchdog(struct manager *manager)
{
        int r;

        r = watchdog_new(manager->event, &manager->watchdog);
        if (r >= 0)
                r = mount_watch(manager->mount, manager->watchdog);
        return r < 0 ? log_error_errno(r, "Cannot set up the watchdog: %m") : 0;
}

static int start_status(struct manager *manager)
{
        int r;

        (void)update_status(manager);
        (void)sd_notifyf(0, "READY=1\n%s", manager->status);
        if (!getenv("NOTIFY_SOCKET"))
                return 0;

        r = sd_event_add_time_relative(manager->event, &manager->status_timer, CLOCK_MONOTONIC,
                                       STATUS_USEC, 0, on_status_timer, manager);
        if (r < 0)
                return log_error_errno(r, "Cannot set up a timer: %m");
        return 0;
}

int manager_new(const struct options *options, struct config *config, struct manager **ret)
{
        DMIO_CLEANUP(manager_freep) struct manager *manager = NULL;
        int listen_fd = -EBADF;
        int r;

        manager = calloc(1, sizeof(*manager));
        if (!manager) {
                config_free(config);
                return log_error_errno(-ENOMEM, "Cannot start: %m");
        }
        manager->fence = -EBADF;
        manager->options = options;
        manager->config = config;

        r = prepare_process();
        if (r >= 0)
                r = take_descriptors(manager, &listen_fd);
        if (r >= 0)
                r = start_event(manager);
        if (r >= 0)
                r = start_fence(manager);
        if (r >= 0)
                r = start_engine(manager);
        if (r >= 0)
                r = start_model(manager);
        if (r >= 0)
                r = state_new(&manager->model, &manager->store, manager->event, &manager->state);
        if (r >= 0)
                r = mount_new(&manager->model, manager->config, &manager->store, &manager->mount);
        if (r >= 0)
                drop_descriptors(manager);
        if (r >= 0)
                r = start_watchdog(manager);
        if (r >= 0)
                r = server_new(&manager->model, manager->event, listen_fd, &manager->server);
        if (r >= 0)
                server_keep(manager->server, &manager->store);
        if (r >= 0)
                r = start_status(manager);
        if (r < 0)
                return r;

        log_info("Serving at '%s', control channel at '%s', back-end %s",
                 manager->model.mount ?: config->mount, config->control,
                 dmio_engine_backend(manager->engine));
        *ret = DMIO_TAKE(manager);
        return 0;
}

int manager_run(struct manager *manager)
{
        int r;

        r = sd_event_loop(manager->event);
        if (r < 0) {
                log_error_errno(r, "The main loop has failed: %m");
                return EXIT_FAILURE;
        }
        return r;
}

/* A start that failed: what it had restored goes again, and lasts. */
static void drop_clients(struct manager *manager)
{
        struct model *model = &manager->model;
        struct client *client;

        manager->ending = true;
        commit_freeze(model);
        list_for_each (client, &model->clients, link)
                (void)client_close(client, NULL, NULL);
        while (model->n_clients > 0)
                if (sd_event_run(manager->event, UINT64_MAX) < 0)
                        break;
}

struct manager *manager_free(struct manager *manager)
{
        int r = 0;

        if (!manager)
                return NULL;

        /* From here on the main loop does not run any more, and threads are waited for. */
        stop_guard(manager->stop, manager->config, manager->mount);
        if (manager->has_model && !manager->stop)
                drop_clients(manager);
        stop_free(manager->stop);
        mount_free(manager->mount);
        watchdog_free(manager->watchdog);
        server_free(manager->server);
        if (manager->queue)
                loop_finish(manager->queue);
        worker_free(manager->worker);
        if (manager->queue)
                loop_finish(manager->queue);
        state_free(manager->state);
        if (manager->has_model)
                model_deinit(&manager->model);
        loop_free(manager->loop);
        if (manager->queue)
                r = dmio_queue_destroy(manager->queue);
        if (r == 0)
                r = dmio_engine_destroy(manager->engine);
        if (r < 0)
                log_error_errno(r, "The engine could not be ended: %m");

        (void)close_fd(manager->fence);
        descriptor_store_close(&manager->store);
        sd_event_source_disable_unref(manager->status_timer);
        sd_event_unref(manager->event);
        config_free(manager->config);
        free(manager);
        (void)alarm(0);
        return NULL;
}
