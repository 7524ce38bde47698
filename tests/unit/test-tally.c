/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What dmioctl makes of counters: sums, what has come since, percentiles. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dmioctl/tally.h"

static struct tally tally_of(const char *text)
{
        json_t *operation = json_loads(text, 0, NULL);
        struct tally tally;

        assert_non_null(operation);
        tally_read(&tally, operation);
        json_decref(operation);
        return tally;
}

static void an_operation_is_read(void **state)
{
        struct tally tally = tally_of("{\"operation\":\"read\",\"count\":6,\"errors\":1,"
                                      "\"bytes\":4096,\"total_us\":50,\"latency\":["
                                      "{\"upto_us\":4,\"count\":2},{\"upto_us\":24,\"count\":3},"
                                      "{\"count\":1}]}");

        assert_int_equal(tally.count, 6);
        assert_int_equal(tally.errors, 1);
        assert_int_equal(tally.bytes, 4096);
        assert_int_equal(tally.total_us, 50);
        assert_int_equal(tally.buckets[latency_bucket(4)], 2);
        assert_int_equal(tally.buckets[latency_bucket(20)], 3);
        assert_int_equal(tally.buckets[LATENCY_BUCKETS - 1], 1);
        assert_int_equal(tally_of("{}").count, 0);
        assert_int_equal(tally_of("{\"count\":-1,\"latency\":7}").count, 0);
        tally_read(&tally, NULL);
        assert_int_equal(tally.count, 0);
}

static void it_is_found_by_its_name(void **state)
{
        json_t *operations = json_pack("[{s:s, s:i}, {s:s, s:i}]", "operation", "read", "count", 3,
                                       "operation", "write", "count", 4);
        struct tally tally;

        tally_find(&tally, operations, "write");
        assert_int_equal(tally.count, 4);
        tally_find(&tally, operations, "flush");
        assert_int_equal(tally.count, 0);
        tally_find(&tally, NULL, "read");
        assert_int_equal(tally.count, 0);
        json_decref(operations);
}

static void what_has_come_since(void **state)
{
        const struct tally before = { .count = 3, .bytes = 30, .total_us = 300, .buckets[5] = 3 };
        const struct tally later = { .count = 5,
                                     .errors = 1,
                                     .bytes = 40,
                                     .total_us = 700,
                                     .buckets[5] = 4,
                                     .buckets[9] = 1 };
        struct tally tally = later, sum = {};

        tally_subtract(&tally, &before);
        assert_int_equal(tally.count, 2);
        assert_int_equal(tally.errors, 1);
        assert_int_equal(tally.bytes, 10);
        assert_int_equal(tally.total_us, 400);
        assert_int_equal(tally.buckets[5], 1);
        assert_int_equal(tally.buckets[9], 1);

        tally_add(&sum, &before);
        tally_add(&sum, &tally);
        assert_memory_equal(&sum, &later, sizeof(sum));

        /* What has less than before has begun anew. */
        tally = before;
        tally_subtract(&tally, &later);
        assert_memory_equal(&tally, &before, sizeof(tally));
        tally = later;
        tally.buckets[5] = 2;
        tally_subtract(&tally, &before);
        assert_int_equal(tally.count, 5);
}

static void percentiles_lie_in_their_bucket(void **state)
{
        struct tally tally = {};
        static const uint64_t times[] = { 1, 5, 20, 333, 20000, 1000000 };

        assert_int_equal(tally_percentile(&tally, 0.5), 0);
        for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
                unsigned int bucket = latency_bucket(times[i]);

                tally = (struct tally){};
                tally.buckets[bucket] = 1000;
                for (int k = 0; k <= 100; k++)
                        assert_in_range(tally_percentile(&tally, k / 100.0),
                                        bucket > 0 ? latency_bound(bucket - 1) : 0,
                                        latency_bound(bucket));
                assert_int_equal(tally_percentile(&tally, 1), latency_bound(bucket));
        }

        /* 98 fast ones and two slow ones: the slow ones are the last two of a hundred. */
        tally = (struct tally){};
        tally.buckets[latency_bucket(100)] = 98;
        tally.buckets[latency_bucket(20000)] = 2;
        assert_in_range(tally_percentile(&tally, 0.5), 97, 128);
        assert_in_range(tally_percentile(&tally, 0.98), 97, 128);
        assert_in_range(tally_percentile(&tally, 0.99), 16385, 24576);

        tally.buckets[LATENCY_BUCKETS - 1] = 10000;
        assert_int_equal(tally_percentile(&tally, 0.99), 1ULL << 30);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_operation_is_read),
                cmocka_unit_test(it_is_found_by_its_name),
                cmocka_unit_test(what_has_come_since),
                cmocka_unit_test(percentiles_lie_in_their_bucket),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
