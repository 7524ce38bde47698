/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* fault add, list, release and remove. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/macros.h"

/* What the daemon wants to be told with an action, and nothing else with it. */
static const struct {
        const char *name;
        enum option needs; /* _OPTION_MAX: nothing */
} actions[] = {
        { "error", OPTION_ERRNO },
        { "delay", OPTION_DELAY },
        { "short", OPTION_BYTES },
        { "hold", _OPTION_MAX },
};

static int check_action(const struct invocation *invocation, const char *action)
{
        static const char *const names[_OPTION_MAX] = {
                [OPTION_ERRNO] = "errno",
                [OPTION_DELAY] = "delay",
                [OPTION_BYTES] = "bytes",
        };
        size_t i;

        for (i = 0; i < ARRAY_SIZE(actions); i++)
                if (strcmp(actions[i].name, action) == 0)
                        break;
        if (i == ARRAY_SIZE(actions))
                return complain_usage(invocation->verb,
                                      "'%s' is none of error, delay, short and hold", action);
        for (unsigned int k = 0; k < _OPTION_MAX; k++) {
                if (!names[k])
                        continue;
                if (k == actions[i].needs && !invocation->given[k])
                        return complain_usage(invocation->verb, "'%s' needs --%s", action,
                                              names[k]);
                if (k != actions[i].needs && invocation->given[k])
                        return complain_usage(invocation->verb, "--%s does not go with '%s'",
                                              names[k], action);
        }
        return STATUS_OK;
}

/* An option that is a number, into @parameters if it is given. */
static int put_number(const struct invocation *invocation, enum option option, const char *key,
                      int (*parse)(const char *text, uint64_t *ret), json_t *parameters)
{
        uint64_t value;
        int r;

        if (!invocation->given[option])
                return STATUS_OK;
        r = parse(invocation->values[option], &value);
        if (r != LEG_OK)
                return complain_usage(invocation->verb, "'%s' %s", invocation->values[option],
                                      leg_outcome_text(r));
        if (json_object_set_new(parameters, key, json_integer((json_int_t)value)) < 0) {
                complain("out of memory");
                return STATUS_REFUSED;
        }
        return STATUS_OK;
}

static int parse_bytes(const char *text, uint64_t *ret)
{
        return size_parse(text, 1, ret);
}

/* SECTOR+COUNT */
static int put_range(const struct invocation *invocation, json_t *parameters)
{
        const char *text = invocation->values[OPTION_RANGE];
        DMIO_CLEANUP(freep) char *first = NULL;
        uint64_t sector, count;
        const char *plus;
        int r;

        if (!invocation->given[OPTION_RANGE])
                return STATUS_OK;
        plus = strchr(text, '+');
        if (!plus)
                return complain_usage(invocation->verb, "the range '%s' is not SECTOR+COUNT", text);
        first = strndup(text, (size_t)(plus - text));
        if (!first) {
                complain("out of memory");
                return STATUS_REFUSED;
        }
        r = size_parse(first, DMIO_SECTOR_SIZE, &sector);
        if (r == LEG_OK)
                r = size_parse(plus + 1, DMIO_SECTOR_SIZE, &count);
        if (r != LEG_OK)
                return complain_usage(invocation->verb,
                                      "the range '%s' is not SECTOR+COUNT: a number %s", text,
                                      leg_outcome_text(r));
        if (json_object_set_new(parameters, "sector", json_integer((json_int_t)sector)) < 0 ||
            json_object_set_new(parameters, "count", json_integer((json_int_t)count)) < 0) {
                complain("out of memory");
                return STATUS_REFUSED;
        }
        return STATUS_OK;
}

/* "write-zeroes" is what people write. */
static const char *operation_name(const struct invocation *invocation)
{
        const char *name = invocation->values[OPTION_OP];

        return name && strcmp(name, "write-zeroes") == 0 ? "write_zeroes" : name;
}

/* What goes into the call; *@ret is the caller's, or NULL. */
static int fault_parameters(const struct invocation *invocation, json_t **ret)
{
        DMIO_CLEANUP(freep) char *client = NULL;
        const char *name = NULL;
        uint64_t leg;
        int r;

        r = parse_export_name(invocation, invocation->args[0], &client, &name);
        if (r == STATUS_OK)
                r = check_action(invocation, invocation->args[2]);
        if (r != STATUS_OK)
                return r;
        r = parse_bytes(invocation->args[1], &leg);
        if (r != LEG_OK)
                return complain_usage(invocation->verb, "the leg '%s' %s", invocation->args[1],
                                      leg_outcome_text(r));

        *ret = json_pack("{s:s, s:s, s:I, s:s, s:s*, s:s*}", "client", client, "export", name,
                         "leg", (json_int_t)leg, "action", invocation->args[2], "operation",
                         operation_name(invocation), "errno", invocation->values[OPTION_ERRNO]);
        if (!*ret)
                return STATUS_OK; /* request_call() says what is wrong with the text */
        r = put_range(invocation, *ret);
        if (r == STATUS_OK)
                r = put_number(invocation, OPTION_DELAY, "delay_us", time_parse, *ret);
        if (r == STATUS_OK)
                r = put_number(invocation, OPTION_BYTES, "bytes", parse_bytes, *ret);
        if (r == STATUS_OK)
                r = put_number(invocation, OPTION_SKIP, "skip", parse_bytes, *ret);
        if (r == STATUS_OK)
                r = put_number(invocation, OPTION_TIMES, "times", parse_bytes, *ret);
        return r;
}

int verb_fault_add(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        json_t *parameters = NULL;
        const json_t *result;
        int r;

        request_init(&request, invocation);
        r = fault_parameters(invocation, &parameters);
        if (r != STATUS_OK) {
                json_decref(parameters);
                return r;
        }
        r = request_call(&request, "io.dmiod.AddFault", parameters, &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;

        /* Only the number, so that a script can use it. */
        printf("%" PRIu64 "\n", show_integer(result, "fault"));
        return STATUS_OK;
}

static void put_if_there(FILE *stream, const json_t *fault, const char *key, const char *before)
{
        if (json_object_get(fault, key))
                fprintf(stream, "%s%" PRIu64, before, show_integer(fault, key));
}

/* "EIO, sectors 0+8, skip 1, times 3" */
static char *fault_details(const json_t *fault)
{
        char time[SHOW_SIZE_MAX];
        char *text = NULL;
        size_t length;
        FILE *stream;

        stream = open_memstream(&text, &length);
        if (!stream)
                return NULL;
        fputs(show_string(fault, "errno"), stream);
        if (json_object_get(fault, "delay_us"))
                fputs(show_time(show_integer(fault, "delay_us"), time), stream);
        put_if_there(stream, fault, "bytes", "bytes ");
        if (json_object_get(fault, "count")) {
                put_if_there(stream, fault, "sector",
                             ftell(stream) > 0 ? ", sectors " : "sectors ");
                put_if_there(stream, fault, "count", "+");
        }
        put_if_there(stream, fault, "skip", ftell(stream) > 0 ? ", skip " : "skip ");
        put_if_there(stream, fault, "times", ftell(stream) > 0 ? ", times " : "times ");
        if (fclose(stream) != 0)
                return NULL;
        return text;
}

static json_t *fault_row(const json_t *fault)
{
        const char *operation = show_string(fault, "operation");
        DMIO_CLEANUP(freep) char *details = fault_details(fault);

        if (!details)
                return NULL;
        return json_pack(
                "[o, o, o, s, s, s, o, o, o]",
                json_sprintf("%" PRIu64, show_integer(fault, "fault")),
                json_sprintf("%s/%s", show_string(fault, "client"), show_string(fault, "export")),
                json_sprintf("%" PRIu64, show_integer(fault, "leg")), show_string(fault, "action"),
                *operation ? operation : "all", details,
                json_sprintf("%" PRIu64, show_integer(fault, "matches")),
                json_sprintf("%" PRIu64, show_integer(fault, "hits")),
                json_sprintf("%" PRIu64, show_integer(fault, "held")));
}

int verb_fault_list(const struct invocation *invocation)
{
        static const char *const heads[] = { ">FAULT",  "EXPORT",   ">LEG",  "ACTION", "OPERATION",
                                             "DETAILS", ">MATCHES", ">HITS", ">HELD" };
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result, *fault;
        json_t *rows;
        size_t i;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "io.dmiod.ListFaults", client_parameters(invocation), &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;

        rows = json_array();
        json_array_foreach (json_object_get(result, "faults"), i, fault)
                if (json_array_append_new(rows, fault_row(fault)) < 0) {
                        complain("out of memory");
                        json_decref(rows);
                        return STATUS_REFUSED;
                }
        if (json_array_size(rows) > 0)
                show_table(heads, ARRAY_SIZE(heads), rows);
        else
                puts("no faults");
        json_decref(rows);
        return STATUS_OK;
}

static int call_with_number(const struct invocation *invocation, struct request *request,
                            const char *method, uint64_t *ret_number, const json_t **ret)
{
        int r = parse_bytes(invocation->args[0], ret_number);

        if (r != LEG_OK)
                return complain_usage(invocation->verb, "the fault '%s' %s", invocation->args[0],
                                      leg_outcome_text(r));
        return request_call(request, method, json_pack("{s:I}", "fault", (json_int_t)*ret_number),
                            ret);
}

int verb_fault_release(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result;
        uint64_t number;
        int r;

        request_init(&request, invocation);
        r = call_with_number(invocation, &request, "io.dmiod.ReleaseFault", &number, &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;
        printf("fault %" PRIu64 ": %" PRIu64 " let go\n", number, show_integer(result, "released"));
        return STATUS_OK;
}

int verb_fault_remove(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result;
        uint64_t number;
        int r;

        request_init(&request, invocation);
        r = call_with_number(invocation, &request, "io.dmiod.RemoveFault", &number, &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;
        printf("fault %" PRIu64 ": removed\n", number);
        return STATUS_OK;
}
