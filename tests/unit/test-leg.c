/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Sizes and legs as people write them (daemon/dmioctl/leg.h).
 * The executable consists of this file and daemon/dmioctl/leg.c; include path daemon/.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dmioctl/leg.h"

#define UNTOUCHED UINT64_C(0xdead)

static void assert_size(const char *text, uint64_t unit, uint64_t expected)
{
        uint64_t value = UNTOUCHED;

        assert_int_equal(size_parse(text, unit, &value), LEG_OK);
        assert_true(value == expected);
}

static void assert_no_size(const char *text, uint64_t unit, int outcome)
{
        uint64_t value = UNTOUCHED;

        assert_int_equal(size_parse(text, unit, &value), outcome);
        assert_true(value == UNTOUCHED);
}

static void assert_leg(const char *text, const char *device, uint64_t sector, uint64_t count)
{
        const char *part;
        struct leg leg;

        assert_int_equal(leg_parse(text, &leg, &part), LEG_OK);
        assert_string_equal(leg.device, device);
        assert_ptr_equal(leg.text, text);
        assert_true(leg.sector == sector);
        assert_true(leg.count == count);
        leg_deinit(&leg);
        assert_null(leg.device);
}

static void assert_no_leg(const char *text, int outcome, const char *part)
{
        struct leg leg = { .sector = UNTOUCHED, .count = UNTOUCHED };
        const char *wrong = NULL;

        assert_int_equal(leg_parse(text, &leg, &wrong), outcome);
        assert_string_equal(wrong, part);
        assert_null(leg.device);
        assert_true(leg.sector == UNTOUCHED);
        assert_true(leg.count == UNTOUCHED);
}

static void plain_numbers_count_units(void **state)
{
        assert_size("0", 512, 0);
        assert_size("8", 512, 8);
        assert_size("8", 4096, 8);
        assert_size("0016", 512, 16);
}

static void units_count_bytes(void **state)
{
        assert_size("0KiB", 512, 0);
        assert_size("1KiB", 512, 2);
        assert_size("4KiB", 512, 8);
        assert_size("1MiB", 512, 2048);
        assert_size("2GiB", 512, 4194304);
        assert_size("3TiB", 512, UINT64_C(6442450944));
        assert_size("4KiB", 4096, 1);
        assert_size("1MiB", 4096, 256);
}

static void sizes_are_whole_units(void **state)
{
        assert_no_size("1KiB", 4096, LEG_E_MULTIPLE);
        assert_no_size("6KiB", 4096, LEG_E_MULTIPLE);
        assert_size("8KiB", 4096, 2);
}

static void other_units_are_refused(void **state)
{
        static const char *const texts[] = { "8K",  "8KB",  "8kib",  "8Kib",  "8KiBs",
                                             "8B",  "8PiB", "8MiB ", "8 MiB", "8.5",
                                             "8,5", "0x10", "8+8",   "8e3" };

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
                assert_no_size(texts[i], 512, LEG_E_UNIT);
}

static void what_is_no_number_is_refused(void **state)
{
        assert_no_size("", 512, LEG_E_EMPTY);
        assert_no_size("-1", 512, LEG_E_NEGATIVE);
        assert_no_size("-", 512, LEG_E_NEGATIVE);
        assert_no_size("+1", 512, LEG_E_NUMBER);
        assert_no_size(" 1", 512, LEG_E_NUMBER);
        assert_no_size("KiB", 512, LEG_E_NUMBER);
        assert_no_size("x", 512, LEG_E_NUMBER);
}

static void sizes_never_overflow(void **state)
{
        assert_size("9007199254740991", 512, LEG_MAX - 1);
        assert_no_size("9007199254740992", 512, LEG_E_RANGE);
        assert_no_size("18446744073709551615", 512, LEG_E_RANGE);
        assert_no_size("18446744073709551616", 512, LEG_E_RANGE);
        assert_no_size("99999999999999999999999999999999", 512, LEG_E_RANGE);
        /* 2^24 TiB are 2^64 bytes: one less fits 64 bits, and 2^22 are 2^53 sectors. */
        assert_no_size("16777216TiB", 512, LEG_E_RANGE);
        assert_no_size("16777215TiB", 512, LEG_E_RANGE);
        assert_no_size("4194304TiB", 512, LEG_E_RANGE);
        assert_size("4194303TiB", 512, LEG_MAX - (UINT64_C(1) << 31));
        assert_no_size("18014398509481985KiB", 512, LEG_E_RANGE);
}

static void times_have_units_of_their_own(void **state)
{
        static const struct {
                const char *text;
                int outcome;
                uint64_t usec;
        } times[] = {
                { "20ms", LEG_OK, 20000 },
                { "0us", LEG_OK, 0 },
                { "7us", LEG_OK, 7 },
                { "2s", LEG_OK, 2000000 },
                { "3", LEG_OK, 3000000 },
                { "", LEG_E_EMPTY, UNTOUCHED },
                { "ms", LEG_E_NUMBER, UNTOUCHED },
                { "-1s", LEG_E_NEGATIVE, UNTOUCHED },
                { "1.5s", LEG_E_TIME, UNTOUCHED },
                { "1 s", LEG_E_TIME, UNTOUCHED },
                { "1KiB", LEG_E_TIME, UNTOUCHED },
                { "1min", LEG_E_TIME, UNTOUCHED },
                { "9007199254s", LEG_OK, 9007199254000000 },
                { "9007199255s", LEG_E_RANGE, UNTOUCHED },
                { "99999999999999999999us", LEG_E_RANGE, UNTOUCHED },
        };

        for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
                uint64_t usec = UNTOUCHED;

                assert_int_equal(time_parse(times[i].text, &usec), times[i].outcome);
                assert_int_equal(usec, times[i].usec);
        }
}

static void a_leg_has_three_parts(void **state)
{
        assert_leg("a.img:0+16384", "a.img", 0, 16384);
        assert_leg("/dev/sdb:100+8", "/dev/sdb", 100, 8);
        assert_leg("disk:4KiB+1GiB", "disk", 8, 2097152);
        assert_leg("disk:8+4KiB", "disk", 8, 8);
        assert_leg("disk:8+0", "disk", 8, 0);
}

static void the_last_colon_separates(void **state)
{
        assert_leg("/dev/disk/by-path/pci-0000:00:1f.2-ata-1:0+8",
                   "/dev/disk/by-path/pci-0000:00:1f.2-ata-1", 0, 8);
        assert_leg("a:1+2:3+4", "a:1+2", 3, 4);
        assert_leg("::0+1", ":", 0, 1);
        assert_leg("with space+plus:0+1", "with space+plus", 0, 1);
}

static void parts_that_are_missing_are_named(void **state)
{
        assert_no_leg("", LEG_E_EMPTY, "DEVICE");
        assert_no_leg("a.img", LEG_E_COLON, "SECTOR");
        assert_no_leg("0+8", LEG_E_COLON, "SECTOR");
        assert_no_leg(":0+8", LEG_E_EMPTY, "DEVICE");
        assert_no_leg("a:", LEG_E_EMPTY, "SECTOR");
        assert_no_leg("a:+8", LEG_E_EMPTY, "SECTOR");
        assert_no_leg("a:8", LEG_E_PLUS, "COUNT");
        assert_no_leg("a:8+", LEG_E_EMPTY, "COUNT");
}

static void parts_that_are_wrong_are_named(void **state)
{
        assert_no_leg("a:-1+8", LEG_E_NEGATIVE, "SECTOR");
        assert_no_leg("a:0+-8", LEG_E_NEGATIVE, "COUNT");
        assert_no_leg("a:x+8", LEG_E_NUMBER, "SECTOR");
        assert_no_leg("a:0+x", LEG_E_NUMBER, "COUNT");
        assert_no_leg("a:0++8", LEG_E_NUMBER, "COUNT");
        assert_no_leg("a:1kb+8", LEG_E_UNIT, "SECTOR");
        assert_no_leg("a:0+8 ", LEG_E_UNIT, "COUNT");
        assert_no_leg("a:0+8+8", LEG_E_UNIT, "COUNT");
        assert_no_leg("a:0+9007199254740992", LEG_E_RANGE, "COUNT");
        assert_no_leg("a:9007199254740992+1", LEG_E_RANGE, "SECTOR");
}

static void a_leg_ends_below_the_limit(void **state)
{
        assert_leg("a:9007199254740990+1", "a", LEG_MAX - 2, 1);
        assert_no_leg("a:9007199254740991+1", LEG_E_RANGE, "SECTOR+COUNT");
        assert_no_leg("a:9007199254740991+9007199254740991", LEG_E_RANGE, "SECTOR+COUNT");
}

static void every_outcome_has_its_words(void **state)
{
        for (int i = LEG_OK; i <= LEG_E_PLUS; i++) {
                assert_non_null(leg_outcome_text(i));
                for (int k = LEG_OK; k < i; k++)
                        assert_string_not_equal(leg_outcome_text(i), leg_outcome_text(k));
        }
        assert_non_null(leg_outcome_text(-1));
        assert_non_null(leg_outcome_text(LEG_E_PLUS + 1));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(plain_numbers_count_units),
                cmocka_unit_test(units_count_bytes),
                cmocka_unit_test(sizes_are_whole_units),
                cmocka_unit_test(other_units_are_refused),
                cmocka_unit_test(what_is_no_number_is_refused),
                cmocka_unit_test(sizes_never_overflow),
                cmocka_unit_test(times_have_units_of_their_own),
                cmocka_unit_test(a_leg_has_three_parts),
                cmocka_unit_test(the_last_colon_separates),
                cmocka_unit_test(parts_that_are_missing_are_named),
                cmocka_unit_test(parts_that_are_wrong_are_named),
                cmocka_unit_test(a_leg_ends_below_the_limit),
                cmocka_unit_test(every_outcome_has_its_words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
