/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Devices of saved exports: what is recognised, and that what passes fails no leg. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "aside.h"
#include "state/opening.h"
#include "util/clock.h"

#define N 8
#define SECTORS 8
#define SECOND UINT64_C(1000000)
#define LIMIT_SEC 60

struct folder {
        char path[32];
        char files[N][48];
        struct leg_identity identities[N];
};

/* As a folder of the mount would be told apart; nothing lies in there. */
#define NO_MOUNT ((dev_t)0)

static int begin(void **state)
{
        struct folder *folder = calloc(1, sizeof(*folder));
        struct stat st;

        assert_non_null(folder);
        (void)snprintf(folder->path, sizeof(folder->path), "/tmp/test-opening.XXXXXX");
        assert_non_null(mkdtemp(folder->path));
        for (unsigned int i = 0; i < N; i++) {
                int fd;

                (void)snprintf(folder->files[i], sizeof(folder->files[i]), "%s/%u", folder->path,
                               i);
                fd = open(folder->files[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                assert_true(fd >= 0);
                assert_int_equal(ftruncate(fd, (off_t)SECTORS * DMIO_SECTOR_SIZE), 0);
                assert_int_equal(fstat(fd, &st), 0);
                folder->identities[i] = (struct leg_identity){
                        .id = { .device = st.st_dev, .inode = st.st_ino },
                        .capacity = SECTORS,
                };
                assert_int_equal(close(fd), 0);
        }
        *state = folder;
        return 0;
}

static int end(void **state)
{
        struct folder *folder = *state;
        uint64_t limit = now_usec() + LIMIT_SEC * SECOND;

        while (aside_n_threads() > 0 && now_usec() < limit)
                (void)usleep(1000);
        assert_int_equal(aside_n_threads(), 0);
        for (unsigned int i = 0; i < N; i++)
                (void)unlink(folder->files[i]);
        assert_int_equal(rmdir(folder->path), 0);
        free(folder);
        return 0;
}

static struct openings *open_all(const struct folder *folder)
{
        struct openings *openings;

        assert_int_equal(openings_new(NO_MOUNT, &openings), 0);
        for (unsigned int i = 0; i < N; i++) {
                const struct opening_how how = {
                        .name = folder->files[i],
                        .path = folder->files[i],
                        .fd = -EBADF,
                        .how = LEG_BY_PATH,
                        .writes = true,
                        .identity = &folder->identities[i],
                };

                assert_int_equal(openings_add(openings, &how), 0);
        }
        return openings;
}

static void expect(const struct openings *openings, unsigned int i, int wanted, const char *text)
{
        struct block_device *bdev = NULL;
        struct leg_identity identity;
        const char *reason = "";

        assert_int_equal(openings_get(openings, i, &bdev, &identity, &reason), wanted);
        if (wanted == 0)
                assert_int_equal(dmio_device_capacity(bdev), SECTORS);
        else
                assert_string_equal(reason, text);
}

static void what_is_the_same_is_there(void **state)
{
        struct folder *folder = *state;
        struct openings *openings;
        size_t number;

        folder->identities[1].id.inode++;
        folder->identities[2].capacity++;
        folder->identities[3].block = true;
        assert_int_equal(unlink(folder->files[4]), 0);
        openings = open_all(folder);
        assert_int_equal(openings_run(openings, LIMIT_SEC, &number), 0);
        expect(openings, 0, 0, NULL);
        expect(openings, 1, -ENODEV, "it is another file");
        expect(openings, 2, -ENODEV, "its size has changed");
        expect(openings, 3, -ENODEV, "it is a device of another kind");
        expect(openings, 4, -ENODEV, "io.dmiod.NoSuchDevice");
        expect(openings, N - 1, 0, NULL);
        assert_null(openings_free(openings));
}

static void what_is_taken_stays_open(void **state)
{
        struct openings *openings = open_all(*state);
        struct leg_identity identity;
        struct block_device *bdev;
        const char *reason;
        size_t number;

        assert_int_equal(openings_run(openings, LIMIT_SEC, &number), 0);
        assert_int_equal(openings_get(openings, 0, &bdev, &identity, &reason), 0);
        openings_take(openings, 0);
        openings_free(openings);
        while (aside_n_threads() > 0)
                (void)usleep(1000);
        assert_int_equal(dmio_device_capacity(bdev), SECTORS);
        dmio_device_close(bdev);
}

/* The lowest free number is all that may be used: nothing more can be opened. */
static rlim_t use_up_descriptors(void)
{
        struct rlimit limit;
        rlim_t before;
        int fd = dup(0);

        assert_true(fd >= 0);
        assert_int_equal(close(fd), 0);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        before = limit.rlim_cur;
        limit.rlim_cur = (rlim_t)fd + 1;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        return before;
}

static void allow_descriptors(rlim_t n)
{
        struct rlimit limit;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = n;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void without_descriptors_nothing_fails_but_the_start(void **state)
{
        struct openings *openings = open_all(*state);
        rlim_t before = use_up_descriptors();
        uint64_t begun = now_usec();
        size_t number = N;

        assert_int_equal(openings_run(openings, 1, &number), -EMFILE);
        assert_in_range(number, 0, N - 1);
        assert_true(now_usec() - begun >= SECOND);
        allow_descriptors(before);
        openings_free(openings);
}

static void *allow_later(void *argument)
{
        (void)usleep(300000);
        allow_descriptors(*(rlim_t *)argument);
        return NULL;
}

static void a_want_that_passes_is_waited_for(void **state)
{
        struct openings *openings = open_all(*state);
        rlim_t before = use_up_descriptors();
        pthread_t thread;
        size_t number;

        assert_int_equal(pthread_create(&thread, NULL, allow_later, &before), 0);
        assert_int_equal(openings_run(openings, LIMIT_SEC, &number), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        for (unsigned int i = 0; i < N; i++)
                expect(openings, i, 0, NULL);
        openings_free(openings);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_is_the_same_is_there, begin, end),
                cmocka_unit_test_setup_teardown(what_is_taken_stays_open, begin, end),
                cmocka_unit_test_setup_teardown(without_descriptors_nothing_fails_but_the_start,
                                                begin, end),
                cmocka_unit_test_setup_teardown(a_want_that_passes_is_waited_for, begin, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
