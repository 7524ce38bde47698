/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdint.h>

#include "control/base64.h"

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *data, size_t length, char *ret)
{
        const unsigned char *in = data;

        for (; length >= 3; length -= 3, in += 3) {
                *ret++ = alphabet[in[0] >> 2];
                *ret++ = alphabet[(in[0] & 0x03) << 4 | in[1] >> 4];
                *ret++ = alphabet[(in[1] & 0x0f) << 2 | in[2] >> 6];
                *ret++ = alphabet[in[2] & 0x3f];
        }
        if (length > 0) {
                unsigned char second = length > 1 ? in[1] : 0;

                *ret++ = alphabet[in[0] >> 2];
                *ret++ = alphabet[(in[0] & 0x03) << 4 | second >> 4];
                *ret++ = length > 1 ? alphabet[(second & 0x0f) << 2] : '=';
                *ret++ = '=';
        }
        return ret;
}

static void encoder_add_byte(struct base64_encoder *encoder, unsigned char byte)
{
        encoder->group[encoder->n_group++] = byte;
        if (encoder->n_group == sizeof(encoder->group))
                (void)base64_encoder_end(encoder);
}

void base64_encoder_add(struct base64_encoder *encoder, const void *data, size_t length)
{
        const unsigned char *in = data;
        size_t whole;

        for (; length > 0 && encoder->n_group > 0; length--, in++)
                encoder_add_byte(encoder, *in);
        whole = length / 3 * 3;
        encoder->end = base64_encode(in, whole, encoder->end);
        for (size_t i = whole; i < length; i++)
                encoder_add_byte(encoder, in[i]);
}

char *base64_encoder_end(struct base64_encoder *encoder)
{
        encoder->end = base64_encode(encoder->group, encoder->n_group, encoder->end);
        encoder->n_group = 0;
        return encoder->end;
}

static int value_of(char c)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        return c == '+' ? 62 : c == '/' ? 63 : -1;
}

ssize_t base64_decode(const char *text, size_t length, void *ret)
{
        unsigned char *out = ret;
        size_t n_out = 0;

        if (length % 4 != 0)
                return -EINVAL;

        for (size_t i = 0; i < length; i += 4) {
                unsigned int n_padding = 0;
                uint32_t bits = 0;

                /* Only the last group may be padded, and only at its end. */
                if (i + 4 == length)
                        n_padding = text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
                for (unsigned int k = 0; k < 4; k++) {
                        int value = k < 4 - n_padding ? value_of(text[i + k]) : 0;

                        if (value < 0)
                                return -EINVAL;
                        bits = bits << 6 | (uint32_t)value;
                }
                /* Bits that no byte takes are zero, else there were two texts for the same bytes.
                 */
                if ((bits & ((1u << (8 * n_padding)) - 1)) != 0)
                        return -EINVAL;
                for (unsigned int k = 0; k < 3 - n_padding; k++)
                        out[n_out++] = (unsigned char)(bits >> (16 - 8 * k));
        }
        return (ssize_t)n_out;
}
