/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/errors.h"
#include "util/cleanup.h"
#include "util/macros.h"

/*
 * A name in braces stands for the parameter of that name. {region} becomes "region 1 (b.img:0+8)",
 * {device} what the user wrote, {errno} "EIO (Input/output error)". {?reason} becomes ": " and the
 * reason, or nothing if there is none.
 */
#define REGION_BUSY "io.dmiod.RegionBusy"
#define REGION_BUSY_BY_CALL REGION_BUSY "()" /* it names no export */

static const struct {
        const char *name;
        const char *text;
} errors[] = {
        { "io.dmiod.NoSuchClient", "there is no client '{name}'; see 'dmioctl client list'" },
        { "io.dmiod.ClientExists", "there is a client '{name}' already; choose another name, or "
                                   "end it with 'dmioctl client close {name}'" },
        { "io.dmiod.NoSuchExport",
          "there is no export '{client}/{name}'; see 'dmioctl export list'" },
        { "io.dmiod.ExportExists",
          "there is an export '{client}/{name}' already; choose another name, or remove it with "
          "'dmioctl export remove {client}/{name}'" },
        { "io.dmiod.ExportBusy", "'{client}/{name}' is in use ({open_count} open); close it first, "
                                 "or take it away with --force" },
        { "io.dmiod.NoSuchDevice",
          "there is no device '{device}' that you may use by name; write a path with a slash in it "
          "(./{device}) for a file, or see the daemon's configuration" },
        { "io.dmiod.DeviceError", "the device '{device}' cannot be used: {errno}" },
        { "io.dmiod.InvalidRegion", "{region} cannot be used: {reason}" },
        { "io.dmiod.InvalidMemory", "the data do not fit the request: {reason}" },
        { REGION_BUSY, "{region} belongs to the export '{client}/{name}'; use other "
                       "sectors, or make that export with --shared" },
        { REGION_BUSY_BY_CALL,
          "a call or job of '{client}' is busy with {region}; wait for its end, "
          "see 'dmioctl job list'" },
        { "io.dmiod.NotReserved", "'{client}' has not got {pages} pages that it could put back; "
                                  "see 'dmioctl client list'" },
        { "io.dmiod.PoolExhausted", "{requested} pages do not fit into the pool, {available} are "
                                    "left; ask for fewer, or see 'dmioctl client list'" },
        { "io.dmiod.LimitReached", "the limit of {limit} is reached ({value}); give something "
                                   "back, or have the limit raised in the daemon's configuration" },
        { "io.dmiod.NoSuchJob", "there is no job {job}; see 'dmioctl job list'" },
        { "io.dmiod.NoSuchRequest",
          "there is no submitted request {id} whose result is not fetched" },
        { "io.dmiod.PermissionDenied", "permission denied: {reason}" },
        { "io.dmiod.StateError", "{reason}; nothing has changed" },
        { "org.varlink.service.InterfaceNotFound",
          "the daemon does not know the interface '{interface}'; is it a dmiod?" },
        { "org.varlink.service.MethodNotFound",
          "this daemon does not know the method '{method}'; 'dmioctl status' shows its version" },
        { "org.varlink.service.MethodNotImplemented",
          "this daemon does not offer the method '{method}'; 'dmioctl status' shows its version" },
        { "org.varlink.service.InvalidParameter",
          "the daemon refuses the value of '{parameter}'{?reason}" },
        { "org.varlink.service.PermissionDenied",
          "permission denied: this is not for your user id" },
        { "org.varlink.service.ExpectedMore",
          "the daemon wants to send several replies, which dmioctl did not ask for" },
};

static void put_json(FILE *stream, const json_t *value)
{
        if (json_is_string(value))
                fputs(json_string_value(value), stream);
        else if (!value || json_dumpf(value, stream, JSON_COMPACT | JSON_ENCODE_ANY) < 0)
                fputc('?', stream);
}

static void put_region(FILE *stream, const json_t *value, const struct leg *legs,
                       unsigned int n_legs, unsigned int first_leg)
{
        json_int_t region = json_integer_value(value), leg = region + (json_int_t)first_leg;

        if (region == -1 && first_leg > 0) {
                fputs("the source", stream);
        } else {
                fputs(first_leg > 0 ? "destination " : "region ", stream);
                put_json(stream, value);
        }
        if (json_is_integer(value) && leg >= 0 && leg < (json_int_t)n_legs)
                fprintf(stream, " (%s)", legs[leg].text);
}

static void put_device(FILE *stream, const json_t *value, const struct devices *devices)
{
        if (json_is_string(value))
                fputs(devices_original(devices, json_string_value(value)), stream);
        else
                put_json(stream, value);
}

static void put_optional(FILE *stream, const json_t *value)
{
        if (!value)
                return;
        fputs(": ", stream);
        put_json(stream, value);
}

static void put_errno(FILE *stream, const json_t *value)
{
        const char *name = json_string_value(value);

        put_json(stream, value);
        for (int error = 1; name && error < 134; error++)
                if (strerrorname_np(error) && strcmp(strerrorname_np(error), name) == 0)
                        fprintf(stream, " (%s)", strerrordesc_np(error));
}

static bool is_empty(const json_t *parameters, const char *key)
{
        const char *text = json_string_value(json_object_get(parameters, key));

        return text && !*text;
}

char *error_text(const char *name, const json_t *parameters, const struct leg *legs,
                 unsigned int n_legs, unsigned int first_leg, const struct devices *devices)
{
        const char *template = NULL;
        DMIO_CLEANUP(freep) char *text = NULL;
        size_t length;
        FILE *stream;

        if (strcmp(name, REGION_BUSY) == 0 && is_empty(parameters, "name"))
                name = REGION_BUSY_BY_CALL;
        for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
                if (strcmp(errors[i].name, name) == 0)
                        template = errors[i].text;

        stream = open_memstream(&text, &length);
        if (!stream)
                return NULL;

        if (!template) {
                fprintf(stream, "the daemon says %s ", name);
                put_json(stream, parameters);
        }
        while (template && *template) {
                size_t n = strcspn(template, "{"), key_length;
                char key[32];

                fwrite(template, 1, n, stream);
                template += n;
                if (!*template)
                        break;
                key_length = strcspn(template, "}") - 1;
                snprintf(key, sizeof(key), "%.*s", (int)key_length, template + 1);
                template += key_length + 2;

                if (strcmp(key, "region") == 0)
                        put_region(stream, json_object_get(parameters, key), legs, n_legs,
                                   first_leg);
                else if (strcmp(key, "device") == 0)
                        put_device(stream, json_object_get(parameters, key), devices);
                else if (strcmp(key, "errno") == 0)
                        put_errno(stream, json_object_get(parameters, key));
                else if (key[0] != '?')
                        put_json(stream, json_object_get(parameters, key));
                else
                        put_optional(stream, json_object_get(parameters, key + 1));
        }

        if (fclose(stream) != 0)
                return NULL;
        return DMIO_TAKE(text);
}
