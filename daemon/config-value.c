/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config-value.h"
#include "util/cleanup.h"
#include "util/macros.h"

int value_reject(char **ret_reason, const char *format, ...)
{
        va_list arguments;
        int length;

        va_start(arguments, format);
        length = vasprintf(ret_reason, format, arguments);
        va_end(arguments);
        if (length < 0) {
                *ret_reason = NULL;
                return -ENOMEM;
        }
        return -EINVAL;
}

/* Returns false for anything but digits and for what does not fit. */
static bool parse_digits(const char *value, uint64_t *ret)
{
        uint64_t number = 0;

        if (!*value)
                return false;
        for (const char *p = value; *p; p++) {
                if (*p < '0' || *p > '9')
                        return false;
                if (__builtin_mul_overflow(number, 10, &number) ||
                    __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
                        return false;
        }
        *ret = number;
        return true;
}

int value_parse_number(const char *value, uint64_t min, uint64_t max, uint64_t *ret,
                       char **ret_reason)
{
        uint64_t number;

        if (!parse_digits(value, &number) || number < min || number > max)
                return value_reject(ret_reason,
                                    "must be a whole number from %" PRIu64 " to %" PRIu64
                                    ", not '%s'",
                                    min, max, value);
        *ret = number;
        return 0;
}

int value_parse_bool(const char *value, bool *ret, char **ret_reason)
{
        static const struct {
                const char *text;
                bool value;
        } words[] = {
                { "yes", true }, { "true", true },   { "on", true },   { "1", true },
                { "no", false }, { "false", false }, { "off", false }, { "0", false },
        };

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (strcmp(words[i].text, value) == 0) {
                        *ret = words[i].value;
                        return 0;
                }
        return value_reject(ret_reason, "must be yes or no, not '%s'", value);
}

int value_parse_path(const char *value, size_t max, char **ret, char **ret_reason)
{
        DMIO_CLEANUP(freep) char *path = NULL;
        char *end;

        if (value[0] != '/')
                return value_reject(ret_reason, "must be an absolute path, not '%s'", value);

        path = malloc(strlen(value) + 2);
        if (!path)
                return -ENOMEM;

        end = path;
        while (*value) {
                size_t length;

                value += strspn(value, "/");
                length = strcspn(value, "/");
                if (length > 0 && !(length == 1 && value[0] == '.')) {
                        *end++ = '/';
                        memcpy(end, value, length);
                        end += length;
                }
                value += length;
        }
        if (end == path)
                *end++ = '/';
        *end = '\0';

        if (strlen(path) > max)
                return value_reject(ret_reason, "must not be longer than %zu bytes", max);
        *ret = DMIO_TAKE(path);
        return 0;
}

/* The name services answer into a buffer of a size that only they know. */
static int find_user(const char *name, uid_t *ret)
{
        DMIO_CLEANUP(freep) char *buffer = NULL;

        for (size_t size = 1024; size <= 1024 * 1024; size *= 2) {
                struct passwd entry, *result;
                char *larger = realloc(buffer, size);
                int r;

                if (!larger)
                        return -ENOMEM;
                buffer = larger;

                r = getpwnam_r(name, &entry, buffer, size, &result);
                if (r == ERANGE)
                        continue;
                if (!result)
                        return -ENOENT;
                *ret = entry.pw_uid;
                return 0;
        }
        return -ENOENT;
}

static int find_group(const char *name, gid_t *ret)
{
        DMIO_CLEANUP(freep) char *buffer = NULL;

        for (size_t size = 1024; size <= 16 * 1024 * 1024; size *= 2) {
                struct group entry, *result;
                char *larger = realloc(buffer, size);
                int r;

                if (!larger)
                        return -ENOMEM;
                buffer = larger;

                r = getgrnam_r(name, &entry, buffer, size, &result);
                if (r == ERANGE)
                        continue;
                if (!result)
                        return -ENOENT;
                *ret = entry.gr_gid;
                return 0;
        }
        return -ENOENT;
}

static_assert(sizeof(uid_t) == sizeof(gid_t), "one function parses both");

static int parse_ids(const char *value, const char *what, int (*find)(const char *name, uid_t *ret),
                     uid_t **ids, size_t *n, char **ret_reason)
{
        DMIO_CLEANUP(freep) char *copy = strdup(value);
        char *state = NULL;

        if (!copy)
                return -ENOMEM;

        for (char *word = strtok_r(copy, " \t,", &state); word;
             word = strtok_r(NULL, " \t,", &state)) {
                uint64_t number;
                uid_t id, *larger;
                int r = 0;

                /* -1 is how system calls say "no user". */
                if (parse_digits(word, &number)) {
                        id = (uid_t)number;
                        if (number >= UINT32_MAX)
                                r = -ENOENT;
                } else {
                        r = find(word, &id);
                }
                if (r == -ENOENT)
                        return value_reject(ret_reason, "names a %s that does not exist, '%s'",
                                            what, word);
                if (r < 0)
                        return r;

                larger = reallocarray(*ids, *n + 1, sizeof(**ids));
                if (!larger)
                        return -ENOMEM;
                *ids = larger;
                (*ids)[(*n)++] = id;
        }
        return 0;
}

int value_parse_users(const char *value, uid_t **ids, size_t *n, char **ret_reason)
{
        return parse_ids(value, "user", find_user, ids, n, ret_reason);
}

int value_parse_groups(const char *value, gid_t **ids, size_t *n, char **ret_reason)
{
        return parse_ids(value, "group", find_group, ids, n, ret_reason);
}
