/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The state file: its text with the checksum, if the first byte is odd; else the content alone,
 * which would not get past a checksum that the fuzzer cannot find. What is refused is explained;
 * what is read can be written, and is the same when it is read again.
 */

#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "state/document.h"
#include "state/saved.h"
#include "util/cleanup.h"

static void read_content(const json_t *content)
{
        DMIO_CLEANUP(freep) char *message = NULL;
        struct saved saved;
        int r = saved_read(content, &saved, &message);

        fuzz_require(r == 0 || (r == -EBADMSG && message && *message));
        if (r == 0)
                saved_clear(&saved);
}

static void write_and_read(const json_t *content)
{
        DMIO_CLEANUP(freep) char *message = NULL;
        DMIO_CLEANUP(freep) char *text = NULL;
        json_t *again = NULL;
        size_t length = 0;

        text = document_print(content, &length);
        fuzz_require(text && strlen(text) == length);
        fuzz_require(document_parse(text, length, &again, &message) == 0);
        fuzz_require(json_equal(content, again));
        json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        DMIO_CLEANUP(freep) char *message = NULL;
        json_t *content = NULL;
        int r;

        if (size == 0)
                return 0;
        if (data[0] & 1) {
                r = document_parse((const char *)data + 1, size - 1, &content, &message);
                fuzz_require(r == 0 || ((r == -EBADMSG || r == -EPROTO) && message && *message));
        } else {
                content = json_loadb((const char *)data + 1, size - 1, 0, NULL);
                if (json_is_object(content))
                        write_and_read(content);
        }
        if (content)
                read_content(content);
        json_decref(content);
        return 0;
}
