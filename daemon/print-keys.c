/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the table of keys gives to files that are made when we are built; not installed.
 *
 *   print-keys manual       standard input, with the lines "@options@", "@keys SECTION@",
 * "@devices@" and "@limits@" replaced, in scdoc's language print-keys conf         standard input,
 * with "@keys SECTION@" replaced by commented lines print-keys limits       a line for each limit:
 * its key, a tab, what LimitReached calls it
 */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config-keys.h"
#include "options.h"

/* What scdoc would take for a mark. */
static void print_plain(const char *text)
{
        for (; *text; text++) {
                if (strchr("_*\\~", *text))
                        putchar('\\');
                putchar(*text);
        }
}

/* A text of the table begins small and has no stop. */
static void print_sentence(const char *text)
{
        char start[2] = { (char)toupper((unsigned char)*text), '\0' };

        print_plain(start);
        print_plain(text + 1);
        putchar('.');
}

static void print_manual_key(const struct config_key *key)
{
        char type[64];

        config_key_describe_type(key, type, sizeof(type));
        printf("*%s* = _%s_", key->name, type);
        if (!key->reloadable)
                printf(" (read at the start only)");
        printf("\n\t");
        print_sentence(key->help);
        if (key->more) {
                putchar(' ');
                print_plain(key->more);
        }
        if (key->value) {
                printf(" Default: ");
                print_plain(key->value);
        }
        if (key->user_value) {
                printf("; with *--user* ");
                print_plain(key->user_value);
        }
        printf("%s\n\n", key->value ? "." : "");
}

static void print_conf_key(const struct config_key *key)
{
        char type[64];

        config_key_describe_type(key, type, sizeof(type));
        /* What has no default shows the first of its words. */
        printf("# %s (%s)\n", key->help, type);
        printf("#%s = %s\n", key->name, key->value ?: strtok(type, ","));
}

static void print_keys(const char *section, void (*print)(const struct config_key *key))
{
        const struct config_key *key;

        for (size_t i = 0; (key = config_key_at(i)); i++)
                if (strcmp(key->section, section) == 0)
                        print(key);
}

static void print_options(void)
{
        struct option_text text;

        for (size_t i = 0; options_describe(i, &text); i++) {
                const struct config_key *key = config_find_key("daemon", text.name);
                char type[64];

                printf("*--%s*", text.name);
                if (text.argument)
                        printf("=_%s_", text.argument);
                printf("\n\t");
                print_sentence(text.help);
                if (key) {
                        config_key_describe_type(key, type, sizeof(type));
                        printf(" The key *%s* (%s).", text.name, type);
                }
                printf("\n\n");
        }
}

static void print_devices(void)
{
        for (int i = 0; i < _DEVICE_KEY_MAX; i++) {
                const struct device_key_text *text = config_device_key_text(i);

                printf("*%s* = _%s_\n\t", text->name, text->type);
                print_sentence(text->help);
                putchar(' ');
                print_plain(text->more);
                printf("\n\n");
        }
}

static void print_limits(bool manual)
{
        const struct config_key *key;

        if (manual)
                printf("[[ *key*\n:[ *limit*\n");
        for (size_t i = 0; (key = config_key_at(i)); i++) {
                if (key->limit && manual)
                        printf("|  _%s_\n:  %s\n", key->name, key->limit);
                else if (key->limit)
                        printf("%s\t%s\n", key->name, key->limit);
        }
}

/* Returns false for what is not known. */
static bool replace(const char *line, bool manual)
{
        char section[32];

        if (sscanf(line, "@keys %31[a-z]@", section) == 1) {
                if (!config_section_is_known(section))
                        return false;
                print_keys(section, manual ? print_manual_key : print_conf_key);
        } else if (manual && strcmp(line, "@options@\n") == 0) {
                print_options();
        } else if (manual && strcmp(line, "@devices@\n") == 0) {
                print_devices();
        } else if (manual && strcmp(line, "@limits@\n") == 0) {
                print_limits(true);
        } else {
                return false;
        }
        return true;
}

static int filter(bool manual)
{
        char line[8192];

        while (fgets(line, sizeof(line), stdin)) {
                if (line[0] != '@') {
                        fputs(line, stdout);
                } else if (!replace(line, manual)) {
                        fprintf(stderr, "print-keys: not known: %s", line);
                        return EXIT_FAILURE;
                }
        }
        return EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
        const char *what = argc == 2 ? argv[1] : "";
        int status = EXIT_SUCCESS;

        if (strcmp(what, "manual") == 0 || strcmp(what, "conf") == 0) {
                status = filter(what[0] == 'm');
        } else if (strcmp(what, "limits") == 0) {
                print_limits(false);
        } else {
                fprintf(stderr, "usage: print-keys manual|conf|limits\n");
                return 2;
        }
        return fflush(stdout) == 0 ? status : EXIT_FAILURE;
}
