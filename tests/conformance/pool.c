/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 103 to 113: reservations come and go.
 *
 * The kernel's pool holds request contexts, four for each page, and counts a minimum and idle ones.
 * Ours reserves the pages, and four contexts for each.
 */
#include <errno.h>
#include <sys/resource.h>

#include "reserve.h"
#include "util/macros.h"

#define PAGE DMIO_PAGE_SIZE
#define CHUNK DMIO_POOL_CHUNK_PAGES

static void an_async_write_works(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;
        struct disk *disk = kit_disk(kit, DISK_FILE);
        struct page *data = kit_pages(kit, 1, 1);
        struct io_region where = on_disk(disk, 8, 8);

        assert_int_equal(kit_async(kit, DM_IO_WRITE, in_vm(data), 1, &where, &completion), 0);
        kit_called(&completion, 0);
        disk_expect(kit, disk, 8, data, PAGE);
}

static void case_103_get_of_one(struct kit *kit)
{
        assert_int_equal(kit_get(kit, 1), 0);
        kit_expect_reserved(kit, 1);
        an_async_write_works(kit);
        assert_int_equal(kit_put(kit, 1), 0);
        kit_expect_gone(kit);
}

static void case_104_gets_add_up(struct kit *kit)
{
        assert_int_equal(kit_get(kit, 16), 0);
        kit_expect_reserved(kit, 16);
        assert_int_equal(kit_get(kit, 16), 0);
        kit_expect_reserved(kit, 32);
        assert_int_equal(kit_put(kit, 16), 0);
        kit_expect_reserved(kit, 16);
        assert_int_equal(kit_put(kit, 16), 0);
        kit_expect_gone(kit);
        /* Several chunks, and back. */
        assert_int_equal(kit_get(kit, 3 * CHUNK), 0);
        if (!kit->classic)
                assert_true(pool_of(kit->engine).total >= 4 * CHUNK);
        assert_int_equal(kit_put(kit, 3 * CHUNK), 0);
        kit_expect_gone(kit);
}

static void case_105_put_in_parts(struct kit *kit)
{
        assert_int_equal(kit_get(kit, 10), 0);
        kit_expect_reserved(kit, 10);
        assert_int_equal(kit_put(kit, 4), 0);
        kit_expect_reserved(kit, 6);
        assert_int_equal(kit_put(kit, 6), 0);
        kit_expect_gone(kit);
}

static void case_106_get_of_nothing(struct kit *kit)
{
        assert_int_equal(kit_get(kit, 0), 0);
        kit_expect_reserved(kit, 0);
        an_async_write_works(kit);
        assert_int_equal(kit_put(kit, 0), 0);
        kit_expect_gone(kit);
}

static void case_107_put_without_get(struct kit *kit)
{
        assert_int_equal(kit_put(kit, 1), -EINVAL);
        assert_int_equal(kit_put(kit, UINT32_MAX), -EINVAL);
        kit_expect_gone(kit);
}

static void case_108_put_of_more_than_was_got(struct kit *kit)
{
        assert_int_equal(kit_get(kit, 10), 0);
        assert_int_equal(kit_put(kit, 11), -EINVAL);
        kit_expect_reserved(kit, 10);
        an_async_write_works(kit);
        assert_int_equal(kit_put(kit, 10), 0);
        kit_expect_gone(kit);
}

static void case_109_get_of_far_too_many(struct kit *kit)
{
        assert_int_equal(kit_get(kit, 4), 0);
        assert_int_equal(kit_get(kit, 0x40000000), -EINVAL);
        assert_int_equal(kit_get(kit, UINT32_MAX), -EINVAL);
        kit_expect_reserved(kit, 4);
        assert_int_equal(kit_put(kit, 4), 0);
        kit_expect_gone(kit);
}

static void case_110_the_first_get_fails(struct kit *kit)
{
        kit_need_starving(kit);
        for (unsigned int n = 0; n < 2; n++) {
                int r;

                starve_after(n);
                r = kit_get(kit, CHUNK);
                assert_true(starve_end() > 0);
                assert_int_equal(r, -ENOMEM);
                kit_expect_gone(kit);
        }
        assert_int_equal(kit_get(kit, CHUNK), 0);
        kit_expect_reserved(kit, CHUNK);
        an_async_write_works(kit);
        assert_int_equal(kit_put(kit, CHUNK), 0);
        kit_expect_gone(kit);
}

static void case_111_growth_fails(struct kit *kit)
{
        int r;

        kit_need_starving(kit);
        assert_int_equal(kit_get(kit, 4), 0);
        starve_after(0);
        r = kit_get(kit, CHUNK);
        assert_true(starve_end() > 0);
        assert_int_equal(r, -ENOMEM);
        kit_expect_reserved(kit, 4);
        an_async_write_works(kit);
        assert_int_equal(kit_get(kit, CHUNK), 0);
        kit_expect_reserved(kit, CHUNK + 4);
        assert_int_equal(kit_put(kit, CHUNK + 4), 0);
        kit_expect_gone(kit);
}

static void case_112_growth_fails_half_way(struct kit *kit)
{
        uint64_t before = 0;
        int r;

        kit_need_starving(kit);
        assert_int_equal(kit_get(kit, 4), 0);
        if (!kit->classic)
                before = pool_of(kit->engine).total;
        for (unsigned int n = 1; n <= 5; n++) {
                starve_after(n);
                r = kit_get(kit, 4 * CHUNK);
                assert_true(starve_end() > 0);
                assert_int_equal(r, -ENOMEM);
                kit_expect_reserved(kit, 4);
                if (!kit->classic)
                        assert_int_equal(pool_of(kit->engine).total, before);
        }
        assert_int_equal(kit_put(kit, 4), 0);
        kit_expect_gone(kit);
}

/* Each step of making an engine fails in turn; what was made before it must be gone. */
static void case_113_a_later_step_fails(struct kit *kit)
{
        struct dmio_engine_options options = { .backend = kit->target, .max_pages = 1000 };
        struct rlimit limit, none;
        struct dm_io_client *client = NULL;
        struct dmio_engine *engine = NULL;
        unsigned int n_failures = 0;
        int r = -ENOMEM;

        kit_need_starving(kit);
        for (unsigned int n = 0; n < 1000 && r < 0; n++) {
                starve_after(n);
                r = dmio_engine_create(&options, &engine);
                (void)starve_end();
                n_failures += r < 0;
                assert_true(r == 0 || r == -ENOMEM || r == -EOPNOTSUPP);
        }
        assert_int_equal(r, 0);
        assert_true(n_failures >= 2);
        assert_int_equal(dm_io_client_create(engine, 1001, &client), -EINVAL);
        assert_null(client);
        /* -EBUSY if a client were left. */
        assert_int_equal(dmio_engine_destroy(engine), 0);

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        none = (struct rlimit){ .rlim_cur = 0, .rlim_max = limit.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        engine = NULL;
        r = dmio_engine_create(&options, &engine);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_true(r < 0);
        assert_null(engine);
        assert_int_equal(dmio_engine_create(&options, &engine), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
}

static const struct conformance_case cases[] = {
        CASE(103, 103_get_of_one, ON_BOTH | NOTHING_GOT,
             "get(1): 1 page and 4 contexts are reserved, async requests work", NULL),
        CASE(104, 104_gets_add_up, ON_BOTH | NOTHING_GOT,
             "get(16) twice, put(16) twice: 16, 32, 16, gone", NULL),
        CASE(105, 105_put_in_parts, ON_BOTH | NOTHING_GOT, "get(10), put(4), put(6): 10, 6, gone",
             NULL),
        CASE(106, 106_get_of_nothing, ON_BOTH | NOTHING_GOT,
             "get(0): async requests work; put(0) ends it", NULL),
        CASE(107, 107_put_without_get, ON_BOTH | NOTHING_GOT, "put(1) without a get: -EINVAL",
             NULL),
        CASE(108, 108_put_of_more_than_was_got, ON_BOTH | NOTHING_GOT,
             "get(10), put(11): -EINVAL, 10 stay reserved", NULL),
        CASE(109, 109_get_of_far_too_many, ON_BOTH | NOTHING_GOT,
             "get(0x40000000): -EINVAL, nothing changes", NULL),
        CASE(110, 110_the_first_get_fails, ON_BOTH | NOTHING_GOT,
             "the first get finds no memory: -ENOMEM, nothing is there, the next one succeeds",
             NULL),
        CASE(111, 111_growth_fails, ON_BOTH | NOTHING_GOT,
             "a further get finds no memory: -ENOMEM, what was reserved stays", NULL),
        CASE(112, 112_growth_fails_half_way, ON_BOTH | NOTHING_GOT,
             "memory ends in the middle of a get: -ENOMEM, nothing changes",
             "the kernel says 0 with a part of it"),
        CASE(113, 113_a_later_step_fails, ON_MODERN,
             "a later step of making an engine or client fails: the earlier ones are undone", NULL),
};

const struct conformance_section pool_section = { "Reservations", cases, ARRAY_SIZE(cases) };
