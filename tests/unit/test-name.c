/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The names of clients, exports and configured devices; and the names of error numbers. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "model/describe.h"
#include "name.h"
#include "util/macros.h"

static void ordinary_names_are_valid(void **state)
{
        static const char *const names[] = { "a",   "A",     "0",         "_",   "-",
                                             "vol", "a.img", "x_1-2.3.4", "-rf", "__proto__",
                                             "Z9",  "con",   "a.." };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                assert_true(name_is_valid(names[i]));
}

static void others_are_not(void **state)
{
        static const char *const names[] = { "",     ".",     "..",       ".status", ".a",
                                             "a/b",  "/",     "a b",      " a",      "a\n",
                                             "\x7f", "a\x01", "\xc3\xa4", "a:b",     "fd:0",
                                             "a*",   "~",     "a\\b",     "a%" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                assert_false(name_is_valid(names[i]));
}

static void sixty_four_bytes_are_the_most(void **state)
{
        char name[66];

        memset(name, 'x', sizeof(name));
        name[64] = '\0';
        assert_true(name_is_valid(name));
        name[64] = 'x';
        name[65] = '\0';
        assert_false(name_is_valid(name));
}

static void errors_have_their_names(void **state)
{
        assert_string_equal(errno_name(EIO), "EIO");
        assert_string_equal(errno_name(ENOSPC), "ENOSPC");
        assert_string_equal(errno_name(4711), "errno 4711");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ordinary_names_are_valid),
                cmocka_unit_test(others_are_not),
                cmocka_unit_test(sixty_four_bytes_are_the_most),
                cmocka_unit_test(errors_have_their_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
