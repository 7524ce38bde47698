/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The counters file: what one process has counted another one finds, each operation once and whole,
 * wherever the first was killed; and what is damaged is refused, or does no harm.
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/counters-block.h"
#include "util/macros.h"

#define LANES 2
#define LEGS 2

static const struct counters_key client_key = { .node = 100, .check = 1 };
static const struct counters_key export_key = { .node = 102, .client = 100, .check = 2 };

struct fixture {
        struct counters_file file;
        struct client_counters *client;
        int client_block;
        struct export_counters export;
};

static void take_blocks(struct fixture *f, unsigned int n_lanes)
{
        assert_int_equal(
                counters_file_get_client(&f->file, &client_key, &f->client, &f->client_block), 0);
        assert_true(f->client_block >= 0);
        assert_int_equal(counters_file_get_export(&f->file, &export_key, n_lanes, LEGS, &f->export),
                         0);
        assert_ptr_equal(f->export.file, &f->file);
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        f->file = (struct counters_file)COUNTERS_FILE_NULL;
        assert_int_equal(counters_file_new(&f->file), 0);
        take_blocks(f, LANES);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        counters_file_close(&f->file);
        free(f);
        return 0;
}

/* As by SIGKILL. What the supervisor has kept is opened; the result of that. */
static int die_and_open(struct fixture *f)
{
        const char *why = NULL;
        int fd = fcntl(f->file.fd, F_DUPFD_CLOEXEC, 3);
        int r;

        assert_true(fd >= 0);
        counters_file_close(&f->file);
        r = counters_file_open(&f->file, fd, &why);
        assert_int_equal(r == -EBADMSG, why != NULL);
        return r;
}

static void die(struct fixture *f)
{
        assert_int_equal(die_and_open(f), 0);
        take_blocks(f, LANES);
}

static void count_write(struct fixture *f, unsigned int lane, uint64_t usec, uint64_t bytes,
                        bool failed)
{
        export_counters_add(&f->export, lane, ROW_EXPORT, OPERATION_WRITE, usec, bytes, failed,
                            NULL);
}

static void expect_sum(const struct counters *sum, uint64_t count, uint64_t errors, uint64_t bytes,
                       uint64_t usec)
{
        assert_int_equal(counters_count(sum), count);
        assert_int_equal(sum->errors, errors);
        assert_int_equal(sum->bytes, bytes);
        assert_int_equal(sum->total_usec, usec);
}

static void expect_writes(const struct fixture *f, uint64_t count, uint64_t errors, uint64_t bytes,
                          uint64_t usec)
{
        struct counters sum = {};

        export_counters_fold(&sum, &f->export, ROW_EXPORT, OPERATION_WRITE);
        expect_sum(&sum, count, errors, bytes, usec);
}

static void what_is_counted_is_found(void **state)
{
        struct fixture *f = *state;

        count_write(f, 0, 5, 4096, false);
        count_write(f, 1, 7, 512, false);
        count_write(f, 1, 11, 512, true);
        export_counters_add(&f->export, 1, ROW_LEG(1), OPERATION_READ, 3, 10, false, NULL);
        counters_file_add(&f->file, counters_file_journal(&f->file, COUNTERS_MAIN_LANE),
                          &f->client->calls[OPERATION_DISCARD], 4, 20, false, NULL);
        f->client->waits = 6;
        f->export.leg_errors[1].count = 3;
        f->export.leg_errors[1].last = EIO;

        for (unsigned int i = 0; i < 2; i++) {
                struct counters sum = {};

                die(f);
                counters_file_settle(&f->file);
                expect_writes(f, 3, 1, 4608, 23);
                export_counters_fold(&sum, &f->export, ROW_LEG(1), OPERATION_READ);
                expect_sum(&sum, 1, 0, 10, 3);
                expect_sum(&f->client->calls[OPERATION_DISCARD], 1, 0, 20, 4);
                assert_int_equal(f->client->waits, 6);
                assert_int_equal(f->export.leg_errors[1].count, 3);
                assert_int_equal(f->export.leg_errors[1].last, EIO);
                assert_int_equal(f->export.leg_errors[0].count, 0);
        }
}

/* Its stores, in their order, up to some point; the rest is taken back. */
static void no_kill_counts_by_half(void **state)
{
        struct fixture *f = *state;
        const struct counters_request request = { .slot = 77, .unique = 1234 };
        struct counters_journal *journal;
        struct counters *set;
        uint64_t count = 0, bytes = 0, errors = 0, usec = 0;

        for (unsigned int turn = 0; turn < 12; turn++) {
                bool failed = turn % 2;

                set = export_counters_of(&f->export, 1, ROW_EXPORT, OPERATION_WRITE);
                journal = counters_file_journal(&f->file, 1);
                export_counters_add(&f->export, 1, ROW_EXPORT, OPERATION_WRITE, 5, 4096, failed,
                                    &request);
                assert_int_equal(journal->set, 0);
                assert_int_equal(f->file.counted[77], 1234);
                if (turn < 10)
                        journal->set = (uint64_t)((uint8_t *)set - f->file.start);
                if (turn < 8)
                        f->file.counted[77] = 1;
                if (turn < 6)
                        *(failed ? &set->errors : &set->bytes) -= failed ? 1 : 4096;
                if (turn < 4)
                        set->total_usec -= 5;
                if (turn < 2)
                        set->buckets[latency_bucket(5)]--;

                die(f);
                count++;
                usec += 5;
                bytes += failed ? 0 : 4096;
                errors += failed;
                expect_writes(f, count, errors, bytes, usec);
                assert_int_equal(f->file.counted[77], 1234);
                f->file.counted[77] = 0;
        }
        /* It had noted something, but not that it was going to store it. */
        journal = counters_file_journal(&f->file, 1);
        journal->n = 4711;
        journal->slot = 5;
        die(f);
        expect_writes(f, count, errors, bytes, usec);
        assert_int_equal(f->file.counted[4], 0);
}

static void numbers_are_of_one_thing(void **state)
{
        struct fixture *f = *state;
        struct counters_key other = export_key;
        struct export_counters export;

        count_write(f, 0, 1, 1, false);
        assert_int_equal(die_and_open(f), 0);
        other.check++;
        assert_int_equal(counters_file_get_export(&f->file, &other, LANES, LEGS, &export), 0);
        f->export = export;
        expect_writes(f, 0, 0, 0, 0);
        other.node += 1;
        assert_int_equal(counters_file_get_export(&f->file, &other, LANES, LEGS, &export), 0);
        assert_int_not_equal(export.block, f->export.block);
}

static void one_without_a_node_is_not_kept(void **state)
{
        struct fixture *f = *state;
        struct counters_key fresh = { .client = 100, .check = 3 };
        struct export_counters export;
        uint32_t block;

        assert_int_equal(counters_file_get_export(&f->file, &fresh, LANES, LEGS, &export), 0);
        block = export.block;
        export_counters_add(&export, 0, ROW_EXPORT, OPERATION_READ, 1, 1, false, NULL);
        die(f);
        assert_int_equal(f->file.blocks[block].state, BLOCK_FREE);

        assert_int_equal(counters_file_get_export(&f->file, &fresh, LANES, LEGS, &export), 0);
        block = export.block;
        export_counters_add(&export, 0, ROW_EXPORT, OPERATION_READ, 1, 1, false, NULL);
        counters_file_enter(&f->file, export.block, 200);
        die(f);
        assert_int_equal(f->file.blocks[block].state, BLOCK_IN_USE);
        /* It has not come back: it was its client's. */
        counters_file_settle(&f->file);
        assert_int_equal(f->file.blocks[block].state, BLOCK_FREE);
        expect_sum(&f->client->removed[OPERATION_READ], 1, 0, 1, 1);
}

/* What an export leaves to its client, with a kill after each of the steps. */
static void no_kill_counts_a_removed_one_twice(void **state)
{
        for (unsigned int step = 0; step < 6; step++) {
                struct fixture *f;
                uint64_t block;

                assert_int_equal(set_up((void **)&f), 0);
                block = f->export.block;
                f->client->removed[OPERATION_WRITE].bytes = 10;
                count_write(f, 0, 5, 100, false);
                count_write(f, 1, 5, 1, false);
                if (step > 0) {
                        client_counters_take(f->client, &f->export, export_key.node);
                        assert_int_equal(f->client->staged_node, export_key.node);
                        if (step < 2) {
                                f->client->staged_node = 0;
                                memset((void *)&f->client->removed[OPERATION_WRITE], 0,
                                       sizeof(struct counters));
                                f->client->removed[OPERATION_WRITE].bytes = 10;
                        } else if (step < 3) {
                                f->client->removed[OPERATION_WRITE].bytes = 10;
                        }
                }
                if (step > 3)
                        counters_file_put(&f->file, (uint32_t)block);
                if (step > 4)
                        client_counters_took(f->client);

                assert_int_equal(die_and_open(f), 0);
                assert_int_equal(counters_file_get_client(&f->file, &client_key, &f->client,
                                                          &f->client_block),
                                 0);
                counters_file_settle(&f->file);
                expect_sum(&f->client->removed[OPERATION_WRITE], 2, 0, 111, 10);
                assert_int_equal(f->client->staged_node, 0);
                assert_int_equal(f->file.blocks[block].state, BLOCK_FREE);
                tear_down((void **)&f);
        }
        *state = NULL;
}

static void more_threads_count_on(void **state)
{
        struct fixture *f = *state;
        uint32_t old = f->export.block;

        count_write(f, 0, 5, 100, false);
        count_write(f, 1, 5, 1, false);
        f->export.leg_errors[1].count = 9;

        /* Fewer threads leave it as it is. */
        assert_int_equal(die_and_open(f), 0);
        take_blocks(f, 1);
        assert_int_equal(f->export.n_lanes, LANES);
        expect_writes(f, 2, 0, 101, 10);

        assert_int_equal(die_and_open(f), 0);
        take_blocks(f, 5);
        assert_int_equal(f->export.n_lanes, 5);
        assert_int_not_equal(f->export.block, old);
        expect_writes(f, 2, 0, 101, 10);
        assert_int_equal(f->export.leg_errors[1].count, 9);
        count_write(f, 4, 5, 1000, false);

        /* Killed before the old one was freed. */
        f->file.blocks[old].state = BLOCK_IN_USE;
        assert_int_equal(f->file.blocks[old].node, export_key.node);
        assert_int_equal(die_and_open(f), 0);
        assert_int_equal(f->file.blocks[old].state, BLOCK_FREE);
        take_blocks(f, 5);
        expect_writes(f, 3, 0, 1101, 15);
}

static void what_is_free_is_empty(void **state)
{
        struct fixture *f = *state;
        struct counters_key fresh = { .client = 100, .check = 3 };
        struct export_counters export;

        count_write(f, 0, 5, 100, false);
        f->export.leg_errors[0].count = 1;
        counters_file_put(&f->file, f->export.block);
        f->file.next_page = f->file.next_block = 0;
        assert_int_equal(counters_file_get_export(&f->file, &fresh, LANES, LEGS, &export), 0);
        assert_int_equal(export.block, f->export.block);
        f->export = export;
        expect_writes(f, 0, 0, 0, 0);
        assert_int_equal(export.leg_errors[0].count, 0);

        /* Killed before it was emptied. */
        count_write(f, 0, 5, 100, false);
        f->file.blocks[export.block].state = BLOCK_FREE;
        assert_int_equal(die_and_open(f), 0);
        assert_int_equal(counters_file_get_export(&f->file, &fresh, LANES, LEGS, &f->export), 0);
        expect_writes(f, 0, 0, 0, 0);
}

static void room_ends(void **state)
{
        struct fixture *f = *state;
        struct counters_key fresh = { .client = 100 };
        struct client_counters *client;
        struct export_counters export;
        unsigned int n = 0;
        int block;

        /* Large ones need all pages, small ones all blocks. */
        do {
                assert_int_equal(counters_file_get_export(&f->file, &fresh, COUNTERS_QUEUES,
                                                          COUNTERS_LEGS, &export),
                                 0);
                n++;
        } while (export.file);
        assert_in_range(n, 16, 64);
        export_counters_add(&export, COUNTERS_QUEUES - 1, ROW_LEG(COUNTERS_LEGS - 1),
                            OPERATION_READ, 1, 1, false, NULL);
        export_counters_deinit(&export);
        do {
                assert_int_equal(counters_file_get_client(&f->file, &fresh, &client, &block), 0);
                n++;
        } while (block >= 0);
        assert_in_range(n, 64, COUNTERS_BLOCKS);
        free(client);

        count_write(f, 0, 5, 100, false);
        die(f);
        expect_writes(f, 1, 0, 100, 5);
}

static void without_a_file_it_is_memory(void **state)
{
        struct export_counters export;
        struct client_counters *client;
        int block;

        assert_int_equal(counters_file_get_export(NULL, &export_key, 1, 1, &export), 0);
        export_counters_add(&export, 0, ROW_LEG(0), OPERATION_READ, 1, 7, false, NULL);
        assert_int_equal(export_counters_of(&export, 0, ROW_LEG(0), OPERATION_READ)->bytes, 7);
        export.leg_errors[0].count = 1;
        export_counters_deinit(&export);
        assert_int_equal(counters_file_get_client(NULL, &client_key, &client, &block), 0);
        assert_int_equal(block, -1);
        free(client);
}

static void what_is_damaged_is_refused(void **state)
{
        for (size_t at = 0; at < 80; at++) {
                struct fixture *f;
                int r;

                assert_int_equal(set_up((void **)&f), 0);
                f->file.start[at] ^= 0x10;
                r = die_and_open(f);
                if (r == 0) /* behind what there is a checksum of */
                        assert_true(at >= 72);
                assert_true(r == 0 || r == -EBADMSG || r == -EPROTO);
                tear_down((void **)&f);
        }
        *state = NULL;
}

static void damage_does_no_harm(void **state)
{
        static const uint8_t flips[] = { 0x01, 0x10, 0x80, 0xff };
        unsigned int n_refused = 0;

        for (size_t at = 0; at < 3 * 64; at++) {
                for (size_t i = 0; i < ARRAY_SIZE(flips); i++) {
                        struct fixture *f;
                        struct export_counters export;
                        uint8_t *bytes;

                        assert_int_equal(set_up((void **)&f), 0);
                        count_write(f, 0, 5, 100, false);
                        counters_file_journal(&f->file, 0)->set =
                                (uint64_t)((uint8_t *)f->export.sets - f->file.start);
                        bytes = at < 64 ? (uint8_t *)counters_file_journal(&f->file, 0) + at
                                        : (uint8_t *)f->file.blocks + (at - 64);
                        *bytes ^= flips[i];
                        if (die_and_open(f) == 0) {
                                counters_file_settle(&f->file);
                                assert_int_equal(counters_file_get_export(&f->file, &export_key,
                                                                          LANES, LEGS, &export),
                                                 0);
                        } else {
                                n_refused++;
                        }
                        tear_down((void **)&f);
                }
        }
        assert_true(n_refused > 50);
        *state = NULL;
}

static void a_value_that_cannot_be_is_refused(void **state)
{
        struct fixture *f = *state;

        export_counters_of(&f->export, 1, ROW_LEG(1), OPERATION_FLUSH)->bytes = UINT64_MAX - 5;
        assert_int_equal(die_and_open(f), -EBADMSG);
}

static void what_is_no_memory_of_ours_is_refused(void **state)
{
        struct counters_file file = COUNTERS_FILE_NULL;
        const char *why = NULL;
        int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_int_equal(ftruncate(fd, 1 << 20), 0);
        assert_int_equal(counters_file_open(&file, fcntl(fd, F_DUPFD_CLOEXEC, 3), &why), -EBADMSG);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
        assert_int_equal(counters_file_open(&file, fcntl(fd, F_DUPFD_CLOEXEC, 3), &why), -EPROTO);
        assert_int_equal(close(fd), 0);
        assert_int_equal(counters_file_open(&file, open("/dev/null", O_RDWR | O_CLOEXEC), &why),
                         -EBADMSG);
        assert_null(file.start);
}

static void counters_are_raised(void **state)
{
        struct fixture *f = *state;
        struct counters floor = { .total_usec = 8, .bytes = 150, .errors = 1 };

        count_write(f, 0, 5, 100, false);
        count_write(f, 1, 5, 20, false);
        floor.buckets[latency_bucket(5)] = 1;
        floor.buckets[latency_bucket(500)] = 4;
        export_counters_raise(&f->export, ROW_EXPORT, OPERATION_WRITE, &floor);
        expect_writes(f, 6, 1, 150, 10);
        export_counters_raise(&f->export, ROW_EXPORT, OPERATION_WRITE, &floor);
        expect_writes(f, 6, 1, 150, 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST(what_is_counted_is_found),
                TEST(no_kill_counts_by_half),
                TEST(numbers_are_of_one_thing),
                TEST(one_without_a_node_is_not_kept),
                cmocka_unit_test(no_kill_counts_a_removed_one_twice),
                TEST(more_threads_count_on),
                TEST(what_is_free_is_empty),
                TEST(room_ends),
                cmocka_unit_test(without_a_file_it_is_memory),
                cmocka_unit_test(what_is_damaged_is_refused),
                cmocka_unit_test(damage_does_no_harm),
                TEST(a_value_that_cannot_be_is_refused),
                cmocka_unit_test(what_is_no_memory_of_ours_is_refused),
                TEST(counters_are_raised),
        };

        return cmocka_run_group_tests_name("counters-file", tests, NULL, NULL);
}
