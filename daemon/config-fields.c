/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The values of a configuration, by the table of keys: defaults, setting from text, what may not
 * be, and what a reload may not change. */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "config-keys.h"
#include "config-value.h"
#include "log.h"
#include "util/cleanup.h"
#include "util/macros.h"

DMIO_DEFINE_CLEANUP(struct config, config_free)

static const struct config_key *next(const struct config_key *key)
{
        return config_key_at(config_key_index(key) + 1);
}

int config_expand_path(const char *path, char **ret)
{
        static const char *const defaults[][2] = {
                { "XDG_CONFIG_HOME", ".config" },
                { "XDG_STATE_HOME", ".local/state" },
        };
        char name[32];
        const char *rest, *value, *home;
        char *expanded = NULL;
        int length = 0;

        if (path[0] != '$') {
                expanded = strdup(path);
                if (!expanded)
                        return -ENOMEM;
                *ret = expanded;
                return 0;
        }

        rest = strchr(path, '/');
        (void)snprintf(name, sizeof(name), "%.*s", (int)(rest - path - 1), path + 1);

        value = getenv(name);
        home = getenv("HOME");
        if (value && value[0] == '/')
                length = asprintf(&expanded, "%s%s", value, rest);
        else if (home && home[0] == '/')
                for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
                        if (strcmp(defaults[i][0], name) == 0)
                                length = asprintf(&expanded, "%s/%s%s", home, defaults[i][1], rest);
        if (length < 0)
                return -ENOMEM;

        *ret = expanded;
        return 0;
}

int config_set_key(struct config *config, const struct config_key *key, const char *value,
                   char **ret_reason)
{
        static const char *const backends[] = { "uring", "threads", "memory" };
        void *field = (char *)config + key->offset;
        char type[64];
        uint64_t number;
        char *text;
        int r;

        switch (key->type) {
        case KEY_PATH:
                r = value_parse_path(value, key->max, &text, ret_reason);
                if (r < 0)
                        return r;
                free(*(char **)field);
                *(char **)field = text;
                return 0;

        case KEY_BACKEND:
                for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
                        if (strcmp(backends[i], value) != 0)
                                continue;
                        text = strdup(value);
                        if (!text)
                                return -ENOMEM;
                        free(*(char **)field);
                        *(char **)field = text;
                        return 0;
                }
                break;

        case KEY_UNSIGNED:
                r = value_parse_number(value, key->min, key->max, &number, ret_reason);
                if (r == 0)
                        *(unsigned int *)field = (unsigned int)number;
                return r;

        case KEY_NUMBER:
                r = value_parse_number(value, key->min, key->max, &number, ret_reason);
                if (r == 0)
                        *(uint64_t *)field = number;
                return r;

        case KEY_LEVEL:
                r = log_level_from_name(value);
                if (r < 0)
                        break;
                *(int *)field = r;
                return 0;

        case KEY_BOOL:
                return value_parse_bool(value, field, ret_reason);
        }

        config_key_describe_type(key, type, sizeof(type));
        return value_reject(ret_reason, "must be %s, not '%s'", type, value);
}

int config_new(bool user, struct config **ret)
{
        DMIO_CLEANUP(config_freep) struct config *config = NULL;

        config = calloc(1, sizeof(*config));
        if (!config)
                return -ENOMEM;
        list_init(&config->devices);
        config->user = user;

        for (const struct config_key *key = config_key_at(0); key; key = next(key)) {
                const char *value = key->value;
                DMIO_CLEANUP(freep) char *expanded = NULL;
                DMIO_CLEANUP(freep) char *reason = NULL;
                int r;

                if (user && key->user_value)
                        value = key->user_value;
                if (!value)
                        continue;
                if (key->type == KEY_PATH) {
                        r = config_expand_path(value, &expanded);
                        if (r < 0)
                                return r;
                        if (!expanded)
                                continue; /* config_check() asks for it, if nobody sets it */
                        value = expanded;
                }
                /* A socket path too long for the kernel can come from the environment, too. */
                r = config_set_key(config, key, value, &reason);
                if (r == -ENOMEM)
                        return r;
        }

        *ret = DMIO_TAKE(config);
        return 0;
}

/* Is @path the folder @folder, or below it, as the two are written? */
static bool lies_in(const char *path, const char *folder)
{
        size_t length = strlen(folder);

        if (strcmp(folder, "/") == 0)
                return true;
        return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

int config_check(const struct config *config, char **ret_message)
{
        for (const struct config_key *key = config_key_at(0); key; key = next(key)) {
                const char *path;

                if (key->type != KEY_PATH)
                        continue;
                path = *(char *const *)((const char *)config + key->offset);
                if (!path)
                        return value_reject(ret_message,
                                            "%s is not set and has no default, because %s is not "
                                            "usable in this environment",
                                            key->name, key->user_value);
                /* The daemon would wait for itself. */
                if (path != config->mount && config->mount && lies_in(path, config->mount))
                        return value_reject(ret_message,
                                            "%s cannot be below the mount: '%s' is in '%s'",
                                            key->name, path, config->mount);
        }
        return 0;
}

int config_set(struct config *config, const char *key, const char *value, char **ret_message)
{
        const struct config_key *found = config_find_key("daemon", key);
        DMIO_CLEANUP(freep) char *absolute = NULL;
        DMIO_CLEANUP(freep) char *reason = NULL;
        int r;

        if (!found)
                return value_reject(ret_message, "unknown key '%s'", key);

        /* What is typed may be relative; what stands in a file may not. */
        if (found->type == KEY_PATH && *value && value[0] != '/') {
                DMIO_CLEANUP(freep) char *folder = getcwd(NULL, 0);

                if (!folder)
                        return value_reject(ret_message, "%s: no current directory", key);
                if (asprintf(&absolute, "%s/%s", folder, value) < 0) {
                        absolute = NULL;
                        return -ENOMEM;
                }
                value = absolute;
        }

        r = config_set_key(config, found, value, &reason);
        if (r == -EINVAL)
                return value_reject(ret_message, "%s %s", key, reason);
        return r;
}

/* Give the key the value of @from in @to; *@ret_same tells whether it had it. 0 or -ENOMEM. */
static int keep_value(const struct config_key *key, void *to, const void *from, bool *ret_same)
{
        const char *text;
        char *copy;

        switch (key->type) {
        case KEY_PATH:
        case KEY_BACKEND:
                text = *(char *const *)from;
                *ret_same = text && *(char **)to ? strcmp(text, *(char **)to) == 0
                                                 : text == *(char **)to;
                if (*ret_same)
                        break;
                copy = text ? strdup(text) : NULL;
                if (text && !copy)
                        return -ENOMEM;
                free(*(char **)to);
                *(char **)to = copy;
                break;

        case KEY_UNSIGNED:
                *ret_same = *(unsigned int *)to == *(const unsigned int *)from;
                *(unsigned int *)to = *(const unsigned int *)from;
                break;

        case KEY_NUMBER:
                *ret_same = *(uint64_t *)to == *(const uint64_t *)from;
                *(uint64_t *)to = *(const uint64_t *)from;
                break;

        case KEY_LEVEL:
                *ret_same = *(int *)to == *(const int *)from;
                *(int *)to = *(const int *)from;
                break;

        case KEY_BOOL:
                *ret_same = *(bool *)to == *(const bool *)from;
                *(bool *)to = *(const bool *)from;
                break;
        }
        return 0;
}

int config_keep_fixed(struct config *config, const struct config *running, char **ret_keys)
{
        DMIO_CLEANUP(freep) char *changed = NULL;

        for (const struct config_key *key = config_key_at(0); key; key = next(key)) {
                bool same = true;
                char *longer;
                int r;

                if (key->reloadable)
                        continue;
                r = keep_value(key, (char *)config + key->offset,
                               (const char *)running + key->offset, &same);
                if (r < 0)
                        return r;
                if (same)
                        continue;
                if (asprintf(&longer, "%s%s%s", changed ?: "", changed ? ", " : "", key->name) < 0)
                        return -ENOMEM;
                free(changed);
                changed = longer;
        }

        *ret_keys = DMIO_TAKE(changed);
        return 0;
}
