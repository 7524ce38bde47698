/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The one table of keys: for whoever reads files (config.c), holds values (config-fields.c), or
 * tells of them (options.c, print-keys.c).
 */

#include "config.h"

enum key_type {
        KEY_PATH,
        KEY_BACKEND,
        KEY_UNSIGNED,
        KEY_NUMBER,
        KEY_LEVEL,
        KEY_BOOL,
};

struct config_key {
        const char *section;
        const char *name;
        enum key_type type;
        size_t offset;
        const char *value;      /* the default, or NULL */
        const char *user_value; /* the default with --user, if it is another one */
        uint64_t min;
        uint64_t max; /* of a path: bytes */
        bool reloadable;
        const char *help;
        const char *limit; /* what LimitReached calls it, if it can be reached */
        const char *more;  /* for the manual: another sentence or two */
};

/* Keys there can be: those who read a file have a place for each. */
#define CONFIG_KEYS_MAX 64

/* NULL behind the last one. */
const struct config_key *config_key_at(size_t index);

/* NULL if there is none. */
const struct config_key *config_find_key(const char *section, const char *name);

size_t config_key_index(const struct config_key *key);

/* What a value may be, in words: "0 to 64". */
void config_key_describe_type(const struct config_key *key, char *ret, size_t size);

/* True for a section that has keys in the table; [device NAME] has its own. */
bool config_section_is_known(const char *section);

enum device_key {
        DEVICE_KEY_PATH,
        DEVICE_KEY_USERS,
        DEVICE_KEY_GROUPS,
        DEVICE_KEY_READ_ONLY,
        _DEVICE_KEY_MAX,
        _DEVICE_KEY_INVALID = -1,
};

/* A key of a [device NAME] section. */
struct device_key_text {
        const char *name;
        const char *type;
        const char *help;
        const char *more;
};

enum device_key config_find_device_key(const char *name);
const struct device_key_text *config_device_key_text(enum device_key key);

/* config-fields.c: returns 0, -ENOMEM, or -EINVAL with the reason as in config-value.h. */
int config_set_key(struct config *config, const struct config_key *key, const char *value,
                   char **ret_reason);

/*
 * "$XDG_..._DIR/rest" with the value of the variable, which only counts if it is absolute. Two of
 * the variables have a default below the home directory. NULL in *@ret if there is no value.
 */
int config_expand_path(const char *path, char **ret);
