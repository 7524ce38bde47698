/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdarg.h>
#include <stdio.h>

#include "control/errors.h"
#include "log.h"
#include "model/describe.h"

enum parameter_type {
        TEXT = 1,
        NUMBER,
};

struct parameter {
        const char *name;
        enum parameter_type type;
};

static const struct {
        const char *name;
        struct parameter parameters[4];
} errors[_ERROR_MAX] = {
        [ERROR_INTERFACE_NOT_FOUND] = { "org.varlink.service.InterfaceNotFound",
                                        { { "interface", TEXT } } },
        [ERROR_METHOD_NOT_FOUND] = { "org.varlink.service.MethodNotFound", { { "method", TEXT } } },
        [ERROR_METHOD_NOT_IMPLEMENTED] = { "org.varlink.service.MethodNotImplemented",
                                           { { "method", TEXT } } },
        [ERROR_INVALID_PARAMETER] = { "org.varlink.service.InvalidParameter",
                                      { { "parameter", TEXT }, { "reason", TEXT } } },
        [ERROR_EXPECTED_MORE] = { "org.varlink.service.ExpectedMore", {} },
        [ERROR_NO_SUCH_CLIENT] = { "io.dmiod.NoSuchClient", { { "name", TEXT } } },
        [ERROR_CLIENT_EXISTS] = { "io.dmiod.ClientExists", { { "name", TEXT } } },
        [ERROR_NO_SUCH_EXPORT] = { "io.dmiod.NoSuchExport",
                                   { { "client", TEXT }, { "name", TEXT } } },
        [ERROR_EXPORT_EXISTS] = { "io.dmiod.ExportExists",
                                  { { "client", TEXT }, { "name", TEXT } } },
        [ERROR_EXPORT_BUSY] = { "io.dmiod.ExportBusy",
                                { { "client", TEXT },
                                  { "name", TEXT },
                                  { "open_count", NUMBER } } },
        [ERROR_NO_SUCH_DEVICE] = { "io.dmiod.NoSuchDevice", { { "device", TEXT } } },
        [ERROR_DEVICE_ERROR] = { "io.dmiod.DeviceError",
                                 { { "device", TEXT }, { "errno", TEXT } } },
        [ERROR_INVALID_REGION] = { "io.dmiod.InvalidRegion",
                                   { { "region", NUMBER }, { "reason", TEXT } } },
        [ERROR_INVALID_MEMORY] = { "io.dmiod.InvalidMemory", { { "reason", TEXT } } },
        [ERROR_REGION_BUSY] = { "io.dmiod.RegionBusy",
                                { { "region", NUMBER }, { "client", TEXT }, { "name", TEXT } } },
        [ERROR_NOT_RESERVED] = { "io.dmiod.NotReserved",
                                 { { "client", TEXT }, { "pages", NUMBER } } },
        [ERROR_POOL_EXHAUSTED] = { "io.dmiod.PoolExhausted",
                                   { { "requested", NUMBER }, { "available", NUMBER } } },
        [ERROR_LIMIT_REACHED] = { "io.dmiod.LimitReached",
                                  { { "limit", TEXT }, { "value", NUMBER } } },
        [ERROR_NO_SUCH_JOB] = { "io.dmiod.NoSuchJob", { { "job", NUMBER } } },
        [ERROR_NO_SUCH_REQUEST] = { "io.dmiod.NoSuchRequest", { { "id", NUMBER } } },
        [ERROR_PERMISSION_DENIED] = { "io.dmiod.PermissionDenied", { { "reason", TEXT } } },
        [ERROR_STATE] = { "io.dmiod.StateError", { { "reason", TEXT } } },
};

json_t *error_new(enum error_id id, const char *text, const char *text2, uint64_t number,
                  uint64_t number2)
{
        const char *texts[] = { text, text2 };
        const uint64_t numbers[] = { number, number2 };
        unsigned int n_texts = 0, n_numbers = 0;
        json_t *parameters, *error;

        parameters = json_object();
        for (const struct parameter *p = errors[id].parameters; p->name; p++) {
                json_t *value;

                if (p->type == NUMBER) {
                        value = json_integer((json_int_t)numbers[n_numbers++]);
                } else {
                        const char *t = texts[n_texts++];

                        /* Names out of a file system need not be UTF-8. */
                        value = json_string(t ? t : "");
                        if (!value)
                                value = json_string("(not valid UTF-8)");
                }
                if (json_object_set_new(parameters, p->name, value) < 0) {
                        json_decref(parameters);
                        return ERROR_NO_MEMORY;
                }
        }

        error = json_pack("{s:s, s:o}", "error", errors[id].name, "parameters", parameters);
        return error ? error : ERROR_NO_MEMORY;
}

json_t *error_device(const char *device, int error)
{
        return error_new(ERROR_DEVICE_ERROR, device, errno_name(error < 0 ? -error : error), 0, 0);
}

json_t *error_invalid_memory(const char *format, ...)
{
        char reason[256];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(reason, sizeof(reason), format, arguments);
        va_end(arguments);
        return error_new(ERROR_INVALID_MEMORY, reason, NULL, 0, 0);
}

json_t *error_state(int error)
{
        char reason[128];

        (void)snprintf(reason, sizeof(reason), "what lasts cannot be written: %s",
                       errno_name(-error));
        return error_new(ERROR_STATE, reason, NULL, 0, 0);
}

json_t *error_cannot_linger(void)
{
        return error_new(ERROR_STATE, "nothing can linger: the daemon has no state folder", NULL, 0,
                         0);
}

json_t *error_internal(int error)
{
        if (error != -ENOMEM)
                log_warning_errno(error, "A call failed: %m");
        return ERROR_NO_MEMORY;
}

json_t *error_from_outcome(int outcome, const struct model_refusal *refusal,
                           const struct error_subject *subject)
{
        switch (outcome) {
        case MODEL_E_NAME:
                return error_invalid_parameter("name",
                                               "a name is 1 to 64 of A-Z a-z 0-9 . _ - and does "
                                               "not begin with a dot");
        case MODEL_E_EXISTS:
                if (subject->export)
                        return error_new(ERROR_EXPORT_EXISTS, subject->client, subject->export, 0,
                                         0);
                return error_new(ERROR_CLIENT_EXISTS, subject->client, NULL, 0, 0);
        case MODEL_E_LIMIT:
                return error_limit_reached(refusal->limit, refusal->value);
        case MODEL_E_POOL:
                return error_new(ERROR_POOL_EXHAUSTED, NULL, NULL, refusal->requested,
                                 refusal->available);
        case MODEL_E_NOT_RESERVED:
                return error_new(ERROR_NOT_RESERVED, subject->client, NULL, subject->pages, 0);
        case MODEL_E_BUSY:
                if (refusal->n_open > 0)
                        return error_new(ERROR_EXPORT_BUSY, subject->client, subject->export,
                                         refusal->n_open, 0);
                return error_region_busy(refusal->region, refusal->client, refusal->export);
        case MODEL_E_REGION:
                return error_invalid_region(refusal->region, refusal->reason);
        case MODEL_E_CLOSING:
                return error_no_such_client(subject->client);
        default:
                return error_internal(outcome);
        }
}
