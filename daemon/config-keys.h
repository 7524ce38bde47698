/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The table of keys, for whoever reads files (config.c). */

#include "config.h"

struct config_key;

/* NULL if there is none. */
const struct config_key *config_find_key(const char *section, const char *name);

/* True for a section that has keys in the table; [device NAME] has its own. */
bool config_section_is_known(const char *section);

/* Returns 0, -ENOMEM, or -EINVAL with the reason as in config-value.h. */
int config_set_key(struct config *config, const struct config_key *key, const char *value,
                   char **ret_reason);

/*
 * "$XDG_..._DIR/rest" with the value of the variable, which only counts if it is absolute. Two of
 * the variables have a default below the home directory. NULL in *@ret if there is no value.
 */
int config_expand_path(const char *path, char **ret);

enum device_key {
        DEVICE_KEY_PATH,
        DEVICE_KEY_USERS,
        DEVICE_KEY_GROUPS,
        DEVICE_KEY_READ_ONLY,
        _DEVICE_KEY_MAX,
        _DEVICE_KEY_INVALID = -1,
};

/* A key of a [device NAME] section. */
enum device_key config_find_device_key(const char *name);
