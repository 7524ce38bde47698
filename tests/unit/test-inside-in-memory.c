/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Files in memory (a memfd is one on tmpfs): that they are known as such, that what is done at once
 * is done right, and that its results, which are always there, keep nobody else waiting: neither
 * who polls, nor a descriptor, nor another device.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include <dmio/dmio.h>

#include "device-internal.h"
#include "scratch.h"

#define SECTORS 8192
#define BYTES ((size_t)SECTORS * 512)
#define LIMIT_MS 20000
#define LIMIT_US 20000000

struct fixture {
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct dm_io_client *client;
        struct scratch memory;
        unsigned char *data, *back;
};

static int setup(void **state)
{
        const struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dmio_queue_create(f->engine, &f->queue), 0);
        assert_int_equal(dm_io_client_create(f->engine, 16, &f->client), 0);
        f->memory = SCRATCH_NULL;
        f->memory.image_fd = memfd_create("dmio", MFD_CLOEXEC);
        assert_true(f->memory.image_fd >= 0);
        assert_int_equal(ftruncate(f->memory.image_fd, BYTES), 0);
        assert_int_equal(dmio_device_from_fd(f->memory.image_fd, 0, &f->memory.bdev), 0);
        f->data = aligned_alloc(4096, 2 * BYTES);
        f->back = aligned_alloc(4096, 2 * BYTES);
        assert_true(f->data && f->back);
        pattern_fill(f->data, 2 * BYTES, 6);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(dm_io_client_destroy(f->client), 0);
        assert_int_equal(dmio_queue_destroy(f->queue), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        scratch_deinit(&f->memory);
        free(f->data);
        free(f->back);
        free(f);
        return 0;
}

static void run(struct fixture *f, enum dm_io_op op, unsigned int flags, void *memory,
                sector_t sector, sector_t count)
{
        struct io_region where = scratch_region(&f->memory, sector, count);
        struct dm_io_request request = {
                .op = op,
                .flags = flags,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = memory },
                .client = f->client,
        };
        unsigned long bits = 1;

        assert_int_equal(dm_io(&request, 1, &where, &bits), 0);
        assert_int_equal(bits, 0);
}

static void they_are_known(void **state)
{
        struct fixture *f = *state;
        struct iovec iov = { f->back, 512 };
        bool nowait = preadv2(f->memory.image_fd, &iov, 1, 0, RWF_NOWAIT) >= 0;
        struct scratch disk;
        struct statfs fs;

        assert_true(f->memory.bdev->in_memory != nowait);
        scratch_init(&disk, SCRATCH_FILE, SECTORS, 0);
        assert_int_equal(fstatfs(disk.image_fd, &fs), 0);
        if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
                assert_false(disk.bdev->in_memory);
        scratch_deinit(&disk);
        if (!scratch_kind_works(SCRATCH_LOOP))
                return;
        scratch_init(&disk, SCRATCH_LOOP, SECTORS, 0);
        assert_false(disk.bdev->in_memory);
        scratch_deinit(&disk);
}

/* Lengths on both sides of what is done at once, memory of any alignment, all operations. */
static void what_is_written_is_there(void **state)
{
        static const sector_t counts[] = { 1, 8, 255, 256, 257, 2049, 4000 };
        static const size_t offsets[] = { 0, 512, 1, 4095 };
        struct fixture *f = *state;

        for (unsigned int i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
                for (unsigned int j = 0; j < sizeof(offsets) / sizeof(offsets[0]); j++) {
                        size_t length = counts[i] * 512;

                        run(f, DM_IO_WRITE, j % 2 ? DM_IO_FUA : DM_IO_PREFLUSH,
                            f->data + offsets[j], 3 + i, counts[i]);
                        scratch_expect(&f->memory, (3 + i) * 512, f->data + offsets[j], length);
                        memset(f->back, 0, length + 4096);
                        run(f, DM_IO_READ, 0, f->back + offsets[3 - j], 3 + i, counts[i]);
                        assert_memory_equal(f->back + offsets[3 - j], f->data + offsets[j], length);
                }
        }
        run(f, DM_IO_WRITE, 0, f->data, 0, SECTORS);
        run(f, DM_IO_FLUSH, 0, NULL, 0, 0);
        for (unsigned int i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
                run(f, i % 2 ? DM_IO_DISCARD : DM_IO_WRITE_ZEROES, 0, NULL, 5, counts[i]);
                scratch_expect_zeroes(&f->memory, 5 * 512, counts[i] * 512);
                scratch_expect(&f->memory, (5 + counts[i]) * 512, f->data + (5 + counts[i]) * 512,
                               4096);
        }
}

/* Memory that somebody cuts off is an error and no signal. */
static void memory_that_vanishes_is_an_error(void **state)
{
        struct fixture *f = *state;
        struct io_region where = scratch_region(&f->memory, 0, 16);
        struct dm_io_leg_error error = {};
        struct dm_io_request request = {
                .op = DM_IO_WRITE,
                .flags = DM_IO_MEMORY_SHARED,
                .mem = { .type = DM_IO_KMEM },
                .client = f->client,
                .leg_errors = &error,
        };
        int fd = memfd_create("dmio-shared", MFD_CLOEXEC);

        assert_true(fd >= 0);
        request.mem.ptr.addr = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_ptr_not_equal(request.mem.ptr.addr, MAP_FAILED);
        assert_int_equal(dm_io(&request, 1, &where, NULL), -EIO);
        assert_int_equal(error.error, EFAULT);
        assert_int_equal(ftruncate(fd, 8192), 0);
        assert_int_equal(dm_io(&request, 1, &where, NULL), 0);
        assert_int_equal(munmap(request.mem.ptr.addr, 8192), 0);
        (void)close(fd);
}

/* --- results that are always there */

struct endless {
        struct fixture *f;
        struct dm_io_request request;
        struct io_region where;
        unsigned int n_left, n_in_flight;
        struct beside *beside; /* when it comes to BESIDE_AT */
};

#define BESIDE_AT 900000

/* Submitted from a callback, so that nothing but the rounds of the queue gets it out. */
struct beside {
        struct dm_io_request request;
        struct io_region where;
};

static void endless_next(struct endless *endless)
{
        endless->n_left--;
        endless->n_in_flight++;
        assert_int_equal(dm_io(&endless->request, 1, &endless->where, NULL), 0);
}

static void endless_done(unsigned long error, void *context)
{
        struct endless *endless = context;

        assert_int_equal(error, 0);
        endless->n_in_flight--;
        if (endless->beside && endless->n_left == BESIDE_AT)
                assert_int_equal(dm_io(&endless->beside->request, 1, &endless->beside->where, NULL),
                                 0);
        if (endless->n_left > 0)
                endless_next(endless);
}

static void endless_begin(struct endless *endless, struct fixture *f, unsigned int n)
{
        *endless = (struct endless){
                .f = f,
                .request = {
                        .mem = { .type = DM_IO_KMEM, .ptr.addr = f->back },
                        .notify = { endless_done, endless },
                        .client = f->client,
                        .queue = f->queue,
                },
                .where = scratch_region(&f->memory, 8, 8),
                .n_left = n,
        };
        endless_next(endless);
        endless_next(endless);
}

static void endless_end(struct endless *endless)
{
        endless->n_left = 0;
        while (endless->n_in_flight > 0)
                assert_true(dmio_queue_process(endless->f->queue, LIMIT_US, 0) > 0);
}

/* Whoever comes only if the descriptor says so comes often enough, and is not called for nothing.
 */
static void who_polls_is_told(void **state)
{
        struct fixture *f = *state;
        struct pollfd pollfd = { .fd = dmio_queue_fd(f->queue), .events = POLLIN };
        struct endless endless;

        assert_true(pollfd.fd >= 0);
        endless_begin(&endless, f, 5000);
        while (endless.n_in_flight > 0) {
                assert_int_equal(poll(&pollfd, 1, LIMIT_MS), 1);
                assert_true(dmio_queue_process(f->queue, 0, 0) >= 0);
        }
        assert_int_equal(endless.n_left, 0);
        for (unsigned int i = 0; poll(&pollfd, 1, 0) > 0; i++) {
                assert_true(i < 10);
                assert_true(dmio_queue_process(f->queue, 0, 0) >= 0);
        }
}

static void op_done(struct dmio_op *op, int result)
{
        op->length = (uint64_t)result;
        op->fd = -1;
}

static void descriptors_are_heard(void **state)
{
        struct fixture *f = *state;
        char byte = 0;
        struct iovec iov = { &byte, 1 };
        struct dmio_op reading = { .iov = &iov, .n_iov = 1, .fn = op_done };
        struct endless endless;
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        reading.fd = fds[0];
        dmio_queue_submit(f->queue, &reading);
        endless_begin(&endless, f, 1000000);
        assert_int_equal(write(fds[1], "b", 1), 1);
        while (reading.fd >= 0)
                assert_true(dmio_queue_process(f->queue, -1, 0) > 0);
        assert_int_equal(byte, 'b');
        assert_true(endless.n_left > 500000);
        endless_end(&endless);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void one_done(unsigned long error, void *context)
{
        assert_int_equal(error, 0);
        *(bool *)context = true;
}

static void other_devices_get_their_turn(void **state)
{
        struct fixture *f = *state;
        struct endless endless;
        struct scratch disk;
        bool done = false;
        struct beside beside;

        scratch_init(&disk, SCRATCH_FILE, SECTORS, 0);
        beside.where = scratch_region(&disk, 0, 8);
        beside.request = (struct dm_io_request){
                .op = DM_IO_WRITE,
                .mem = { .type = DM_IO_KMEM, .ptr.addr = f->data },
                .notify = { one_done, &done },
                .client = f->client,
                .queue = f->queue,
        };
        endless_begin(&endless, f, 1000000);
        endless.beside = &beside;
        while (!done)
                assert_true(dmio_queue_process(f->queue, -1, 0) > 0);
        assert_true(endless.n_left > 500000);
        endless_end(&endless);
        scratch_expect(&disk, 0, f->data, 4096);
        scratch_deinit(&disk);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(they_are_known, setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_written_is_there, setup, teardown),
                cmocka_unit_test_setup_teardown(memory_that_vanishes_is_an_error, setup, teardown),
                cmocka_unit_test_setup_teardown(who_polls_is_told, setup, teardown),
                cmocka_unit_test_setup_teardown(descriptors_are_heard, setup, teardown),
                cmocka_unit_test_setup_teardown(other_devices_get_their_turn, setup, teardown),
        };

        if (!test_backend_works())
                return 77;
        return cmocka_run_group_tests_name("files in memory", tests, NULL, NULL);
}
