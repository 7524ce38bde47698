/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config-keys.h"
#include "options.h"
#include "util/cleanup.h"
#include "util/macros.h"

enum {
        OPTION_CONFIG = 1, /* below the characters, where short options would be */
        OPTION_USER,
        OPTION_CHECK,
        OPTION_VERSION,
        OPTION_HELP,
        OPTION_KEY, /* a key of the configuration: with the number of its row, from here on */
};

/* What a key of [daemon] does is said in its table. */
static const struct {
        const char *name;
        const char *argument;
        int option;
        const char *help;
} rows[] = {
        { "config", "FILE", OPTION_CONFIG, "read this configuration, and FILE.d/*.conf" },
        { "mount", "DIR", OPTION_KEY, NULL },
        { "control", "SOCKET", OPTION_KEY, NULL },
        { "state", "DIR", OPTION_KEY, NULL },
        { "user", NULL, OPTION_USER, "run for one user, below the XDG directories" },
        { "backend", "NAME", OPTION_KEY, NULL },
        { "queues", "N", OPTION_KEY, NULL },
        { "max-pages", "N", OPTION_KEY, NULL },
        { "log-level", "LEVEL", OPTION_KEY, NULL },
        { "check", NULL, OPTION_CHECK,
          "read the configuration, say what is wrong with it, and end" },
        { "version", NULL, OPTION_VERSION, "print the version" },
        { "help", NULL, OPTION_HELP, "print this" },
};

bool options_describe(size_t index, struct option_text *ret)
{
        if (index >= ARRAY_SIZE(rows))
                return false;

        *ret = (struct option_text){
                .name = rows[index].name,
                .argument = rows[index].argument,
                .help = rows[index].help ?: config_find_key("daemon", rows[index].name)->help,
        };
        return true;
}

static void print_keys(void)
{
        const struct config_key *key;
        const char *section = "";

        for (size_t i = 0; (key = config_key_at(i)); i++) {
                char type[64];

                if (strcmp(section, key->section) != 0) {
                        section = key->section;
                        printf("[%s]\n", section);
                }
                config_key_describe_type(key, type, sizeof(type));
                printf("  %-20s %s (%s", key->name, key->help, type);
                if (key->value)
                        printf("; default %s", key->value);
                if (key->user_value)
                        printf(", with --user %s", key->user_value);
                printf(")\n");
        }

        printf("[device NAME]\n");
        for (int i = 0; i < _DEVICE_KEY_MAX; i++) {
                const struct device_key_text *text = config_device_key_text(i);

                printf("  %-20s %s (%s)\n", text->name, text->help, text->type);
        }
}

static int end_of_output(void)
{
        int r;

        if (fflush(stdout) == 0)
                return OPTIONS_DONE;
        r = -errno;
        fprintf(stderr, "dmiod: standard output: %s\n", strerrordesc_np(-r));
        return r;
}

static int print_help(void)
{
        struct option_text text;

        printf("Usage: dmiod [OPTION...]\n"
               "\n"
               "Region I/O in user space: serves the exports of its clients as files.\n"
               "\n");
        for (size_t i = 0; options_describe(i, &text); i++) {
                char left[40];

                (void)snprintf(left, sizeof(left), "--%s%s%s", text.name, text.argument ? "=" : "",
                               text.argument ?: "");
                printf("  %-20s %s\n", left, text.help);
        }
        printf("\n"
               "Keys of the configuration, which the command line overrides:\n"
               "\n");
        print_keys();
        return end_of_output();
}

static int print_version(void)
{
        printf("dmiod " DMIO_VERSION "\n");
        return end_of_output();
}

static int add_override(struct options *options, const char *key, const char *value)
{
        DMIO_CLEANUP(freep) char *copy = NULL;
        unsigned int i;

        copy = strdup(value);
        if (!copy)
                return -ENOMEM;

        /* There are fewer keys than places, so a key given again takes the place it has. */
        for (i = 0; i < options->n_overrides; i++)
                if (strcmp(options->overrides[i].key, key) == 0)
                        break;
        if (i == options->n_overrides)
                options->n_overrides++;
        options->overrides[i].key = key;
        free(options->overrides[i].value);
        options->overrides[i].value = DMIO_TAKE(copy);
        return 0;
}

static int apply_overrides(const struct options *options, struct config *config, char **ret_message)
{
        for (unsigned int i = 0; i < options->n_overrides; i++) {
                DMIO_CLEANUP(freep) char *reason = NULL;
                int r;

                r = config_set(config, options->overrides[i].key, options->overrides[i].value,
                               &reason);
                if (r < 0) {
                        if (asprintf(ret_message, "--%s", reason ?: options->overrides[i].key) < 0)
                                *ret_message = NULL;
                        return r;
                }
        }
        return 0;
}

DMIO_DEFINE_CLEANUP(struct config, config_free)

/* A wrong value is a wrong command line, whatever the files say. */
static int check_overrides(const struct options *options)
{
        DMIO_CLEANUP(config_freep) struct config *config = NULL;
        DMIO_CLEANUP(freep) char *message = NULL;
        int r;

        r = config_new(options->user, &config);
        if (r == 0)
                r = apply_overrides(options, config, &message);
        if (r < 0)
                fprintf(stderr, "dmiod: %s\n", message ?: strerrordesc_np(-r));
        return r;
}

/* What getopt_long() has found to be wrong with @word. */
static int refuse_option(int found, const char *word)
{
        if (found == ':')
                fprintf(stderr, "dmiod: option '%s' needs a value\n", word);
        else if (optopt >= OPTION_KEY + (int)ARRAY_SIZE(rows))
                /* Of a word of short options it tells the letter only. */
                fprintf(stderr, "dmiod: option '-%c' is not known\n", optopt);
        else if (optopt > 0)
                fprintf(stderr, "dmiod: option '%s' takes no value\n", word);
        else
                fprintf(stderr, "dmiod: option '%s' is not known, or could be several\n", word);
        return -EINVAL;
}

static int set_config(struct options *options, const char *path)
{
        if (!*path) {
                fprintf(stderr, "dmiod: --config must name a file\n");
                return -EINVAL;
        }
        free(options->config);
        options->config = strdup(path);
        return options->config ? 0 : -ENOMEM;
}

/* Returns as options_init(). */
static int take_option(struct options *options, int option, const char *value)
{
        switch (option) {
        case OPTION_CONFIG:
                return set_config(options, value);
        case OPTION_USER:
                options->user = true;
                return OPTIONS_RUN;
        case OPTION_CHECK:
                options->check = true;
                return OPTIONS_RUN;
        case OPTION_VERSION:
                return print_version();
        case OPTION_HELP:
                return print_help();
        default:
                return add_override(options, rows[option - OPTION_KEY].name, value);
        }
}

int options_init(struct options *options, int argc, char *argv[])
{
        struct option table[ARRAY_SIZE(rows) + 1] = {};
        int option, r;

        *options = (struct options){};
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                table[i].name = rows[i].name;
                table[i].has_arg = rows[i].argument ? required_argument : no_argument;
                /* Each its own, or getopt_long() would take the first that an abbreviation fits. */
                table[i].val = rows[i].option + (rows[i].option == OPTION_KEY ? (int)i : 0);
        }

        opterr = 0;
        optind = 0;
        while ((option = getopt_long(argc, argv, ":", table, NULL)) >= 0) {
                if (option == ':' || option == '?')
                        return refuse_option(option, argv[optind - 1]);
                r = take_option(options, option, optarg);
                if (r == -ENOMEM)
                        fprintf(stderr, "dmiod: %s\n", strerrordesc_np(-r));
                if (r != OPTIONS_RUN)
                        return r;
        }
        if (optind < argc) {
                fprintf(stderr, "dmiod: unexpected argument '%s'\n", argv[optind]);
                return -EINVAL;
        }

        r = check_overrides(options);
        return r < 0 ? r : OPTIONS_RUN;
}

void options_deinit(struct options *options)
{
        for (unsigned int i = 0; i < options->n_overrides; i++)
                free(options->overrides[i].value);
        free(options->config);
        *options = (struct options){};
}

int options_load(const struct options *options, struct config **ret, char **ret_message)
{
        DMIO_CLEANUP(config_freep) struct config *config = NULL;
        int r;

        r = config_load(options->config, options->user, &config, ret_message);
        if (r == 0)
                r = apply_overrides(options, config, ret_message);
        if (r == 0)
                r = config_check(config, ret_message);
        if (r < 0)
                return r;

        *ret = DMIO_TAKE(config);
        return 0;
}
