/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/document.h"
#include "util/cleanup.h"
#include "util/fnv.h"

#define CHECKSUM_SIZE 17 /* sixteen digits and a NUL */

static void json_decrefp_(json_t **object)
{
        json_decref(*object);
}

#define JSON DMIO_CLEANUP(json_decrefp_) json_t

static int checksum(const json_t *content, char ret[static CHECKSUM_SIZE])
{
        DMIO_CLEANUP(freep) char *text = NULL;

        text = json_dumps(content, JSON_COMPACT | JSON_SORT_KEYS);
        if (!text)
                return -ENOMEM;
        (void)snprintf(ret, CHECKSUM_SIZE, "%016" PRIx64, fnv(FNV_START, text, strlen(text)));
        return 0;
}

char *document_print(const json_t *content, size_t *ret_length)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        char sum[CHECKSUM_SIZE];
        JSON *document = NULL;
        char *line;
        int n;

        if (checksum(content, sum) < 0)
                return NULL;
        document = json_pack("{si ss sO}", "format", DOCUMENT_FORMAT, "checksum", sum, "content",
                             content);
        text = document ? json_dumps(document, JSON_INDENT(1)) : NULL;
        if (!text)
                return NULL;
        n = asprintf(&line, "%s\n", text);
        if (n < 0)
                return NULL;
        *ret_length = (size_t)n;
        return line;
}

static int reject(char **ret_message, const char *message)
{
        *ret_message = strdup(message);
        return -EBADMSG;
}

static int check(const json_t *document, json_t **ret_content, char **ret_message)
{
        const json_t *format = json_object_get(document, "format");
        const char *sum = json_string_value(json_object_get(document, "checksum"));
        json_t *content = json_object_get(document, "content");
        char wanted[CHECKSUM_SIZE];

        if (!json_is_integer(format))
                return reject(ret_message, "it does not say in which format it is");
        if (json_integer_value(format) != DOCUMENT_FORMAT) {
                if (asprintf(ret_message,
                             "it is of format %" JSON_INTEGER_FORMAT
                             ", and this version of dmiod knows only format %d",
                             json_integer_value(format), DOCUMENT_FORMAT) < 0)
                        *ret_message = NULL;
                return -EBADMSG;
        }
        if (!sum || !json_is_object(content) || json_object_size(document) != 3)
                return reject(ret_message, "it must have a format, a checksum and a content");
        if (checksum(content, wanted) < 0)
                return -ENOMEM;
        if (strcmp(sum, wanted) != 0)
                return reject(ret_message, "its checksum does not fit its content");
        *ret_content = content;
        return 0;
}

int document_parse(const char *text, size_t length, json_t **ret, char **ret_message)
{
        JSON *document = NULL;
        json_t *content;
        json_error_t error;
        int r;

        *ret_message = NULL;
        document = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
        if (!document && json_error_code(&error) == json_error_out_of_memory)
                return -ENOMEM;
        if (!document) {
                if (asprintf(ret_message, "line %d, column %d: %s", error.line, error.column,
                             error.text) < 0)
                        *ret_message = NULL;
                return -EBADMSG;
        }
        r = check(document, &content, ret_message);
        if (r < 0)
                return r;
        *ret = json_incref(content);
        return 0;
}
