/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Faults on purpose (model/fault.h), for drills. The configuration has to allow them, so that
 * nobody has one by mistake; then they are for whoever may use the export.
 */

#include <errno.h>
#include <stdio.h>

#include "config.h"
#include "control/call.h"
#include "control/errors.h"
#include "control/methods.h"
#include "model/describe.h"
#include "model/fault.h"
#include "util/macros.h"

#define DELAY_USEC_MAX (INT64_C(3600) * 1000000)

static const char *const action_names[] = {
        [DMIO_FAULT_ERROR] = "error",
        [DMIO_FAULT_DELAY] = "delay",
        [DMIO_FAULT_SHORT] = "short",
        [DMIO_FAULT_HOLD] = "hold",
        NULL,
};

/* In the order of the bits. */
static const char *const operation_names[] = {
        "read", "write", "flush", "discard", "write_zeroes", NULL,
};

const struct field add_fault_fields[] = {
        FIELD(struct add_fault_arguments, client, FIELD_STRING, .required = true),
        FIELD(struct add_fault_arguments, export, FIELD_STRING, .required = true),
        FIELD(struct add_fault_arguments, leg, FIELD_INT, .required = true,
              .max = DM_IO_MAX_REGIONS - 1),
        FIELD(struct add_fault_arguments, action, FIELD_ENUM, .required = true,
              .names = action_names),
        FIELD(struct add_fault_arguments, operation, FIELD_ENUM, .names = operation_names),
        FIELD(struct add_fault_arguments, sector, FIELD_INT, .max = FIELD_INT_MAX),
        FIELD(struct add_fault_arguments, count, FIELD_INT, .min = 1, .max = FIELD_INT_MAX),
        FIELD(struct add_fault_arguments, skip, FIELD_INT, .max = FIELD_INT_MAX),
        FIELD(struct add_fault_arguments, times, FIELD_INT, .min = 1, .max = FIELD_INT_MAX),
        /* errno is a macro. */
        { .name = "errno",
          .type = FIELD_STRING,
          .offset = offsetof(struct add_fault_arguments, errno_name) },
        FIELD(struct add_fault_arguments, delay_us, FIELD_INT, .max = DELAY_USEC_MAX),
        FIELD(struct add_fault_arguments, bytes, FIELD_INT, .min = 1, .max = FIELD_INT_MAX),
        FIELD_END,
};

const struct field list_faults_fields[] = {
        FIELD(struct list_faults_arguments, client, FIELD_STRING),
        FIELD_END,
};

const struct field fault_fields[] = {
        FIELD(struct fault_arguments, fault, FIELD_INT, .required = true, .max = FIELD_INT_MAX),
        FIELD_END,
};

/* --- AddFault */

/* What one action needs is nothing for the others. */
static json_t *check_action(const struct add_fault_arguments *arguments)
{
        const struct {
                const char *name;
                bool given;
                enum dmio_fault_action action;
                const char *missing, *extra;
        } parameters[] = {
                { "errno", arguments->errno_name, DMIO_FAULT_ERROR, "is missing: action is error",
                  "is for the action error" },
                { "delay_us", arguments->delay_us != FIELD_ABSENT, DMIO_FAULT_DELAY,
                  "is missing: action is delay", "is for the action delay" },
                { "bytes", arguments->bytes != FIELD_ABSENT, DMIO_FAULT_SHORT,
                  "is missing: action is short", "is for the action short" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(parameters); i++) {
                bool needed = arguments->action == (int)parameters[i].action;

                if (needed != parameters[i].given)
                        return error_invalid_parameter(parameters[i].name,
                                                       needed ? parameters[i].missing
                                                              : parameters[i].extra);
        }
        return NULL;
}

static json_t *check_range(const struct add_fault_arguments *arguments, const struct export *export,
                           struct fault_spec *spec)
{
        bool has_range = arguments->count != FIELD_ABSENT;

        if (has_range != (arguments->sector != FIELD_ABSENT))
                return error_invalid_parameter(has_range ? "sector" : "count",
                                               "is missing: a range has sector and count");
        spec->ops = arguments->operation != FIELD_ABSENT ? 1u << arguments->operation
                                                         : DMIO_FAULT_ALL_OPS;
        if (!has_range)
                return NULL;
        if (spec->ops == DMIO_FAULT_FLUSH)
                return error_invalid_parameter("sector", "is not for a flush, which has no range");
        if (!range_fits((uint64_t)arguments->sector, (uint64_t)arguments->count, export->sectors))
                return error_invalid_parameter("count", "reaches beyond the end of the export");
        spec->ops &= ~DMIO_FAULT_FLUSH;
        spec->sector = (sector_t)arguments->sector;
        spec->count = (sector_t)arguments->count;
        return NULL;
}

static json_t *read_spec(const struct add_fault_arguments *arguments, const struct export *export,
                         struct fault_spec *spec)
{
        char reason[64];
        json_t *error;

        (void)snprintf(reason, sizeof(reason), "the export has legs 0 to %u", export->n_legs - 1);
        if ((uint64_t)arguments->leg >= export->n_legs)
                return error_invalid_parameter("leg", reason);
        /* To the engine no device means any. */
        if (!export->legs[arguments->leg].spec.bdev)
                return error_invalid_parameter("leg", "was not there when the daemon started, and "
                                                      "takes part in nothing");
        error = check_action(arguments);
        if (!error)
                error = check_range(arguments, export, spec);
        if (error)
                return error;

        spec->leg = (unsigned int)arguments->leg;
        spec->action = (enum dmio_fault_action)arguments->action;
        spec->skip = arguments->skip != FIELD_ABSENT ? (uint64_t)arguments->skip : 0;
        spec->times = arguments->times != FIELD_ABSENT ? (uint64_t)arguments->times : 0;
        if (arguments->errno_name) {
                spec->error = errno_number(arguments->errno_name);
                if (spec->error == 0)
                        return error_invalid_parameter("errno", "is not the name of an error, such "
                                                                "as EIO");
                if (spec->times == 0 && (spec->error == EAGAIN || spec->error == EINTR))
                        return error_invalid_parameter("errno", "would be tried again for ever: "
                                                                "times is missing");
        }
        if (arguments->delay_us != FIELD_ABSENT)
                spec->delay_usec = (uint64_t)arguments->delay_us;
        if (arguments->bytes != FIELD_ABSENT)
                spec->bytes = (uint64_t)arguments->bytes;
        return NULL;
}

void method_add_fault(struct call *call)
{
        const struct add_fault_arguments *arguments = call->arguments;
        const struct error_subject subject = { .client = arguments->client,
                                               .export = arguments->export };
        struct model_refusal refusal = {};
        struct fault_spec spec = {};
        struct export *export = NULL;
        struct client *client;
        struct fault *fault;
        json_t *error;
        int r;

        error = call_find_client(call, arguments->client, &client);
        if (!error) {
                export = client_find_export(client, arguments->export);
                if (!export)
                        error = error_no_such_export(arguments->client, arguments->export);
        }
        if (!error && !call->model->config->drills)
                error = error_permission_denied("drills are off; 'drills = yes' in the daemon's "
                                                "configuration allows faults on purpose");
        if (!error)
                error = read_spec(arguments, export, &spec);
        if (!error) {
                r = fault_new(export, &spec, &fault, &refusal);
                if (r != MODEL_OK)
                        error = error_from_outcome(r, &refusal, &subject);
        }
        if (error)
                call_answer(call, error);
        else
                call_reply(call, json_pack("{s:I}", "fault", (json_int_t)fault->number));
}

/* --- ListFaults */

static int set_integer(json_t *object, const char *key, uint64_t value)
{
        return json_object_set_new(object, key, json_integer((json_int_t)value));
}

/* What its action and its range are about. */
static int describe_spec(json_t *object, const struct fault_spec *spec)
{
        int r = 0;

        for (unsigned int i = 0; operation_names[i]; i++)
                if (spec->ops == 1u << i)
                        r |= json_object_set_new(object, "operation",
                                                 json_string(operation_names[i]));
        if (spec->count > 0) {
                r |= set_integer(object, "sector", spec->sector);
                r |= set_integer(object, "count", spec->count);
        }
        if (spec->skip > 0)
                r |= set_integer(object, "skip", spec->skip);
        if (spec->times > 0)
                r |= set_integer(object, "times", spec->times);
        if (spec->action == DMIO_FAULT_ERROR)
                r |= json_object_set_new(object, "errno", json_string(errno_name(spec->error)));
        if (spec->action == DMIO_FAULT_DELAY)
                r |= set_integer(object, "delay_us", spec->delay_usec);
        if (spec->action == DMIO_FAULT_SHORT)
                r |= set_integer(object, "bytes", spec->bytes);
        return r;
}

static json_t *describe_fault(const struct fault *fault)
{
        struct dmio_fault_stats stats;
        json_t *object;

        dmio_fault_stats(fault->rule, &stats);
        object = json_pack("{s:I, s:s, s:s, s:i, s:s, s:I, s:I, s:I}", "fault",
                           (json_int_t)fault->number, "client", fault->export->client->name,
                           "export", fault->export->name, "leg", (int)fault->spec.leg, "action",
                           action_names[fault->spec.action], "matches", (json_int_t)stats.matches,
                           "hits", (json_int_t)stats.hits, "held", (json_int_t)stats.held);
        if (object && describe_spec(object, &fault->spec) != 0) {
                json_decref(object);
                return NULL;
        }
        return object;
}

static int append_faults(json_t *array, const struct client *client)
{
        const struct export *export;
        const struct fault *fault;

        list_for_each (export, &client->exports, link)
                list_for_each (fault, &export->faults, link)
                        if (json_array_append_new(array, describe_fault(fault)) < 0)
                                return -ENOMEM;
        return 0;
}

void method_list_faults(struct call *call)
{
        const struct list_faults_arguments *arguments = call->arguments;
        struct client *client, *only = NULL;
        json_t *faults, *error = NULL;
        int r = 0;

        if (arguments->client)
                error = call_find_client(call, arguments->client, &only);
        if (error) {
                call_answer(call, error);
                return;
        }
        faults = json_array();
        list_for_each (client, &call->model->clients, link)
                if (r == 0 && (!only || client == only) && client_is_visible(client, call->peer))
                        r = append_faults(faults, client);
        if (r < 0) {
                json_decref(faults);
                call_answer(call, ERROR_NO_MEMORY);
                return;
        }
        call_reply(call, json_pack("{s:o}", "faults", faults));
}

/* --- ReleaseFault, RemoveFault */

static struct fault *find_fault(struct call *call)
{
        const struct fault_arguments *arguments = call->arguments;
        struct fault *fault;

        fault = fault_find(call->model, (uint64_t)arguments->fault, call->peer);
        if (!fault)
                call_answer(call, error_no_such_fault((uint64_t)arguments->fault));
        return fault;
}

void method_release_fault(struct call *call)
{
        struct fault *fault = find_fault(call);

        if (fault)
                call_reply(call, json_pack("{s:I}", "released",
                                           (json_int_t)dmio_fault_release(fault->rule)));
}

void method_remove_fault(struct call *call)
{
        struct fault *fault = find_fault(call);

        if (!fault)
                return;
        fault_free(fault);
        call_reply(call, json_object());
}
