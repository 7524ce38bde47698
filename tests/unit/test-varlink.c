/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/errors.h"
#include "control/varlink.h"

#define LEVELS 4

/* Read @text and compare what comes of it: the error and one of its parameters, or NULL. */
static void expect(const char *text, const char *error_name, const char *parameter,
                   const char *value, bool is_fatal)
{
        struct varlink_call call;
        bool fatal = false;
        json_t *error = varlink_read(text, strlen(text), LEVELS, &call, &fatal);

        if (!error_name) {
                assert_null(error);
        } else {
                assert_non_null(error);
                assert_string_equal(json_string_value(json_object_get(error, "error")), error_name);
                assert_string_equal(json_string_value(json_object_get(
                                            json_object_get(error, "parameters"), parameter)),
                                    value);
                assert_int_equal(fatal, is_fatal);
        }
        json_decref(error);
        varlink_call_deinit(&call);
}

#define INVALID "org.varlink.service.InvalidParameter"
#define LIMIT "io.dmiod.LimitReached"

static void a_call_is_read(void **state)
{
        static const char text[] = "{\"method\":\"a.b.C\",\"parameters\":{\"x\":1},\"more\":true,"
                                   "\"oneway\":true,\"upgrade\":false}";
        struct varlink_call call;
        bool fatal;

        assert_null(varlink_read(text, strlen(text), LEVELS, &call, &fatal));
        assert_string_equal(call.method, "a.b.C");
        assert_int_equal(json_object_size(call.parameters), 1);
        assert_true(call.more);
        assert_true(call.oneway);
        varlink_call_deinit(&call);

        expect("{\"method\":\"a.b.C\"}", NULL, NULL, NULL, false);
        expect("{\"method\":\"a.b.C\",\"parameters\":null,\"more\":null}", NULL, NULL, NULL, false);
        expect(" {\"method\":\"a.b.C\"}\r", NULL, NULL, NULL, false);
}

static void what_is_not_json_ends_it_all(void **state)
{
        static const char *const texts[] = {
                "x",
                "{",
                "{}}",
                "{\"a\":1,}",
                "{\"a\":\"\xff\"}",
                "{\"a\":1,\"a\":2",
                "{'a':1}",
                "{\"a\":01}",
                "{\"a\":\"\\ud800\"}",
        };

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
                expect(texts[i], INVALID, "parameter", "message", true);
}

static void json_that_is_no_call_is_only_refused(void **state)
{
        static const char *const texts[] = {
                "[]",
                "5",
                "\"a\"",
                "null",
                "\"\\u0000\"",
                "{\"a\":1,\"a\":2}",
                "{\"a\":1,\"a\":99999999999999999999}",
                "{\"a\":1e999}",
                "{\"a\\u0000\":1}",
        };

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
                expect(texts[i], INVALID, "parameter", "message", false);
        expect("{\"method\":\"a.b.C\\u0000\"}", INVALID, "parameter", "method", false);
        expect("{\"method\":\"a.b.C\",\"parameters\":{\"x\":\"\\u0000\"}}", NULL, NULL, NULL,
               false);
}

static void nesting_is_bounded(void **state)
{
        static char deep[100000];

        expect("{\"method\":\"a.b.C\",\"parameters\":{\"x\":[[1]]}}", NULL, NULL, NULL, false);
        expect("{\"method\":\"a.b.C\",\"parameters\":{\"x\":[[[1]]]}}", LIMIT, "limit", "nesting",
               true);
        /* Brackets within strings do not count, whatever is escaped there. */
        expect("{\"method\":\"a.b.C\",\"parameters\":{\"x\":\"[[[[\\\"[[[[[\"}}", NULL, NULL, NULL,
               false);
        memset(deep, '[', sizeof(deep) - 1);
        expect(deep, LIMIT, "limit", "nesting", true);
}

static void wrong_messages_name_the_key(void **state)
{
        expect("{}", INVALID, "parameter", "method", false);
        expect("{\"method\":1}", INVALID, "parameter", "method", false);
        expect("{\"method\":\"a.b.C\",\"bogus\":1}", INVALID, "parameter", "bogus", false);
        expect("{\"method\":\"a.b.C\",\"parameters\":[]}", INVALID, "parameter", "parameters",
               false);
        expect("{\"method\":\"a.b.C\",\"more\":1}", INVALID, "parameter", "more", false);
        expect("{\"method\":\"a.b.C\",\"oneway\":\"x\"}", INVALID, "parameter", "oneway", false);
        expect("{\"method\":\"a.b.C\",\"upgrade\":true}", INVALID, "parameter", "upgrade", false);
}

static void oneway_holds_for_refused_calls_too(void **state)
{
        static const char text[] = "{\"oneway\":true,\"bogus\":1}";
        static const char twice[] = "{\"oneway\":true,\"method\":\"a.b.C\",\"method\":1}";
        struct varlink_call call;
        bool fatal;
        json_t *error = varlink_read(text, strlen(text), LEVELS, &call, &fatal);

        assert_non_null(error);
        assert_true(call.oneway);
        json_decref(error);
        varlink_call_deinit(&call);

        error = varlink_read(twice, strlen(twice), LEVELS, &call, &fatal);
        assert_non_null(error);
        assert_true(call.oneway);
        json_decref(error);
        varlink_call_deinit(&call);
}

/* So that the fields can say which number it is. */
static void a_number_too_large_for_us_is_still_json(void **state)
{
        static const char text[] = "{\"method\":\"a.b.C\",\"parameters\":"
                                   "{\"big\":99999999999999999999,\"small\":[7,0]}}";
        struct varlink_call call;
        bool fatal;

        assert_null(varlink_read(text, strlen(text), LEVELS, &call, &fatal));
        assert_true(json_is_real(json_object_get(call.parameters, "big")));
        assert_int_equal(
                json_integer_value(json_array_get(json_object_get(call.parameters, "small"), 0)),
                7);
        varlink_call_deinit(&call);
}

static void answers_are_one_line(void **state)
{
        json_t *reply = varlink_reply(json_pack("{s:s, s:i}", "text", "a\nb", "n", 1));
        size_t length;
        char *text;

        text = varlink_print(reply, '\n', &length);
        assert_non_null(text);
        assert_int_equal(length, strlen("{\"parameters\":{\"text\":\"a\\nb\",\"n\":1}}\n"));
        assert_memory_equal(text, "{\"parameters\":{\"text\":\"a\\nb\",\"n\":1}}\n", length);
        free(text);
        text = varlink_print(reply, '\0', &length);
        assert_int_equal(text[length - 1], '\0');
        assert_int_equal(strlen(text), length - 1);
        free(text);
        json_decref(reply);

        text = varlink_print(ERROR_NO_MEMORY, '\n', &length);
        assert_memory_equal(text, ERROR_NO_MEMORY_TEXT "\n", length);
        free(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_call_is_read),
                cmocka_unit_test(what_is_not_json_ends_it_all),
                cmocka_unit_test(json_that_is_no_call_is_only_refused),
                cmocka_unit_test(nesting_is_bounded),
                cmocka_unit_test(wrong_messages_name_the_key),
                cmocka_unit_test(oneway_holds_for_refused_calls_too),
                cmocka_unit_test(a_number_too_large_for_us_is_still_json),
                cmocka_unit_test(answers_are_one_line),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
