/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * io and submit: one dm-io request, whose result is waited for at once or later.
 *
 * Every region starts at the beginning of the same memory, so the largest one says how much there
 * must be.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/data.h"
#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/macros.h"

struct operation {
        const char *name;
        const char *method_name; /* what the control channel calls it */
        const char *done;        /* "2 of 3 regions ..." */
        bool read_only;
        bool has_data;
};

static const struct operation operations[] = {
        { "read", "read", "read", true, true },
        { "write", "write", "written", false, true },
        { "flush", "flush", "flushed", false, false },
        { "discard", "discard", "discarded", false, false },
        { "write-zeroes", "write_zeroes", "zeroed", false, false },
        { "write_zeroes", "write_zeroes", "zeroed", false, false },
};

static const struct operation *find_operation(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
                if (strcmp(operations[i].name, name) == 0)
                        return &operations[i];
        return NULL;
}

/* What can be known before anything is opened or read. */
static int check_usage(const struct request *request, const struct operation *operation,
                       uint64_t *ret_length, int *ret_fill)
{
        const struct invocation *invocation = request->invocation;
        bool write = strcmp(operation->name, "write") == 0;
        uint64_t sectors = 0;
        int fill = -1;

        if (operation->read_only && request->n_legs != 1)
                return complain_usage(invocation->verb, "a read takes one leg, not %u",
                                      request->n_legs);
        for (unsigned int i = 0; i < request->n_legs; i++)
                sectors = MAX(sectors, request->legs[i].count);
        if (operation->has_data && sectors == 0)
                return complain_usage(invocation->verb, "there is nothing to %s in 0 sectors",
                                      operation->name);

        if (!write && (invocation->given[OPTION_PREFLUSH] || invocation->given[OPTION_FUA] ||
                       invocation->given[OPTION_FILL]))
                return complain_usage(invocation->verb,
                                      "--preflush, --fua and --fill go with write only, not with "
                                      "%s",
                                      operation->name);
        if (!operation->read_only && invocation->given[OPTION_OUTPUT])
                return complain_usage(invocation->verb, "--output goes with read only, not with %s",
                                      operation->name);
        if (invocation->given[OPTION_FILL]) {
                const char *text = invocation->values[OPTION_FILL];
                char *end = NULL;
                long value;

                value = strtol(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
                if (text[0] < '0' || text[0] > '9' || *end || value > 255)
                        return complain_usage(invocation->verb,
                                              "--fill is a byte, 0 to 255 (or 0x00 to 0xff), "
                                              "not '%s'",
                                              text);
                fill = (int)value;
        }
        *ret_length = sectors * DMIO_SECTOR_SIZE;
        *ret_fill = fill;
        return STATUS_OK;
}

/* "1 of 3 regions written; region 1 (b.img:0+8) failed: EIO; ..." */
static void show_failures(const struct request *request, const struct operation *operation,
                          uint64_t bits, const json_t *errors)
{
        unsigned int n_failed = (unsigned int)__builtin_popcountll(bits);
        DMIO_CLEANUP(freep) char *text = NULL;
        const json_t *error;
        size_t length, i;
        FILE *stream;

        stream = open_memstream(&text, &length);
        if (!stream)
                return;
        fprintf(stream, "%u of %u region%s %s", request->n_legs - n_failed, request->n_legs,
                request->n_legs == 1 ? "" : "s", operation->done);
        for (unsigned int region = 0; region < request->n_legs; region++) {
                const char *name = "";
                const json_t *sector = NULL;

                if (!(bits >> region & 1))
                        continue;
                json_array_foreach (errors, i, error)
                        if (show_integer(error, "region") == region) {
                                name = show_string(error, "errno");
                                sector = json_object_get(error, "sector");
                        }
                fprintf(stream, "; region %u (%s) failed: %s", region, request->legs[region].text,
                        *name ? name : "unknown error");
                if (json_is_integer(sector))
                        fprintf(stream, " at sector %" PRId64, (int64_t)json_integer_value(sector));
        }
        fputs("; see to these devices, then do it again for their regions", stream);
        if (fclose(stream) == 0)
                complain("%s", text);
}

static int judge(const struct request *request, const struct operation *operation,
                 const json_t *result)
{
        const char *text = show_string(result, "error_bits");
        bool quiet = request->invocation->given[OPTION_JSON];
        unsigned long long bits;
        char *end = NULL;

        errno = 0;
        bits = strtoull(text, &end, 16);
        if (!*text || *end || errno || (request->n_legs < 64 && bits >> request->n_legs)) {
                complain(
                        "the daemon's error bits '%s' make no sense; is it as old as this dmioctl?",
                        text);
                return STATUS_REFUSED;
        }
        if (bits == 0) {
                if (!quiet && !operation->read_only)
                        printf("%u of %u region%s %s\n", request->n_legs, request->n_legs,
                               request->n_legs == 1 ? "" : "s", operation->done);
                return STATUS_OK;
        }
        show_failures(request, operation, bits, json_object_get(result, "errors"));
        return (unsigned int)__builtin_popcountll(bits) < request->n_legs ? STATUS_PARTLY
                                                                          : STATUS_REFUSED;
}

/* The file or memory file of the data, in *@ret_memory what the daemon is told of it. */
static int prepare_data(struct request *request, const struct operation *operation, uint64_t length,
                        json_t **ret_memory, int *ret_fd)
{
        const struct invocation *invocation = request->invocation;
        const char *output = invocation->values[OPTION_OUTPUT];
        unsigned int number;
        int fd = -EBADF, r;

        r = output ? data_open_output(output, length, &fd) : data_new(length, &fd);
        if (r == STATUS_OK)
                r = devices_add(&request->devices, fd, &number);
        if (r == STATUS_OK && !operation->read_only)
                r = data_read_input(invocation, fd, length);
        if (r != STATUS_OK)
                return r;
        *ret_memory = json_pack("{s:i, s:i}", "fd", (int)number, "vm", 0);
        *ret_fd = output ? -EBADF : fd;
        return STATUS_OK;
}

/*
 * All that is before the call. *@ret_parameters are of Io and SubmitIo alike; *@ret_output is the
 * memory file, which is the request's, that a read's data are to be taken from, or -EBADF.
 */
static int prepare(struct request *request, bool asynchronous, const struct operation **ret,
                   json_t **ret_parameters, int *ret_output, uint64_t *ret_length)
{
        const struct invocation *invocation = request->invocation;
        const struct operation *operation = find_operation(invocation->args[0]);
        json_t *regions = NULL, *memory = NULL;
        int fill = -1, fd = -EBADF, r;
        uint64_t length = 0;

        if (!operation)
                return complain_usage(invocation->verb, "'%s' is no operation",
                                      invocation->args[0]);
        r = request_parse_legs(request, 2);
        if (r == STATUS_OK)
                r = check_usage(request, operation, &length, &fill);
        if (r == STATUS_OK && asynchronous && operation->read_only &&
            !invocation->given[OPTION_OUTPUT] && !invocation->given[OPTION_JSON])
                r = complain_usage(invocation->verb,
                                   "a submitted read needs --output=FILE for its data");
        if (r == STATUS_OK)
                r = request_connect(request);
        if (r == STATUS_OK)
                r = request_regions(request, 0, request->n_legs, operation->read_only, &regions);
        if (r != STATUS_OK)
                return r;

        /* With --json a read without --output has its data in the reply. */
        if (fill >= 0)
                memory = json_pack("{s:i}", "fill", fill);
        else if (operation->has_data && !(operation->read_only && invocation->given[OPTION_JSON] &&
                                          !invocation->given[OPTION_OUTPUT]))
                r = prepare_data(request, operation, length, &memory, &fd);
        if (r != STATUS_OK) {
                json_decref(regions);
                return r;
        }
        *ret = operation;
        *ret_parameters =
                json_pack("{s:s, s:s, s:o, s:o*, s:b, s:b}", "client", invocation->args[1], "op",
                          operation->method_name, "regions", regions, "memory", memory, "preflush",
                          invocation->given[OPTION_PREFLUSH], "fua", invocation->given[OPTION_FUA]);
        *ret_output = operation->read_only ? fd : -EBADF;
        *ret_length = length;
        return STATUS_OK;
}

int verb_io(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const struct operation *operation;
        json_t *parameters;
        const json_t *result;
        uint64_t length;
        int output, r;

        request_init(&request, invocation);
        r = prepare(&request, false, &operation, &parameters, &output, &length);
        if (r == STATUS_OK)
                r = request_call(&request, "io.dmiod.Io", parameters, &result);
        if (r == STATUS_OK)
                r = judge(&request, operation, result);
        if (r == STATUS_OK && output >= 0)
                r = data_write_output(output, length);
        return r;
}

int verb_submit(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const struct operation *operation;
        json_t *parameters;
        const json_t *result;
        uint64_t length;
        int output, r;

        request_init(&request, invocation);
        r = prepare(&request, true, &operation, &parameters, &output, &length);
        if (r == STATUS_OK)
                r = request_call(&request, "io.dmiod.SubmitIo", parameters, &result);
        if (r != STATUS_OK)
                return r;
        /* Only the id, so that a script can use it. */
        if (!invocation->given[OPTION_JSON])
                printf("%" PRIu64 "\n", show_integer(result, "id"));
        if (show_flush() == 0)
                return STATUS_OK;
        complain("the id %" PRIu64 " cannot be written; 'dmioctl wait %s %" PRIu64
                 "' fetches the result",
                 show_integer(result, "id"), invocation->args[1], show_integer(result, "id"));
        return STATUS_REFUSED;
}
