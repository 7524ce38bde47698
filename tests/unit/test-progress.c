/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The line that tells how far a job is: never wider than the terminal, and what is left out first.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "dmioctl/progress.h"
#include "util/macros.h"

#define MIB (UINT64_C(1) << 20)

static void test_lines(void **state)
{
        static const struct {
                unsigned int width;
                const char *line;
        } cases[] = {
                { 200,
                  "job 7   42 %  [################------------------------]  420 MiB of 1000 MiB  "
                  "20 MiB/s  0:29 left" },
                { 80, "job 7   42 %  [########-------------]  420 MiB of 1000 MiB  20 MiB/s  0:29 "
                      "left" },
                { 69, "job 7   42 %  [####------]  420 MiB of 1000 MiB  20 MiB/s  0:29 left" },
                { 68, "job 7   42 %  420 MiB of 1000 MiB  20 MiB/s  0:29 left" },
                { 55, "job 7   42 %  420 MiB of 1000 MiB  20 MiB/s  0:29 left" },
                { 54, "job 7   42 %  [######----------]  20 MiB/s  0:29 left" },
                { 36, "job 7   42 %  20 MiB/s  0:29 left" },
                { 30, "job 7   42 %  0:29 left" },
                { 20, "job 7   42 %" },
                { 13, "job 7   42 %" },
                { 12, "job 7   42 " },
                { 4, "job" },
                { 1, "" },
                { 0, "" },
        };
        struct progress progress = { .name = "job 7" };
        char line[PROGRESS_LINE_MAX];

        progress_update(&progress, 400 * MIB, 1000 * MIB, 1000000);
        progress_update(&progress, 420 * MIB, 1000 * MIB, 2000000);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                progress_format(&progress, cases[i].width, line);
                assert_string_equal(line, cases[i].line);
        }
}

/* Whatever the numbers are, and wherever one line of another length would begin. */
static void test_width(void **state)
{
        static const uint64_t totals[] = {
                0, 1, 512, 3 * MIB + 512, UINT64_C(1) << 52, UINT64_MAX
        };
        static const double rates[] = { 0, 0.5, 1, 1e3, 1e12, 1e30 };
        char line[PROGRESS_LINE_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(totals); i++)
                for (size_t k = 0; k < ARRAY_SIZE(rates); k++)
                        for (unsigned int part = 0; part <= 4; part++) {
                                struct progress progress = {
                                        .name = "job 9007199254740991",
                                        .done = totals[i] / 4 * part,
                                        .total = totals[i],
                                        .rate = rates[k],
                                        .at_usec = 1,
                                };

                                for (unsigned int width = 0; width < 400; width++) {
                                        progress_format(&progress, width, line);
                                        assert_true(strlen(line) < MAX(width, 1u));
                                        assert_true(strlen(line) < PROGRESS_LINE_MAX);
                                }
                        }
}

static void test_rate(void **state)
{
        struct progress progress = { .name = "job 1" };
        char line[PROGRESS_LINE_MAX];

        /* Nothing is known of it yet. */
        progress_update(&progress, 0, 100 * MIB, 1000000);
        progress_format(&progress, 80, line);
        assert_null(strstr(line, "left"));
        assert_null(strstr(line, "/s"));

        /* The first one counts alone, a later one by how long it was; nothing sent is a rate, too.
         */
        progress_update(&progress, 10 * MIB, 100 * MIB, 2000000);
        assert_true(progress.rate == (double)(10 * MIB));
        progress_update(&progress, 10 * MIB, 100 * MIB, 3000000);
        assert_true(progress.rate == (double)(5 * MIB));
        progress_update(&progress, 10 * MIB, 100 * MIB, 9000000);
        assert_true(progress.rate == 0);
        progress_format(&progress, 80, line);
        assert_null(strstr(line, "left"));

        /* What cannot be is not believed: it goes back, or no time has passed. */
        progress_update(&progress, 5 * MIB, 100 * MIB, 10000000);
        assert_true(progress.rate == 0);
        progress_update(&progress, 50 * MIB, 100 * MIB, 10000000);
        assert_true(progress.rate == 0);
}

static void test_times(void **state)
{
        static const struct {
                uint64_t seconds;
                const char *text;
        } cases[] = {
                { 0, "  0:00 left" },     { 59, "  0:59 left" },      { 60, "  1:00 left" },
                { 3599, "  59:59 left" }, { 3600, "  1:00:00 left" }, { 359999, "  99:59:59 left" },
                { 360000, NULL },
        };
        char line[PROGRESS_LINE_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct progress progress = { .name = "job 1",
                                             .total = cases[i].seconds * 1000,
                                             .rate = 1000 };

                progress_format(&progress, 100, line);
                if (cases[i].text)
                        assert_string_equal(line + strlen(line) - strlen(cases[i].text),
                                            cases[i].text);
                else
                        assert_null(strstr(line, "left"));
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_width),
                cmocka_unit_test(test_rate),
                cmocka_unit_test(test_times),
        };

        return cmocka_run_group_tests_name("progress", tests, NULL, NULL);
}
