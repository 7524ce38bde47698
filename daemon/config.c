/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reading files. inih splits lines into keys and values; the lines are read and sections recognized
 * here, because much would otherwise pass unnoticed: an empty section, a [device] that comes twice,
 * what stands behind a bracket, a NUL. The first thing that is wrong is what the caller is told;
 * nothing after it counts.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config-keys.h"
#include "config-value.h"
#include "config.h"
#include "name.h"
#include "util/cleanup.h"

#define SYSTEM_CONFIG_FILE "/etc/dmiod/dmiod.conf"
#define USER_CONFIG_FILE "$XDG_CONFIG_HOME/dmiod/dmiod.conf"

/* Bytes of a file: whatever is larger has been named by mistake. */
#define FILE_SIZE_MAX (1024 * 1024)

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
        bool continued;                                 /* this line begins with a space */
        char *section;                                  /* what stands in its brackets, or NULL */
        unsigned int section_line;                      /* where it begins */
        struct device_grant *grant;                     /* if it is a [device] */
        size_t size;                                    /* bytes so far */
        unsigned int key_lines[CONFIG_KEYS_MAX];        /* where each key has been set, from 1 */
        unsigned int device_key_lines[_DEVICE_KEY_MAX]; /* in this section */
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

        if (!name_is_valid(name)) {
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
        memset(parser->device_key_lines, 0, sizeof(parser->device_key_lines));
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

/* A line that begins with a bracket. */
static void parser_on_bracket(struct parser *parser, const char *line)
{
        const char *end = strchr(line, ']');
        const char *behind;

        if (!end)
                return; /* which inih refuses */
        behind = end + 1 + strspn(end + 1, " \t\r\n");
        if (*behind && *behind != ';' && *behind != '#')
                parser_fail(parser, parser->line, "something stands behind a section's bracket");
        else
                parser_begin_section(parser, line + 1, (size_t)(end - line - 1));
}

/* Like fgets(), but a NUL, which would hide the rest of its line, and too much of anything are
 * errors. */
static bool parser_get_line(struct parser *parser, char *buffer, size_t size)
{
        size_t length = 0;
        int c = 0;

        while (c != '\n' && (c = getc_unlocked(parser->file)) != EOF) {
                if (length == 0)
                        parser->line++;
                if (++parser->size > FILE_SIZE_MAX)
                        parser_fail(parser, parser->line, "the file is larger than %d bytes",
                                    FILE_SIZE_MAX);
                else if (c == '\0')
                        parser_fail(parser, parser->line, "the line has a NUL byte");
                else if (length + 1 >= size)
                        parser_fail(parser, parser->line, "the line is longer than %zu bytes",
                                    size - 2);
                else
                        buffer[length++] = (char)c;
                if (parser->error < 0)
                        return false;
        }
        if (ferror(parser->file))
                parser_fail(parser, parser->line + 1, "cannot be read: %m");
        buffer[length] = '\0';
        return length > 0 && parser->error == 0;
}

/* What inih reads lines with. */
static char *parser_read_line(char *buffer, int size, void *userdata)
{
        static const char bom[] = "\xef\xbb\xbf"; /* which some editors put before the first line */
        struct parser *parser = userdata;
        const char *line = buffer;

        if (parser->error < 0 || !parser_get_line(parser, buffer, (size_t)size))
                return NULL;
        if (parser->line == 1 && strncmp(line, bom, strlen(bom)) == 0)
                line += strlen(bom);

        parser->continued = line[0] == ' ' || line[0] == '\t';
        if (line[0] == '[')
                parser_on_bracket(parser, line);
        return parser->error < 0 ? NULL : buffer;
}

static int device_set(struct device_grant *grant, enum device_key key, const char *value,
                      char **ret_reason)
{
        switch (key) {
        case DEVICE_KEY_PATH:
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

/* A key counts once in a file, but that a list may have several lines. */
static bool parser_check_line(struct parser *parser, const char *name, const char *value,
                              unsigned int *line, bool is_list)
{
        if (parser->continued && !is_list)
                parser_fail(parser, parser->line,
                            "a line that begins with a space goes on with the one before it, and "
                            "%s has one line only",
                            name);
        else if (*line > 0 && !parser->continued)
                parser_fail(parser, parser->line, "%s is given twice, here and in line %u", name,
                            *line);
        else if (strstr(value, " #") || strstr(value, "\t#"))
                parser_fail(parser, parser->line,
                            "%s has a '#' behind a space, but a comment behind a value begins with "
                            "';'",
                            name);
        *line = parser->line;
        return parser->error == 0;
}

/* What inih calls for every key: 1 to go on, 0 for an error. */
static int parser_on_key(void *userdata, const char *section, const char *name, const char *value)
{
        struct parser *parser = userdata;
        enum device_key device_key = _DEVICE_KEY_INVALID;
        const struct config_key *key = NULL;
        DMIO_CLEANUP(freep) char *reason = NULL;
        unsigned int *line;
        bool is_list;
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
        line = key ? &parser->key_lines[config_key_index(key)]
                   : &parser->device_key_lines[device_key];
        is_list = device_key == DEVICE_KEY_USERS || device_key == DEVICE_KEY_GROUPS;
        if (!parser_check_line(parser, name, value, line, is_list))
                return 0;

        r = key ? config_set_key(parser->config, key, value, &reason)
                : device_set(parser->grant, device_key, value, &reason);
        if (r == -EINVAL)
                parser_fail(parser, parser->line, "%s %s", name, reason);
        else if (r < 0)
                parser->error = r;
        return r == 0;
}

/*
 * NULL in *@ret if there is none and need not be one. Returns 0 or a negative errno with a message.
 * A pipe is refused, because the main loop would wait for who writes to it; a device has nothing
 * that could be read (/dev/null), or is refused for its first NUL or by EAGAIN.
 */
static int open_file(const char *path, bool must_exist, FILE **ret, char **ret_message)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        struct stat st;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT && !must_exist) {
                *ret = NULL;
                return 0;
        }
        if (fd < 0 || fstat(fd, &st) < 0)
                return value_reject(ret_message, "%s: %m", path);
        if (S_ISDIR(st.st_mode))
                return value_reject(ret_message, "%s: is a folder, not a file", path);
        if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
                return value_reject(ret_message, "%s: is not a regular file", path);

        *ret = fdopen(fd, "r");
        if (!*ret)
                return -ENOMEM;
        (void)DMIO_TAKE_FD(fd);
        return 0;
}

static int load_file(struct config *config, const char *path, bool must_exist, char **ret_message)
{
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        struct parser parser = { .config = config, .path = path };
        int syntax, r;

        r = open_file(path, must_exist, &file, ret_message);
        if (r < 0 || !file)
                return r;

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
