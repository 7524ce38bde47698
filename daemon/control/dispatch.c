/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdlib.h>
#include <string.h>

#include "control/call.h"
#include "control/dispatch.h"
#include "control/errors.h"
#include "control/methods.h"
#include "model/quota.h"
#include "util/macros.h"

static const struct method methods[] = {
        { "org.varlink.service.GetInfo", NULL, 0, method_get_info },
        { "org.varlink.service.GetInterfaceDescription", describe_interface_fields,
          sizeof(struct describe_interface_arguments), method_get_interface_description },

        { "io.dmiod.Status", NULL, 0, method_status },
        { "io.dmiod.OpenClient", open_client_fields, sizeof(struct open_client_arguments),
          method_open_client },
        { "io.dmiod.CloseClient", close_client_fields, sizeof(struct close_client_arguments),
          method_close_client },
        { "io.dmiod.ListClients", NULL, 0, method_list_clients },
        { "io.dmiod.Get", pages_fields, sizeof(struct pages_arguments), method_get },
        { "io.dmiod.Put", pages_fields, sizeof(struct pages_arguments), method_put },
        { "io.dmiod.CreateExport", create_export_fields, sizeof(struct create_export_arguments),
          method_create_export },
        { "io.dmiod.RemoveExport", remove_export_fields, sizeof(struct remove_export_arguments),
          method_remove_export },
        { "io.dmiod.ListExports", list_exports_fields, sizeof(struct list_exports_arguments),
          method_list_exports },
        { "io.dmiod.Statistics", statistics_fields, sizeof(struct statistics_arguments),
          method_statistics },
        { "io.dmiod.Io", io_fields, sizeof(struct io_arguments), method_io },

        { "io.dmiod.SubmitIo", io_fields, sizeof(struct io_arguments), method_submit_io },
        { "io.dmiod.WaitIo", wait_io_fields, sizeof(struct wait_io_arguments), method_wait_io },
        { "io.dmiod.Copy", copy_fields, sizeof(struct copy_arguments), method_copy },
        { "io.dmiod.Zero", zero_fields, sizeof(struct copy_arguments), method_zero },
        { "io.dmiod.ListJobs", NULL, 0, method_list_jobs },
        { "io.dmiod.CancelJob", cancel_job_fields, sizeof(struct cancel_job_arguments),
          method_cancel_job },
        { "io.dmiod.AddFault", add_fault_fields, sizeof(struct add_fault_arguments),
          method_add_fault },
        { "io.dmiod.ListFaults", list_faults_fields, sizeof(struct list_faults_arguments),
          method_list_faults },
        { "io.dmiod.ReleaseFault", fault_fields, sizeof(struct fault_arguments),
          method_release_fault },
        { "io.dmiod.RemoveFault", fault_fields, sizeof(struct fault_arguments),
          method_remove_fault },
        { "io.dmiod.Monitor", NULL, 0, method_monitor },
};

const struct method *dispatch_find(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
                if (strcmp(methods[i].name, name) == 0)
                        return &methods[i];
        return NULL;
}

/* Why there is no method of that name. */
static json_t *not_found(const char *name)
{
        const char *dot = strrchr(name, '.');
        char *interface;
        json_t *error;

        if (!dot || dot == name || dot[1] == '\0')
                return error_invalid_parameter("method", "must be INTERFACE.METHOD");

        interface = strndup(name, (size_t)(dot - name));
        if (!interface)
                return ERROR_NO_MEMORY;
        error = error_interface_not_found(interface);
        for (size_t i = 0; service_interfaces[i]; i++) {
                if (strcmp(service_interfaces[i], interface) == 0) {
                        json_decref(error);
                        error = error_method_not_found(name);
                        break;
                }
        }
        free(interface);
        return error;
}

/* What is large counts for as long as the call lasts. Returns NULL or an error. */
static json_t *charge_arguments(struct call *call, const struct method *method)
{
        size_t n = fields_footprint(method->fields, call->arguments);
        uint64_t limit = 0;
        int r;

        if (n <= BUFFERS_FREE)
                return NULL;
        r = quota_set(call->model, call->peer->uid, QUOTA_BUFFERS, &call->n_bytes, n, &limit);
        if (r < 0)
                return ERROR_NO_MEMORY;
        return r > 0 ? error_limit_reached(quota_name(QUOTA_BUFFERS), limit) : NULL;
}

void dispatch(struct call *call, const char *name, const json_t *parameters)
{
        const struct method *method = dispatch_find(name);
        json_t *error;

        if (!method) {
                call_answer(call, not_found(name));
                return;
        }
        if (!method->run) {
                call_answer(call, error_method_not_implemented(name));
                return;
        }

        call->arguments = calloc(1, method->size > 0 ? method->size : 1);
        if (!call->arguments) {
                call_answer(call, ERROR_NO_MEMORY);
                return;
        }
        error = fields_read(method->fields, parameters, call->arguments, method->size);
        if (error) {
                call_answer(call, error);
                return;
        }
        call->method = method;
        error = charge_arguments(call, method);
        if (error)
                call_answer(call, error);
        else
                method->run(call);
}
