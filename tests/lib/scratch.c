/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"

#define WAIT_LIMIT_SECONDS 20

static int image_new(sector_t sectors)
{
        const char *folder = getenv("TMPDIR");
        char path[256];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/dmio-image.XXXXXX", folder ? folder : "/tmp");
        fd = mkostemp(path, O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(ftruncate(fd, (off_t)(sectors * DMIO_SECTOR_SIZE)), 0);
        return fd;
}

int scratch_loop_new(int image_fd, unsigned int block_size, char *path, size_t path_size)
{
        struct loop_config config = {
                .fd = (uint32_t)image_fd,
                .block_size = block_size,
                .info.lo_flags = LO_FLAGS_AUTOCLEAR,
        };
        int control, number, fd, r;

        control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
        if (control < 0)
                return -errno;

        /* Somebody else may take the free one before we do. */
        for (unsigned int attempt = 0; attempt < 100; attempt++) {
                number = ioctl(control, LOOP_CTL_GET_FREE);
                if (number < 0) {
                        r = -errno;
                        break;
                }
                (void)snprintf(path, path_size, "/dev/loop%d", number);
                fd = open(path, O_RDWR | O_CLOEXEC);
                if (fd < 0) {
                        r = -errno;
                        break;
                }
                if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
                        (void)close(control);
                        return fd;
                }
                r = -errno;
                (void)close(fd);
                if (r != -EBUSY)
                        break;
        }
        (void)close(control);
        return r;
}

static unsigned int block_size_of(enum scratch_kind kind)
{
        return kind == SCRATCH_LOOP_4096 ? 4096 : 512;
}

bool scratch_kind_works(enum scratch_kind kind)
{
        char path[64];
        int image_fd, loop_fd;

        if (kind == SCRATCH_FILE)
                return true;
        image_fd = image_new(8);
        loop_fd = scratch_loop_new(image_fd, block_size_of(kind), path, sizeof(path));
        (void)close(image_fd);
        if (loop_fd < 0)
                return false;
        (void)close(loop_fd);
        return true;
}

void scratch_init(struct scratch *scratch, enum scratch_kind kind, sector_t sectors,
                  unsigned int flags)
{
        *scratch = SCRATCH_NULL;
        scratch->kind = kind;
        scratch->sectors = sectors;
        scratch->image_fd = image_new(sectors);
        if (kind == SCRATCH_FILE) {
                (void)snprintf(scratch->path, sizeof(scratch->path), "/proc/self/fd/%d",
                               scratch->image_fd);
        } else {
                scratch->loop_fd = scratch_loop_new(scratch->image_fd, block_size_of(kind),
                                                    scratch->path, sizeof(scratch->path));
                assert_true(scratch->loop_fd >= 0);
        }
        assert_int_equal(dmio_device_open(scratch->path, flags, &scratch->bdev), 0);
        assert_int_equal(dmio_device_capacity(scratch->bdev), sectors);
}

void scratch_deinit(struct scratch *scratch)
{
        dmio_device_close(scratch->bdev);
        if (scratch->loop_fd >= 0)
                (void)close(scratch->loop_fd);
        if (scratch->image_fd >= 0)
                (void)close(scratch->image_fd);
        *scratch = SCRATCH_NULL;
}

const char *test_backend(void)
{
        return getenv("DMIO_BACKEND");
}

bool test_backend_is(const char *name)
{
        return test_backend() && strcmp(test_backend(), name) == 0;
}

bool test_backend_works(void)
{
        const struct dmio_engine_options options = {
                .backend = test_backend(),
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct dmio_engine *engine;

        if (dmio_engine_create(&options, &engine) < 0) {
                printf("SKIP: the back-end %s does not work here\n", test_backend());
                return false;
        }
        assert_int_equal(dmio_engine_destroy(engine), 0);
        return true;
}

/* Whole sectors of the RAM disk that stands in for the device, by an engine of our own. */
static void ram_io(const struct scratch *scratch, enum dm_io_op op, uint64_t offset, void *data,
                   size_t length)
{
        const struct dmio_engine_options options = {
                .backend = "memory",
                .flags = DMIO_ENGINE_NO_THREAD,
        };
        struct dm_io_request request = { .op = op, .mem = { .type = DM_IO_KMEM } };
        struct io_region where = { scratch->bdev, offset / 512, length / 512 };
        struct dmio_engine *engine;
        struct dmio_queue *queue;

        request.mem.ptr.addr = data;
        assert_int_equal(dmio_engine_create(&options, &engine), 0);
        assert_int_equal(dmio_queue_create(engine, &queue), 0);
        assert_int_equal(dm_io_client_create(engine, 0, &request.client), 0);
        assert_int_equal(dm_io(&request, 1, &where, NULL), 0);
        assert_int_equal(dm_io_client_destroy(request.client), 0);
        assert_int_equal(dmio_queue_destroy(queue), 0);
        assert_int_equal(dmio_engine_destroy(engine), 0);
}

void scratch_read(const struct scratch *scratch, uint64_t offset, void *data, size_t length)
{
        if (test_backend_is("memory")) {
                uint64_t begin = offset / 512 * 512, end = (offset + length + 511) / 512 * 512;
                char *sectors = malloc(end - begin);

                assert_non_null(sectors);
                ram_io(scratch, DM_IO_READ, begin, sectors, end - begin);
                memcpy(data, sectors + (offset - begin), length);
                free(sectors);
                return;
        }
        assert_int_equal(pread(scratch->image_fd, data, length, (off_t)offset), length);
}

void scratch_write(const struct scratch *scratch, uint64_t offset, const void *data, size_t length)
{
        int fd = scratch->loop_fd >= 0 ? scratch->loop_fd : scratch->image_fd;

        if (test_backend_is("memory")) {
                assert_int_equal(offset % 512 + length % 512, 0);
                ram_io(scratch, DM_IO_WRITE, offset, (void *)(uintptr_t)data, length);
                return;
        }
        assert_int_equal(pwrite(fd, data, length, (off_t)offset), length);
        assert_int_equal(fsync(fd), 0);
}

uint64_t scratch_size(const struct scratch *scratch)
{
        struct stat st;

        assert_int_equal(fstat(scratch->image_fd, &st), 0);
        return (uint64_t)st.st_size;
}

void scratch_expect(const struct scratch *scratch, uint64_t offset, const void *data, size_t length)
{
        void *found = malloc(length);

        assert_non_null(found);
        scratch_read(scratch, offset, found, length);
        assert_memory_equal(found, data, length);
        free(found);
}

void scratch_expect_zeroes(const struct scratch *scratch, uint64_t offset, size_t length)
{
        void *zeroes = calloc(1, length);

        assert_non_null(zeroes);
        scratch_expect(scratch, offset, zeroes, length);
        free(zeroes);
}

struct io_region scratch_region(const struct scratch *scratch, sector_t sector, sector_t count)
{
        return (struct io_region){ .bdev = scratch->bdev, .sector = sector, .count = count };
}

void pattern_fill(void *data, size_t length, unsigned int seed)
{
        unsigned char *bytes = data;
        uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

        for (size_t i = 0; i < length; i++) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes[i] = (unsigned char)(state >> 32);
        }
}

struct page *pages_new(size_t n_pages)
{
        struct page *pages = aligned_alloc(DMIO_PAGE_SIZE, n_pages * DMIO_PAGE_SIZE);

        assert_non_null(pages);
        memset(pages, 0, n_pages * DMIO_PAGE_SIZE);
        return pages;
}

void completion_notify(unsigned long error, void *context)
{
        struct completion *completion = context;

        (void)pthread_mutex_lock(&completion->lock);
        completion->calls++;
        completion->bits = error;
        (void)pthread_cond_broadcast(&completion->changed);
        (void)pthread_mutex_unlock(&completion->lock);
}

void completion_wait(struct completion *completion, unsigned int calls)
{
        struct timespec limit;
        int r = 0;

        assert_int_equal(clock_gettime(CLOCK_REALTIME, &limit), 0);
        limit.tv_sec += WAIT_LIMIT_SECONDS;
        (void)pthread_mutex_lock(&completion->lock);
        while (completion->calls < calls && r == 0)
                r = pthread_cond_timedwait(&completion->changed, &completion->lock, &limit);
        (void)pthread_mutex_unlock(&completion->lock);
        assert_int_equal(r, 0);
}

uint64_t resident_bytes(void)
{
        unsigned long kib = 0;
        char line[256];
        FILE *file = fopen("/proc/self/status", "re");

        assert_non_null(file);
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "VmRSS: %lu kB", &kib) == 1)
                        break;
        (void)fclose(file);
        assert_true(kib > 0);
        return (uint64_t)kib * 1024;
}
