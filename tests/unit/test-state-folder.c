/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The state folder: whatever a write is interrupted by, a whole file is there, the old one or the
 * new one; and one process has the folder at a time.
 */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "state/folder.h"
#include "util/macros.h"

#define OLD "the old one"
#define NEW "the new one, which is longer"

static const char *const steps[] = { "create", "write-half",  "write", "sync",
                                     "rename", "sync-folder", "done" };
#define FIRST_NEW 5U /* from this step on the new file is there */

struct fixture {
        char above[64];
        char path[80];
        struct folder folder;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        (void)snprintf(f->above, sizeof(f->above), "%s/dmio-test.XXXXXX",
                       getenv("TMPDIR") ?: "/tmp");
        assert_non_null(mkdtemp(f->above));
        (void)snprintf(f->path, sizeof(f->path), "%s/state", f->above);
        assert_int_equal(folder_open(&f->folder, f->path), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        char command[128];

        folder_close(&f->folder);
        (void)unsetenv("DMIO_TEST_STATE_KILL");
        (void)unsetenv("DMIO_TEST_STATE_FAIL");
        (void)snprintf(command, sizeof(command), "rm -rf %s", f->above);
        assert_int_equal(system(command), 0);
        free(f);
        return 0;
}

static int write_text(struct fixture *f, const char *text)
{
        return folder_write(&f->folder, FOLDER_FILE, text, strlen(text));
}

static void assert_text(struct fixture *f, const char *wanted)
{
        char *text = NULL;
        size_t length;

        assert_int_equal(folder_read(&f->folder, FOLDER_FILE, &text, &length), 0);
        assert_string_equal(text, wanted);
        assert_int_equal(length, strlen(wanted));
        free(text);
}

static bool new_is_there(const struct fixture *f)
{
        char path[128];

        (void)snprintf(path, sizeof(path), "%s/" FOLDER_FILE_NEW, f->path);
        return access(path, F_OK) == 0;
}

static void a_file_is_replaced(void **state)
{
        struct fixture *f = *state;
        char *text, *large;
        size_t length;
        struct stat st;

        assert_int_equal(folder_read(&f->folder, FOLDER_FILE, &text, &length), -ENOENT);
        assert_int_equal(write_text(f, OLD), 0);
        assert_text(f, OLD);
        assert_int_equal(write_text(f, NEW), 0);
        assert_text(f, NEW);
        assert_int_equal(write_text(f, ""), 0);
        assert_text(f, "");
        assert_false(new_is_there(f));

        large = malloc(300001);
        memset(large, 'x', 300000);
        large[300000] = '\0';
        assert_int_equal(write_text(f, large), 0);
        assert_text(f, large);
        free(large);

        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
}

static void one_process_has_it(void **state)
{
        struct fixture *f = *state;
        struct folder second;

        assert_int_equal(folder_open(&second, f->path), -EBUSY);
        folder_close(&f->folder);
        assert_int_equal(folder_open(&second, f->path), 0);
        folder_close(&second);
}

static void a_folder_that_cannot_be_is_an_error(void **state)
{
        struct fixture *f = *state;
        struct folder folder;
        char path[128];

        (void)snprintf(path, sizeof(path), "%s/" FOLDER_LOCK "/below", f->path);
        assert_int_equal(folder_open(&folder, path), -ENOTDIR);
        (void)snprintf(path, sizeof(path), "%s/" FOLDER_LOCK, f->path);
        assert_int_equal(folder_open(&folder, path), -ENOTDIR);
}

static void folders_above_are_made(void **state)
{
        struct fixture *f = *state;
        struct folder folder;
        char path[128];

        (void)snprintf(path, sizeof(path), "%s/some/where/", f->above);
        assert_int_equal(folder_open(&folder, path), 0);
        assert_int_equal(folder_write(&folder, FOLDER_FILE, NEW, strlen(NEW)), 0);
        folder_close(&folder);
}

static void killed_at_any_step_it_leaves_a_whole_file(void **state)
{
        struct fixture *f = *state;

        for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
                int status;
                pid_t pid;

                assert_int_equal(write_text(f, OLD), 0);
                assert_int_equal(setenv("DMIO_TEST_STATE_KILL", steps[i], 1), 0);
                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0) {
                        f->folder.n_writes = 0;
                        (void)write_text(f, NEW);
                        _exit(0);
                }
                assert_int_equal(unsetenv("DMIO_TEST_STATE_KILL"), 0);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
                assert_text(f, i < FIRST_NEW ? OLD : NEW);
        }
        /* What they left behind is in nobody's way. */
        assert_true(new_is_there(f) || write_text(f, OLD) == 0);
        assert_int_equal(write_text(f, NEW), 0);
        assert_text(f, NEW);
        assert_false(new_is_there(f));
}

static void a_step_that_fails_leaves_a_whole_file(void **state)
{
        struct fixture *f = *state;

        for (unsigned int i = 0; i + 1 < ARRAY_SIZE(steps); i++) {
                char fault[64];

                assert_int_equal(write_text(f, OLD), 0);
                f->folder.n_writes = 0;
                (void)snprintf(fault, sizeof(fault), "%s:2:%d", steps[i], ENOSPC);
                assert_int_equal(setenv("DMIO_TEST_STATE_FAIL", fault, 1), 0);
                assert_int_equal(write_text(f, OLD), 0);
                assert_int_equal(write_text(f, NEW), -ENOSPC);
                assert_text(f, i < FIRST_NEW ? OLD : NEW);
                assert_false(new_is_there(f));
                assert_int_equal(write_text(f, NEW), -ENOSPC);
                assert_int_equal(unsetenv("DMIO_TEST_STATE_FAIL"), 0);
        }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_file_is_replaced),
                TEST(one_process_has_it),
                TEST(a_folder_that_cannot_be_is_an_error),
                TEST(folders_above_are_made),
                TEST(killed_at_any_step_it_leaves_a_whole_file),
                TEST(a_step_that_fails_leaves_a_whole_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
