/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a peer that is not privileged may send: framing, descriptors, calls and all that they do,
 * but for the mount. The first byte says how it is sent (enum how); the rest is sent as it is. Each
 * line that comes back must be an answer, and nothing may be left when the peer has gone.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

#include "control/connection.h"
#include "control/server-internal.h"
#include "fuzz.h"
#include "model/quota.h"
#include "util/cleanup.h"
#include "util/macros.h"
#include "world.h"

enum how {
        HOW_DESCRIPTORS = 3, /* so many, from the kinds of make_descriptor() */
        HOW_PIECES = 1 << 2, /* in two parts, each with the descriptors */
        HOW_CLIENT = 1 << 3, /* a client "c" is opened before */
        HOW_EXPORT = 1 << 4, /* ... with an export "e" */
        HOW_OPEN = 1 << 5,   /* the sending side is not closed after it */
        HOW_NO_END = 1 << 6, /* no newline is put behind it */
        HOW_DEAF = 1 << 7,   /* nobody reads the answers */
};

#define IDLE_USEC 2000
#define TURNS_MAX 100000

static const char open_client[] = "{\"method\":\"io.dmiod.OpenClient\",\"parameters\":{"
                                  "\"name\":\"c\",\"pages\":16}}\n";
static const char create_export[] =
        "{\"method\":\"io.dmiod.CreateExport\",\"parameters\":{\"client\":\"c\",\"name\":\"e\","
        "\"regions\":[{\"device\":\"disk0\",\"sector\":0,\"count\":64}]}}\n";

static struct server *server;
static uint64_t n_connections;

static int make_descriptor(unsigned int i)
{
        int fd;

        switch (i) {
        case 0:
                fd = memfd_create("memory", MFD_CLOEXEC);
                fuzz_require(fd >= 0 && ftruncate(fd, 65536) == 0);
                return fd;
        case 1:
                return open("/dev/zero", O_RDWR | O_CLOEXEC);
        default:
                fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                fuzz_require(fd >= 0 && ftruncate(fd, 4096) == 0);
                (void)fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE);
                return fd;
        }
}

/* Takes what the other side has sent; false at its end. */
static bool read_answers(int fd, char **text, size_t *length, size_t *size)
{
        for (;;) {
                ssize_t n;

                if (*size - *length < 65536) {
                        *size = 2 * *size + 65536;
                        *text = realloc(*text, *size);
                        fuzz_require(*text);
                }
                n = recv(fd, *text + *length, *size - *length, MSG_DONTWAIT);
                if (n <= 0)
                        return n < 0 && errno == EAGAIN;
                *length += (size_t)n;
        }
}

static void check_answers(const char *text, size_t length)
{
        const char *end = memchr(text, '\n', length), *nul = memchr(text, '\0', length);
        char terminator = nul && (!end || nul < end) ? '\0' : '\n';

        while ((end = memchr(text, terminator, length)) != NULL) {
                json_t *answer = json_loadb(text, (size_t)(end - text), JSON_ALLOW_NUL, NULL);

                fuzz_require(json_is_object(answer));
                fuzz_require(json_object_get(answer, "error") ||
                             json_is_object(json_object_get(answer, "parameters")));
                json_decref(answer);
                length -= (size_t)(end - text) + 1;
                text = end + 1;
        }
}

/* Sends as much as goes. */
static size_t send_some(int fd, const uint8_t *data, size_t size, unsigned int n_fds)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(3 * sizeof(int))];
        } control = {};
        struct iovec iov = { (void *)data, size };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
        int fds[3];
        ssize_t n;

        for (unsigned int i = 0; i < n_fds; i++)
                fds[i] = make_descriptor(i);
        if (n_fds > 0) {
                struct cmsghdr *c;

                message.msg_control = control.bytes;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                c = CMSG_FIRSTHDR(&message);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        }
        n = size > 0 ? sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        for (unsigned int i = 0; i < n_fds; i++)
                (void)close_fd(fds[i]);
        if (n < 0 && errno != EAGAIN)
                return size; /* it has been told enough */
        return n < 0 ? 0 : (size_t)n;
}

static void start(struct world *world, int *ret)
{
        struct peer peer = { .uid = WORLD_UID, .gid = WORLD_UID };
        struct connection *connection;
        int pair[2];

        if (!server) {
                const struct sockaddr name = { .sa_family = AF_UNIX }; /* of the kernel's choice */
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

                fuzz_require(fd >= 0 && bind(fd, &name, sizeof(name.sa_family)) == 0);
                fuzz_require(listen(fd, 1) == 0);
                fuzz_require(server_new(&world->model, world->event, fd, &server) == 0);
        }
        fuzz_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        fuzz_require(quota_charge(&world->model, WORLD_UID, QUOTA_CONNECTIONS, 1, NULL) == 0);
        fuzz_require(connection_new(server, pair[1], &peer, ++n_connections, &connection) == 0);
        *ret = pair[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct world *world = world_get();
        size_t length = 0, text_size = 0, sent = 0, first, n_fds;
        bool deaf, shut = false;
        char *text = NULL;
        unsigned int idle = 0;
        uint8_t how;
        int fd;

        if (size < 1)
                return 0;
        how = *data++;
        size--;
        deaf = how & HOW_DEAF;
        n_fds = how & HOW_DESCRIPTORS;
        start(world, &fd);
        if (how & (HOW_CLIENT | HOW_EXPORT))
                (void)send_some(fd, (const uint8_t *)open_client, sizeof(open_client) - 1, 0);
        if (how & HOW_EXPORT)
                (void)send_some(fd, (const uint8_t *)create_export, sizeof(create_export) - 1, 0);

        first = how & HOW_PIECES ? size / 2 : size;
        for (unsigned int turn = 0; turn < TURNS_MAX && idle < 3; turn++) {
                if (sent < first)
                        sent += send_some(fd, data + sent, first - sent,
                                          sent == 0 ? (unsigned int)n_fds : 0);
                else if (sent < size)
                        sent += send_some(fd, data + sent, size - sent,
                                          sent == first ? (unsigned int)n_fds : 0);
                if (sent == size && !shut) {
                        shut = true;
                        if (!(how & HOW_NO_END))
                                (void)send_some(fd, (const uint8_t *)"\n", 1, 0);
                        if (!(how & HOW_OPEN))
                                (void)shutdown(fd, SHUT_WR);
                }
                idle = world_run(world, IDLE_USEC) ? 0 : idle + 1;
                if (!deaf && !read_answers(fd, &text, &length, &text_size))
                        break;
        }
        if (text)
                check_answers(text, length);
        free(text);
        (void)close_fd(fd);
        world_end_clients(world);
        for (unsigned int turn = 0; !list_is_empty(&server->connections); turn++) {
                fuzz_require(turn < TURNS_MAX);
                (void)world_run(world, IDLE_USEC);
        }
        return 0;
}
