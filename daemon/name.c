/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "name.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

bool name_is_valid(const char *name)
{
        size_t length = strlen(name);

        return length > 0 && length <= NAME_LENGTH_MAX && name[0] != '.' &&
               strspn(name, NAME_CHARACTERS) == length;
}
