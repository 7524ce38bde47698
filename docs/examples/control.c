/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * dmiod's control channel from C: descriptors are sent along with a message, and jansson reads the
 * reply. The library libdmio is not needed for this: the daemon does the work.
 *
 *   control SOCKET DEVICE:SECTOR TEXT
 *
 * Writes TEXT, and zeroes up to a sector, to that sector of DEVICE, from memory that is shared with
 * the daemon, and reads it back. Exit status: 0 done, 1 the region failed, 2 usage, 3 trouble.
 *
 *   cc control.c $(pkg-config --cflags --libs jansson)
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#define SECTOR_SIZE 512
#define PAGE_SIZE 4096

static void die(const char *what)
{
        fprintf(stderr, "control: %s: %s\n", what, strerror(errno));
        exit(3);
}

static int connect_to(const char *path)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (strlen(path) >= sizeof(address.sun_path)) {
                errno = ENAMETOOLONG;
                die(path);
        }
        strcpy(address.sun_path, path);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                die(path);
        return fd;
}

/* The message and what ends it. The descriptors go with its first byte. */
static void send_message(int fd, const char *text, const int *fds, unsigned int n_fds)
{
        char control[CMSG_SPACE(2 * sizeof(int))] = { 0 };
        size_t length = strlen(text) + 1, sent;
        struct iovec iov = { .iov_base = (char *)text, .iov_len = length };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (n_fds > 0) {
                struct cmsghdr *header;

                message.msg_control = control;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                header = CMSG_FIRSTHDR(&message);
                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
        }
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (n < 0)
                die("sendmsg");
        /* The terminating NUL is the end of the message, too. */
        for (sent = (size_t)n; sent < length; sent += (size_t)n) {
                n = send(fd, text + sent, length - sent, MSG_NOSIGNAL);
                if (n < 0)
                        die("send");
        }
}

/* One reply, up to its NUL. */
static json_t *receive_reply(int fd)
{
        static char text[65536];
        json_error_t error;
        size_t length = 0;
        json_t *reply;
        ssize_t n;

        do {
                n = length < sizeof(text) ? recv(fd, text + length, sizeof(text) - length, 0) : 0;
                if (n <= 0)
                        die("recv");
                length += (size_t)n;
        } while (text[length - 1] != '\0');

        reply = json_loads(text, 0, &error);
        if (!reply) {
                fprintf(stderr, "control: %s\n", error.text);
                exit(3);
        }
        return reply;
}

/* The parameters of the reply, the caller's; an error of the daemon ends us. @message is taken. */
static json_t *call(int fd, json_t *message, const int *fds, unsigned int n_fds)
{
        char *text = json_dumps(message, JSON_COMPACT);
        json_t *reply, *parameters;

        if (!text)
                die("json_dumps");
        send_message(fd, text, fds, n_fds);
        free(text);
        json_decref(message);

        reply = receive_reply(fd);
        if (json_object_get(reply, "error")) {
                json_dumpf(reply, stderr, JSON_COMPACT);
                fprintf(stderr, "\n");
                json_decref(reply);
                exit(3);
        }
        parameters = json_incref(json_object_get(reply, "parameters"));
        json_decref(reply);
        return parameters;
}

/* One sector between the device, descriptor 0, and a page of the memory, descriptor 1. */
static int transfer(int fd, const char *op, long long sector, const int *fds, int page)
{
        json_t *result;
        const char *bits = "", *name;
        json_int_t where;
        int r = 0;

        result = call(fd,
                      json_pack("{s:s, s:{s:s, s:s, s:[{s:s, s:I, s:i}], s:{s:i, s:[i]}}}",
                                "method", "io.dmiod.Io", "parameters", "client", "example-c", "op",
                                op, "regions", "device", "fd:0", "sector", (json_int_t)sector,
                                "count", 1, "memory", "fd", 1, "page_list", page),
                      fds, 2);
        if (json_unpack(result, "{s:s}", "error_bits", &bits) < 0 || strcmp(bits, "0x0") != 0)
                r = -1;
        if (json_unpack(result, "{s:[{s:s, s:I}]}", "errors", "errno", &name, "sector", &where) ==
            0)
                printf("%s: %s at sector %lld\n", op, name, (long long)where);
        json_decref(result);
        return r;
}

int main(int argc, char **argv)
{
        char *colon = argc == 4 ? strrchr(argv[2], ':') : NULL, *end = NULL;
        long long sector = colon ? strtoll(colon + 1, &end, 10) : -1;
        char *memory;
        int control, fds[2];

        if (sector < 0 || end == colon + 1 || *end || strlen(argv[3]) > SECTOR_SIZE) {
                fprintf(stderr, "usage: control SOCKET DEVICE:SECTOR TEXT\n");
                return 2;
        }
        *colon = '\0';

        /* Two pages: what is written, and what is read back. */
        fds[0] = open(argv[2], O_RDWR | O_CLOEXEC);
        if (fds[0] < 0)
                die(argv[2]);
        fds[1] = memfd_create("pages", MFD_CLOEXEC);
        if (fds[1] < 0 || ftruncate(fds[1], 2 * PAGE_SIZE) < 0)
                die("memfd_create");
        memory = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
        if (memory == MAP_FAILED)
                die("mmap");
        memcpy(memory, argv[3], strlen(argv[3]));

        /* Without "linger" the client ends with the connection. */
        control = connect_to(argv[1]);
        json_decref(call(control,
                         json_pack("{s:s, s:{s:s, s:i}}", "method", "io.dmiod.OpenClient",
                                   "parameters", "name", "example-c", "pages", 8),
                         NULL, 0));
        if (transfer(control, "write", sector, fds, 0) < 0 ||
            transfer(control, "read", sector, fds, 1) < 0)
                return 1;
        printf("%.*s\n", SECTOR_SIZE, memory + PAGE_SIZE);
        close(control);
        return 0;
}
