/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Paths that are walked by hand lead where the kernel's own walk leads, except into one file
 * system (daemon/mount-guard.h).
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mount-guard.h"
#include "util/cleanup.h"

#define NOWHERE ((dev_t)-1)

static char folder[] = "/tmp/dmio-guard.XXXXXX";

static void make_link(const char *text, const char *name)
{
        assert_int_equal(symlink(text, name), 0);
}

static int make_world(void **state)
{
        char text[64];

        assert_non_null(mkdtemp(folder));
        assert_int_equal(chdir(folder), 0);
        assert_int_equal(mkdir("sub", 0700), 0);
        assert_int_equal(mkdir("sub/below", 0700), 0);
        assert_int_equal(close(open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
        make_link("file", "relative");
        make_link("sub/../file", "through");
        (void)snprintf(text, sizeof(text), "%s/sub", folder);
        make_link(text, "absolute");
        make_link("../../relative", "sub/below/up");
        make_link("loop", "loop");
        make_link("nothing", "dangling");
        make_link("/proc/version", "out");
        for (unsigned int i = 0; i < 41; i++) {
                char name[8], before[8] = "file";

                (void)snprintf(name, sizeof(name), "c%u", i);
                if (i > 0)
                        (void)snprintf(before, sizeof(before), "c%u", i - 1);
                make_link(before, name);
        }
        return 0;
}

static int remove_world(void **state)
{
        char command[64];

        (void)snprintf(command, sizeof(command), "rm -r %s", folder);
        return chdir("/") < 0 || system(command) != 0;
}

static void it_leads_where_the_kernel_goes(void **state)
{
        static const char *const names[] = {
                "/",        "/file",   "/relative",       "/through", "/absolute/below/up",
                "//./file", "/sub/..", "/absolute/.",     "/loop",    "/dangling",
                "/none/at", "/file/x", "/relative/below", "/out",     "/sub/below/../below/up",
                "/c39",     "/c40",
        };

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                DMIO_CLEANUP(close_fdp) int theirs = -EBADF, ours = -EBADF;
                struct stat a, b;
                char path[128];

                (void)snprintf(path, sizeof(path), "%s%s", folder, names[i]);
                theirs = open(path, O_PATH | O_CLOEXEC);
                if (theirs < 0)
                        theirs = -errno;
                ours = mount_guard_open(path, NOWHERE);
                if (theirs < 0) {
                        assert_int_equal(ours, theirs);
                        continue;
                }
                assert_true(ours >= 0);
                assert_int_equal(fstat(theirs, &a), 0);
                assert_int_equal(fstat(ours, &b), 0);
                assert_true(a.st_dev == b.st_dev && a.st_ino == b.st_ino);
        }
}

static void what_is_too_long_is_an_error(void **state)
{
        char path[600] = "/";

        memset(path + 1, 'x', 300);
        assert_int_equal(mount_guard_open(path, NOWHERE), -ENAMETOOLONG);
}

static void it_does_not_enter_one_file_system(void **state)
{
        dev_t proc = mount_guard_device("/proc");
        char path[64];

        assert_true(proc != 0);
        assert_int_equal(mount_guard_open("/proc", proc), -EXDEV);
        assert_int_equal(mount_guard_open("/proc/version", proc), -EXDEV);
        (void)snprintf(path, sizeof(path), "%s/out", folder);
        assert_int_equal(mount_guard_open(path, proc), -EXDEV);
}

static void a_folder_is_no_mount(void **state)
{
        assert_true(mount_guard_device(folder) == 0);
        assert_true(mount_guard_device("/nothing/there") == 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(it_leads_where_the_kernel_goes),
                cmocka_unit_test(what_is_too_long_is_an_error),
                cmocka_unit_test(it_does_not_enter_one_file_system),
                cmocka_unit_test(a_folder_is_no_mount),
        };

        return cmocka_run_group_tests(tests, make_world, remove_world);
}
