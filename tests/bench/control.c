/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Calls of the control channel per second: so many connections, each with one call under way,
 * driven by one thread that does as little as possible beside.
 *
 *   bench-control SOCKET CONNECTIONS SECONDS status
 *   bench-control SOCKET CONNECTIONS SECONDS io CLIENT DEVICE SECTORS
 *
 * "io" reads 4 KiB at a place of its own choice into a memfd that goes along with each call. Prints
 * the calls of a second.
 */

#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/macros.h"

#define BYTES 4096
#define EVENTS_MAX 64

struct caller {
        int fd;
        int memory;
        size_t length; /* of the answer, as far as it has come */
        char answer[4096];
};

static const char *client, *device; /* NULL for "status" */
static uint64_t n_sectors;
static uint64_t seed = 1;

static uint64_t random_place(void)
{
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (seed >> 33) % (n_sectors / (BYTES / 512)) * (BYTES / 512);
}

static void call(struct caller *caller)
{
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control = {};
        char text[1024] = "{\"method\":\"io.dmiod.Status\"}\n";
        struct iovec iov = { .iov_base = text };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (device) {
                (void)snprintf(text, sizeof(text),
                               "{\"method\":\"io.dmiod.Io\",\"parameters\":{\"client\":\"%s\","
                               "\"op\":\"read\",\"regions\":[{\"device\":\"%s\",\"sector\":%ju,"
                               "\"count\":%d}],\"memory\":{\"fd\":0,\"vm\":0}}}\n",
                               client, device, (uintmax_t)random_place(), BYTES / 512);
                message.msg_control = control.bytes;
                message.msg_controllen = sizeof(control.bytes);
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(&control.header), &caller->memory, sizeof(int));
        }
        iov.iov_len = strlen(text);
        if (sendmsg(caller->fd, &message, 0) != (ssize_t)iov.iov_len)
                err(EXIT_FAILURE, "sendmsg");
        caller->length = 0;
}

/* True once the answer has come. */
static bool receive(struct caller *caller)
{
        ssize_t n = recv(caller->fd, caller->answer + caller->length,
                         sizeof(caller->answer) - 1 - caller->length, 0);

        if (n <= 0)
                errx(EXIT_FAILURE, "the connection has ended");
        caller->length += (size_t)n;
        caller->answer[caller->length] = '\0';
        if (caller->answer[caller->length - 1] != '\n')
                return false;
        if (strstr(caller->answer, "\"error\":") ||
            (device && !strstr(caller->answer, "\"error_bits\":\"0x0\"")))
                errx(EXIT_FAILURE, "%s", caller->answer);
        return true;
}

static void start(struct caller *caller, const char *path, int epoll)
{
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = caller };
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        if (strlen(path) >= sizeof(address.sun_path))
                errx(EXIT_FAILURE, "%s is too long", path);
        memcpy(address.sun_path, path, strlen(path));
        caller->fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (caller->fd < 0 || connect(caller->fd, (void *)&address, sizeof(address)) < 0)
                err(EXIT_FAILURE, "%s", path);
        caller->memory = memfd_create("bench", 0);
        if (caller->memory < 0 || ftruncate(caller->memory, BYTES) < 0)
                err(EXIT_FAILURE, "memfd");
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, caller->fd, &event) < 0)
                err(EXIT_FAILURE, "epoll_ctl");
        call(caller);
}

int main(int argc, char *argv[])
{
        struct epoll_event events[EVENTS_MAX];
        uint64_t begin, end, n_calls = 0;
        struct caller *callers;
        unsigned long n_callers;
        int epoll;

        if (argc != 5 && argc != 8)
                errx(EXIT_FAILURE, "usage: SOCKET CONNECTIONS SECONDS status | io CLIENT DEVICE "
                                   "SECTORS");
        n_callers = strtoul(argv[2], NULL, 10);
        if (argc == 8) {
                client = argv[5];
                device = argv[6];
                n_sectors = strtoull(argv[7], NULL, 10);
        }
        callers = calloc(n_callers, sizeof(*callers));
        epoll = epoll_create1(0);
        if (!callers || epoll < 0)
                err(EXIT_FAILURE, "cannot start");
        for (unsigned long i = 0; i < n_callers; i++)
                start(&callers[i], argv[1], epoll);

        begin = now_usec();
        end = begin + strtoul(argv[3], NULL, 10) * 1000000;
        while (now_usec() < end) {
                int n = epoll_wait(epoll, events, EVENTS_MAX, 1000);

                for (int i = 0; i < n; i++) {
                        struct caller *caller = events[i].data.ptr;

                        if (!receive(caller))
                                continue;
                        n_calls++;
                        call(caller);
                }
        }
        (void)printf("%.0f\n", (double)n_calls * 1e6 / (double)(now_usec() - begin));
        free(callers);
        return EXIT_SUCCESS;
}
