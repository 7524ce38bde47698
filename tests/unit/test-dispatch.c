/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The table of methods, as far as it gets without a model behind it; and the interface text. */

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/call.h"
#include "control/dispatch.h"
#include "control/methods.h"
#include "util/list.h"

struct probe {
        struct call call;
        json_t *answer;
        unsigned int n_answers;
};

static void take_answer(struct call *call, json_t *answer)
{
        struct probe *probe = container_of(call, struct probe, call);

        probe->answer = answer;
        probe->n_answers++;
}

/* The answer to a call; to be released. */
static json_t *ask(const char *method, json_t *parameters)
{
        struct peer peer = peer_from_uid(1);
        struct probe probe = { .call = { .peer = &peer, .answered = take_answer } };

        dispatch(&probe.call, method, parameters);
        json_decref(parameters);
        assert_int_equal(probe.n_answers, 1);
        assert_non_null(probe.answer);
        assert_null(probe.call.arguments);
        return probe.answer;
}

static void expect_error(const char *method, json_t *parameters, const char *error,
                         const char *parameter, const char *value)
{
        json_t *answer = ask(method, parameters);

        assert_string_equal(json_string_value(json_object_get(answer, "error")), error);
        assert_string_equal(json_string_value(json_object_get(json_object_get(answer, "parameters"),
                                                              parameter)),
                            value);
        json_decref(answer);
}

static void what_does_not_exist_is_named(void **state)
{
        expect_error("io.dmiod.Bogus", NULL, "org.varlink.service.MethodNotFound", "method",
                     "io.dmiod.Bogus");
        expect_error("io.dmiod.status", NULL, "org.varlink.service.MethodNotFound", "method",
                     "io.dmiod.status");
        expect_error("io.other.Status", NULL, "org.varlink.service.InterfaceNotFound", "interface",
                     "io.other");
        expect_error("io.dmiod.Status.Status", NULL, "org.varlink.service.InterfaceNotFound",
                     "interface", "io.dmiod.Status");
        expect_error("Status", NULL, "org.varlink.service.InvalidParameter", "parameter", "method");
        expect_error("", NULL, "org.varlink.service.InvalidParameter", "parameter", "method");
        expect_error("io.dmiod.", NULL, "org.varlink.service.InvalidParameter", "parameter",
                     "method");
        expect_error(".Status", NULL, "org.varlink.service.InvalidParameter", "parameter",
                     "method");
}

static void what_answers_often_wants_more(void **state)
{
        json_t *answer = ask("io.dmiod.Monitor", NULL);

        assert_string_equal(json_string_value(json_object_get(answer, "error")),
                            "org.varlink.service.ExpectedMore");
        json_decref(answer);
}

static void parameters_are_checked_before_the_handler(void **state)
{
        expect_error("io.dmiod.Status", json_pack("{s:i}", "bogus", 1),
                     "org.varlink.service.InvalidParameter", "parameter", "bogus");
        expect_error("io.dmiod.OpenClient", json_pack("{s:s}", "name", "alice"),
                     "org.varlink.service.InvalidParameter", "parameter", "pages");
        expect_error("io.dmiod.CreateExport",
                     json_pack("{s:s, s:s, s:[{s:s, s:i, s:i}, {s:s, s:i, s:i}]}", "client", "a",
                               "name", "b", "regions", "device", "d", "sector", 0, "count", 1,
                               "device", "d", "sector", -1, "count", 1),
                     "org.varlink.service.InvalidParameter", "parameter", "regions[1].sector");
        expect_error("io.dmiod.Io",
                     json_pack("{s:s, s:s, s:[], s:{s:i}}", "client", "a", "op", "write", "regions",
                               "memory", "fill", 256),
                     "org.varlink.service.InvalidParameter", "parameter", "memory.fill");
}

static void unknown_interfaces_have_no_text(void **state)
{
        expect_error("org.varlink.service.GetInterfaceDescription",
                     json_pack("{s:s}", "interface", "io.other"),
                     "org.varlink.service.InterfaceNotFound", "interface", "io.other");
}

/* Every method of a text is in the table. */
static void check_text(const char *interface)
{
        json_t *answer = ask("org.varlink.service.GetInterfaceDescription",
                             json_pack("{s:s}", "interface", interface));
        unsigned int n = 0;
        const char *text;

        assert_int_equal(json_unpack(answer, "{s:{s:s}}", "parameters", "description", &text), 0);
        while ((text = strstr(text, "\nmethod ")) != NULL) {
                char name[128];
                size_t length;

                text += strlen("\nmethod ");
                length = strcspn(text, "(");
                assert_true(length > 0 && isupper((unsigned char)text[0]));
                assert_true(strlen(interface) + 1 + length < sizeof(name));
                (void)snprintf(name, sizeof(name), "%s.%.*s", interface, (int)length, text);
                if (!dispatch_find(name))
                        fail_msg("%s is not in the table", name);
                n++;
        }
        assert_true(n > 0);
        json_decref(answer);
}

static void the_texts_and_the_table_agree(void **state)
{
        json_t *answer = ask("org.varlink.service.GetInfo", NULL);
        json_t *interfaces, *name;
        size_t i;

        assert_int_equal(json_unpack(answer, "{s:{s:o}}", "parameters", "interfaces", &interfaces),
                         0);
        assert_int_equal(json_array_size(interfaces), 2);
        json_array_foreach (interfaces, i, name)
                check_text(json_string_value(name));
        json_decref(answer);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_does_not_exist_is_named),
                cmocka_unit_test(what_answers_often_wants_more),
                cmocka_unit_test(parameters_are_checked_before_the_handler),
                cmocka_unit_test(unknown_interfaces_have_no_text),
                cmocka_unit_test(the_texts_and_the_table_agree),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
