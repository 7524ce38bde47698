/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Apart from the model, because the configuration has names, too, and is read without one. */

#include <string.h>

#include "model/model.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define NAME_MAX_LENGTH 64

bool model_name_is_valid(const char *name)
{
        size_t length = strlen(name);

        return length > 0 && length <= NAME_MAX_LENGTH && name[0] != '.' &&
               strspn(name, NAME_CHARACTERS) == length;
}
