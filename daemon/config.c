/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reading files. inih splits lines into keys and values; sections are recognized here as the
 * lines go by, because an empty section, and a [device] that comes twice, would otherwise pass
 * unnoticed. The first thing that is wrong is what the caller is told; nothing after it counts.
 */

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config-keys.h"
#include "config-value.h"
#include "config.h"
#include "model/model.h"
#include "util/cleanup.h"

#define SYSTEM_CONFIG_FILE "/etc/dmiod/dmiod.conf"
#define USER_CONFIG_FILE "$XDG_CONFIG_HOME/dmiod/dmiod.conf"

static struct device_grant *device_grant_free(struct device_grant *grant)
{
        list_unlink(&grant->link);
        free(grant->name);
        free(grant->path);
        free(grant->users);
        free(grant->groups);
        free(grant);
        return NULL;
}

struct config *config_free(struct config *config)
{
        if (!config)
                return NULL;

        while (!list_is_empty(&config->devices))
                device_grant_free(list_first(&config->devices, struct device_grant, link));
        free(config->mount);
        free(config->control);
        free(config->state);
        free(config->backend);
        free(config);
        return NULL;
}

DMIO_DEFINE_CLEANUP(struct config, config_free)

const struct device_grant *config_find_device(const struct config *config, const char *name,
                                              const struct peer *peer)
{
        const struct device_grant *grant;

        list_for_each (grant, &config->devices, link) {
                if (strcmp(grant->name, name) != 0)
                        continue;
                if (peer->privileged)
                        return grant;
                for (size_t i = 0; i < grant->n_users; i++)
                        if (grant->users[i] == peer->uid)
                                return grant;
                for (size_t i = 0; i < grant->n_groups; i++)
                        if (peer_in_group(peer, grant->groups[i]))
                                return grant;
                return NULL;
        }
        return NULL;
}

/* A file that is being read. */
struct parser {
        struct config *config;
        const char *path;
        FILE *file;
        unsigned int line;
        bool continued;             /* this line begins with a space */
        char *section;              /* what stands in its brackets, or NULL */
        unsigned int section_line;  /* where it begins */
        struct device_grant *grant; /* if it is a [device] */
        int error;
        unsigned int error_line;
        char *message;
};

static void parser_fail(struct parser *parser, unsigned int line, const char *format, ...)
        __attribute__((__format__(__printf__, 3, 4)));

static void parser_fail(struct parser *parser, unsigned int line, const char *format, ...)
{
        va_list arguments;

        if (parser->error < 0)
                return;

        parser->error = -EINVAL;
        parser->error_line = line;
        va_start(arguments, format);
        if (vasprintf(&parser->message, format, arguments) < 0) {
                parser->message = NULL;
                parser->error = -ENOMEM;
        }
        va_end(arguments);
}

static void parser_end_section(struct parser *parser)
{
        if (parser->grant && !parser->grant->path)
                parser_fail(parser, parser->section_line, "[%s] has no path", parser->section);
        parser->grant = NULL;
        free(parser->section);
        parser->section = NULL;
}

static void parser_begin_device(struct parser *parser, const char *name)
{
        struct device_grant *grant;

        if (!model_name_is_valid(name)) {
                parser_fail(parser, parser->line, "'%s' cannot be the name of a device", name);
                return;
        }
        list_for_each (grant, &parser->config->devices, link)
                if (strcmp(grant->name, name) == 0) {
                        parser_fail(parser, parser->line, "[device %s] is there already", name);
                        return;
                }

        grant = calloc(1, sizeof(*grant));
        if (!grant) {
                parser->error = -ENOMEM;
                return;
        }
        list_append(&parser->config->devices, &grant->link);
        parser->grant = grant;
        grant->name = strdup(name);
        if (!grant->name)
                parser->error = -ENOMEM;
}

static void parser_begin_section(struct parser *parser, const char *name, size_t length)
{
        const char *device;

        parser_end_section(parser);
        parser->section = strndup(name, length);
        parser->section_line = parser->line;
        if (!parser->section) {
                parser->error = -ENOMEM;
                return;
        }

        if (strncmp(parser->section, "device ", 7) == 0) {
                device = parser->section + 7;
                parser_begin_device(parser, device + strspn(device, " "));
        } else if (!config_section_is_known(parser->section)) {
                parser_fail(parser, parser->line, "unknown section [%s]", parser->section);
        }
}

/* What inih reads lines with. */
static char *parser_read_line(char *buffer, int size, void *userdata)
{
        struct parser *parser = userdata;
        size_t length;

        if (parser->error < 0)
                return NULL;
        if (!fgets(buffer, size, parser->file)) {
                if (ferror(parser->file))
                        parser_fail(parser, parser->line + 1, "cannot be read: %m");
                return NULL;
        }

        parser->line++;
        length = strlen(buffer);
        if ((length == 0 || buffer[length - 1] != '\n') && !feof(parser->file)) {
                parser_fail(parser, parser->line, "the line is longer than %d bytes", size - 2);
                return NULL;
        }

        parser->continued = buffer[0] == ' ' || buffer[0] == '\t';
        if (buffer[0] == '[') {
                char *end = strchr(buffer, ']');

                if (end)
                        parser_begin_section(parser, buffer + 1, (size_t)(end - buffer - 1));
        }
        return parser->error < 0 ? NULL : buffer;
}

static int device_set(struct device_grant *grant, enum device_key key, const char *value,
                      char **ret_reason)
{
        switch (key) {
        case DEVICE_KEY_PATH:
                if (grant->path)
                        return value_reject(ret_reason, "is given twice");
                return value_parse_path(value, PATH_MAX - 1, &grant->path, ret_reason);
        case DEVICE_KEY_USERS:
                return value_parse_users(value, &grant->users, &grant->n_users, ret_reason);
        case DEVICE_KEY_GROUPS:
                return value_parse_groups(value, &grant->groups, &grant->n_groups, ret_reason);
        case DEVICE_KEY_READ_ONLY:
                return value_parse_bool(value, &grant->read_only, ret_reason);
        default:
                return -EINVAL;
        }
}

/* What inih calls for every key: 1 to go on, 0 for an error. */
static int parser_on_key(void *userdata, const char *section, const char *name, const char *value)
{
        struct parser *parser = userdata;
        enum device_key device_key = _DEVICE_KEY_INVALID;
        const struct config_key *key = NULL;
        DMIO_CLEANUP(freep) char *reason = NULL;
        int r;

        if (parser->error < 0)
                return 0;

        /* inih knows the first 49 bytes of a section's name, which is enough to compare. */
        if (strncmp(section, parser->section ?: "", strlen(section)) != 0) {
                parser_fail(parser, parser->line, "a section begins in the first column");
                return 0;
        }
        if (!parser->section) {
                parser_fail(parser, parser->line, "'%s' stands in no section", name);
                return 0;
        }

        if (parser->grant)
                device_key = config_find_device_key(name);
        else
                key = config_find_key(parser->section, name);
        if (!key && device_key == _DEVICE_KEY_INVALID) {
                parser_fail(parser, parser->line, "unknown key '%s' in section [%s]", name,
                            parser->section);
                return 0;
        }
        if (parser->continued && device_key != DEVICE_KEY_USERS &&
            device_key != DEVICE_KEY_GROUPS) {
                parser_fail(parser, parser->line,
                            "a line that begins with a space goes on with the one before it, and "
                            "%s has one line only",
                            name);
                return 0;
        }

        r = key ? config_set_key(parser->config, key, value, &reason)
                : device_set(parser->grant, device_key, value, &reason);
        if (r == -EINVAL)
                parser_fail(parser, parser->line, "%s %s", name, reason);
        else if (r < 0)
                parser->error = r;
        return r == 0;
}

static int load_file(struct config *config, const char *path, bool must_exist, char **ret_message)
{
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        struct parser parser = { .config = config, .path = path };
        int syntax;

        file = fopen(path, "re");
        if (!file) {
                if (errno == ENOENT && !must_exist)
                        return 0;
                return value_reject(ret_message, "%s: %m", path);
        }

        parser.file = file;
        syntax = ini_parse_stream(parser_read_line, &parser, parser_on_key, &parser);
        parser_end_section(&parser);

        /* inih counts its own errors and ours; those that we have not seen come without a word. */
        if (syntax > 0 && (parser.error == 0 || (unsigned int)syntax < parser.error_line)) {
                free(parser.message);
                parser.error =
                        value_reject(ret_message, "%s:%d: neither a section nor a key with a value",
                                     path, syntax);
        } else if (parser.error == -EINVAL) {
                parser.error = value_reject(ret_message, "%s:%u: %s", path, parser.error_line,
                                            parser.message);
                free(parser.message);
        } else if (syntax < 0) {
                parser.error = -ENOMEM;
        }
        return parser.error;
}

static int is_fragment(const struct dirent *entry)
{
        size_t length = strlen(entry->d_name);

        return entry->d_name[0] != '.' && length > 5 &&
               strcmp(entry->d_name + length - 5, ".conf") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

/* The files of the folder "<path>.d". */
static int load_fragments(struct config *config, const char *path, char **ret_message)
{
        DMIO_CLEANUP(freep) char *folder = NULL;
        struct dirent **entries;
        int n, r = 0;

        if (asprintf(&folder, "%s.d", path) < 0) {
                folder = NULL;
                return -ENOMEM;
        }

        n = scandir(folder, &entries, is_fragment, by_name);
        if (n < 0) {
                if (errno == ENOENT)
                        return 0;
                return value_reject(ret_message, "%s: %m", folder);
        }

        for (int i = 0; i < n; i++) {
                DMIO_CLEANUP(freep) char *file = NULL;

                if (r == 0) {
                        if (asprintf(&file, "%s/%s", folder, entries[i]->d_name) < 0) {
                                file = NULL;
                                r = -ENOMEM;
                        } else {
                                r = load_file(config, file, true, ret_message);
                        }
                }
                free(entries[i]);
        }
        free(entries);
        return r;
}

int config_load(const char *path, bool user, struct config **ret, char **ret_message)
{
        DMIO_CLEANUP(config_freep) struct config *config = NULL;
        DMIO_CLEANUP(freep) char *found = NULL;
        DMIO_CLEANUP(freep) char *message = NULL;
        bool must_exist = path;
        int r;

        r = config_new(user, &config);
        if (r == 0 && !path) {
                r = config_expand_path(user ? USER_CONFIG_FILE : SYSTEM_CONFIG_FILE, &found);
                path = found;
        }
        if (r == 0 && path)
                r = load_file(config, path, must_exist, &message);
        if (r == 0 && path)
                r = load_fragments(config, path, &message);
        if (r < 0) {
                if (!message)
                        message = strdup(strerrordesc_np(-r));
                *ret_message = DMIO_TAKE(message);
                return r;
        }

        *ret = DMIO_TAKE(config);
        return 0;
}
