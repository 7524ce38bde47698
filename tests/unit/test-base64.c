/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/base64.h"

static void the_examples_of_the_rfc(void **state)
{
        static const struct {
                const char *plain;
                const char *text;
        } examples[] = {
                { "", "" },
                { "f", "Zg==" },
                { "fo", "Zm8=" },
                { "foo", "Zm9v" },
                { "foob", "Zm9vYg==" },
                { "fooba", "Zm9vYmE=" },
                { "foobar", "Zm9vYmFy" },
        };

        for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
                size_t length = strlen(examples[i].plain), n = strlen(examples[i].text);
                char text[16], plain[16];

                assert_int_equal(base64_encoded_length(length), n);
                assert_ptr_equal(base64_encode(examples[i].plain, length, text), text + n);
                assert_memory_equal(text, examples[i].text, n);
                assert_int_equal(base64_decode(text, n, plain), length);
                assert_memory_equal(plain, examples[i].plain, length);
        }
}

static void every_byte_comes_back(void **state)
{
        unsigned char bytes[768], back[768];
        char text[1024];

        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (unsigned char)(i * 7 + i / 256);
        for (size_t length = 0; length <= sizeof(bytes); length += 5) {
                size_t n = base64_encoded_length(length);

                base64_encode(bytes, length, text);
                assert_int_equal(base64_decode(text, n, back), length);
                assert_memory_equal(back, bytes, length);
        }
}

static void pieces_make_the_same_text(void **state)
{
        unsigned char bytes[64];
        char text[96], whole[96];

        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (unsigned char)(i * 37);
        for (size_t length = 0; length <= sizeof(bytes); length++) {
                size_t n = base64_encoded_length(length);

                base64_encode(bytes, length, whole);
                for (size_t piece = 1; piece <= 7; piece++) {
                        struct base64_encoder encoder = { .end = text };

                        for (size_t i = 0; i < length; i += piece)
                                base64_encoder_add(&encoder, bytes + i,
                                                   length - i < piece ? length - i : piece);
                        assert_ptr_equal(base64_encoder_end(&encoder), text + n);
                        assert_memory_equal(text, whole, n);
                }
        }
}

static void decoding_works_in_place(void **state)
{
        char text[] = "Zm9vYmE=";

        assert_int_equal(base64_decode(text, strlen(text), text), 5);
        assert_memory_equal(text, "fooba", 5);
}

static void what_is_not_canonical_is_refused(void **state)
{
        static const char *const texts[] = {
                "Z",
                "Zg",
                "Zg=",
                "Zg===",
                "====",
                "Z===",
                "Zg==Zg==",
                "Zm8=Zm8=",
                "=Zg=",
                "Z=g=",
                "Zm9\n",
                "Zm 9",
                "Zm-_",
                "Zh==", /* bits set that no byte has */
                "Zm9=", /* the same */
                "Zm9v\xc3\xa4==",
        };

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                char out[16];

                assert_int_equal(base64_decode(texts[i], strlen(texts[i]), out), -EINVAL);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_examples_of_the_rfc),
                cmocka_unit_test(every_byte_comes_back),
                cmocka_unit_test(pieces_make_the_same_text),
                cmocka_unit_test(decoding_works_in_place),
                cmocka_unit_test(what_is_not_canonical_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
