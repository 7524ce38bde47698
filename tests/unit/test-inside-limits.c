/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The limits of devices: where they come from, and what becomes of discards and writes of zeroes on
 * a device that has no such operation, or only a small one. What a device cannot do is set from
 * within, so that no driver has to be found that cannot; the last cases ask real ones.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

#include <dmio/dmio.h>

#include "device-internal.h"
#include "scratch.h"

#define SECTORS 8192
#define BYTES ((size_t)SECTORS * 512)

struct fixture {
        struct dmio_engine *engine;
        struct dm_io_client *client;
        struct scratch disks[2];
        struct dmio_fault *counters[2]; /* of operations of the disk that would be submitted */
        struct dm_io_leg_error errors[2];
        unsigned char *data;
};

static int setup(void **state)
{
        const struct dmio_engine_options options = { .backend = test_backend() };
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(dmio_engine_create(&options, &f->engine), 0);
        assert_int_equal(dm_io_client_create(f->engine, 0, &f->client), 0);
        f->data = malloc(BYTES);
        assert_non_null(f->data);
        pattern_fill(f->data, BYTES, 5);
        for (unsigned int i = 0; i < 2; i++) {
                struct dmio_fault_rule never = { .skip = UINT64_MAX, .leg = -1, .error = EIO };

                scratch_init(&f->disks[i], SCRATCH_FILE, SECTORS, 0);
                scratch_write(&f->disks[i], 0, f->data, BYTES);
                never.bdev = f->disks[i].bdev;
                assert_int_equal(dmio_fault_add(f->engine, &never, &f->counters[i]), 0);
        }
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(dm_io_client_destroy(f->client), 0);
        assert_int_equal(dmio_engine_destroy(f->engine), 0);
        for (unsigned int i = 0; i < 2; i++)
                scratch_deinit(&f->disks[i]);
        free(f->data);
        free(f);
        return 0;
}

/* On the same range of the first @n disks; returns the bits. */
static unsigned long run(struct fixture *f, enum dm_io_op op, unsigned int n, sector_t sector,
                         sector_t count)
{
        struct io_region regions[] = { scratch_region(&f->disks[0], sector, count),
                                       scratch_region(&f->disks[1], sector, count) };
        struct dm_io_request request = {
                .op = op,
                .client = f->client,
                .leg_errors = f->errors,
        };
        unsigned long bits = ~0UL;
        int r = dm_io(&request, n, regions, &bits);

        assert_int_equal(r, bits ? -EIO : 0);
        return bits;
}

static uint64_t issued(const struct fixture *f, unsigned int disk)
{
        struct dmio_fault_stats stats;

        dmio_fault_stats(f->counters[disk], &stats);
        return stats.matches;
}

static void expect_zeroes_at(struct fixture *f, unsigned int disk, sector_t sector, sector_t count)
{
        uint64_t begin = sector * 512, end = (sector + count) * 512;

        scratch_expect(&f->disks[disk], 0, f->data, begin);
        scratch_expect_zeroes(&f->disks[disk], begin, end - begin);
        scratch_expect(&f->disks[disk], end, f->data + end, BYTES - end);
}

static void set_limits(struct fixture *f, unsigned int disk, sector_t discard, sector_t zeroes)
{
        atomic_store(&f->disks[disk].bdev->limits.discard_max, discard);
        atomic_store(&f->disks[disk].bdev->limits.write_zeroes_max, zeroes);
}

static void of_a_file_no_limit_is_known(void **state)
{
        struct fixture *f = *state;
        struct dmio_device_info info;
        struct stat before, after;
        int fd = f->disks[0].image_fd;
        struct block_device *again;

        dmio_device_info(f->disks[0].bdev, &info);
        assert_true(info.discard_max == DMIO_DEVICE_LIMIT_UNKNOWN);
        assert_true(info.write_zeroes_max == DMIO_DEVICE_LIMIT_UNKNOWN);
        assert_true(info.physical_block >= 512 && info.optimal_io >= 512);

        /* Nor is one found out at the expense of the file. */
        assert_int_equal(fchmod(fd, 04600), 0);
        assert_int_equal(fstat(fd, &before), 0);
        assert_int_equal(dmio_device_from_fd(fd, DMIO_DEVICE_BUFFERED, &again), 0);
        dmio_device_close(again);
        assert_int_equal(fstat(fd, &after), 0);
        assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
        assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim));
        assert_int_equal(before.st_mode, after.st_mode);
}

static void what_is_not_there_is_not_tried(void **state)
{
        static const enum dm_io_op ops[] = { DM_IO_DISCARD, DM_IO_WRITE_ZEROES };
        struct fixture *f = *state;

        for (unsigned int i = 0; i < 2; i++) {
                set_limits(f, 1, i == 0 ? 0 : SECTORS, i == 1 ? 0 : SECTORS);
                assert_int_equal(run(f, ops[i], 2, 8 + 64 * i, 16), 0x2);
                assert_int_equal(f->errors[0].error, 0);
                assert_int_equal(f->errors[1].error, EOPNOTSUPP);
                assert_int_equal(f->errors[1].sector, 8 + 64 * i);
                scratch_expect_zeroes(&f->disks[0], (8 + 64 * i) * 512, 16 * 512);

                /* Of nothing, nothing has to be there; and what does not fit is told before. */
                assert_int_equal(run(f, ops[i], 2, 8, 0), 0);
                assert_int_equal(run(f, ops[i], 2, SECTORS, 1), 0x3);
                assert_int_equal(f->errors[1].error, ENOSPC);
        }
        scratch_expect(&f->disks[1], 0, f->data, BYTES);
        assert_true(issued(f, 0) >= 2);
        assert_int_equal(issued(f, 1), 0);
}

static void pieces_are_as_large_as_the_limit(void **state)
{
        struct fixture *f = *state;
        uint64_t before = issued(f, 0);

        f->disks[0].bdev->limits.discard_granularity = 0;
        set_limits(f, 0, 128, 64);
        assert_int_equal(run(f, DM_IO_DISCARD, 1, 3, 1281), 0);
        assert_int_equal(issued(f, 0) - before, 11);
        expect_zeroes_at(f, 0, 3, 1281);
        scratch_write(&f->disks[0], 0, f->data, BYTES);

        before = issued(f, 0);
        assert_int_equal(run(f, DM_IO_WRITE_ZEROES, 1, 1, 640), 0);
        assert_true(issued(f, 0) - before >= 10);
        expect_zeroes_at(f, 0, 1, 640);
}

/* From 3 to 128 - 128 % 24, then in whole units of 24 sectors. */
static void pieces_end_where_a_unit_does(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault *fault;
        struct dmio_fault_rule rule = {
                .bdev = f->disks[0].bdev,
                .leg = -1,
                .error = EREMOTEIO,
                .sector = 3 + 117 + 120,
                .count = 1,
        };

        f->disks[0].bdev->limits.discard_granularity = 24 * 512;
        set_limits(f, 0, 128, 64);
        assert_int_equal(dmio_fault_add(f->engine, &rule, &fault), 0);
        assert_int_equal(run(f, DM_IO_DISCARD, 1, 3, 117 + 120), 0);
        assert_int_equal(run(f, DM_IO_DISCARD, 1, 3, 117 + 120 + 50), 0x1);
        assert_int_equal(f->errors[0].error, EREMOTEIO);
        assert_int_equal(f->errors[0].sector, 3 + 117 + 120);
        expect_zeroes_at(f, 0, 3, 117 + 120);
        dmio_fault_remove(fault);
}

/* --- real devices */

static uint64_t queue_number(dev_t disk, const char *name)
{
        char path[128];
        unsigned long long number;
        FILE *file;

        (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/%s", major(disk),
                       minor(disk), name);
        file = fopen(path, "re");
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%llu", &number), 1);
        (void)fclose(file);
        return number;
}

static void expect_limits_of(struct block_device *bdev, dev_t disk)
{
        struct dmio_device_info info;

        dmio_device_info(bdev, &info);
        assert_true(info.block);
        assert_int_equal(info.discard_max, queue_number(disk, "discard_max_bytes") / 512);
        assert_int_equal(info.write_zeroes_max, queue_number(disk, "write_zeroes_max_bytes") / 512);
        assert_int_equal(info.discard_granularity, queue_number(disk, "discard_granularity"));
        assert_int_equal(info.physical_block, queue_number(disk, "physical_block_size"));
        assert_int_equal(info.optimal_io, queue_number(disk, "optimal_io_size"));
        assert_int_equal(info.logical_block, queue_number(disk, "logical_block_size"));
}

static void of_a_block_device_the_kernel_tells(void **state)
{
        static const enum scratch_kind kinds[] = { SCRATCH_LOOP, SCRATCH_LOOP_4096 };

        if (!scratch_kind_works(SCRATCH_LOOP))
                skip();
        for (unsigned int i = 0; i < 2; i++) {
                struct dmio_device_info info;
                struct scratch disk;

                scratch_init(&disk, kinds[i], SECTORS, 0);
                dmio_device_info(disk.bdev, &info);
                expect_limits_of(disk.bdev, info.id.device);
                scratch_deinit(&disk);
        }
}

static void of_a_partition_its_disk_tells(void **state)
{
        struct blkpg_partition partition = { .start = 1 << 20, .length = 1 << 20, .pno = 1 };
        struct blkpg_ioctl_arg add = {
                .op = BLKPG_ADD_PARTITION,
                .datalen = sizeof(partition),
                .data = &partition,
        };
        unsigned int partition_major, partition_minor;
        struct loop_info64 status;
        struct block_device *bdev;
        char path[256], node[128];
        struct scratch disk;
        struct stat st;
        FILE *file;

        if (!scratch_kind_works(SCRATCH_LOOP))
                skip();
        scratch_init(&disk, SCRATCH_LOOP, SECTORS, 0);
        assert_int_equal(ioctl(disk.loop_fd, LOOP_GET_STATUS64, &status), 0);
        status.lo_flags |= LO_FLAGS_PARTSCAN;
        assert_int_equal(ioctl(disk.loop_fd, LOOP_SET_STATUS64, &status), 0);
        if (ioctl(disk.loop_fd, BLKPG, &add) < 0) {
                scratch_deinit(&disk);
                skip();
        }
        assert_int_equal(fstat(disk.loop_fd, &st), 0);
        (void)snprintf(path, sizeof(path), "/sys/block/%s/%sp1/dev", disk.path + strlen("/dev/"),
                       disk.path + strlen("/dev/"));
        file = fopen(path, "re");
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%u:%u", &partition_major, &partition_minor), 2);
        (void)fclose(file);
        (void)snprintf(node, sizeof(node), "/dev/dmio-partition-%d", (int)getpid());
        if (mknod(node, S_IFBLK | 0600, makedev(partition_major, partition_minor)) < 0) {
                scratch_deinit(&disk);
                skip();
        }
        assert_int_equal(dmio_device_open(node, 0, &bdev), 0);
        assert_int_equal(unlink(node), 0);
        assert_int_equal(dmio_device_capacity(bdev), 2048);
        expect_limits_of(bdev, st.st_rdev);
        dmio_device_close(bdev);
        scratch_deinit(&disk);
}

/* A loop device on a file system that has no holes can neither discard nor write zeroes. */
static int loop_without_holes(char *path, size_t path_size)
{
        char folder[] = "/tmp/dmio-ramfs.XXXXXX", image[64];
        int image_fd, loop_fd = -1;

        assert_non_null(mkdtemp(folder));
        if (mount("none", folder, "ramfs", 0, NULL) == 0) {
                (void)snprintf(image, sizeof(image), "%s/image", folder);
                image_fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                if (image_fd >= 0 && ftruncate(image_fd, BYTES) == 0)
                        loop_fd = scratch_loop_new(image_fd, 512, path, path_size);
                if (image_fd >= 0)
                        (void)close(image_fd);
                assert_int_equal(umount2(folder, MNT_DETACH), 0);
        }
        assert_int_equal(rmdir(folder), 0);
        return loop_fd;
}

static void a_device_that_can_do_neither_says_so(void **state)
{
        static const enum dm_io_op ops[] = { DM_IO_DISCARD, DM_IO_WRITE_ZEROES };
        struct fixture *f = *state;
        struct scratch loop = SCRATCH_NULL;
        struct dmio_device_info info;

        loop.loop_fd = loop_without_holes(loop.path, sizeof(loop.path));
        if (loop.loop_fd < 0)
                skip();
        assert_int_equal(dmio_device_open(loop.path, 0, &loop.bdev), 0);
        dmio_device_info(loop.bdev, &info);
        assert_int_equal(info.discard_max, 0);
        assert_int_equal(info.write_zeroes_max, 0);
        scratch_deinit(&f->disks[1]);
        f->disks[1] = loop;
        for (unsigned int i = 0; i < 2; i++) {
                assert_int_equal(run(f, ops[i], 2, 8, 16), 0x2);
                assert_int_equal(f->errors[1].error, EOPNOTSUPP);
        }
}

static bool kernel_is_at_least(unsigned int major_number, unsigned int minor_number)
{
        unsigned int a = 0, b = 0;
        struct utsname name;

        assert_int_equal(uname(&name), 0);
        assert_int_equal(sscanf(name.release, "%u.%u", &a, &b), 2);
        return a > major_number || (a == major_number && b >= minor_number);
}

static void open_again(const struct scratch *disk, struct dmio_device_info *ret)
{
        struct block_device *again;

        assert_int_equal(dmio_device_open(disk->path, 0, &again), 0);
        assert_ptr_equal(again, disk->bdev);
        dmio_device_info(again, ret);
        dmio_device_close(again);
}

/*
 * A file system with holes but without ZERO_RANGE (tmpfs) below a loop device: the first zeroes
 * that may not be a hole make the kernel write them itself from then on. Who opens the device again
 * hears of it, and so does everybody who has it open.
 */
static void what_was_switched_off_meanwhile_is_seen(void **state)
{
        struct fixture *f = *state;
        struct scratch loop = SCRATCH_NULL;
        uint64_t range[2] = { 0, 4096 };
        struct dmio_device_info info;

        loop.image_fd = memfd_create("dmio", MFD_CLOEXEC);
        assert_true(loop.image_fd >= 0);
        assert_int_equal(ftruncate(loop.image_fd, BYTES), 0);
        loop.loop_fd = scratch_loop_new(loop.image_fd, 512, loop.path, sizeof(loop.path));
        if (loop.loop_fd < 0)
                skip();
        assert_int_equal(dmio_device_open(loop.path, 0, &loop.bdev), 0);
        scratch_deinit(&f->disks[0]);
        f->disks[0] = loop;

        /* Here zeroes may be a hole, so they leave the device as it is. */
        if (!test_backend_is("memory"))
                scratch_write(&f->disks[0], 0, f->data, BYTES);
        assert_int_equal(run(f, DM_IO_WRITE_ZEROES, 1, 8, 8), 0);
        open_again(&loop, &info);
        assert_true(info.write_zeroes_max > 0);
        scratch_expect_zeroes(&f->disks[0], 4096, 4096);

        assert_int_equal(ioctl(loop.loop_fd, BLKZEROOUT, range), 0);
        open_again(&loop, &info);
        if (info.write_zeroes_max > 0)
                skip(); /* a kernel whose tmpfs can do it */
        assert_int_equal(run(f, DM_IO_WRITE_ZEROES, 1, 16, 8), 0x1);
        assert_int_equal(f->errors[0].error, EOPNOTSUPP);

        /* That does not keep it from discarding, where the ring knows that as an operation. */
        if (test_backend_is("uring") && !kernel_is_at_least(6, 12))
                return;
        if (!test_backend_is("memory"))
                scratch_write(&f->disks[0], 0, f->data, BYTES);
        assert_int_equal(run(f, DM_IO_DISCARD, 1, 16, 160), 0);
        scratch_expect_zeroes(&f->disks[0], 8192, 81920);
}

/*
 * A discard, with its rules: it is one operation of that kind. What a rule refuses is refused, even
 * if there were another way.
 */
static void a_discard_is_counted_as_one(void **state)
{
        struct fixture *f = *state;
        struct dmio_fault_rule rule = {
                .ops = DMIO_FAULT_DISCARD,
                .leg = -1,
                .sector = 100,
                .count = 1,
                .times = 1,
                .error = EOPNOTSUPP,
        };
        struct dmio_fault_stats stats;
        struct dmio_fault *fault;

        if (!scratch_kind_works(SCRATCH_LOOP))
                skip();
        scratch_deinit(&f->disks[0]);
        scratch_init(&f->disks[0], SCRATCH_LOOP, SECTORS, 0);
        scratch_write(&f->disks[0], 0, f->data, BYTES);
        assert_int_equal(dmio_fault_add(f->engine, &rule, &fault), 0);
        assert_int_equal(run(f, DM_IO_DISCARD, 2, 96, 8), 0x1);
        assert_int_equal(f->errors[0].error, EOPNOTSUPP);
        scratch_expect(&f->disks[0], 0, f->data, BYTES);
        assert_int_equal(run(f, DM_IO_DISCARD, 2, 96, 8), 0);
        scratch_expect_zeroes(&f->disks[0], 96 * 512, 8 * 512);
        assert_int_equal(run(f, DM_IO_DISCARD, 1, 112, 8), 0);
        assert_int_equal(run(f, DM_IO_WRITE_ZEROES, 1, 96, 8), 0);
        dmio_fault_stats(fault, &stats);
        assert_int_equal(stats.hits, 1);
        assert_int_equal(stats.matches, 4);
        dmio_fault_remove(fault);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(of_a_file_no_limit_is_known, setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_not_there_is_not_tried, setup, teardown),
                cmocka_unit_test_setup_teardown(pieces_are_as_large_as_the_limit, setup, teardown),
                cmocka_unit_test_setup_teardown(pieces_end_where_a_unit_does, setup, teardown),
                cmocka_unit_test(of_a_block_device_the_kernel_tells),
                cmocka_unit_test(of_a_partition_its_disk_tells),
                cmocka_unit_test_setup_teardown(a_device_that_can_do_neither_says_so, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(what_was_switched_off_meanwhile_is_seen, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_discard_is_counted_as_one, setup, teardown),
        };

        if (!test_backend_works())
                return 77;
        return cmocka_run_group_tests_name("limits of devices", tests, NULL, NULL);
}
