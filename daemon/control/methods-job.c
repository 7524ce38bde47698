/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Copy, Zero, ListJobs, CancelJob. The way of the first two, with the thread in front:
 *
 *   main    method_copy    who, what, how much: all that the message alone can tell
 *   worker  copy_open      open the devices, close the descriptors
 *   main    copy_opened    begin the job (model/job.h), which takes over the devices; tell its
 * number main    copy_progress  with more: tell how far it is, now and then main    copy_ended
 * answer
 *
 * A refusal goes by copy_close on a worker to copy_refused. The job is the client's, not the
 * call's: a call whose peer has gone leaves it alone.
 */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <systemd/sd-event.h>

#include "control/call.h"
#include "control/errors.h"
#include "control/methods.h"
#include "control/resolve.h"
#include "control/varlink.h"
#include "model/job.h"
#include "util/list.h"

#define PROGRESS_USEC UINT64_C(250000)
#define ACCURACY_USEC UINT64_C(10000)

const struct field copy_fields[] = {
        FIELD(struct copy_arguments, client, FIELD_STRING, .required = true),
        FIELD(struct copy_arguments, source, FIELD_OBJECT, .required = true,
              .fields = region_fields, .size = sizeof(struct region_argument)),
        FIELD(struct copy_arguments, destinations, FIELD_OBJECTS, .required = true,
              .fields = region_fields, .size = sizeof(struct region_argument)),
        FIELD(struct copy_arguments, ignore_errors, FIELD_BOOL),
        FIELD(struct copy_arguments, sequential, FIELD_BOOL),
        FIELD(struct copy_arguments, throttle, FIELD_INT, .min = 1, .max = 100),
        FIELD_END,
};

const struct field zero_fields[] = {
        FIELD(struct copy_arguments, client, FIELD_STRING, .required = true),
        FIELD(struct copy_arguments, destinations, FIELD_OBJECTS, .required = true,
              .fields = region_fields, .size = sizeof(struct region_argument)),
        FIELD(struct copy_arguments, throttle, FIELD_INT, .min = 1, .max = 100),
        FIELD_END,
};

const struct field cancel_job_fields[] = {
        FIELD(struct cancel_job_arguments, job, FIELD_INT, .required = true, .max = FIELD_INT_MAX),
        FIELD_END,
};

/* A Copy or Zero in progress. */
struct copy {
        struct worker_job worker_job;
        struct call *call;
        struct client *client;
        enum job_kind kind;
        struct device_list source;
        struct device_list destinations;
        json_t *error;
        struct job *job;
        sd_event_source *timer; /* with more */
        sector_t told;          /* sectors that the peer knows to be done */
};

/* --- jobs as JSON */

static const char *state_name(enum dm_kcopyd_job_state state)
{
        static const char *const names[] = {
                [DM_KCOPYD_JOB_RUNNING] = "running",
                [DM_KCOPYD_JOB_DONE] = "done",
                [DM_KCOPYD_JOB_FAILED] = "failed",
                [DM_KCOPYD_JOB_CANCELLED] = "cancelled",
        };

        return names[state];
}

/* The numbers of the bits; NULL without memory. */
static json_t *bit_numbers(unsigned long bits, unsigned int n)
{
        json_t *numbers = json_array();

        for (unsigned int i = 0; i < n; i++)
                if (bits >> i & 1 && json_array_append_new(numbers, json_integer(i)) < 0) {
                        json_decref(numbers);
                        return NULL;
                }
        return numbers;
}

/* What both the replies about a job and the list tell of it; NULL without memory. */
static json_t *describe_job(const struct job *job, const struct dm_kcopyd_job_status *status)
{
        char bits[2 + 2 * sizeof(status->write_err) + 1];
        json_t *description;

        (void)snprintf(bits, sizeof(bits), "0x%lx", status->write_err);
        description =
                json_pack("{s:I, s:s, s:I, s:I, s:s, s:o}", "job", (json_int_t)job->number, "state",
                          state_name(status->state), "done_sectors", (json_int_t)status->done,
                          "total_sectors", (json_int_t)status->total, "error_bits", bits, "failed",
                          bit_numbers(status->write_err, status->num_dests));
        if (description && job->spec.kind == JOB_COPY &&
            json_object_set_new(description, "read_failed", json_boolean(status->read_err)) < 0) {
                json_decref(description);
                return NULL;
        }
        return description;
}

static json_t *describe_listed_job(const struct job *job)
{
        struct dm_kcopyd_job_status status;
        json_t *description, *more;
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        job_status(job, &status);
        description = describe_job(job, &status);
        more = json_pack("{s:s, s:s, s:I}", "client", job->client->name, "kind",
                         job->spec.kind == JOB_COPY ? "copy" : "zero", "started",
                         (json_int_t)((uint64_t)now.tv_sec - job->start_usec / 1000000));
        if (!description || !more || json_object_update(description, more) < 0) {
                json_decref(description);
                description = NULL;
        }
        json_decref(more);
        return description;
}

/* --- Copy and Zero */

static void copy_free(struct copy *copy)
{
        (void)sd_event_source_disable_unref(copy->timer);
        free(copy);
}

static void copy_refused(struct worker_job *worker_job)
{
        struct copy *copy = container_of(worker_job, struct copy, worker_job);

        client_end_call(copy->client);
        call_answer(copy->call, copy->error);
        copy_free(copy);
}

static void copy_close(struct worker_job *worker_job)
{
        struct copy *copy = container_of(worker_job, struct copy, worker_job);

        device_list_close(&copy->source);
        device_list_close(&copy->destinations);
}

/* @error is taken. */
static void copy_refuse(struct copy *copy, json_t *error)
{
        copy->error = error;
        copy->worker_job = (struct worker_job){ .run = copy_close,
                                                .done = copy_refused,
                                                .uid = call_worker_uid(copy->call) };
        worker_submit(copy->call->model->worker, &copy->worker_job);
}

static void copy_ended(struct job *job, void *userdata)
{
        struct copy *copy = userdata;
        struct dm_kcopyd_job_status status;

        job_status(job, &status);
        call_reply(copy->call, describe_job(job, &status));
        copy_free(copy);
}

/* A peer that has not taken the last one is told later how far it is then. */
static void copy_tell(struct copy *copy)
{
        struct dm_kcopyd_job_status status;

        if (!copy->call->has_room)
                return;
        job_status(copy->job, &status);
        copy->told = status.done;
        call_continue(copy->call, describe_job(copy->job, &status));
}

static int copy_progress(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct copy *copy = userdata;
        struct dm_kcopyd_job_status status;
        int r;

        if (copy->call->abandoned)
                return sd_event_source_set_enabled(source, SD_EVENT_OFF);
        job_status(copy->job, &status);
        if (status.done != copy->told)
                copy_tell(copy);
        r = sd_event_source_set_time_relative(source, PROGRESS_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* InvalidRegion and RegionBusy number the destinations; the source is -1. */
static json_t *about_source(json_t *error)
{
        json_t *parameters = json_object_get(error, "parameters");

        if (json_object_get(parameters, "region") &&
            json_object_set_new(parameters, "region", json_integer(-1)) < 0) {
                json_decref(error);
                return ERROR_NO_MEMORY;
        }
        return error;
}

static struct io_region take_region(struct device_entry *entry)
{
        const struct io_region region = { .bdev = entry->bdev,
                                          .sector = entry->sector,
                                          .count = entry->count };

        entry->bdev = NULL;
        return region;
}

static void give_back(struct device_entry *entry, const struct io_region *region)
{
        entry->bdev = region->bdev;
}

/* Begin the job. Returns NULL, with the devices handed over, or an error. */
static json_t *copy_begin(struct copy *copy)
{
        const struct copy_arguments *arguments = copy->call->arguments;
        const struct error_subject subject = { .client = arguments->client };
        struct job_spec spec = { .kind = copy->kind, .n_dests = copy->destinations.n };
        struct model_refusal refusal = {};
        json_t *error;
        int r;

        if (arguments->throttle > 0)
                spec.throttle = (unsigned int)arguments->throttle;
        if (arguments->ignore_errors)
                spec.flags |= DM_KCOPYD_IGNORE_ERROR;
        if (arguments->sequential)
                spec.flags |= DM_KCOPYD_WRITE_SEQ;
        if (copy->kind == JOB_COPY)
                spec.source = take_region(&copy->source.entries[0]);
        for (unsigned int i = 0; i < spec.n_dests; i++)
                spec.dests[i] = take_region(&copy->destinations.entries[i]);

        r = job_start(copy->client, &spec, &copy->job, &refusal);
        if (r == MODEL_OK)
                return NULL;
        if (copy->kind == JOB_COPY)
                give_back(&copy->source.entries[0], &spec.source);
        for (unsigned int i = 0; i < spec.n_dests; i++)
                give_back(&copy->destinations.entries[i], &spec.dests[i]);
        error = error_from_outcome(r, &refusal, &subject);
        return refusal.region == JOB_SOURCE ? about_source(error) : error;
}

static void copy_opened(struct worker_job *worker_job)
{
        struct copy *copy = container_of(worker_job, struct copy, worker_job);
        struct call *call = copy->call;
        json_t *error = copy->error;

        if (!error)
                error = copy_begin(copy);
        if (error) {
                copy_refuse(copy, error);
                return;
        }
        /* Only names are left of them. */
        device_list_close(&copy->source);
        device_list_close(&copy->destinations);
        copy->job->on_end = copy_ended;
        copy->job->on_end_userdata = copy;
        if (!call->more || call->oneway)
                return;
        copy_tell(copy);
        /* Without it there is the end to be told all the same. */
        (void)sd_event_add_time_relative(worker_event(call->model->worker), &copy->timer,
                                         CLOCK_MONOTONIC, PROGRESS_USEC, ACCURACY_USEC,
                                         copy_progress, copy);
}

static void copy_open(struct worker_job *worker_job)
{
        struct copy *copy = container_of(worker_job, struct copy, worker_job);

        copy->error = device_list_open(&copy->destinations);
        if (!copy->error && copy->kind == JOB_COPY) {
                copy->error = device_list_open(&copy->source);
                if (copy->error)
                        copy->error = about_source(copy->error);
        }
        descriptors_close(&copy->call->descriptors);
}

/* All that can be said without touching a file. */
static json_t *copy_prepare(struct copy *copy, const struct copy_arguments *arguments)
{
        json_t *error;

        if (arguments->destinations.n < 1 || arguments->destinations.n > DM_KCOPYD_MAX_REGIONS)
                return error_invalid_parameter("destinations", "must be 1 to 8 regions");
        error = device_list_prepare(&copy->destinations, copy->call, &arguments->destinations,
                                    true);
        if (!error && copy->kind == JOB_COPY) {
                const struct field_array source = { .items = arguments->source,
                                                    .n = 1,
                                                    .present = true };

                error = device_list_prepare(&copy->source, copy->call, &source, false);
                if (error)
                        error = about_source(error);
        }
        return error;
}

static void begin_copy(struct call *call, enum job_kind kind)
{
        const struct copy_arguments *arguments = call->arguments;
        struct client *client;
        struct copy *copy;
        json_t *error;

        error = call_find_client(call, arguments->client, &client);
        if (error) {
                call_answer(call, error);
                return;
        }
        copy = calloc(1, sizeof(*copy));
        if (!copy) {
                call_answer(call, ERROR_NO_MEMORY);
                return;
        }
        copy->call = call;
        copy->client = client;
        copy->kind = kind;
        error = copy_prepare(copy, arguments);
        if (!error && client_begin_call(client) != MODEL_OK)
                error = error_no_such_client(arguments->client);
        if (error) {
                device_list_close(&copy->source);
                device_list_close(&copy->destinations);
                copy_free(copy);
                call_answer(call, error);
                return;
        }

        /* It may last: a client that ends with the connection should end when the peer goes. */
        call->watch_peer = call->more || client->connection == call->connection;
        copy->worker_job = (struct worker_job){ .run = copy_open,
                                                .done = copy_opened,
                                                .uid = call_worker_uid(call) };
        worker_submit(call->model->worker, &copy->worker_job);
}

void method_copy(struct call *call)
{
        begin_copy(call, JOB_COPY);
}

void method_zero(struct call *call)
{
        begin_copy(call, JOB_ZERO);
}

/* --- ListJobs and CancelJob */

void method_list_jobs(struct call *call)
{
        const struct client *client;
        json_t *jobs = json_array();
        const struct job *job;

        list_for_each (client, &call->model->clients, link) {
                if (!client_is_visible(client, call->peer))
                        continue;
                list_for_each (job, &client->jobs, link)
                        if (json_array_append_new(jobs, describe_listed_job(job)) < 0) {
                                json_decref(jobs);
                                call_answer(call, ERROR_NO_MEMORY);
                                return;
                        }
        }
        call_reply(call, json_pack("{s:o}", "jobs", jobs));
}

void method_cancel_job(struct call *call)
{
        const struct cancel_job_arguments *arguments = call->arguments;
        struct job *job;

        job = job_find(call->model, (uint64_t)arguments->job, call->peer);
        if (!job) {
                call_answer(call, error_no_such_job((uint64_t)arguments->job));
                return;
        }
        job_cancel(job);
        call_reply(call, json_object());
}
