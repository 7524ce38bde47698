/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The one table of keys, and everything that goes through it: defaults, setting from text, what a
 * reload may not change, the list for --help.
 */

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "config-keys.h"
#include "config-value.h"
#include "log.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* One byte of sun_path is for the terminator. */
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

enum key_type {
        KEY_PATH,
        KEY_BACKEND,
        KEY_UNSIGNED,
        KEY_NUMBER,
        KEY_LEVEL,
};

static const char *const type_names[] = {
        [KEY_PATH] = "path",
        [KEY_BACKEND] = "uring, threads or memory",
        [KEY_UNSIGNED] = NULL,
        [KEY_NUMBER] = NULL,
        [KEY_LEVEL] = "error, warning, notice, info or debug",
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
};

#define FIELD(field) offsetof(struct config, field)

/* clang-format off */
static const struct config_key keys[] = {
        { "daemon", "mount", KEY_PATH, FIELD(mount), "/run/dmio", "$XDG_RUNTIME_DIR/dmio",
          0, PATH_MAX - 1, false, "where the exports appear" },
        { "daemon", "control", KEY_PATH, FIELD(control), "/run/dmiod/control",
          "$XDG_RUNTIME_DIR/dmiod/control", 0, SOCKET_PATH_MAX, false, "the control socket" },
        { "daemon", "state", KEY_PATH, FIELD(state), "/var/lib/dmiod", "$XDG_STATE_HOME/dmiod",
          0, PATH_MAX - 1, false, "the folder of what lasts" },
        { "daemon", "backend", KEY_BACKEND, FIELD(backend), NULL, NULL,
          0, 0, false, "how I/O is done; by default the best that works" },
        { "daemon", "queues", KEY_UNSIGNED, FIELD(queues), "0", NULL,
          0, 64, false, "threads that serve the mount; 0: by the number of CPUs" },
        { "daemon", "max-pages", KEY_NUMBER, FIELD(max_pages), "0", NULL,
          0, 1u << 30, false, "pages that may be reserved; 0: half the memory" },
        { "daemon", "spin-us", KEY_UNSIGNED, FIELD(spin_usec), "50", NULL,
          0, 10000, false, "microseconds that a thread polls before it sleeps" },
        { "daemon", "log-level", KEY_LEVEL, FIELD(log_level), "info", NULL,
          0, 0, true, "what is logged" },

        { "limits", "clients-per-uid", KEY_NUMBER, FIELD(limit_clients), "64", NULL,
          0, 1u << 20, true, "clients of one user" },
        { "limits", "exports-per-uid", KEY_NUMBER, FIELD(limit_exports), "256", NULL,
          0, 1u << 20, true, "exports of one user" },
        { "limits", "connections-per-uid", KEY_NUMBER, FIELD(limit_connections), "1024", NULL,
          1, 1u << 20, true, "control connections of one user" },
        { "limits", "pages-per-uid", KEY_NUMBER, FIELD(limit_pages), "65536", NULL,
          0, 1u << 30, true, "pages that one user may reserve" },
        { "limits", "jobs-per-uid", KEY_NUMBER, FIELD(limit_jobs), "32", NULL,
          0, 1u << 16, true, "jobs of one user that run at a time" },
        { "limits", "requests-per-uid", KEY_NUMBER, FIELD(limit_requests), "256", NULL,
          0, 1u << 20, true, "submitted requests of one user whose results are not fetched" },
        { "limits", "buffers-per-uid", KEY_NUMBER, FIELD(limit_buffers), "134217728", NULL,
          1u << 20, UINT64_C(1) << 40, true, "bytes of one user's messages and answers that are held" },
        { "limits", "held-descriptors-per-uid", KEY_NUMBER, FIELD(limit_held), "4096", NULL,
          0, 1u << 20, true, "descriptors of one user's messages and calls that are held" },
        { "limits", "message-bytes", KEY_NUMBER, FIELD(limit_message), "1048576", NULL,
          4096, 64u << 20, true, "length of a control message" },
        { "limits", "message-depth", KEY_NUMBER, FIELD(limit_nesting), "32", NULL,
          4, 256, true, "nesting of a control message" },
        { "limits", "message-descriptors", KEY_NUMBER, FIELD(limit_descriptors), "64", NULL,
          0, 253, true, "descriptors sent with a control message" },
        { "limits", "monitor-events", KEY_NUMBER, FIELD(limit_events), "256", NULL,
          1, 65536, true, "events that wait for a reader of Monitor" },
};
/* clang-format on */

/* The keys of a [device NAME] section. */
static const struct {
        const char *name;
        const char *type;
        const char *help;
} device_keys[_DEVICE_KEY_MAX] = {
        [DEVICE_KEY_PATH] = { "path", "path", "the block device or file" },
        [DEVICE_KEY_USERS] = { "users", "names or numbers", "who may use it" },
        [DEVICE_KEY_GROUPS] = { "groups", "names or numbers", "whose members may use it" },
        [DEVICE_KEY_READ_ONLY] = { "read-only", "yes or no", "nobody may write to it" },
};

DMIO_DEFINE_CLEANUP(struct config, config_free)

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

const struct config_key *config_find_key(const char *section, const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
                        return &keys[i];
        return NULL;
}

bool config_section_is_known(const char *section)
{
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (strcmp(keys[i].section, section) == 0)
                        return true;
        return false;
}

enum device_key config_find_device_key(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(device_keys); i++)
                if (strcmp(device_keys[i].name, name) == 0)
                        return (enum device_key)i;
        return _DEVICE_KEY_INVALID;
}

int config_set_key(struct config *config, const struct config_key *key, const char *value,
                   char **ret_reason)
{
        static const char *const backends[] = { "uring", "threads", "memory" };
        void *field = (char *)config + key->offset;
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
                return value_reject(ret_reason, "must be %s, not '%s'", type_names[key->type],
                                    value);

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
                        return value_reject(ret_reason, "must be %s, not '%s'",
                                            type_names[key->type], value);
                *(int *)field = r;
                return 0;
        }
        return -EINVAL;
}

int config_new(bool user, struct config **ret)
{
        DMIO_CLEANUP(config_freep) struct config *config = NULL;

        config = calloc(1, sizeof(*config));
        if (!config)
                return -ENOMEM;
        list_init(&config->devices);
        config->user = user;

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                const char *value = keys[i].value;
                DMIO_CLEANUP(freep) char *expanded = NULL;
                DMIO_CLEANUP(freep) char *reason = NULL;
                int r;

                if (user && keys[i].user_value)
                        value = keys[i].user_value;
                if (!value)
                        continue;
                if (keys[i].type == KEY_PATH) {
                        r = config_expand_path(value, &expanded);
                        if (r < 0)
                                return r;
                        if (!expanded)
                                continue; /* config_check() asks for it, if nobody sets it */
                        value = expanded;
                }
                /* A socket path too long for the kernel can come from the environment, too. */
                r = config_set_key(config, &keys[i], value, &reason);
                if (r == -ENOMEM)
                        return r;
        }

        *ret = DMIO_TAKE(config);
        return 0;
}

int config_check(const struct config *config, char **ret_message)
{
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                const char *path;

                if (keys[i].type != KEY_PATH)
                        continue;
                path = *(char *const *)((const char *)config + keys[i].offset);
                if (!path)
                        return value_reject(ret_message,
                                            "%s is not set and has no default, because %s is not "
                                            "usable in this environment",
                                            keys[i].name, keys[i].user_value);
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

int config_keep_fixed(struct config *config, const struct config *running, const char **ret_key)
{
        const char *changed = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                void *to = (char *)config + keys[i].offset;
                const void *from = (const char *)running + keys[i].offset;
                bool same = true;
                const char *text;
                char *copy;

                if (keys[i].reloadable)
                        continue;

                switch (keys[i].type) {
                case KEY_PATH:
                case KEY_BACKEND:
                        text = *(char *const *)from;
                        same = text && *(char **)to ? strcmp(text, *(char **)to) == 0
                                                    : text == *(char **)to;
                        if (same)
                                break;
                        copy = text ? strdup(text) : NULL;
                        if (text && !copy)
                                return -ENOMEM;
                        free(*(char **)to);
                        *(char **)to = copy;
                        break;

                case KEY_UNSIGNED:
                        same = *(unsigned int *)to == *(const unsigned int *)from;
                        *(unsigned int *)to = *(const unsigned int *)from;
                        break;

                case KEY_NUMBER:
                        same = *(uint64_t *)to == *(const uint64_t *)from;
                        *(uint64_t *)to = *(const uint64_t *)from;
                        break;

                case KEY_LEVEL:
                        same = *(int *)to == *(const int *)from;
                        *(int *)to = *(const int *)from;
                        break;
                }
                if (!same && !changed)
                        changed = keys[i].name;
        }

        *ret_key = changed;
        return 0;
}

void config_print_keys(FILE *stream)
{
        const char *section = "";

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                const struct config_key *key = &keys[i];

                if (strcmp(section, key->section) != 0) {
                        section = key->section;
                        fprintf(stream, "[%s]\n", section);
                }

                fprintf(stream, "  %-20s %s (", key->name, key->help);
                if (type_names[key->type])
                        fprintf(stream, "%s", type_names[key->type]);
                else
                        fprintf(stream, "%" PRIu64 " to %" PRIu64, key->min, key->max);
                if (key->value)
                        fprintf(stream, "; default %s", key->value);
                if (key->user_value)
                        fprintf(stream, ", with --user %s", key->user_value);
                fprintf(stream, ")\n");
        }

        fprintf(stream, "[device NAME]\n");
        for (size_t i = 0; i < ARRAY_SIZE(device_keys); i++)
                fprintf(stream, "  %-20s %s (%s)\n", device_keys[i].name, device_keys[i].help,
                        device_keys[i].type);
}
