/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/fields.h"

struct point {
        int64_t x;
        char *name;
};

struct sample {
        char *text;
        bool flag;
        int64_t number;
        int colour;
        struct point *point;
        struct field_array numbers;
        struct field_array points;
};

static const char *const colours[] = { "red", "green", NULL };

static const struct field point_fields[] = {
        FIELD(struct point, x, FIELD_INT, .required = true, .min = 1, .max = 9),
        FIELD(struct point, name, FIELD_STRING),
        FIELD_END,
};

static const struct field sample_fields[] = {
        FIELD(struct sample, text, FIELD_STRING, .required = true),
        FIELD(struct sample, flag, FIELD_BOOL),
        FIELD(struct sample, number, FIELD_INT, .max = FIELD_INT_MAX),
        FIELD(struct sample, colour, FIELD_ENUM, .names = colours),
        FIELD(struct sample, point, FIELD_OBJECT, .fields = point_fields,
              .size = sizeof(struct point)),
        FIELD(struct sample, numbers, FIELD_INTS, .max = 255),
        FIELD(struct sample, points, FIELD_OBJECTS, .fields = point_fields,
              .size = sizeof(struct point)),
        FIELD_END,
};

static json_t *read_text(const char *text, struct sample *ret)
{
        json_t *object = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        json_t *error;

        assert_non_null(object);
        error = fields_read(sample_fields, object, ret, sizeof(*ret));
        json_decref(object);
        return error;
}

static void everything_arrives(void **state)
{
        struct sample sample;
        const struct point *points;

        assert_null(read_text("{\"text\":\"a\",\"flag\":true,\"number\":9007199254740991,"
                              "\"colour\":\"green\",\"point\":{\"x\":3,\"name\":\"n\"},"
                              "\"numbers\":[0,255],\"points\":[{\"x\":1},{\"x\":9}]}",
                              &sample));
        assert_string_equal(sample.text, "a");
        assert_true(sample.flag);
        assert_true(sample.number == FIELD_INT_MAX);
        assert_int_equal(sample.colour, 1);
        assert_int_equal(sample.point->x, 3);
        assert_string_equal(sample.point->name, "n");
        assert_int_equal(sample.numbers.n, 2);
        assert_int_equal(((int64_t *)sample.numbers.items)[1], 255);
        points = sample.points.items;
        assert_int_equal(sample.points.n, 2);
        assert_int_equal(points[1].x, 9);
        assert_null(points[1].name);
        fields_clear(sample_fields, &sample, sizeof(sample));
        assert_null(sample.text);
}

static void what_is_absent_or_null_can_be_told(void **state)
{
        struct sample sample;

        assert_null(read_text("{\"text\":\"\",\"number\":null,\"point\":null,\"flag\":null,"
                              "\"numbers\":null}",
                              &sample));
        assert_string_equal(sample.text, "");
        assert_false(sample.flag);
        assert_int_equal(sample.number, FIELD_ABSENT);
        assert_int_equal(sample.colour, FIELD_ABSENT);
        assert_null(sample.point);
        assert_false(sample.numbers.present);
        fields_clear(sample_fields, &sample, sizeof(sample));

        assert_null(read_text("{\"text\":\"\",\"numbers\":[]}", &sample));
        assert_true(sample.numbers.present);
        assert_int_equal(sample.numbers.n, 0);
        fields_clear(sample_fields, &sample, sizeof(sample));
}

static void the_wrong_field_is_named(void **state)
{
        static const struct {
                const char *text;
                const char *parameter;
        } cases[] = {
                { "{}", "text" },
                { "{\"text\":null}", "text" },
                { "{\"text\":1}", "text" },
                { "{\"text\":\"a\\u0000b\"}", "text" },
                { "{\"text\":\"\",\"colour\":\"red\\u0000\"}", "colour" },
                { "{\"text\":\"\",\"bogus\":1}", "bogus" },
                { "{\"bogus\":1}", "bogus" },
                { "{\"text\":\"\",\"flag\":0}", "flag" },
                { "{\"text\":\"\",\"number\":-1}", "number" },
                { "{\"text\":\"\",\"number\":9007199254740992}", "number" },
                { "{\"text\":\"\",\"number\":1.0}", "number" },
                { "{\"text\":\"\",\"number\":\"1\"}", "number" },
                { "{\"text\":\"\",\"colour\":\"blue\"}", "colour" },
                { "{\"text\":\"\",\"colour\":0}", "colour" },
                { "{\"text\":\"\",\"point\":[]}", "point" },
                { "{\"text\":\"\",\"point\":{}}", "point.x" },
                { "{\"text\":\"\",\"point\":{\"x\":0}}", "point.x" },
                { "{\"text\":\"\",\"point\":{\"x\":1,\"y\":1}}", "point.y" },
                { "{\"text\":\"\",\"numbers\":{}}", "numbers" },
                { "{\"text\":\"\",\"numbers\":[0,256]}", "numbers[1]" },
                { "{\"text\":\"\",\"numbers\":[null]}", "numbers[0]" },
                { "{\"text\":\"\",\"points\":[1]}", "points[0]" },
                { "{\"text\":\"\",\"points\":[{\"x\":1,\"name\":\"leak\"},{\"x\":10}]}",
                  "points[1].x" },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct sample sample;
                json_t *error = read_text(cases[i].text, &sample);
                const char *name, *parameter;

                assert_non_null(error);
                assert_int_equal(json_unpack(error, "{s:s, s:{s:s}}", "error", &name, "parameters",
                                             "parameter", &parameter),
                                 0);
                assert_string_equal(name, "org.varlink.service.InvalidParameter");
                assert_string_equal(parameter, cases[i].parameter);
                json_decref(error);
                /* Nothing is left to be freed. */
                assert_null(sample.text);
                assert_null(sample.points.items);
        }
}

static void no_table_takes_no_fields(void **state)
{
        json_t *object = json_pack("{s:i}", "x", 1);
        json_t *error;

        assert_null(fields_read(NULL, NULL, NULL, 0));
        error = fields_read(NULL, object, NULL, 0);
        assert_non_null(error);
        json_decref(error);
        json_decref(object);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(everything_arrives),
                cmocka_unit_test(what_is_absent_or_null_can_be_told),
                cmocka_unit_test(the_wrong_field_is_named),
                cmocka_unit_test(no_table_takes_no_fields),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
