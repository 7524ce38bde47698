/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/errors.h"
#include "control/fields.h"
#include "control/varlink.h"

bool varlink_is_blank(const char *text, size_t length)
{
        for (size_t i = 0; i < length; i++)
                if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
                        return false;
        return true;
}

/*
 * The deepest nesting, looked up before the parser, which descends by recursion, gets to see it.
 * Exact for what is JSON; for what is not it does not matter.
 */
static size_t deepest_level(const char *text, size_t length)
{
        size_t level = 0, deepest = 0;
        bool in_string = false;

        for (size_t i = 0; i < length; i++) {
                if (in_string) {
                        if (text[i] == '\\')
                                i++;
                        else if (text[i] == '"')
                                in_string = false;
                } else if (text[i] == '"') {
                        in_string = true;
                } else if (text[i] == '{' || text[i] == '[') {
                        if (++level > deepest)
                                deepest = level;
                } else if ((text[i] == '}' || text[i] == ']') && level > 0) {
                        level--;
                }
        }
        return deepest;
}

/*
 * Numbers that were read as reals, but are integers of ours, become such. What stays a real does so
 * because it is none, and will be refused where it stands.
 */
static json_t *restore_integers(json_t *value)
{
        const char *name;
        json_t *item;
        size_t index;

        if (json_is_object(value)) {
                json_object_foreach (value, name, item)
                        (void)json_object_set_new(value, name, restore_integers(item));
        } else if (json_is_array(value)) {
                json_array_foreach (value, index, item)
                        (void)json_array_set_new(value, index, restore_integers(item));
        } else if (json_is_real(value)) {
                double real = json_real_value(value);

                if (real >= 0 && real <= (double)FIELD_INT_MAX && real == (double)(int64_t)real)
                        return json_integer((json_int_t)real);
        }
        return json_incref(value);
}

/* JSON, but none that we read. The message has ended where it ends, so one can go on after it. */
static bool is_unwanted_json(const json_error_t *error)
{
        switch (json_error_code(error)) {
        case json_error_duplicate_key:
        case json_error_null_character:
        case json_error_null_byte_in_key:
        case json_error_numeric_overflow:
                return true;
        default:
                return false;
        }
}

static json_t *not_readable(const json_error_t *error)
{
        const char *what = "is not JSON";
        char reason[96];

        switch (json_error_code(error)) {
        case json_error_invalid_utf8:
                what = "is not valid UTF-8";
                break;
        case json_error_duplicate_key:
                what = "names something twice";
                break;
        case json_error_premature_end_of_input:
                what = "is JSON that ends too early";
                break;
        case json_error_null_character:
        case json_error_null_byte_in_key:
                what = "has a NUL character";
                break;
        case json_error_numeric_overflow:
                what = "has a number that is too large";
                break;
        case json_error_out_of_memory:
                return ERROR_NO_MEMORY;
        default:
                break;
        }
        (void)snprintf(reason, sizeof(reason), "%s (near byte %d)", what, error->position);
        return error_invalid_parameter("message", reason);
}

/* A flag of the message; null counts as absent. */
static json_t *read_flag(const json_t *message, const char *name, bool *ret)
{
        const json_t *value = json_object_get(message, name);

        if (!value || json_is_null(value))
                return NULL;
        if (!json_is_boolean(value))
                return error_invalid_parameter(name, "must be true or false");
        *ret = json_is_true(value);
        return NULL;
}

static json_t *read_message(struct varlink_call *call)
{
        static const char *const known[] = { "method", "parameters", "more", "oneway", "upgrade" };
        const json_t *method;
        bool upgrade = false;
        const char *name;
        json_t *value, *error;

        /* First of all, because it decides whether there is an answer at all. */
        error = read_flag(call->message, "oneway", &call->oneway);
        if (error)
                return error;

        json_object_foreach (call->message, name, value) {
                bool found = false;

                for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
                        found = found || strcmp(name, known[i]) == 0;
                if (!found)
                        return error_invalid_parameter(name, "is not known in a message");
        }

        method = json_object_get(call->message, "method");
        if (!method)
                return error_invalid_parameter("method", "is missing");
        if (!json_is_string(method))
                return error_invalid_parameter("method", "must be a string");
        if (strlen(json_string_value(method)) != json_string_length(method))
                return error_invalid_parameter("method", "has a NUL character");
        call->method = json_string_value(method);

        call->parameters = json_object_get(call->message, "parameters");
        if (json_is_null(call->parameters))
                call->parameters = NULL;
        if (call->parameters && !json_is_object(call->parameters))
                return error_invalid_parameter("parameters", "must be an object");

        error = read_flag(call->message, "more", &call->more);
        if (error)
                return error;
        error = read_flag(call->message, "upgrade", &upgrade);
        if (error)
                return error;
        if (upgrade)
                return error_invalid_parameter("upgrade", "is not supported");
        return NULL;
}

json_t *varlink_read(const char *text, size_t length, size_t nesting, struct varlink_call *ret,
                     bool *ret_fatal)
{
        const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
        json_error_t why, later;
        json_t *error;

        *ret = VARLINK_CALL_NULL;
        *ret_fatal = true;
        if (deepest_level(text, length) > nesting)
                return error_limit_reached("nesting", nesting);

        ret->message = json_loadb(text, length, flags, &why);
        if (!ret->message && json_error_code(&why) == json_error_numeric_overflow) {
                /* JSON all the same; only whoever knows the fields can say which number it is. */
                ret->message = json_loadb(text, length, flags | JSON_DECODE_INT_AS_REAL, &why);
                if (ret->message)
                        json_decref(restore_integers(ret->message));
        }
        if (!ret->message && json_error_code(&why) == json_error_duplicate_key) {
                /* Refused, but is it JSON to its end, and is there an answer at all? */
                ret->message = json_loadb(text, length,
                                          (flags & ~(size_t)JSON_REJECT_DUPLICATES) |
                                                  JSON_DECODE_INT_AS_REAL,
                                          &later);
                if (!ret->message)
                        why = later;
                *ret_fatal = !ret->message && !is_unwanted_json(&why);
                error = read_flag(ret->message, "oneway", &ret->oneway);
                json_decref(error);
                return not_readable(&why);
        }
        if (!ret->message) {
                *ret_fatal = !is_unwanted_json(&why);
                return not_readable(&why);
        }
        *ret_fatal = false;
        if (!json_is_object(ret->message))
                return error_invalid_parameter("message", "must be a JSON object");
        return read_message(ret);
}

void varlink_call_deinit(struct varlink_call *call)
{
        json_decref(call->message);
        *call = VARLINK_CALL_NULL;
}

json_t *varlink_reply(json_t *parameters)
{
        json_t *reply = parameters ? json_pack("{s:o}", "parameters", parameters) : NULL;

        return reply ? reply : ERROR_NO_MEMORY;
}

char *varlink_print(const json_t *answer, char terminator, size_t *ret_length)
{
        char *text = NULL;

        if (json_is_object(answer))
                text = json_dumps(answer, JSON_COMPACT);
        if (!text)
                text = strdup(ERROR_NO_MEMORY_TEXT);
        if (!text)
                return NULL;
        /* In place of the NUL. */
        *ret_length = strlen(text) + 1;
        text[*ret_length - 1] = terminator;
        return text;
}
