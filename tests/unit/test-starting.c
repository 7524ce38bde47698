/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A start that waits: what the service manager hears, and signals that want an end of it. */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "starting.h"

static int listen_for_messages(char folder[static 32])
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        (void)snprintf(folder, 32, "/tmp/test-starting.XXXXXX");
        assert_non_null(mkdtemp(folder));
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", folder);
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);
        return fd;
}

static void the_service_manager_is_told(void **state)
{
        char folder[32], text[256] = "";
        int fd = listen_for_messages(folder);

        assert_true(starting_goes_on("a thing", 7000000));
        assert_true(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) > 0);
        assert_string_equal(text, "STATUS=Starting: a thing\nEXTEND_TIMEOUT_USEC=37000000");

        assert_int_equal(unlink(getenv("NOTIFY_SOCKET")), 0);
        assert_int_equal(rmdir(folder), 0);
        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
        assert_int_equal(close(fd), 0);
        assert_true(starting_goes_on("nobody is there", 0));
}

static void a_signal_ends_it_and_stays(void **state)
{
        static const int stopping[] = { SIGTERM, SIGINT };
        sigset_t set;
        int got;

        for (size_t i = 0; i < 2; i++) {
                sigemptyset(&set);
                sigaddset(&set, stopping[i]);
                assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
                assert_true(starting_goes_on("a thing", 0));
                assert_int_equal(raise(stopping[i]), 0);
                assert_false(starting_goes_on("a thing", 0));
                assert_false(starting_goes_on("a thing", 0));
                assert_int_equal(sigwait(&set, &got), 0);
                assert_true(starting_goes_on("a thing", 0));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_service_manager_is_told),
                cmocka_unit_test(a_signal_ends_it_and_stays),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
