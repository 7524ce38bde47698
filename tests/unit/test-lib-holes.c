/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where a device has data and where holes, and how much of it is allocated. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dmio/dmio.h>

#include "scratch.h"

/* File systems keep holes in units of their blocks, of up to 64 KiB. */
#define UNIT ((uint64_t)64 * 1024)
#define SECTORS ((sector_t)(4 * UNIT / DMIO_SECTOR_SIZE))

static uint64_t seek(struct block_device *bdev, int whence, uint64_t offset)
{
        uint64_t at = 0;

        assert_int_equal(dmio_device_seek(bdev, whence, offset, &at), 0);
        return at;
}

static void write_unit(const struct scratch *scratch, uint64_t at)
{
        unsigned char data[UNIT];

        pattern_fill(data, sizeof(data), 3);
        scratch_write(scratch, at, data, sizeof(data));
        assert_int_equal(fsync(scratch->image_fd), 0);
}

/* hole, data, hole, hole */
static void test_file(void **state)
{
        struct dmio_device_info info;
        struct scratch scratch;
        uint64_t at = 77;

        scratch_init(&scratch, SCRATCH_FILE, SECTORS, 0);
        dmio_device_info(scratch.bdev, &info);
        assert_int_equal(info.allocated, 0);
        assert_int_equal(seek(scratch.bdev, SEEK_HOLE, 0), 0);
        assert_int_equal(dmio_device_seek(scratch.bdev, SEEK_DATA, 0, &at), -ENXIO);

        write_unit(&scratch, UNIT);
        dmio_device_info(scratch.bdev, &info);
        assert_in_range(info.allocated, UNIT / 512, 2 * UNIT / 512);
        assert_int_equal(seek(scratch.bdev, SEEK_DATA, 0), UNIT);
        assert_int_equal(seek(scratch.bdev, SEEK_DATA, UNIT + 5), UNIT + 5);
        assert_int_equal(seek(scratch.bdev, SEEK_HOLE, UNIT), 2 * UNIT);
        assert_int_equal(seek(scratch.bdev, SEEK_HOLE, 3 * UNIT + 1), 3 * UNIT + 1);
        assert_int_equal(dmio_device_seek(scratch.bdev, SEEK_DATA, 2 * UNIT, &at), -ENXIO);
        assert_int_equal(at, 77);

        /* The end is a hole. */
        write_unit(&scratch, 3 * UNIT);
        assert_int_equal(seek(scratch.bdev, SEEK_HOLE, 3 * UNIT), 4 * UNIT);
        assert_int_equal(dmio_device_seek(scratch.bdev, SEEK_HOLE, 4 * UNIT, &at), -ENXIO);
        assert_int_equal(dmio_device_seek(scratch.bdev, SEEK_DATA, 4 * UNIT, &at), -ENXIO);
        assert_int_equal(dmio_device_seek(scratch.bdev, SEEK_SET, 0, &at), -EINVAL);
        scratch_deinit(&scratch);
}

static void expect_all_data(struct block_device *bdev)
{
        struct dmio_device_info info;

        dmio_device_info(bdev, &info);
        assert_int_equal(info.allocated, info.capacity);
        assert_int_equal(seek(bdev, SEEK_DATA, 1000), 1000);
        assert_int_equal(seek(bdev, SEEK_HOLE, 1000), info.capacity * DMIO_SECTOR_SIZE);
}

static void test_block_device(void **state)
{
        struct scratch scratch;

        if (!scratch_kind_works(SCRATCH_LOOP))
                skip();
        scratch_init(&scratch, SCRATCH_LOOP, SECTORS, 0);
        expect_all_data(scratch.bdev);
        scratch_deinit(&scratch);
}

struct user {
        struct dmio_engine *engine;
        struct dm_io_client *client;
        struct scratch scratch;
};

static void user_init(struct user *user, const char *backend)
{
        const struct dmio_engine_options options = { .backend = backend };

        scratch_init(&user->scratch, SCRATCH_FILE, SECTORS, 0);
        assert_int_equal(dmio_engine_create(&options, &user->engine), 0);
        assert_int_equal(dm_io_client_create(user->engine, 4, &user->client), 0);
}

static void user_deinit(struct user *user)
{
        assert_int_equal(dm_io_client_destroy(user->client), 0);
        assert_int_equal(dmio_engine_destroy(user->engine), 0);
        scratch_deinit(&user->scratch);
}

/* On the second unit. Returns what dm_io() does. */
static int run(struct user *user, enum dm_io_op op, unsigned int flags, void *data)
{
        const struct dm_io_request request = {
                .op = op,
                .flags = flags,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = data },
                .client = user->client,
        };
        struct io_region region = scratch_region(&user->scratch, UNIT / 512, UNIT / 512);
        unsigned long bits = 0;
        int r;

        r = dm_io(&request, 1, &region, &bits);
        assert_int_equal(bits, 0);
        return r;
}

/* What stands in memory in its place may hold bytes where the file has a hole. */
static void test_ram_disk(void **state)
{
        struct page *pages = pages_new(UNIT / DMIO_PAGE_SIZE);
        struct user user;

        memset(pages, 7, UNIT);
        user_init(&user, "memory");
        assert_int_equal(run(&user, DM_IO_WRITE, 0, pages), 0);
        expect_all_data(user.scratch.bdev);
        user_deinit(&user);
        free(pages);
}

static void test_zeroes_without_space(void **state)
{
        struct dmio_device_info info;
        struct user user;

        user_init(&user, NULL);
        write_unit(&user.scratch, UNIT);
        assert_int_equal(run(&user, DM_IO_WRITE_ZEROES, DM_IO_UNMAP, NULL), 0);
        dmio_device_info(user.scratch.bdev, &info);
        assert_int_equal(info.allocated, 0);
        scratch_expect_zeroes(&user.scratch, 0, 4 * UNIT);
        assert_int_equal(run(&user, DM_IO_DISCARD, DM_IO_UNMAP, NULL), -EINVAL);
        user_deinit(&user);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_file),
                cmocka_unit_test(test_block_device),
                cmocka_unit_test(test_ram_disk),
                cmocka_unit_test(test_zeroes_without_space),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
