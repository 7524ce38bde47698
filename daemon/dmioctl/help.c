/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What --help says, and which verb a line means. */

#include <stdio.h>
#include <string.h>

#include "dmioctl/help.h"
#include "dmioctl/show.h"

static void print_options(uint64_t mask)
{
        char text[64];

        for (unsigned int i = 0; i < _OPTION_MAX; i++) {
                if (!(mask & OPTION_BIT(i)))
                        continue;
                snprintf(text, sizeof(text), "--%s%s%s", options[i].name,
                         options[i].value ? "=" : "", options[i].value ? options[i].value : "");
                printf("  %-20s %s\n", text, options[i].summary);
        }
}

static void print_help(void)
{
        puts("Usage: dmioctl [OPTION...] VERB [ARGUMENT...]\n\n"
             "Control dmiod: clients, exports and region I/O.\n\nVerbs:");
        for (unsigned int i = 0; i < n_verbs; i++)
                printf("  %s%s%s\n        %s\n        %s\n", verbs[i].name,
                       *verbs[i].args ? " " : "", verbs[i].args, verbs[i].summary,
                       verbs[i].example);
        puts("\nOptions for every verb:");
        print_options(GLOBAL_OPTIONS);
        puts("\n" LEG_DETAILS "\n"
             "Exit status: 0 done, 1 refused, 2 wrong usage, 3 no daemon, 4 some regions failed.\n"
             "'dmioctl VERB --help' tells more about a verb.");
}

void print_verb(const struct verb *verb)
{
        char summary[128];

        snprintf(summary, sizeof(summary), "%s", verb->summary);
        if (summary[0] >= 'a' && summary[0] <= 'z')
                summary[0] = (char)(summary[0] - 'a' + 'A');
        printf("Usage: dmioctl %s%s%s%s\n\n%s.\n", verb->name, *verb->args ? " " : "", verb->args,
               verb->options ? " [OPTION...]" : "", summary);
        if (verb->details)
                printf("\n%s", verb->details);
        puts("\nOptions:");
        print_options(verb->options | GLOBAL_OPTIONS);
        printf("\nExample:\n  %s\n", verb->example);
}

unsigned int match_verb(const struct verb *verb, const char **args, unsigned int n_args,
                        bool *ret_whole)
{
        const char *name = verb->name;
        unsigned int n = 0;

        while (*name && n < n_args) {
                size_t length = strcspn(name, " ");

                if (strlen(args[n]) != length || memcmp(args[n], name, length) != 0)
                        break;
                name += length + (name[length] == ' ');
                n++;
        }
        *ret_whole = !*name;
        return n;
}

const struct verb *find_verb(const char **args, unsigned int n_args)
{
        for (unsigned int i = 0; i < n_verbs; i++) {
                bool whole;

                match_verb(&verbs[i], args, n_args, &whole);
                if (whole)
                        return &verbs[i];
        }
        return NULL;
}

/* "client" alone, or something behind it that is none of its verbs: help or a complaint. */
int handle_no_verb(const struct invocation *line)
{
        const char *first = line->n_args > 0 ? line->args[0] : NULL;
        const char *second = line->n_args > 1 ? line->args[1] : NULL;
        bool help = line->given[OPTION_HELP], whole;
        char known[128] = "";

        for (unsigned int i = 0; first && i < n_verbs; i++) {
                if (match_verb(&verbs[i], line->args, 1, &whole) == 0)
                        continue;
                if (help && !second) {
                        if (*known)
                                putchar('\n');
                        print_verb(&verbs[i]);
                }
                snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s",
                         *known ? ", " : "", strchr(verbs[i].name, ' ') + 1);
        }

        if (*known && help && !second)
                return STATUS_OK;
        if (*known && second)
                return complain_usage(NULL, "'%s' has no verb '%s', but: %s", first, second, known);
        if (*known)
                return complain_usage(NULL, "'%s' needs one of: %s", first, known);
        if (first)
                return complain_usage(NULL, "there is no verb '%s'", first);
        if (help) {
                print_help();
                return STATUS_OK;
        }
        return complain_usage(NULL, "a verb is missing");
}
