/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Base64 (RFC 4648, section 4), strictly: padded, without blanks, and only the one spelling that
 * an encoder would have chosen. So a text means one thing, and every text means at most one.
 */

#include <stddef.h>
#include <sys/types.h>

/* Characters that @length bytes take. */
static inline size_t base64_encoded_length(size_t length)
{
        return (length + 2) / 3 * 4;
}

/* Write base64_encoded_length(length) characters to @ret, and no NUL. Returns the end of them. */
char *base64_encode(const void *data, size_t length, char *ret);

/*
 * The same for bytes that come in pieces, which need not end where groups of three do. Begin with
 * { .end = RET }; the text is complete when base64_encoder_end() has returned the end of it.
 */
struct base64_encoder {
        char *end;
        unsigned char group[3]; /* that is not complete */
        size_t n_group;
};

void base64_encoder_add(struct base64_encoder *encoder, const void *data, size_t length);
char *base64_encoder_end(struct base64_encoder *encoder);

/*
 * Decode @length characters. @ret has room for length / 4 * 3 bytes and may be where the text is.
 * Returns the number of bytes, or -EINVAL (with @ret partly written).
 */
ssize_t base64_decode(const char *text, size_t length, void *ret);
