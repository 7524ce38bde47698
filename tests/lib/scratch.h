/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Devices and memory to test with: an image file that has no name any more, or a loop device on
 * one (which detaches itself when it is closed, also after a crash); bytes that look random but are
 * known; pages in any order with guards around them; and waiting for a callback with a limit.
 *
 * Trouble here ends the test at once, by cmocka's assertions.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmio/dmio.h>

/*
 * The back-end that a test's engines are to have: the environment's DMIO_BACKEND, or NULL. With
 * "memory" the bytes of a scratch device are those of the RAM disk in its place.
 */
const char *test_backend(void);
bool test_backend_is(const char *name);

/* If not it says SKIP, and the test is to end with status 77. */
bool test_backend_works(void);

enum scratch_kind {
        SCRATCH_FILE,
        SCRATCH_LOOP,
        SCRATCH_LOOP_4096, /* of blocks of that many bytes */
};

struct scratch {
        enum scratch_kind kind;
        int image_fd; /* the bytes, as they lie on the image */
        int loop_fd;
        char path[64]; /* what names the device */
        sector_t sectors;
        struct block_device *bdev;
};

#define SCRATCH_NULL ((struct scratch){ .image_fd = -1, .loop_fd = -1 })

/*
 * A loop device on @image_fd, of its name in @path. Returns its descriptor, or a negative errno. It
 * detaches itself when it is closed.
 */
int scratch_loop_new(int image_fd, unsigned int block_size, char *path, size_t path_size);

/* Loop devices need root and a kernel that has them. */
bool scratch_kind_works(enum scratch_kind kind);

/* Make and open a device of @sectors zeroed sectors. @flags: DMIO_DEVICE_*. */
void scratch_init(struct scratch *scratch, enum scratch_kind kind, sector_t sectors,
                  unsigned int flags);
void scratch_deinit(struct scratch *scratch);

/* The bytes of the image (or RAM disk); bytes past its end fail the test. */
void scratch_read(const struct scratch *scratch, uint64_t offset, void *data, size_t length);
void scratch_write(const struct scratch *scratch, uint64_t offset, const void *data, size_t length);

/* The size of the image file in bytes. */
uint64_t scratch_size(const struct scratch *scratch);

/* Fail the test unless the image holds, from @offset on, these bytes / nothing but zeroes. */
void scratch_expect(const struct scratch *scratch, uint64_t offset, const void *data,
                    size_t length);
void scratch_expect_zeroes(const struct scratch *scratch, uint64_t offset, size_t length);

/* A region of the device. */
struct io_region scratch_region(const struct scratch *scratch, sector_t sector, sector_t count);

/* Bytes that look random and are always the same for a seed. */
void pattern_fill(void *data, size_t length, unsigned int seed);

/* @n_pages pages in one piece. */
struct page *pages_new(size_t n_pages);

/* How often a callback came and what it said last. */
struct completion {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned int calls;
        unsigned long bits;
};

#define COMPLETION_INIT                                                                            \
        {                                                                                          \
                .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER             \
        }

/* An io_notify_fn; the context is a struct completion. */
void completion_notify(unsigned long error, void *context);

/* Until it has been called @calls times; 20 seconds at most. */
void completion_wait(struct completion *completion, unsigned int calls);

/* VmRSS of this process, in bytes. */
uint64_t resident_bytes(void);
