/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the daemon says about itself: org.varlink.service, and Status. */

#include <string.h>

#include "control/call.h"
#include "control/errors.h"
#include "control/methods.h"
#include "model/describe.h"
#include "util/macros.h"

static const char dmiod_text[] =
#include "io.dmiod.varlink.h"
        ;

static const char service_text[] =
        "# What every Varlink service can be asked.\n"
        "interface org.varlink.service\n"
        "\n"
        "# Who serves this socket, and which interfaces it has. Example:\n"
        "#   {\"method\":\"org.varlink.service.GetInfo\"}\n"
        "method GetInfo() -> (\n"
        "  vendor: string,\n"
        "  product: string,\n"
        "  version: string,\n"
        "  url: string,\n"
        "  interfaces: []string\n"
        ")\n"
        "\n"
        "# The text of an interface. Example:\n"
        "#   {\"method\":\"org.varlink.service.GetInterfaceDescription\",\n"
        "#    \"parameters\":{\"interface\":\"io.dmiod\"}}\n"
        "method GetInterfaceDescription(interface: string) -> (description: string)\n"
        "\n"
        "# There is no such interface.\n"
        "error InterfaceNotFound (interface: string)\n"
        "\n"
        "# The interface has no such method.\n"
        "error MethodNotFound (method: string)\n"
        "\n"
        "# The interface has the method, this version of the service does not.\n"
        "error MethodNotImplemented (method: string)\n"
        "\n"
        "# A parameter is missing, unknown, or not as it must be.\n"
        "error InvalidParameter (parameter: string)\n"
        "\n"
        "# The method answers more than once, and was not called with more.\n"
        "error ExpectedMore ()\n";

const char *const service_interfaces[] = { "org.varlink.service", "io.dmiod", NULL };

static const char *const service_texts[] = { service_text, dmiod_text };

const struct field describe_interface_fields[] = {
        FIELD(struct describe_interface_arguments, interface, FIELD_STRING, .required = true),
        FIELD_END,
};

void method_get_info(struct call *call)
{
        json_t *interfaces = json_array();

        for (size_t i = 0; service_interfaces[i]; i++)
                (void)json_array_append_new(interfaces, json_string(service_interfaces[i]));
        call_reply(call, json_pack("{s:s, s:s, s:s, s:s, s:o}", "vendor", "dmio", "product",
                                   "dmiod", "version", DMIO_VERSION, "url", "man:dmiod(8)",
                                   "interfaces", interfaces));
}

void method_get_interface_description(struct call *call)
{
        const struct describe_interface_arguments *arguments = call->arguments;

        for (size_t i = 0; i < ARRAY_SIZE(service_texts); i++) {
                if (strcmp(service_interfaces[i], arguments->interface) == 0) {
                        call_reply(call, json_pack("{s:s}", "description", service_texts[i]));
                        return;
                }
        }
        call_answer(call, error_interface_not_found(arguments->interface));
}

void method_status(struct call *call)
{
        call_reply(call, describe_daemon(call->model, call->peer));
}
