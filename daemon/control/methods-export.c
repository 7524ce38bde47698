/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Exports. To make one, its devices are opened by a worker; meanwhile the call holds its client, so
 * that its name cannot come to mean another one.
 */

#include <errno.h>
#include <stdlib.h>

#include "control/call.h"
#include "control/errors.h"
#include "control/lasting.h"
#include "control/methods.h"
#include "control/resolve.h"
#include "control/retry.h"
#include "control/varlink.h"
#include "log.h"
#include "model/describe.h"
#include "name.h"
#include "util/cleanup.h"

static const char *const cache_names[] = {
        [EXPORT_CACHE_PAGE] = "page",
        [EXPORT_CACHE_NONE] = "none",
        NULL,
};

const struct field create_export_fields[] = {
        FIELD(struct create_export_arguments, client, FIELD_STRING, .required = true),
        FIELD(struct create_export_arguments, name, FIELD_STRING, .required = true),
        FIELD(struct create_export_arguments, regions, FIELD_OBJECTS, .required = true,
              .fields = region_fields, .size = sizeof(struct region_argument)),
        FIELD(struct create_export_arguments, read_only, FIELD_BOOL),
        FIELD(struct create_export_arguments, shared, FIELD_BOOL),
        FIELD(struct create_export_arguments, cache, FIELD_ENUM, .names = cache_names),
        FIELD_END,
};

const struct field remove_export_fields[] = {
        FIELD(struct remove_export_arguments, client, FIELD_STRING, .required = true),
        FIELD(struct remove_export_arguments, name, FIELD_STRING, .required = true),
        FIELD(struct remove_export_arguments, force, FIELD_BOOL),
        FIELD_END,
};

const struct field list_exports_fields[] = {
        FIELD(struct list_exports_arguments, client, FIELD_STRING),
        FIELD_END,
};

/* CreateExport in progress. */
struct creation {
        struct worker_job job;
        struct call *call;
        struct client *client;
        struct device_list devices;
        json_t *answer;
        struct keeper *keeper; /* of descriptors; NULL if the client does not last */
        uint64_t numbers;
        struct export *export; /* made, if it is to last; a reference */
        struct commit commit;
};

static void creation_open(struct worker_job *job)
{
        struct creation *creation = container_of(job, struct creation, job);

        creation->answer = device_list_open(&creation->devices);
        if (!creation->answer && creation->keeper)
                creation->answer = device_list_identify(&creation->devices);
        if (!creation->answer && creation->keeper)
                device_list_keep(&creation->devices, creation->keeper, creation->numbers);
        descriptors_close(&creation->call->descriptors);
}

static void creation_close(struct worker_job *job)
{
        device_list_close(&container_of(job, struct creation, job)->devices);
}

static void creation_finish(struct worker_job *job)
{
        struct creation *creation = container_of(job, struct creation, job);

        client_end_call(creation->client);
        call_answer(creation->call, creation->answer);
        free(creation);
}

/* Give the devices to a new export. Returns the answer. */
static json_t *creation_export(struct creation *creation)
{
        const struct create_export_arguments *arguments = creation->call->arguments;
        const struct error_subject subject = { .client = arguments->client,
                                               .export = arguments->name };
        struct device_list *devices = &creation->devices;
        struct leg_spec legs[DM_IO_MAX_REGIONS];
        struct model_refusal refusal = {};
        struct export *export;
        int r;

        for (unsigned int i = 0; i < devices->n; i++) {
                const struct device_entry *entry = &devices->entries[i];

                legs[i] = (struct leg_spec){ .device = entry->shown ?: entry->name,
                                             .bdev = entry->bdev,
                                             .sector = entry->sector,
                                             .count = entry->count,
                                             .how = entry->how,
                                             .identity = entry->identity,
                                             .kept = entry->kept };
        }
        r = export_new(creation->client, arguments->name, legs, devices->n, arguments->read_only,
                       arguments->shared,
                       arguments->cache == FIELD_ABSENT ? EXPORT_CACHE_MAPPED
                                                        : (enum export_cache)arguments->cache,
                       &export, &refusal);
        if (r != MODEL_OK) {
                if (creation->keeper)
                        device_list_forget(devices, creation->keeper);
                return error_from_outcome(r, &refusal, &subject);
        }

        for (unsigned int i = 0; i < devices->n; i++) {
                struct device_entry *entry = &devices->entries[i];

                if (entry->shown)
                        entry->shown = NULL;
                else
                        entry->name = NULL;
                entry->bdev = NULL;
        }
        log_info("Export '%s' of %u legs is made", export->path, export->n_legs);
        if (export->record.lasts)
                creation->export = export_ref(export);
        return varlink_reply(json_pack("{s:o}", "export", describe_export(export)));
}

/* What was not given away is closed again. */
static void creation_end(void *userdata)
{
        struct creation *creation = userdata;

        creation->export = export_unref(creation->export);
        creation->job = (struct worker_job){ .run = creation_close,
                                             .done = creation_finish,
                                             .uid = call_worker_uid(creation->call) };
        worker_submit(creation->call->model->worker, &creation->job);
}

static void creation_written(struct commit *commit, int error)
{
        struct creation *creation = container_of(commit, struct creation, commit);
        struct export *export = creation->export;

        if (error < 0) {
                json_decref(creation->answer);
                creation->answer = error_state(error);
        }
        /* It may have been removed already. */
        if (error == 0 || !export->client ||
            export_remove(export, true, creation_end, creation, NULL) != MODEL_OK)
                creation_end(creation);
}

static void creation_opened(struct worker_job *job)
{
        struct creation *creation = container_of(job, struct creation, job);

        if (!creation->answer)
                creation->answer = creation_export(creation);
        if (creation->export) {
                creation->commit.done = creation_written;
                commit_begin(creation->call->model, &creation->commit);
        } else {
                creation_end(creation);
        }
}

void method_create_export(struct call *call)
{
        const struct create_export_arguments *arguments = call->arguments;
        struct creation *creation;
        struct client *client;
        json_t *error;

        error = call_find_client(call, arguments->client, &client);
        if (error) {
                call_answer(call, error);
                return;
        }
        if (!name_is_valid(arguments->name)) {
                const struct error_subject subject = {};

                call_answer(call, error_from_outcome(MODEL_E_NAME, NULL, &subject));
                return;
        }
        /* Nobody would tell the kernel what came to the sectors by another export. */
        if (arguments->shared && arguments->cache == EXPORT_CACHE_PAGE) {
                call_answer(call,
                            error_invalid_parameter("cache", "cannot be \"page\" for a shared "
                                                             "export"));
                return;
        }
        creation = calloc(1, sizeof(*creation));
        if (!creation) {
                call_answer(call, ERROR_NO_MEMORY);
                return;
        }
        error = device_list_prepare(&creation->devices, call, &arguments->regions,
                                    !arguments->read_only);
        if (!error && client_begin_call(client) != MODEL_OK)
                error = error_no_such_client(arguments->client);
        if (error) {
                device_list_close(&creation->devices);
                free(creation);
                call_answer(call, error);
                return;
        }

        creation->call = call;
        creation->client = client;
        if (client->linger && model_can_last(call->model)) {
                creation->keeper = call->model->keeper;
                creation->numbers = keeper_take_numbers(creation->keeper, creation->devices.n);
        }
        creation->job = (struct worker_job){ .run = creation_open,
                                             .done = creation_opened,
                                             .uid = call_worker_uid(call) };
        worker_submit(call->model->worker, &creation->job);
}

static void export_removed(void *userdata)
{
        call_reply(userdata, json_object());
}

/* It has gone from what lasts, so it may go. */
static void removal_written(struct lasting *lasting, int error)
{
        const struct remove_export_arguments *arguments = lasting->call->arguments;
        struct export *export = lasting->export;
        struct call *call = lasting->call;

        if (error < 0) {
                if (export->client)
                        export_stay(export);
                call_answer(call, error_state(error));
        } else if (!export->client ||
                   export_remove(export, true, export_removed, call, NULL) != MODEL_OK) {
                call_answer(call, error_no_such_export(arguments->client, arguments->name));
        }
        lasting_end(lasting);
}

/* The same for one that lasts. Returns MODEL_OK, MODEL_E_BUSY, or a negative errno and the error.
 */
static int remove_lasting(struct call *call, struct client *client, struct export *export,
                          bool force, struct model_refusal *refusal, json_t **ret_error)
{
        struct lasting *lasting;
        json_t *error;
        int r;

        error = lasting_new(call, client, export, removal_written, &lasting);
        if (error) {
                *ret_error = error;
                return -ENOENT;
        }
        r = export_leave(export, force, refusal);
        if (r == MODEL_OK)
                lasting_commit(lasting);
        else
                lasting_end(lasting);
        return r;
}

/* Find the export and begin to remove it. Returns MODEL_OK, with the call answered
 * later; or another outcome or a negative errno. */
static int remove_export(struct call *call, struct client *client, struct export **ret,
                         json_t **ret_error)
{
        const struct remove_export_arguments *arguments = call->arguments;
        const struct error_subject subject = { .client = arguments->client,
                                               .export = arguments->name };
        struct export *export = client_find_export(client, arguments->name);
        struct model_refusal refusal = {};
        int r;

        /* One that somebody else is removing is as good as gone. */
        if (!export || export->leaving) {
                *ret_error = error_no_such_export(arguments->client, arguments->name);
                return -ENOENT;
        }
        if (export->record.lasts)
                r = remove_lasting(call, client, export, arguments->force, &refusal, ret_error);
        else
                r = export_remove(export, arguments->force, export_removed, call, &refusal);
        if (r > 0)
                *ret_error = error_from_outcome(r, &refusal, &subject);
        *ret = export;
        return r;
}

/*
 * A file that is closed is open for us until the kernel has told us, which it does a moment after
 * close(2) has returned. So an export that is busy gets that moment before it is called busy.
 */
#define CLOSE_GRACE_TRIES 50

struct removal {
        struct retry retry;
        struct call *call;
        struct client *client;
        struct export *export;
        json_t *answer; /* unless it has been closed meanwhile */
};

static void removal_attempt(struct retry *retry, bool is_last)
{
        struct removal *removal = container_of(retry, struct removal, retry);
        struct call *call = removal->call;
        struct export *export;
        json_t *error = NULL;

        if (!is_last && export_n_open(removal->export) > 0)
                return;
        retry_stop(retry);
        json_decref(removal->answer);
        (void)remove_export(call, removal->client, &export, &error);
        export_unref(removal->export);
        client_end_call(removal->client);
        free(removal);
        if (error)
                call_answer(call, error);
}

static bool removal_try_again(struct call *call, struct client *client, struct export *export,
                              json_t *answer)
{
        struct removal *removal = calloc(1, sizeof(*removal));

        if (!removal || client_begin_call(client) != MODEL_OK) {
                free(removal);
                return false;
        }
        if (retry_start(&removal->retry, worker_event(call->model->worker), CLOSE_GRACE_TRIES,
                        removal_attempt) < 0) {
                client_end_call(client);
                free(removal);
                return false;
        }
        removal->call = call;
        removal->client = client;
        removal->export = export_ref(export);
        removal->answer = answer;
        return true;
}

void method_remove_export(struct call *call)
{
        const struct remove_export_arguments *arguments = call->arguments;
        struct export *export;
        struct client *client;
        json_t *error;
        int r;

        error = call_find_client(call, arguments->client, &client);
        if (!error) {
                r = remove_export(call, client, &export, &error);
                if (r == MODEL_E_BUSY && removal_try_again(call, client, export, error))
                        return;
        }
        if (error)
                call_answer(call, error);
}

void method_list_exports(struct call *call)
{
        const struct list_exports_arguments *arguments = call->arguments;
        json_t *exports, *error = NULL;
        struct client *client;
        int r = 0;

        if (arguments->client)
                error = call_find_client(call, arguments->client, &client);
        if (error) {
                call_answer(call, error);
                return;
        }

        exports = json_array();
        if (arguments->client) {
                r = describe_exports(exports, client);
        } else {
                list_for_each (client, &call->model->clients, link)
                        if (r == 0 && client_is_visible(client, call->peer))
                                r = describe_exports(exports, client);
        }
        if (r < 0) {
                json_decref(exports);
                call_answer(call, ERROR_NO_MEMORY);
                return;
        }
        call_reply(call, json_pack("{s:o}", "exports", exports));
}
