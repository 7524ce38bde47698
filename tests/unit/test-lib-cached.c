/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the page cache holds of a device that is used directly, and how to be rid of it. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <dmio/dmio.h>

#include "scratch.h"

#define BYTES ((uint64_t)4 << 20)
#define SECTORS (BYTES / DMIO_SECTOR_SIZE)

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static bool kernel_tells(void)
{
        return syscall(SYS_cachestat, -1, NULL, NULL, 0) < 0 && errno == EBADF;
}

/* Somebody else's descriptor, which is not direct. */
static void write_cached(const struct scratch *scratch, const void *data)
{
        int fd = open(scratch->path, O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, data, BYTES, 0), BYTES);
        /* The last one to close a block device empties its cache; the test's own is still open. */
        close(fd);
}

static void test_block_device(void **state)
{
        unsigned char *data = malloc(BYTES);
        struct scratch scratch;

        if (!scratch_kind_works(SCRATCH_LOOP) || !kernel_tells())
                skip();
        scratch_init(&scratch, SCRATCH_LOOP, SECTORS, 0);
        pattern_fill(data, BYTES, 5);
        write_cached(&scratch, data);
        assert_int_equal(dmio_device_cached(scratch.bdev, 0, SECTORS), BYTES);
        assert_int_equal(dmio_device_cached(scratch.bdev, SECTORS, 8), 0);
        assert_int_equal(dmio_device_cached(scratch.bdev, SECTORS / 4, 8), 8 * DMIO_SECTOR_SIZE);
        assert_int_equal(dmio_device_cached(scratch.bdev, 0, 0), 0);
        assert_int_equal(dmio_device_uncache(scratch.bdev, 0, 0), 0);
        assert_int_equal(dmio_device_cached(scratch.bdev, 0, SECTORS), BYTES);

        assert_int_equal(dmio_device_uncache(scratch.bdev, 0, SECTORS), 0);
        assert_int_equal(dmio_device_cached(scratch.bdev, 0, SECTORS), 0);
        scratch_expect(&scratch, 0, data, BYTES);
        scratch_deinit(&scratch);
        free(data);
}

/* Who goes through the page cache wants what is in there. */
static void test_buffered(void **state)
{
        unsigned char *data = malloc(BYTES);
        struct scratch scratch;

        if (!scratch_kind_works(SCRATCH_LOOP))
                skip();
        scratch_init(&scratch, SCRATCH_LOOP, SECTORS, DMIO_DEVICE_BUFFERED);
        pattern_fill(data, BYTES, 6);
        write_cached(&scratch, data);
        assert_int_equal(dmio_device_cached(scratch.bdev, 0, SECTORS), 0);
        assert_int_equal(dmio_device_uncache(scratch.bdev, 0, SECTORS), 0);
        scratch_deinit(&scratch);
        free(data);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_block_device),
                cmocka_unit_test(test_buffered),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
