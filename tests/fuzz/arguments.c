/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Text to structs: a message of the control channel, the parameters of each method by its table, a
 * leg or a size as people write it, base64. The first byte says which; the rest is the text.
 */

#include <stdbool.h>
#include <string.h>

#include "control/base64.h"
#include "control/dispatch.h"
#include "control/methods.h"
#include "control/varlink.h"
#include "dmioctl/leg.h"
#include "fuzz.h"
#include "util/cleanup.h"

#define NESTING 32

static const char *const methods[] = {
        "org.varlink.service.GetInterfaceDescription",
        "io.dmiod.OpenClient",
        "io.dmiod.CloseClient",
        "io.dmiod.Get",
        "io.dmiod.CreateExport",
        "io.dmiod.RemoveExport",
        "io.dmiod.ListExports",
        "io.dmiod.Io",
        "io.dmiod.WaitIo",
        "io.dmiod.Copy",
        "io.dmiod.Zero",
        "io.dmiod.CancelJob",
};
#define N_METHODS (sizeof(methods) / sizeof(methods[0]))

static void read_message(const char *text, size_t length)
{
        struct varlink_call call;
        bool fatal;
        json_t *error = varlink_read(text, length, NESTING, &call, &fatal);

        if (error) {
                char *line = varlink_print(error, '\n', &length);

                fuzz_require(line && line[length - 1] == '\n');
                free(line);
        } else {
                fuzz_require(call.method);
        }
        json_decref(error);
        varlink_call_deinit(&call);
}

static void read_parameters(const char *name, const char *text, size_t length)
{
        const struct method *method = dispatch_find(name);
        json_t *object = json_loadb(text, length, JSON_ALLOW_NUL, NULL);
        void *arguments;
        json_t *error;

        fuzz_require(method);
        if (!json_is_object(object)) {
                json_decref(object);
                return;
        }
        arguments = calloc(1, method->size);
        fuzz_require(arguments);
        error = fields_read(method->fields, object, arguments, method->size);
        if (error)
                fuzz_require(json_is_object(error) || json_is_null(error));
        fields_clear(method->fields, arguments, method->size);
        fields_clear(method->fields, arguments, method->size); /* it is empty, and stays so */
        free(arguments);
        json_decref(error);
        json_decref(object);
}

/* What was read once, written and read again, is the same. */
static void read_leg(const char *text)
{
        struct leg leg = {}, again = {};
        const char *part = NULL;
        uint64_t n = 0;
        char *written;
        int r;

        r = size_parse(text, 512, &n);
        fuzz_require(r != LEG_OK ? *leg_outcome_text(r) : n <= LEG_MAX);
        r = leg_parse(text, &leg, &part);
        if (r != LEG_OK) {
                fuzz_require(part && *leg_outcome_text(r));
                leg_deinit(&leg);
                return;
        }
        fuzz_require(leg.sector < LEG_MAX && leg.count < LEG_MAX);
        fuzz_require(asprintf(&written, "%s:%llu+%llu", leg.device, (unsigned long long)leg.sector,
                              (unsigned long long)leg.count) > 0);
        fuzz_require(leg_parse(written, &again, &part) == LEG_OK);
        fuzz_require(again.sector == leg.sector && again.count == leg.count &&
                     strcmp(again.device, leg.device) == 0);
        leg_deinit(&again);
        leg_deinit(&leg);
        free(written);
}

/* A text means at most one thing, and is the one that the encoder would have chosen. */
static void read_base64(const char *text, size_t length)
{
        char *bytes = malloc(length / 4 * 3 + 1), *again;
        ssize_t n;

        fuzz_require(bytes);
        n = base64_decode(text, length, bytes);
        if (n >= 0) {
                again = malloc(base64_encoded_length((size_t)n) + 1);
                fuzz_require(again && base64_encoded_length((size_t)n) == length);
                (void)base64_encode(bytes, (size_t)n, again);
                fuzz_require(memcmp(again, text, length) == 0);
                free(again);
        }
        free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        size_t which;
        char *text;

        if (size == 0)
                return 0;
        which = data[0] % (N_METHODS + 3);
        text = strndup((const char *)data + 1, size - 1);
        fuzz_require(text);
        if (which < N_METHODS)
                read_parameters(methods[which], (const char *)data + 1, size - 1);
        else if (which == N_METHODS)
                read_message((const char *)data + 1, size - 1);
        else if (which == N_METHODS + 1)
                read_leg(text);
        else
                read_base64((const char *)data + 1, size - 1);
        free(text);
        return 0;
}
