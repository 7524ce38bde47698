/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <dmio/types.h>

#include "dmioctl/call.h"
#include "dmioctl/completion.h"
#include "dmioctl/dmioctl.h"
#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "dmioctl/systemctl.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* Whoever presses a key waits that long, and hardly longer. */
#define PATIENCE_MSEC 500
#define PATIENCE_S 2

/* The line so far: what stands before the word, and the word. */
struct completion {
        struct invocation line;
        const char *pending; /* what the option before the word wants as its value, or NULL */
        const char *word;
        const char *before; /* what stands before it in the same word: "--cache=" */
        size_t n_before;
        size_t skip; /* of both, what the shell does not replace */
};

static void offer(const struct completion *completion, const char *text)
{
        size_t n_before = completion->n_before, skip = completion->skip;

        if (strncmp(text, completion->word, strlen(completion->word)) != 0)
                return;
        if (skip < n_before)
                printf("%.*s", (int)(n_before - skip), completion->before + skip);
        skip = skip > n_before ? skip - n_before : 0;
        puts(text + MIN(skip, strlen(text)));
}

/* --- names of the daemon */

static json_t *ask(const struct completion *completion, const char *method, json_t *parameters)
{
        bool user = completion->line.given[OPTION_USER];
        DMIO_CLEANUP(control_freep) struct control *control = NULL;
        DMIO_CLEANUP(freep) char *path = NULL;
        json_t *reply = NULL;

        if (control_path(&completion->line, &path) == 0 &&
            (completion->line.given[OPTION_CONTROL] ||
             !systemctl_daemon_is_idle(user, PATIENCE_MSEC)) &&
            control_connect_within(path, PATIENCE_MSEC, &control) == 0)
                (void)control_call(control, method, parameters, NULL, 0, &reply);
        json_decref(parameters);
        return reply;
}

static const json_t *list_of(const json_t *reply, const char *key)
{
        return json_object_get(json_object_get(reply, "parameters"), key);
}

static void offer_clients(const struct completion *completion, const char *behind)
{
        json_t *reply = ask(completion, "io.dmiod.ListClients", json_object());
        const json_t *client;
        char text[128];
        size_t i;

        json_array_foreach (list_of(reply, "clients"), i, client) {
                snprintf(text, sizeof(text), "%s%s", show_string(client, "name"), behind);
                offer(completion, text);
        }
        json_decref(reply);
}

static void offer_client(const struct completion *completion)
{
        offer_clients(completion, "");
}

static void offer_new_export(const struct completion *completion)
{
        puts(":nospace");
        offer_clients(completion, "/");
}

static void offer_exports(const struct completion *completion)
{
        json_t *reply = ask(completion, "io.dmiod.ListExports", json_object());
        const json_t *export;
        char text[256];
        size_t i;

        json_array_foreach (list_of(reply, "exports"), i, export) {
                snprintf(text, sizeof(text), "%s/%s", show_string(export, "client"),
                         show_string(export, "name"));
                offer(completion, text);
        }
        json_decref(reply);
}

/* The member @key of what is in the reply's @list; with @state only of those in that state. */
static void offer_numbers(const struct completion *completion, const char *method, const char *list,
                          const char *key, const char *state)
{
        json_t *reply = ask(completion, method, json_object());
        const json_t *entry;
        char text[32];
        size_t i;

        json_array_foreach (list_of(reply, list), i, entry) {
                if (state && strcmp(show_string(entry, "state"), state) != 0)
                        continue;
                snprintf(text, sizeof(text), "%ju", (uintmax_t)show_integer(entry, key));
                offer(completion, text);
        }
        json_decref(reply);
}

static void offer_jobs(const struct completion *completion)
{
        offer_numbers(completion, "io.dmiod.ListJobs", "jobs", "job", "running");
}

static void offer_faults(const struct completion *completion)
{
        offer_numbers(completion, "io.dmiod.ListFaults", "faults", "fault", NULL);
}

/* The lines "method NAME(...)" of the interface. */
static void offer_methods(const struct completion *completion)
{
        json_t *reply = ask(completion, "org.varlink.service.GetInterfaceDescription",
                            json_pack("{s:s}", "interface", "io.dmiod"));
        const char *text = show_string(json_object_get(reply, "parameters"), "description");
        char name[64];

        for (; *text; text += strcspn(text, "\n"), text += *text == '\n')
                if (sscanf(text, "method %63[A-Za-z]", name) == 1)
                        offer(completion, name);
        json_decref(reply);
}

/* --- names of the system */

static void offer_files(const struct completion *completion)
{
        puts(":files");
}

/* Sectors of a file or a block device; 0: not known. */
static uint64_t sectors_of(const char *path)
{
        unsigned long long sectors = 0;
        char name[64];
        struct stat st;
        FILE *file;

        if (stat(path, &st) < 0)
                return 0;
        if (S_ISREG(st.st_mode))
                return (uint64_t)st.st_size / DMIO_SECTOR_SIZE;
        if (!S_ISBLK(st.st_mode))
                return 0;
        snprintf(name, sizeof(name), "/sys/dev/block/%u:%u/size", major(st.st_rdev),
                 minor(st.st_rdev));
        file = fopen(name, "re");
        if (!file)
                return 0;
        if (fscanf(file, "%llu", &sectors) != 1)
                sectors = 0;
        fclose(file);
        return sectors;
}

/* A file, and behind its colon all that it has. */
static void offer_legs(const struct completion *completion)
{
        const char *colon = strrchr(completion->word, ':');
        DMIO_CLEANUP(freep) char *device = NULL;
        DMIO_CLEANUP(freep) char *text = NULL;
        uint64_t sectors;

        if (!colon) {
                puts(":files\n:nospace");
                return;
        }
        device = strndup(completion->word, (size_t)(colon - completion->word));
        sectors = device ? sectors_of(device) : 0;
        if (sectors > 0 && asprintf(&text, "%s:0+%ju", device, (uintmax_t)sectors) >= 0)
                offer(completion, text);
}

/* --- what the tables say */

static const struct {
        const char *name; /* as usage has it */
        void (*offer)(const struct completion *completion);
        const char *words; /* or these */
} kinds[] = {
        { "CLIENT", offer_client, NULL },
        { "CLIENT/NAME", offer_new_export, NULL },
        { "EXPORT", offer_exports, NULL },
        { "JOB", offer_jobs, NULL },
        { "FAULT", offer_faults, NULL },
        { "ACTION", NULL, "error|delay|short|hold" },
        { "METHOD", offer_methods, NULL },
        { "LEG", offer_legs, NULL },
        { "SOURCE", offer_legs, NULL },
        { "DESTINATION", offer_legs, NULL },
        { "FILE", offer_files, NULL },
        { "SOCKET", offer_files, NULL },
        { "OPERATION", NULL, "read|write|flush|discard|write-zeroes" },
        { "INTERFACE", NULL, "io.dmiod|org.varlink.service" },
};

static void offer_words(const struct completion *completion, const char *words)
{
        char text[64];

        for (size_t n; *words; words += n, words += *words == '|') {
                n = strcspn(words, "|");
                snprintf(text, sizeof(text), "%.*s", (int)n, words);
                offer(completion, text);
        }
}

/* @name: what a value is called; of "[ID...]" it is "ID". */
static void offer_kind(const struct completion *completion, const char *name)
{
        size_t length;

        name += *name == '[';
        length = strcspn(name, " .]");
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                if (strlen(kinds[i].name) != length || memcmp(kinds[i].name, name, length) != 0)
                        continue;
                if (kinds[i].words)
                        offer_words(completion, kinds[i].words);
                else
                        kinds[i].offer(completion);
                return;
        }
}

/* "SOCKET", or the words themselves. */
static void offer_value(const struct completion *completion, const char *value)
{
        if (value[0] >= 'a' && value[0] <= 'z')
                offer_words(completion, value);
        else
                offer_kind(completion, value);
}

static void offer_options(const struct completion *completion, const struct verb *verb)
{
        uint64_t mask = GLOBAL_OPTIONS | (verb ? verb->options : 0);
        bool values = false;
        char text[64];

        for (unsigned int i = 0; i < _OPTION_MAX; i++) {
                if (!(mask & OPTION_BIT(i)) || completion->line.given[i])
                        continue;
                snprintf(text, sizeof(text), "--%s%s", options[i].name,
                         options[i].value ? "=" : " ");
                if (strncmp(text, completion->word, strlen(completion->word)) == 0)
                        values = true;
                offer(completion, text);
        }
        if (values)
                puts(":nospace");
}

/* The first words of the verbs, each once, or the second ones behind a first. */
static void offer_verbs(const struct completion *completion)
{
        const struct invocation *line = &completion->line;
        char text[32], before[32] = "";
        bool whole;

        for (unsigned int i = 0; i < n_verbs; i++) {
                const char *name = verbs[i].name;

                if (match_verb(&verbs[i], line->args, line->n_args, &whole) != line->n_args)
                        continue;
                for (unsigned int n = 0; n < line->n_args; n++)
                        name += strcspn(name, " ") + 1;
                snprintf(text, sizeof(text), "%.*s", (int)strcspn(name, " "), name);
                if (strcmp(text, before) != 0)
                        offer(completion, text);
                strcpy(before, text);
        }
}

static void offer_argument(const struct completion *completion, const struct verb *verb)
{
        const char *word = verb->args, *next;
        unsigned int n = completion->line.n_args - (strchr(verb->name, ' ') ? 2 : 1);

        if (n >= verb->max_args)
                return;
        /* The last one may come often. */
        for (; n > 0 && (next = strchr(word, ' ')); n--)
                word = next + 1;
        offer_kind(completion, word);
}

/* --- the words */

/* Take what stands before the word apart, as far as it can be. */
static void parse_before(struct completion *completion, char *words[], unsigned int n_words)
{
        struct invocation *line = &completion->line;

        for (unsigned int i = 0; i < n_words; i++) {
                const char *equals = strchr(words[i], '=');
                size_t length = equals ? (size_t)(equals - words[i]) : strlen(words[i]);
                unsigned int k;

                if (words[i][0] != '-' || !words[i][1]) {
                        line->args[line->n_args++] = words[i];
                        continue;
                }
                for (k = 0; k < _OPTION_MAX; k++)
                        if (length == strlen(options[k].name) + 2 &&
                            memcmp(words[i] + 2, options[k].name, length - 2) == 0)
                                break;
                if (k == _OPTION_MAX)
                        continue;
                line->given[k] = true;
                if (!options[k].value)
                        continue;
                if (equals) {
                        line->values[k] = equals + 1;
                } else if (i + 1 < n_words) {
                        line->values[k] = words[++i];
                } else {
                        line->given[k] = false;
                        completion->pending = options[k].value;
                }
        }
}

/* "--cache=pa": the value of an option. */
static bool offer_after_equals(struct completion *completion)
{
        const char *equals = strchr(completion->word, '=');
        size_t length;

        if (strncmp(completion->word, "--", 2) != 0 || !equals)
                return false;
        length = (size_t)(equals - completion->word) - 2;
        for (unsigned int i = 0; i < _OPTION_MAX; i++)
                if (options[i].value && strlen(options[i].name) == length &&
                    memcmp(options[i].name, completion->word + 2, length) == 0) {
                        struct completion value = *completion;

                        value.word = equals + 1;
                        value.before = completion->word;
                        value.n_before = length + 3;
                        offer_value(&value, options[i].value);
                }
        return true;
}

/*
 * bash takes a word apart at "=" and ":", which are words of their own then; it replaces only the
 * last of them. Put them together again, in @buffer, which has room for all of them and their ends.
 * Returns how many words there are.
 */
static unsigned int join(char *words[], unsigned int n_words, char *buffer, size_t *ret_skip)
{
        bool open = false;
        unsigned int n = 0;
        size_t skip = 0;

        for (unsigned int i = 0; i < n_words; i++) {
                size_t length = strlen(words[i]);
                bool breaks = length > 0 && strspn(words[i], ":=") == length;

                if (n == 0 || !(breaks || open)) {
                        buffer += n > 0;
                        strcpy(buffer, words[i]);
                        words[n++] = buffer;
                        skip = 0;
                } else {
                        skip = (size_t)(buffer - words[n - 1]);
                        strcpy(buffer, words[i]);
                }
                if (breaks)
                        skip += length;
                buffer += length;
                open = breaks;
        }
        *ret_skip = skip;
        return n;
}

int complete(int argc, char *words[])
{
        struct completion completion = {};
        DMIO_CLEANUP(freep) const char **args = calloc((size_t)argc + 1, sizeof(*args));
        DMIO_CLEANUP(freep) char *buffer = NULL;
        const struct verb *verb;
        unsigned int n_words;
        size_t length = 0;

        /* Whatever the daemon does. */
        (void)alarm(PATIENCE_S);
        for (int i = 0; i < argc; i++)
                length += strlen(words[i]) + 1;
        buffer = malloc(length + 1);
        if (!args || !buffer || argc < 1)
                return 0;
        n_words = join(words, (unsigned int)argc, buffer, &completion.skip);
        completion.line.args = args;
        completion.word = words[n_words - 1];
        parse_before(&completion, words, n_words - 1);

        verb = find_verb(args, completion.line.n_args);
        if (completion.pending)
                offer_value(&completion, completion.pending);
        else if (offer_after_equals(&completion))
                ;
        else if (completion.word[0] == '-')
                offer_options(&completion, verb);
        else if (verb)
                offer_argument(&completion, verb);
        else
                offer_verbs(&completion);
        return 0;
}
