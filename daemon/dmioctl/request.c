/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/errors.h"
#include "dmioctl/interrupt.h"
#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/cleanup.h"

#define DEFAULT_CONTROL "/run/dmiod/control"

void request_init(struct request *request, const struct invocation *invocation)
{
        *request = (struct request){ .invocation = invocation };
}

void request_deinit(struct request *request)
{
        json_decref(request->reply);
        control_free(request->control);
        devices_deinit(&request->devices);
        for (unsigned int i = 0; i < request->n_legs; i++)
                leg_deinit(&request->legs[i]);
        *request = (struct request){};
}

int request_parse_legs(struct request *request, unsigned int first)
{
        const struct invocation *invocation = request->invocation;
        const char *part;
        int r;

        if (invocation->n_args - first > DM_IO_MAX_REGIONS)
                return complain_usage(invocation->verb, "%u legs are too many, at most %d",
                                      invocation->n_args - first, DM_IO_MAX_REGIONS);

        for (unsigned int i = first; i < invocation->n_args; i++) {
                r = leg_parse(invocation->args[i], &request->legs[request->n_legs], &part);
                if (r < 0)
                        return complain_memory();
                if (r != LEG_OK)
                        return complain_usage(invocation->verb,
                                              "the leg '%s' is not DEVICE:SECTOR+COUNT: %s %s",
                                              invocation->args[i], part, leg_outcome_text(r));
                request->n_legs++;
        }
        return STATUS_OK;
}

static int complain_connect(const struct invocation *invocation, const char *path, int error)
{
        const char *start =
                invocation->given[OPTION_USER] ? "dmiod --user" : "systemctl start dmiod";

        switch (error) {
        case -ENOENT:
        case -ECONNREFUSED:
                complain("no daemon at '%s' (%s); start it with '%s', or name its socket with "
                         "--control=SOCKET",
                         path, strerror(-error), start);
                break;
        case -EACCES:
        case -EPERM:
                complain("you may not use the socket '%s' (%s); ask for it, or be root", path,
                         strerror(-error));
                break;
        default:
                complain("cannot connect to '%s': %s; is it the daemon's socket? 'dmioctl doctor' "
                         "may tell more",
                         path, strerror(-error));
        }
        return STATUS_NO_DAEMON;
}

int control_path(const struct invocation *invocation, char **ret)
{
        const char *folder = getenv("XDG_RUNTIME_DIR");
        int r;

        if (invocation->given[OPTION_CONTROL]) {
                r = asprintf(ret, "%s", invocation->values[OPTION_CONTROL]);
        } else if (!invocation->given[OPTION_USER]) {
                r = asprintf(ret, "%s", DEFAULT_CONTROL);
        } else if (folder && *folder) {
                r = asprintf(ret, "%s/dmiod/control", folder);
        } else {
                *ret = NULL;
                return -ENXIO;
        }
        if (r >= 0)
                return 0;
        *ret = NULL;
        return -ENOMEM;
}

int request_path(const struct request *request, char **ret)
{
        int r = control_path(request->invocation, ret);

        if (r == -ENOMEM)
                return complain_memory();
        if (r < 0) {
                complain("--user needs XDG_RUNTIME_DIR in the environment; set it, or name the "
                         "socket with --control=SOCKET");
                return STATUS_NO_DAEMON;
        }
        return STATUS_OK;
}

int request_connect(struct request *request)
{
        DMIO_CLEANUP(freep) char *path = NULL;
        int r;

        r = request_path(request, &path);
        if (r != STATUS_OK)
                return r;
        r = control_connect(path, &request->control);
        return r < 0 ? complain_connect(request->invocation, path, r) : STATUS_OK;
}

int request_regions(struct request *request, unsigned int first, unsigned int n, bool read_only,
                    json_t **ret)
{
        json_t *regions = json_array();
        int r;

        for (unsigned int i = first; i < first + n; i++) {
                const struct leg *leg = &request->legs[i];
                char buffer[DEVICES_NAME_MAX];
                const char *name;

                r = devices_resolve(&request->devices, leg->device, read_only, buffer, &name);
                if (r != STATUS_OK) {
                        json_decref(regions);
                        return r;
                }
                if (json_array_append_new(regions, json_pack("{s:s, s:I, s:I}", "device", name,
                                                             "sector", (json_int_t)leg->sector,
                                                             "count", (json_int_t)leg->count)) <
                    0) {
                        json_decref(regions);
                        return complain_usage(request->invocation->verb,
                                              "the device of leg '%s' is not UTF-8", leg->text);
                }
        }
        *ret = regions;
        return STATUS_OK;
}

static int handle_error(struct request *request, const json_t *reply, const json_t *error)
{
        const json_t *parameters = json_object_get(reply, "parameters");
        DMIO_CLEANUP(freep) char *text = NULL;

        if (request->invocation->given[OPTION_JSON])
                show_json(reply);
        text = error_text(json_string_value(error), parameters, request->legs, request->n_legs,
                          request->first_leg, &request->devices);
        if (!text)
                return complain_memory();
        complain("%s", text);
        return STATUS_REFUSED;
}

static int complain_control(int error)
{
        if (error == -EBADMSG)
                complain("what came back is not a reply of dmiod; is the socket the right one?");
        else if (error == -ECONNRESET || error == -EPIPE)
                complain("the daemon ended the connection before it answered; 'systemctl status "
                         "dmiod' and its journal tell more");
        else
                complain("cannot speak with the daemon: %s; 'dmioctl doctor' may tell more",
                         strerror(-error));
        return STATUS_NO_DAEMON;
}

int request_send(struct request *request, const char *method, json_t *parameters, bool more)
{
        int r;

        if (!parameters)
                return complain_usage(request->invocation->verb,
                                      "an argument cannot be sent because it is not UTF-8");

        if (!request->control) {
                r = request_connect(request);
                if (r != STATUS_OK) {
                        json_decref(parameters);
                        return r;
                }
        }
        interrupt_say(INTERRUPT_NO_ANSWER);
        r = control_send(request->control, method, parameters, more, request->devices.fds,
                         request->devices.n);
        json_decref(parameters);
        return r < 0 ? complain_control(r) : STATUS_OK;
}

int request_receive(struct request *request, const json_t **ret, bool *ret_more)
{
        json_t *error, *result;
        int r;

        json_decref(request->reply);
        request->reply = NULL;
        r = control_receive(request->control, &request->reply);
        if (r < 0)
                return complain_control(r);

        error = json_object_get(request->reply, "error");
        if (json_is_string(error))
                return handle_error(request, request->reply, error);

        result = json_object_get(request->reply, "parameters");
        if (!result) {
                result = json_object();
                if (json_object_set_new(request->reply, "parameters", result) < 0)
                        return complain_memory();
        }
        if (request->invocation->given[OPTION_JSON])
                show_json(result);
        *ret_more = json_is_true(json_object_get(request->reply, "continues"));
        if (!*ret_more)
                interrupt_say(INTERRUPT_ANSWERED);
        *ret = result;
        return STATUS_OK;
}

int request_call(struct request *request, const char *method, json_t *parameters,
                 const json_t **ret)
{
        bool more;
        int r;

        r = request_send(request, method, parameters, false);
        return r == STATUS_OK ? request_receive(request, ret, &more) : r;
}

int parse_pages(const struct invocation *invocation, const char *what, const char *text,
                uint64_t *ret)
{
        int r = size_parse(text, DMIO_PAGE_SIZE, ret);

        if (r == LEG_E_MULTIPLE)
                return complain_usage(invocation->verb, "%s '%s' is not a multiple of 4KiB", what,
                                      text);
        if (r != LEG_OK)
                return complain_usage(invocation->verb, "%s '%s' %s", what, text,
                                      leg_outcome_text(r));
        return STATUS_OK;
}

int parse_export_name(const struct invocation *invocation, const char *text, char **ret_client,
                      const char **ret_name)
{
        const char *slash = strchr(text, '/');

        if (!slash || slash == text || !slash[1] || strchr(slash + 1, '/'))
                return complain_usage(invocation->verb, "'%s' is not CLIENT/NAME", text);
        *ret_client = strndup(text, (size_t)(slash - text));
        if (!*ret_client)
                return complain_memory();
        *ret_name = slash + 1;
        return STATUS_OK;
}

json_t *client_parameters(const struct invocation *invocation)
{
        return json_pack("{s:s*}", "client", invocation->n_args > 0 ? invocation->args[0] : NULL);
}
