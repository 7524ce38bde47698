/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Counters: which bucket a time falls into, what is added up, who shares no cache line. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model/statistics.h"

static void a_time_lies_between_the_bounds_of_its_bucket(void **state)
{
        static const uint64_t large[] = { (1ULL << 30) - 1, 1ULL << 30, (1ULL << 30) + 1,
                                          1ULL << 31,       1ULL << 40, UINT64_MAX - 1,
                                          UINT64_MAX,       3ULL << 28, (3ULL << 28) + 1 };
        uint64_t usec = 1;

        for (size_t i = 0; i < 100000 + sizeof(large) / sizeof(large[0]); i++) {
                unsigned int bucket;

                usec = i < 100000 ? i + 1 : large[i - 100000];
                bucket = latency_bucket(usec);
                assert_in_range(bucket, 0, LATENCY_BUCKETS - 1);
                assert_true(usec <= latency_bound(bucket));
                assert_true(bucket == 0 || usec > latency_bound(bucket - 1));
        }
        assert_int_equal(latency_bucket(0), 0);
}

static void bounds_are_powers_of_two_and_what_is_between(void **state)
{
        static const uint64_t first[] = { 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64 };

        for (unsigned int i = 0; i < sizeof(first) / sizeof(first[0]); i++)
                assert_int_equal(latency_bound(i), first[i]);
        for (unsigned int i = 1; i < LATENCY_BUCKETS; i++)
                assert_true(latency_bound(i) > latency_bound(i - 1));
        assert_int_equal(latency_bound(LATENCY_BUCKETS - 2), 1ULL << 30);
        assert_true(latency_bound(LATENCY_BUCKETS - 1) == UINT64_MAX);
        assert_int_equal(latency_bound(latency_bucket(20000)), 24576);
}

static void what_ends_is_counted(void **state)
{
        struct counters counters = {}, sum = {};

        counters_add(&counters, 5, 4096, false);
        counters_add(&counters, 6, 512, false);
        counters_add(&counters, 20000, 4096, true);
        assert_int_equal(counters_count(&counters), 3);
        assert_int_equal(counters.buckets[latency_bucket(5)], 2);
        assert_int_equal(counters.buckets[latency_bucket(20000)], 1);
        assert_int_equal(counters.total_usec, 20011);
        assert_int_equal(counters.bytes, 4608);
        assert_int_equal(counters.errors, 1);

        counters_fold(&sum, &counters);
        counters_fold(&sum, &counters);
        assert_int_equal(counters_count(&sum), 6);
        assert_int_equal(sum.total_usec, 40022);
        assert_int_equal(sum.bytes, 9216);
        assert_int_equal(sum.errors, 2);
        assert_int_equal(sum.buckets[latency_bucket(5)], 4);
}

#define LANES 3
#define LEGS 2

static void each_set_is_one_of_its_own(void **state)
{
        struct export_counters counters;
        struct counters *last = NULL;
        uint64_t n = 0;

        assert_int_equal(export_counters_init(&counters, LANES, LEGS), 0);
        for (unsigned int lane = 0; lane < LANES; lane++)
                for (unsigned int row = 0; row < 1 + LEGS; row++)
                        for (int op = 0; op < _OPERATION_EXPORT_MAX; op++) {
                                struct counters *set = export_counters_of(&counters, lane, row,
                                                                          (enum operation)op);

                                assert_int_equal((uintptr_t)set % 64, 0);
                                assert_true(!last || set == last + 1);
                                last = set;
                                counters_add(set, 1, ++n, false);
                        }
        for (unsigned int row = 0; row < 1 + LEGS; row++)
                for (int op = 0; op < _OPERATION_EXPORT_MAX; op++) {
                        struct counters sum = {};
                        unsigned int first = row * _OPERATION_EXPORT_MAX + (unsigned int)op + 1;

                        export_counters_fold(&sum, &counters, row, (enum operation)op);
                        assert_int_equal(counters_count(&sum), LANES);
                        assert_int_equal(sum.bytes, LANES * first + (1 + LEGS) *
                                                                            _OPERATION_EXPORT_MAX *
                                                                            (0 + 1 + 2));
                }
        export_counters_deinit(&counters);
        assert_int_equal(export_counters_init(&counters, 0, 64), 0);
        export_counters_deinit(&counters);
}

#define COUNTED 200000

static void *count(void *argument)
{
        for (unsigned int i = 0; i < COUNTED; i++)
                counters_add(argument, i, 1, i % 2);
        return NULL;
}

/* Each thread in its own lane, while somebody reads: nothing is lost, nothing shrinks. */
static void threads_count_side_by_side(void **state)
{
        struct export_counters counters;
        pthread_t threads[LANES];
        uint64_t n = 0;

        assert_int_equal(export_counters_init(&counters, LANES, 1), 0);
        for (unsigned int i = 0; i < LANES; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, count,
                                                export_counters_of(&counters, i, ROW_LEG(0),
                                                                   OPERATION_WRITE)),
                                 0);
        while (n < LANES * COUNTED) {
                struct counters sum = {};
                uint64_t before = n;

                export_counters_fold(&sum, &counters, ROW_LEG(0), OPERATION_WRITE);
                n = counters_count(&sum);
                assert_true(n >= before);
        }
        for (unsigned int i = 0; i < LANES; i++)
                pthread_join(threads[i], NULL);
        for (unsigned int i = 0; i < LANES; i++) {
                const struct counters *set =
                        export_counters_of(&counters, i, ROW_LEG(0), OPERATION_WRITE);

                assert_int_equal(set->errors, COUNTED / 2);
                assert_int_equal(set->bytes, COUNTED / 2);
                assert_int_equal(set->total_usec, (uint64_t)COUNTED * (COUNTED - 1) / 2);
        }
        export_counters_deinit(&counters);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_time_lies_between_the_bounds_of_its_bucket),
                cmocka_unit_test(bounds_are_powers_of_two_and_what_is_between),
                cmocka_unit_test(what_ends_is_counted),
                cmocka_unit_test(each_set_is_one_of_its_own),
                cmocka_unit_test(threads_count_side_by_side),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
