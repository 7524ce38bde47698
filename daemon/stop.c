/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "model/client.h"
#include "model/commit.h"
#include "model/export.h"
#include "model/fault.h"
#include "model/job.h"
#include "mount/fusermount.h"
#include "stop.h"
#include "util/cleanup.h"

#define STOP_LIMIT_SEC 30

/* What has not ended after so long is left alone, so that there is time to flush what others have
 * written. */
#define STOP_CALLS_LIMIT_SEC 10
#define STOP_MOUNT_LIMIT_SEC 10
#define STOP_STATE_LIMIT_SEC 5

#define USEC_PER_SEC UINT64_C(1000000)

/* One device that is flushed, through the client of the first export that uses it. */
struct flush {
        struct stop *stop;
        struct export *export;
        unsigned int leg;
        const struct block_device *bdev; /* of the leg; only compared */
        struct dm_io_leg_error error;
};

enum stop_step {
        STOP_CALLS,
        STOP_MOUNT,
        STOP_FLUSH,
        STOP_STATE,
        STOP_CLIENTS,
        _STOP_STEP_MAX,
};

/* What a step is told to call back with, which may be after the stop has gone on without it. */
struct stop_wait {
        struct stop *stop;
        enum stop_step step;
};

struct stop {
        sd_event *event;
        sd_event_source *limit;
        sd_event_source *step_limit;
        struct model *model;
        struct server *server;
        struct mount *mount;
        enum stop_step step;
        struct stop_wait waits[_STOP_STEP_MAX];
        int status;      /* of the process */
        time_t deadline; /* CLOCK_MONOTONIC */
        struct flush *flushes;
        unsigned int n_flushes;
        unsigned int n_unflushed;
        struct commit commit;
};

static void stop_calls(struct stop *stop);
static void stop_mount(struct stop *stop);
static void stop_flush(struct stop *stop);
static void stop_state(struct stop *stop);
static void stop_clients(struct stop *stop);

static const struct {
        const char *what; /* is waited for */
        void (*begin)(struct stop *stop);
        unsigned int limit_sec; /* 0: as long as all of it may take */
} steps[_STOP_STEP_MAX] = {
        [STOP_CALLS] = { "calls on the control channel", stop_calls, STOP_CALLS_LIMIT_SEC },
        [STOP_MOUNT] = { "requests on the mount", stop_mount, STOP_MOUNT_LIMIT_SEC },
        [STOP_FLUSH] = { "flushes of devices", stop_flush, 0 },
        [STOP_STATE] = { "the state folder", stop_state, STOP_STATE_LIMIT_SEC },
        [STOP_CLIENTS] = { "clients to be closed", stop_clients, 0 },
};

static void stop_step_done(void *userdata);

static int stop_on_step_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct stop *stop = userdata;

        log_error("Stopping without waiting longer for %s", steps[stop->step].what);
        if (stop->step == STOP_CALLS)
                server_log_busy(stop->server);
        stop->status = EXIT_FAILURE;
        stop_step_done(&stop->waits[stop->step]);
        return 0;
}

static void stop_begin_step(struct stop *stop)
{
        unsigned int limit = steps[stop->step].limit_sec;
        int r = 0;

        if (limit > 0)
                r = sd_event_add_time_relative(stop->event, &stop->step_limit, CLOCK_MONOTONIC,
                                               limit * USEC_PER_SEC, 0, stop_on_step_limit, stop);
        if (r < 0)
                log_warning_errno(r, "Cannot limit the time of a step: %m");
        steps[stop->step].begin(stop);
}

/* Also comes for a step that was not waited for any more. */
static void stop_step_done(void *userdata)
{
        const struct stop_wait *wait = userdata;
        struct stop *stop = wait->stop;

        if (wait->step != stop->step)
                return;
        stop->step_limit = sd_event_source_disable_unref(stop->step_limit);
        stop->step++;
        if (stop->step == _STOP_STEP_MAX) {
                (void)sd_event_exit(stop->event, stop->status);
                return;
        }
        log_debug("Stopping: waiting for %s", steps[stop->step].what);
        stop_begin_step(stop);
}

static void stop_calls(struct stop *stop)
{
        jobs_stop(stop->model);
        (void)faults_stop(stop->model);
        server_drain(stop->server, stop_step_done, &stop->waits[STOP_CALLS]);
}

static void stop_mount(struct stop *stop)
{
        mount_drain(stop->mount, stop_step_done, &stop->waits[STOP_MOUNT]);
}

/*
 * What the flushes mean for the legs, when all are over: a device that could not keep what it had
 * is behind one that could. Flushes are by device, and legs of several exports may lie on it.
 */
static int flush_error(const struct stop *stop, const struct leg *leg)
{
        for (unsigned int i = 0; i < stop->n_flushes; i++)
                if (stop->flushes[i].bdev == leg->spec.bdev &&
                    !export_error_is_harmless(stop->flushes[i].error.error))
                        return stop->flushes[i].error.error;
        return 0;
}

static void judge_flushes(struct stop *stop, struct export *export)
{
        int errors[DM_IO_MAX_REGIONS] = {};
        bool kept = false;

        /* Requests that the stop has not waited for may still come to an end. */
        pthread_mutex_lock(&export->judge_lock);
        for (unsigned int i = 0; i < export->n_legs; i++) {
                struct leg *leg = &export->legs[i];

                if (!leg_is_active(leg))
                        continue;
                errors[i] = flush_error(stop, leg);
                if (leg_has_lost(leg) && !errors[i])
                        errors[i] = EIO;
                kept |= !errors[i];
        }
        for (unsigned int i = 0; kept && i < export->n_legs; i++)
                if (errors[i])
                        export_leg_error(export, i, DM_IO_FLUSH, errors[i], true);
        pthread_mutex_unlock(&export->judge_lock);
}

static void flushes_done(struct stop *stop)
{
        struct client *client;
        struct export *export;

        list_for_each (client, &stop->model->clients, link)
                list_for_each (export, &client->exports, link)
                        if (!export->read_only && export_begin(export) == 0) {
                                judge_flushes(stop, export);
                                export_end(export);
                        }
        stop_step_done(&stop->waits[STOP_FLUSH]);
}

static void flush_done(unsigned long error, void *context)
{
        struct flush *flush = context;
        struct stop *stop = flush->stop;

        if (error)
                log_error_errno(-flush->error.error, "Cannot flush '%s' of '%s': %m",
                                flush->export->legs[flush->leg].spec.device, flush->export->path);
        if (error && !flush->error.error)
                flush->error.error = EIO;
        export_end(flush->export);
        export_unref(flush->export);

        if (--stop->n_unflushed == 0)
                flushes_done(stop);
}

static int flush_submit(struct flush *flush)
{
        const struct io_region region = { .bdev = flush->export->legs[flush->leg].spec.bdev };
        const struct dm_io_request request = {
                .op = DM_IO_FLUSH,
                .notify = { .fn = flush_done, .context = flush },
                .client = flush->export->io,
                .queue = flush->stop->model->queue,
                .leg_errors = &flush->error,
        };

        return dm_io(&request, 1, &region, NULL);
}

static bool is_listed(const struct stop *stop, const struct block_device *bdev)
{
        for (unsigned int i = 0; i < stop->n_flushes; i++)
                if (stop->flushes[i].bdev == bdev)
                        return true;
        return false;
}

static int list_flushes(struct stop *stop, struct export *export)
{
        for (unsigned int i = 0; i < export->n_legs; i++) {
                struct flush *larger;

                if (!leg_is_active(&export->legs[i]) || is_listed(stop, export->legs[i].spec.bdev))
                        continue;
                larger = reallocarray(stop->flushes, stop->n_flushes + 1, sizeof(*larger));
                if (!larger)
                        return -ENOMEM;
                stop->flushes = larger;
                stop->flushes[stop->n_flushes++] = (struct flush){
                        .stop = stop,
                        .export = export,
                        .leg = i,
                        .bdev = export->legs[i].spec.bdev,
                };
        }
        return 0;
}

static void stop_flush(struct stop *stop)
{
        struct client *client;
        struct export *export;
        int r = 0;

        list_for_each (client, &stop->model->clients, link)
                list_for_each (export, &client->exports, link)
                        if (r == 0 && !export->read_only)
                                r = list_flushes(stop, export);
        if (r < 0)
                log_error_errno(r, "Cannot list all devices to be flushed: %m");

        /* One more than there are, so that the last one does not end the step too early. */
        stop->n_unflushed = 1;
        for (unsigned int i = 0; i < stop->n_flushes; i++) {
                struct flush *flush = &stop->flushes[i];

                if (export_begin(flush->export) < 0)
                        continue;
                export_ref(flush->export);
                stop->n_unflushed++;

                r = flush_submit(flush);
                if (r < 0) {
                        flush->error.error = -r;
                        flush_done(1, flush);
                }
        }
        if (--stop->n_unflushed == 0)
                flushes_done(stop);
}

static void state_written(struct commit *commit, int error)
{
        struct stop *stop = container_of(commit, struct stop, commit);

        if (error < 0)
                stop->status = EXIT_FAILURE;
        stop_step_done(&stop->waits[STOP_STATE]);
}

static void stop_state(struct stop *stop)
{
        if (!model_can_last(stop->model)) {
                stop_step_done(&stop->waits[STOP_STATE]);
                return;
        }
        stop->commit.done = state_written;
        commit_last(stop->model, &stop->commit);
}

static void stop_clients(struct stop *stop)
{
        struct model *model = stop->model;
        struct client *client;

        /* Those that linger go from the model, and stay in the file. */
        commit_freeze(model);
        if (model->n_clients == 0) {
                stop_step_done(&stop->waits[STOP_CLIENTS]);
                return;
        }

        model->emptied = stop_step_done;
        model->emptied_userdata = &stop->waits[STOP_CLIENTS];
        list_for_each (client, &model->clients, link)
                (void)client_close(client, NULL, NULL);
}

static int stop_on_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        log_error("The stop has taken longer than %d seconds", STOP_LIMIT_SEC);
        stop_now(userdata);
}

int stop_new(sd_event *event, struct model *model, struct server *server, struct mount *mount,
             struct stop **ret)
{
        struct timespec now;
        struct stop *stop;
        int r;

        stop = calloc(1, sizeof(*stop));
        if (!stop)
                return -ENOMEM;
        list_init(&stop->commit.link);
        stop->event = sd_event_ref(event);
        stop->model = model;
        stop->server = server;
        stop->mount = mount;
        stop->step = STOP_CALLS;
        stop->status = EXIT_SUCCESS;
        for (enum stop_step step = 0; step < _STOP_STEP_MAX; step++)
                stop->waits[step] = (struct stop_wait){ stop, step };
        clock_gettime(CLOCK_MONOTONIC, &now);
        stop->deadline = now.tv_sec + STOP_LIMIT_SEC;

        r = sd_event_add_time_relative(event, &stop->limit, CLOCK_MONOTONIC,
                                       STOP_LIMIT_SEC * USEC_PER_SEC, 0, stop_on_limit, stop);
        if (r < 0) {
                stop_free(stop);
                return r;
        }

        *ret = stop;
        stop_begin_step(stop);
        return 0;
}

struct stop *stop_free(struct stop *stop)
{
        if (!stop)
                return NULL;
        stop->model->emptied = NULL;
        list_unlink(&stop->commit.link);
        sd_event_source_disable_unref(stop->step_limit);
        sd_event_source_disable_unref(stop->limit);
        sd_event_unref(stop->event);
        free(stop->flushes);
        free(stop);
        return NULL;
}

/* Open files get ENOTCONN once the process is gone; without this the mount would stay as well. */
static void detach_mount(const char *path, bool user)
{
        if (!user)
                (void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
        else
                (void)fusermount_detach(path);
}

void stop_now(struct stop *stop)
{
        struct model *model = stop->model;

        log_error("Stopping without having waited for %s; %u clients and %u exports are left",
                  stop->step < _STOP_STEP_MAX ? steps[stop->step].what : "threads",
                  model->n_clients, model->n_exports);
        if (model->mount && !mount_is_kept(stop->mount))
                detach_mount(model->mount, model->config->user);
        _exit(EXIT_FAILURE);
}

/* What the signal handler needs, which has no other way to be told. */
static char guarded_mount[4096];

static void guard_on_alarm(int signal)
{
        static const char text[] = "error: The stop has taken too long while freeing\n";

        if (guarded_mount[0])
                (void)umount2(guarded_mount, MNT_DETACH | UMOUNT_NOFOLLOW);
        if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
                _exit(EXIT_FAILURE);
        _exit(EXIT_FAILURE);
}

void stop_guard(const struct stop *stop, const struct config *config, const struct mount *mount)
{
        const struct sigaction action = { .sa_handler = guard_on_alarm };
        time_t left = STOP_LIMIT_SEC;
        struct timespec now;

        if (stop) {
                clock_gettime(CLOCK_MONOTONIC, &now);
                left = stop->deadline - now.tv_sec;
        }
        if (!config->user && config->mount && !(mount && mount_is_kept(mount)))
                (void)snprintf(guarded_mount, sizeof(guarded_mount), "%s", config->mount);
        (void)sigaction(SIGALRM, &action, NULL);
        (void)alarm(left > 1 ? (unsigned int)left : 1);
}
