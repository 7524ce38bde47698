/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The supervisor's part is played by the test: the environment and descriptors that it passes to a
 * child, and the socket on which it hears what is to be kept.
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "descriptor-store.h"
#include "util/cleanup.h"

#define LISTEN_START 3

static int notify_fd = -EBADF;

/* An abstract address, so that nothing is left behind. */
static int unix_socket(int type, bool listening, const char *what)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int n, fd;

        n = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "dmio-test-%d-%s",
                     (int)getpid(), what);
        fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&address,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)),
                         0);
        if (listening)
                assert_int_equal(listen(fd, 1), 0);
        return fd;
}

static int memory_file(const char *text)
{
        int fd = memfd_create("test", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        return fd;
}

/*
 * What is passed lies at fixed numbers, so each test is run in a child: what it asserts is told by
 * its exit status.
 */
static void in_child(void (*run)(void), const char *names, const int *fds, int n)
{
        int status;
        pid_t child;

        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                char number[16];

                /* Out of the way first, what is in the way of the numbers. */
                int high[8];

                for (int i = 0; i < n; i++)
                        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 100);
                notify_fd = fcntl(notify_fd, F_DUPFD_CLOEXEC, 100);
                for (int i = 0; i < n; i++)
                        if (dup2(high[i], LISTEN_START + i) < 0)
                                _exit(3);
                if (n > 0) {
                        (void)snprintf(number, sizeof(number), "%d", (int)getpid());
                        setenv("LISTEN_PID", number, 1);
                        (void)snprintf(number, sizeof(number), "%d", n);
                        setenv("LISTEN_FDS", number, 1);
                        setenv("LISTEN_FDNAMES", names, 1);
                }
                run();
                _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

/* In the child a failed assertion of cmocka would go on with the parent's tests. */
#define CHECK(condition)                                                                           \
        do {                                                                                       \
                if (!(condition)) {                                                                \
                        (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
                        _exit(1);                                                                  \
                }                                                                                  \
        } while (0)

/* The next message, and the descriptor that came with it, or none. */
static int receive(char *text, size_t size)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = { text, size - 1 };
        struct msghdr message = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control),
        };
        const struct cmsghdr *header;
        int fd = -EBADF;
        ssize_t n;

        n = recvmsg(notify_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        CHECK(n >= 0);
        text[n] = '\0';
        header = CMSG_FIRSTHDR(&message);
        if (header && header->cmsg_type == SCM_RIGHTS)
                memcpy(&fd, CMSG_DATA(header), sizeof(fd));
        return fd;
}

static bool nothing_was_sent(void)
{
        char c;

        return recv(notify_fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void check_take(void)
{
        struct descriptor_store store;
        char text[8] = "";
        int fd;

        CHECK(descriptor_store_open(&store) == 0);
        CHECK(!getenv("LISTEN_FDS") && !getenv("LISTEN_PID") && !getenv("LISTEN_FDNAMES"));
        CHECK(descriptor_store_is_there(&store));
        CHECK(descriptor_store_take(&store, "nothing") == -ENOENT);
        fd = descriptor_store_take(&store, "state");
        CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
        CHECK(pread(fd, text, 5, 0) == 5 && strcmp(text, "first") == 0);
        CHECK(descriptor_store_take(&store, "state") == -ENOENT);
        CHECK(descriptor_store_take_listener(&store) == LISTEN_START + 1);
        CHECK(descriptor_store_take_listener(&store) == -ENOENT);

        /* What is left goes, and is not kept; of the names that were taken nothing is said. */
        descriptor_store_drop(&store);
        CHECK(fcntl(LISTEN_START + 2, F_GETFD) < 0);
        CHECK(fcntl(fd, F_GETFD) >= 0);
        CHECK(receive(text, sizeof(text)) == -EBADF);
        CHECK(strncmp(text, "FDSTORE", sizeof(text) - 1) == 0);
        CHECK(nothing_was_sent());
}

static void test_take(void **state)
{
        int listener = unix_socket(SOCK_STREAM, true, "listener");
        int first = memory_file("first"), second = memory_file("second");
        const int fds[] = { first, listener, second };

        in_child(check_take, "state:dmiod.socket:dmio-dev-7", fds, 3);
        (void)close(listener);
        (void)close(first);
        (void)close(second);
}

static void check_two_listeners(void)
{
        struct descriptor_store store;

        CHECK(descriptor_store_open(&store) == 0);
        CHECK(descriptor_store_take_listener(&store) == -ENOTUNIQ);
        descriptor_store_close(&store);
        CHECK(nothing_was_sent());
}

static void check_no_listener(void)
{
        struct descriptor_store store;

        CHECK(descriptor_store_open(&store) == 0);
        CHECK(descriptor_store_take_listener(&store) == -ENOTSOCK);
        descriptor_store_close(&store);
        CHECK(fcntl(LISTEN_START, F_GETFD) < 0);
}

static void test_listeners(void **state)
{
        int one = unix_socket(SOCK_STREAM, true, "one"),
            two = unix_socket(SOCK_STREAM, true, "two");
        int datagrams = unix_socket(SOCK_DGRAM, false, "datagrams");

        in_child(check_two_listeners, "a:b", (int[]){ one, two }, 2);
        in_child(check_no_listener, "a", (int[]){ datagrams }, 1);
        (void)close(one);
        (void)close(two);
        (void)close(datagrams);
}

static void check_push(void)
{
        struct descriptor_store store;
        struct stat mine, theirs;
        char text[64];
        int fd, got;

        CHECK(descriptor_store_open(&store) == 0);
        CHECK(descriptor_store_is_there(&store));
        fd = memory_file("kept");
        CHECK(descriptor_store_push(&store, "state", fd) == 0);
        got = receive(text, sizeof(text));
        CHECK(strcmp(text, "FDSTORE=1\nFDNAME=state\nFDPOLL=0") == 0);
        CHECK(got >= 0 && fstat(fd, &mine) == 0 && fstat(got, &theirs) == 0);
        CHECK(mine.st_ino == theirs.st_ino && mine.st_dev == theirs.st_dev);

        CHECK(descriptor_store_remove(&store, "dmio-dev-3") == 0);
        CHECK(receive(text, sizeof(text)) == -EBADF);
        CHECK(strcmp(text, "FDSTOREREMOVE=1\nFDNAME=dmio-dev-3") == 0);

        CHECK(descriptor_store_push(&store, "a:b", fd) == -EINVAL);
        CHECK(descriptor_store_push(&store, "a\nFDNAME=b", fd) == -EINVAL);
        CHECK(descriptor_store_push(&store, "", fd) == -EINVAL);
        CHECK(descriptor_store_push(&store, "dmio-dev-3", -EBADF) == -EBADF);
        CHECK(nothing_was_sent());
}

static ino_t inode_of(int fd)
{
        struct stat st;

        return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

/* A supervisor keeps no open file twice; what clients pass may be one that was passed before. */
static void check_push_again(void)
{
        struct descriptor_store store;
        char text[64];
        int fd, one, other;

        CHECK(descriptor_store_open(&store) == 0);
        fd = memory_file("kept");
        CHECK(descriptor_store_push(&store, "dmio-dev-3", fd) == 0);
        one = receive(text, sizeof(text));
        CHECK(strcmp(text, "FDSTORE=1\nFDNAME=dmio-dev-3\nFDPOLL=0") == 0);
        CHECK(descriptor_store_push(&store, "dmio-dev-4", fd) == 0);
        other = receive(text, sizeof(text));
        CHECK(one >= 0 && other >= 0 && inode_of(one) != inode_of(other));
        CHECK(inode_of(one) != inode_of(fd) && inode_of(other) != inode_of(fd));
        CHECK(nothing_was_sent());
}

/* What one daemon has pushed, the next one takes, and the one after that. */
static void check_take_again(void)
{
        struct descriptor_store store;
        char text[8] = "";
        int fd;

        CHECK(descriptor_store_open(&store) == 0);
        fd = descriptor_store_take(&store, "dmio-dev-3");
        CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
        CHECK(pread(fd, text, 4, 0) == 4 && strcmp(text, "kept") == 0);
        CHECK(fcntl(LISTEN_START, F_GETFD) < 0);
        /* Of a daemon that knew no boxes. */
        fd = descriptor_store_take(&store, "dmio-dev-4");
        CHECK(fd == LISTEN_START + 1);
        /* An empty one. */
        CHECK(descriptor_store_take(&store, "dmio-dev-5") == -ENOENT);
        descriptor_store_close(&store);
}

static void test_boxes(void **state)
{
        int file = memory_file("kept"), ends[2], empty[2];
        union {
                char buffer[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } rights = { 0 };
        struct iovec content = { .iov_base = (char[]){ 0 }, .iov_len = 1 };
        struct msghdr message = { .msg_iov = &content,
                                  .msg_iovlen = 1,
                                  .msg_control = rights.buffer,
                                  .msg_controllen = sizeof(rights.buffer) };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        setenv("FDSTORE", "16", 1);
        in_child(check_push_again, "", NULL, 0);
        unsetenv("FDSTORE");

        assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, empty), 0);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(file));
        memcpy(CMSG_DATA(header), &file, sizeof(file));
        assert_int_equal(sendmsg(ends[1], &message, 0), 1);
        (void)close(ends[1]);
        for (int i = 0; i < 2; i++)
                in_child(check_take_again, "dmio-dev-3:dmio-dev-4:dmio-dev-5",
                         (int[]){ ends[0], file, empty[0] }, 3);
        (void)close(ends[0]);
        (void)close(empty[0]);
        (void)close(empty[1]);
        (void)close(file);
}

static void test_push(void **state)
{
        setenv("FDSTORE", "16", 1);
        in_child(check_push, "", NULL, 0);
        unsetenv("FDSTORE");
}

static void check_no_store(void)
{
        struct descriptor_store store;

        CHECK(descriptor_store_open(&store) == 0);
        CHECK(!descriptor_store_is_there(&store));
        CHECK(descriptor_store_push(&store, "state", STDERR_FILENO) == -EOPNOTSUPP);
        CHECK(descriptor_store_remove(&store, "state") == -EOPNOTSUPP);
        CHECK(descriptor_store_barrier(&store) == -EOPNOTSUPP);
        CHECK(nothing_was_sent());
}

/* Messages are heard, but nobody has said that descriptors are kept: an old or other supervisor. */
static void test_no_store(void **state)
{
        in_child(check_no_store, "", NULL, 0);
}

static int group_setup(void **state)
{
        char address[64];

        unsetenv("FDSTORE");
        notify_fd = unix_socket(SOCK_DGRAM, false, "notify");
        (void)snprintf(address, sizeof(address), "@dmio-test-%d-notify", (int)getpid());
        return setenv("NOTIFY_SOCKET", address, 1);
}

static int group_teardown(void **state)
{
        notify_fd = close_fd(notify_fd);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_take),     cmocka_unit_test(test_listeners),
                cmocka_unit_test(test_push),     cmocka_unit_test(test_boxes),
                cmocka_unit_test(test_no_store),
        };

        return cmocka_run_group_tests_name("descriptor-store", tests, group_setup, group_teardown);
}
