/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "control/stream.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* Most descriptors that the kernel passes with one sendmsg(2) (SCM_MAX_FD, not in its headers). */
#define DESCRIPTORS_OF_ONE_SEND 253

#define IN_SIZE_FIRST 4096
#define IN_SIZE_STEP ((size_t)64 * 1024)

/* Bytes thrown away by one stream_discard(), so that other connections get their turn. */
#define DISCARD_BYTES ((size_t)1024 * 1024)

void descriptors_close(struct descriptors *descriptors)
{
        for (size_t i = 0; i < descriptors->n; i++)
                (void)close_fd(descriptors->fds[i]);
        free(descriptors->fds);
        *descriptors = DESCRIPTORS_NULL;
}

void stream_init(struct stream *stream, int fd)
{
        *stream = STREAM_NULL;
        stream->fd = fd;
}

void stream_deinit(struct stream *stream)
{
        assert(stream->descriptors.n == 0);
        stream->fd = close_fd(stream->fd);
        free(stream->in);
        free(stream->out);
        free(stream->descriptors.fds);
        *stream = STREAM_NULL;
}

void stream_message_done(struct stream *stream)
{
        /* Idle connections are many: they keep nothing. */
        free(stream->in);
        stream->in = NULL;
        stream->in_length = 0;
        stream->in_size = 0;
}

/* Room for at least one more byte and the NUL. */
static int make_room(struct stream *stream)
{
        size_t size;
        char *in;

        if (stream->in_length + 1 < stream->in_size)
                return 0;
        size = stream->in_size == 0 ? IN_SIZE_FIRST
                                    : stream->in_size + MIN(stream->in_size, IN_SIZE_STEP);
        in = realloc(stream->in, size);
        if (!in)
                return -ENOMEM;
        stream->in = in;
        stream->in_size = size;
        return 0;
}

static ssize_t receive(int fd, struct msghdr *message, int flags)
{
        ssize_t n;

        do
                n = recvmsg(fd, message, flags | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

/* Keep the descriptors of @message. Returns 0, or 1 if some were lost: there is no memory for the
 * list, or the process may have no more of them (then the kernel cuts the list short). */
static int keep_descriptors(struct stream *stream, struct msghdr *message)
{
        int lost = (message->msg_flags & MSG_CTRUNC) != 0;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
                struct descriptors *to = &stream->descriptors;
                size_t n;
                int *fds;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                fds = realloc(to->fds, (to->n + n) * sizeof(int));
                if (!fds) {
                        for (size_t i = 0; i < n; i++) {
                                int one;

                                memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(one));
                                (void)close_fd(one);
                        }
                        lost = 1;
                        continue;
                }
                to->fds = fds;
                memcpy(to->fds + to->n, CMSG_DATA(c), n * sizeof(int));
                to->n += n;
        }
        return lost;
}

/* The length up to and with the first end of a message, or 0 if there is none. */
static size_t find_end(const char *text, size_t length)
{
        const char *newline = memchr(text, '\n', length);
        const char *nul = memchr(text, '\0', newline ? (size_t)(newline - text) : length);
        const char *end = nul ? nul : newline;

        return end ? (size_t)(end - text) + 1 : 0;
}

/* Read up to the end of the message, or what there is. Returns a count, 0 at the end of the stream,
 * or a negative errno; *@ret_lost as keep_descriptors(), *@ret_complete if the end was reached. */
static ssize_t read_some(struct stream *stream, bool *ret_lost, bool *ret_complete)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(DESCRIPTORS_OF_ONE_SEND * sizeof(int))];
        } control;
        char *start = stream->in + stream->in_length;
        struct iovec iov = { start, stream->in_size - stream->in_length - 1 };
        struct msghdr peek = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct msghdr take = { .msg_iov = &iov,
                               .msg_iovlen = 1,
                               .msg_control = control.bytes,
                               .msg_controllen = sizeof(control.bytes) };
        size_t to_end;
        ssize_t n;

        n = receive(stream->fd, &peek, MSG_PEEK);
        if (n <= 0)
                return n;
        to_end = find_end(start, (size_t)n);
        iov.iov_len = to_end > 0 ? to_end : (size_t)n;

        n = receive(stream->fd, &take, MSG_CMSG_CLOEXEC);
        if (n <= 0)
                return n;
        *ret_lost = keep_descriptors(stream, &take);
        *ret_complete = (size_t)n == to_end;
        stream->in_length += (size_t)n;
        return n;
}

int stream_read(struct stream *stream, const struct stream_limits *limits)
{
        bool lost = false, complete = false;
        ssize_t n;
        int r;

        do {
                r = make_room(stream);
                if (r < 0)
                        return r;
                n = read_some(stream, &lost, &complete);
                if (n == -EAGAIN)
                        return STREAM_AGAIN;
                if (n < 0)
                        return (int)n;
                if (n == 0)
                        return stream->in_length > 0 ? STREAM_E_UNTERMINATED : STREAM_END;
                if (lost || stream->descriptors.n > limits->descriptors)
                        return STREAM_E_DESCRIPTORS;
                if (stream->in_length - (complete ? 1 : 0) > limits->message)
                        return STREAM_E_TOO_LONG;
        } while (!complete);

        stream->in_length--;
        stream->terminator = stream->in[stream->in_length];
        stream->in[stream->in_length] = '\0';
        return STREAM_MESSAGE;
}

int stream_write(struct stream *stream, char *text, size_t length)
{
        size_t unsent = stream_unsent(stream);

        if (!stream->out) {
                stream->out = text;
                stream->out_length = length;
                stream->out_size = length;
                stream->out_sent = 0;
                return 0;
        }

        if (stream->out_length + length > stream->out_size) {
                /* Twice what is needed, so that a byte is not moved for every message. */
                size_t size = 2 * (unsent + length);
                char *out = malloc(size);

                if (!out) {
                        free(text);
                        return -ENOMEM;
                }
                memcpy(out, stream->out + stream->out_sent, unsent);
                free(stream->out);
                stream->out = out;
                stream->out_length = unsent;
                stream->out_size = size;
                stream->out_sent = 0;
        }
        memcpy(stream->out + stream->out_length, text, length);
        stream->out_length += length;
        free(text);
        return 0;
}

int stream_flush(struct stream *stream, bool *ret_progress)
{
        bool progress = false;

        while (stream->out_sent < stream->out_length) {
                ssize_t n =
                        send(stream->fd, stream->out + stream->out_sent,
                             stream->out_length - stream->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        *ret_progress = progress;
                        return 1;
                }
                if (n < 0)
                        return -errno;
                stream->out_sent += (size_t)n;
                progress = true;
        }

        free(stream->out);
        stream->out = NULL;
        stream->out_length = 0;
        stream->out_size = 0;
        stream->out_sent = 0;
        *ret_progress = progress;
        return 0;
}

int stream_discard(struct stream *stream)
{
        char buffer[16 * 1024];

        (void)shutdown(stream->fd, SHUT_WR);
        for (size_t total = 0; total < DISCARD_BYTES;) {
                /* Without room for descriptors the kernel drops them by itself. */
                ssize_t n = recv(stream->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN;
                if (n == 0)
                        return 0;
                total += (size_t)n;
        }
        return 1;
}
