/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The types that configuration values have, from text. Each returns 0, -ENOMEM, or -EINVAL with the
 * end of a sentence that begins with the name of the key ("must be ..."), to be freed.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Formats the reason; -EINVAL, or -ENOMEM with NULL. */
int value_reject(char **ret_reason, const char *format, ...)
        __attribute__((__format__(__printf__, 2, 3)));

/* Decimal digits only. */
int value_parse_number(const char *value, uint64_t min, uint64_t max, uint64_t *ret,
                       char **ret_reason);

int value_parse_bool(const char *value, bool *ret, char **ret_reason);

/* An absolute path of at most @max bytes; doubled slashes, "." and a slash at the end are left out.
 */
int value_parse_path(const char *value, size_t max, char **ret, char **ret_reason);

/*
 * Names or numbers, separated by spaces or commas, are added to the array *@ids of *@n. What was
 * added before an error stays.
 */
int value_parse_users(const char *value, uid_t **ids, size_t *n, char **ret_reason);
int value_parse_groups(const char *value, gid_t **ids, size_t *n, char **ret_reason);
