/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Messages over a non-blocking Unix stream socket. A message ends with a newline or a NUL byte.
 *
 * One message is read at a time, and no byte more than it: whatever follows stays in the kernel
 * until the message is done with. That bounds what a peer can make us hold; and a descriptor is
 * surely that of the message whose bytes it came with (the first byte of the sendmsg(2) that
 * carried it), which could not be told any more if two messages were read at once.
 */

#include <stdbool.h>
#include <stddef.h>

/* Descriptors that came with a message. */
struct descriptors {
        int *fds;
        size_t n;
};

#define DESCRIPTORS_NULL ((struct descriptors){ NULL, 0 })

static inline struct descriptors descriptors_take(struct descriptors *from)
{
        struct descriptors taken = *from;

        *from = DESCRIPTORS_NULL;
        return taken;
}

/* Close them. This may block for as long as whoever serves the files likes: not on the main loop.
 */
void descriptors_close(struct descriptors *descriptors);

struct stream_limits {
        size_t message;     /* bytes, without the end */
        size_t descriptors; /* of a message */
};

enum stream_outcome {
        STREAM_AGAIN = 0, /* nothing complete yet */
        STREAM_MESSAGE,
        STREAM_END,            /* the peer sends no more */
        STREAM_E_UNTERMINATED, /* ... and its last message has no end */
        STREAM_E_TOO_LONG,
        STREAM_E_DESCRIPTORS, /* too many came with a message */
};

struct stream {
        int fd;
        char *in; /* the message; NUL-terminated when it is complete */
        size_t in_length;
        size_t in_size;
        char terminator; /* what ended it */
        struct descriptors descriptors;
        char *out;
        size_t out_length;
        size_t out_size;
        size_t out_sent; /* of out_length */
};

#define STREAM_NULL ((struct stream){ .fd = -1 })

/* Takes over @fd, which is non-blocking. */
void stream_init(struct stream *stream, int fd);

/* Close the socket. The descriptors of a message must have been taken from stream->descriptors. */
void stream_deinit(struct stream *stream);

/* Go on reading a message. Returns an outcome, or a negative errno if the connection is broken. */
int stream_read(struct stream *stream, const struct stream_limits *limits);

/* The message and its memory are not needed any more; its descriptors stay where they are. */
void stream_message_done(struct stream *stream);

/* Let @text (of malloc(), taken over) of @length bytes be sent after what is waiting. Returns 0 or
 * -ENOMEM. */
int stream_write(struct stream *stream, char *text, size_t length);

/* The memory that it holds for messages, in bytes. */
static inline size_t stream_held(const struct stream *stream)
{
        return stream->in_size + stream->out_size;
}

/* The bytes that wait to be sent. */
static inline size_t stream_unsent(const struct stream *stream)
{
        return stream->out_length - stream->out_sent;
}

/*
 * Send what is waiting. Returns 0 when nothing is left, 1 if the peer does not take more now (with
 * *@ret_progress telling if it took something), or a negative errno if the connection is broken.
 */
int stream_flush(struct stream *stream, bool *ret_progress);

/* Send no more and throw away what comes. Returns 1 while the peer may send more, 0 at its end. */
int stream_discard(struct stream *stream);
