/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Names of clients and exports, which name files as well, and of devices in the configuration. */

#include <stdbool.h>

#define NAME_LENGTH_MAX 64

/* 1 to NAME_LENGTH_MAX of A-Z a-z 0-9 . _ -, not beginning with a dot. */
bool name_is_valid(const char *name);
