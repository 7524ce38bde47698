/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/stream.h"

static const struct stream_limits limits = { .message = 10000, .descriptors = 4 };

struct fixture {
        struct stream stream;
        int peer;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        int fds[2];

        assert_non_null(f);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        stream_init(&f->stream, fds[0]);
        f->peer = fds[1];
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        descriptors_close(&f->stream.descriptors);
        stream_deinit(&f->stream);
        if (f->peer >= 0)
                close(f->peer);
        free(f);
        return 0;
}

static void put(struct fixture *f, const void *data, size_t length)
{
        assert_int_equal(send(f->peer, data, length, MSG_NOSIGNAL), length);
}

static void put_with_descriptors(struct fixture *f, const char *text, int fd, size_t n)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(16 * sizeof(int))];
        } control = {};
        struct iovec iov = { (char *)text, strlen(text) };
        struct msghdr message = { .msg_iov = &iov,
                                  .msg_iovlen = 1,
                                  .msg_control = control.bytes,
                                  .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(n * sizeof(int));
        for (size_t i = 0; i < n; i++)
                memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(fd));
        assert_int_equal(sendmsg(f->peer, &message, 0), strlen(text));
}

static void expect_message(struct fixture *f, const char *text, char terminator)
{
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_MESSAGE);
        assert_int_equal(f->stream.in_length, strlen(text));
        assert_string_equal(f->stream.in, text);
        assert_int_equal(f->stream.terminator, terminator);
        stream_message_done(&f->stream);
}

static void newline_and_nul_both_end_a_message(void **state)
{
        struct fixture *f = *state;

        put(f, "one\ntwo\0\nthree\n\0", 16);
        expect_message(f, "one", '\n');
        expect_message(f, "two", '\0');
        expect_message(f, "", '\n');
        expect_message(f, "three", '\n');
        expect_message(f, "", '\0');
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_AGAIN);
}

static void a_message_may_come_in_pieces(void **state)
{
        struct fixture *f = *state;

        put(f, "he", 2);
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_AGAIN);
        put(f, "llo", 3);
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_AGAIN);
        put(f, "\nnext\n", 6);
        expect_message(f, "hello", '\n');
        expect_message(f, "next", '\n');
}

static void the_limit_holds_to_the_byte(void **state)
{
        struct fixture *f = *state;
        static char text[10002];

        memset(text, 'x', sizeof(text));
        text[10000] = '\n';
        put(f, text, 10001);
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_MESSAGE);
        assert_int_equal(f->stream.in_length, 10000);
        stream_message_done(&f->stream);

        /* One more is too many, whether its end has come or not. */
        text[10000] = 'x';
        put(f, text, 10001);
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_E_TOO_LONG);
        stream_message_done(&f->stream);
        text[10001] = '\n';
        put(f, text, 10002);
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_E_TOO_LONG);
}

static void the_end_of_the_stream_is_told(void **state)
{
        struct fixture *f = *state;

        put(f, "last\nhalf", 9);
        assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
        expect_message(f, "last", '\n');
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_E_UNTERMINATED);
        stream_message_done(&f->stream);
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_END);
}

static size_t n_descriptors(struct fixture *f)
{
        size_t n = f->stream.descriptors.n;

        for (size_t i = 0; i < n; i++)
                assert_int_equal(fcntl(f->stream.descriptors.fds[i], F_GETFD), FD_CLOEXEC);
        descriptors_close(&f->stream.descriptors);
        return n;
}

static void descriptors_stay_with_their_message(void **state)
{
        struct fixture *f = *state;

        /* All of it is in the socket before anything is read. */
        put(f, "none\n", 5);
        put_with_descriptors(f, "two\n", f->peer, 2);
        put(f, "none\n", 5);
        put_with_descriptors(f, "be", f->peer, 1);
        put_with_descriptors(f, "gun\n", f->peer, 1);

        expect_message(f, "none", '\n');
        assert_int_equal(n_descriptors(f), 0);
        expect_message(f, "two", '\n');
        assert_int_equal(n_descriptors(f), 2);
        expect_message(f, "none", '\n');
        assert_int_equal(n_descriptors(f), 0);
        expect_message(f, "begun", '\n');
        assert_int_equal(n_descriptors(f), 2);
}

static void descriptors_are_bounded(void **state)
{
        struct fixture *f = *state;

        put_with_descriptors(f, "four\n", f->peer, 4);
        expect_message(f, "four", '\n');
        assert_int_equal(n_descriptors(f), 4);

        put_with_descriptors(f, "x", f->peer, 4);
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_AGAIN);
        put_with_descriptors(f, "x", f->peer, 1);
        assert_int_equal(stream_read(&f->stream, &limits), STREAM_E_DESCRIPTORS);
        /* They are there to be closed. */
        assert_int_equal(n_descriptors(f), 5);
}

static void an_answer_goes_out_as_the_peer_takes_it(void **state)
{
        struct fixture *f = *state;
        size_t length = 4 * 1024 * 1024, total = 0;
        char *text = malloc(length), *taken = malloc(length);
        bool progress = false;
        int r;

        assert_non_null(text);
        assert_non_null(taken);
        for (size_t i = 0; i < length; i++)
                text[i] = (char)(i * 31 >> 4);
        memcpy(taken, text, length);
        assert_int_equal(stream_write(&f->stream, text, length), 0);

        assert_int_equal(stream_flush(&f->stream, &progress), 1);
        assert_true(progress);
        assert_int_equal(stream_flush(&f->stream, &progress), 1);
        assert_false(progress);
        do {
                char part[65536];
                ssize_t n = recv(f->peer, part, sizeof(part), 0);

                assert_true(n > 0);
                assert_memory_equal(part, taken + total, n);
                total += (size_t)n;
                r = stream_flush(&f->stream, &progress);
                assert_true(r >= 0);
        } while (r > 0);
        while (total < length) {
                char part[65536];
                ssize_t n = recv(f->peer, part, sizeof(part), MSG_DONTWAIT);

                assert_true(n > 0);
                assert_memory_equal(part, taken + total, n);
                total += (size_t)n;
        }
        free(taken);
}

static void answers_wait_for_each_other(void **state)
{
        static const unsigned int n = 20000;
        struct fixture *f = *state;
        char expected[32], part[16];
        bool progress;

        for (unsigned int i = 0; i < n; i++) {
                char *text = NULL;

                assert_int_equal(asprintf(&text, "answer %07u\n", i), 15);
                assert_int_equal(stream_write(&f->stream, text, 15), 0);
                assert_true(stream_flush(&f->stream, &progress) >= 0);
        }
        assert_true(stream_unsent(&f->stream) > 0);
        for (unsigned int i = 0; i < n; i++) {
                (void)snprintf(expected, sizeof(expected), "answer %07u\n", i);
                assert_int_equal(recv(f->peer, part, 15, MSG_WAITALL), 15);
                assert_memory_equal(part, expected, 15);
                assert_true(stream_flush(&f->stream, &progress) >= 0);
        }
        assert_int_equal(stream_unsent(&f->stream), 0);
}

static void a_peer_that_is_gone_is_an_error(void **state)
{
        struct fixture *f = *state;
        bool progress;

        close(f->peer);
        f->peer = -1;
        assert_int_equal(stream_write(&f->stream, strdup("answer\n"), 7), 0);
        assert_int_equal(stream_flush(&f->stream, &progress), -EPIPE);
}

static void discarding_lets_the_peer_read_the_end(void **state)
{
        struct fixture *f = *state;
        char byte;

        put(f, "whatever", 8);
        assert_int_equal(stream_discard(&f->stream), 1);
        assert_int_equal(recv(f->peer, &byte, 1, 0), 0);
        assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
        assert_int_equal(stream_discard(&f->stream), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(newline_and_nul_both_end_a_message),
                TEST(a_message_may_come_in_pieces),
                TEST(the_limit_holds_to_the_byte),
                TEST(the_end_of_the_stream_is_told),
                TEST(descriptors_stay_with_their_message),
                TEST(descriptors_are_bounded),
                TEST(an_answer_goes_out_as_the_peer_takes_it),
                TEST(answers_wait_for_each_other),
                TEST(a_peer_that_is_gone_is_an_error),
                TEST(discarding_lets_the_peer_read_the_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
