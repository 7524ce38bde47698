/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The command line: which verbs and options there are, and what --help says about them.
 *
 * Two tables say it all. Options may stand anywhere; "--" ends them. An option means the same for
 * every verb that takes it, so the line can be taken apart before the verb is known.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/dmioctl.h"
#include "dmioctl/show.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define BIT(option) (1u << (option))

/* What every verb takes. */
#define GLOBAL_OPTIONS                                                                             \
        (BIT(OPTION_CONTROL) | BIT(OPTION_USER) | BIT(OPTION_JSON) | BIT(OPTION_HELP) |            \
         BIT(OPTION_VERSION))

static const struct {
        const char *name;
        const char *value; /* NULL: takes none */
        const char *summary;
} options[_OPTION_MAX] = {
        [OPTION_CONTROL] = { "control", "SOCKET", "the daemon's socket (/run/dmiod/control)" },
        [OPTION_USER] = { "user", NULL, "the socket of the user's own daemon" },
        [OPTION_JSON] = { "json", NULL, "print the reply as one line of JSON" },
        [OPTION_HELP] = { "help", NULL, "this text, or that of one verb" },
        [OPTION_VERSION] = { "version", NULL, "the version of dmioctl" },
        [OPTION_PAGES] = { "pages", "N", "pages of 4 KiB to reserve, or a size (256)" },
        [OPTION_LINGER] = { "linger", NULL, "the client stays until it is closed" },
        [OPTION_READ_ONLY] = { "read-only", NULL, "the file cannot be written" },
        [OPTION_SHARED] = { "shared", NULL, "others may use the same sectors" },
        [OPTION_CACHE] = { "cache", "page|none",
                           "whether the file can be mapped for writing (page)" },
        [OPTION_FORCE] = { "force", NULL, "also while it is open" },
        [OPTION_PREFLUSH] = { "preflush", NULL, "write: flush what was written before, first" },
        [OPTION_FUA] = { "fua", NULL, "write: done only when it is on stable storage" },
        [OPTION_FILL] = { "fill", "BYTE", "write: this byte throughout, not standard input" },
        [OPTION_THROTTLE] = { "throttle", "PERCENT", "how much of the time it may do I/O (100)" },
        [OPTION_IGNORE_ERRORS] = { "ignore-errors", NULL, "go on; zeroes for what cannot be read" },
        [OPTION_SEQUENTIAL] = { "sequential", NULL, "write in the order of the sectors" },
        [OPTION_OP] = { "op", "OPERATION", "read, write, flush, discard or write-zeroes (all)" },
        [OPTION_ERRNO] = { "errno", "NAME", "error: which one, EIO for example" },
        [OPTION_DELAY] = { "delay", "TIME", "delay: how long, 20ms for example" },
        [OPTION_BYTES] = { "bytes", "N", "short: the most that is done at a time" },
        [OPTION_RANGE] = { "range", "SECTOR+COUNT", "on these sectors of the export (all)" },
        [OPTION_SKIP] = { "skip", "N", "let so many pass first (0)" },
        [OPTION_TIMES] = { "times", "N", "act so often (without end)" },
        [OPTION_INTERVAL] = { "interval", "TIME", "between samples, 100ms to 3600s (2s)" },
        [OPTION_ONCE] = { "once", NULL, "one table, then end" },
        [OPTION_BATCH] = { "batch", NULL, "one table after the other, as plain text" },
};

struct verb {
        const char *name; /* one or two words */
        const char *args; /* one word each, in brackets if it may be missing */
        unsigned int min_args;
        unsigned int max_args;
        unsigned int options;
        const char *summary;
        const char *example;
        const char *details; /* lines for its own --help, or NULL */
        int (*run)(const struct invocation *invocation);
};

#define ANY_NUMBER 10000

#define LEG_DETAILS                                                                                \
        "A leg is DEVICE:SECTOR+COUNT. Numbers are sectors of 512 bytes, or bytes with\n"          \
        "KiB, MiB, GiB or TiB behind them. A DEVICE with a slash in it, or the name of a\n"        \
        "file here, is opened with your own rights; any other is a name of the daemon's\n"         \
        "configuration.\n"

#define JOB_DETAILS                                                                                \
        "The command stays until the job has\n"                                                    \
        "ended; an interrupt (Ctrl-C) cancels it. On a terminal it shows how far it is. With\n"    \
        "--json there is a line for each reply, and the last one is the result.\n"                 \
        "The exit status is 4 if some of the destinations failed, 1 if all did, or the source,\n"  \
        "or if the job was cancelled.\n\n"

static const struct verb verbs[] = {
        { "client open", "NAME", 1, 1, BIT(OPTION_PAGES) | BIT(OPTION_LINGER),
          "make a client and reserve pages for it",
          "dmioctl client open alice --pages 1MiB --linger",
          "Without --linger the command stays in the foreground and holds the client until it is\n"
          "interrupted; the client then ends. With --linger it lasts until 'client close'.\n",
          verb_client_open },
        { "client close", "NAME", 1, 1, 0, "end a client, its exports and its reservation",
          "dmioctl client close alice", NULL, verb_client_close },
        { "client list", "", 0, 0, 0, "show your clients", "dmioctl client list", NULL,
          verb_client_list },
        { "get", "CLIENT PAGES", 2, 2, 0, "reserve more pages (dm_io_get)", "dmioctl get alice 64",
          "PAGES is a number of pages of 4 KiB, or a size such as 1MiB.\n", verb_get },
        { "put", "CLIENT PAGES", 2, 2, 0, "give reserved pages back (dm_io_put)",
          "dmioctl put alice 256KiB",
          "PAGES is a number of pages of 4 KiB, or a size such as 1MiB.\n", verb_put },
        { "export create", "CLIENT/NAME LEG...", 2, ANY_NUMBER,
          BIT(OPTION_READ_ONLY) | BIT(OPTION_SHARED) | BIT(OPTION_CACHE),
          "show regions of equal length as one file, and print its path",
          "dmioctl export create alice/vol a.img:0+8MiB b.img:100+8MiB",
          LEG_DETAILS "\nA write goes to all legs, a read needs one.\n", verb_export_create },
        { "export remove", "CLIENT/NAME", 1, 1, BIT(OPTION_FORCE), "take the file away",
          "dmioctl export remove alice/vol", NULL, verb_export_remove },
        { "export list", "[CLIENT]", 0, 1, 0, "show exports, their legs and errors",
          "dmioctl export list alice", NULL, verb_export_list },
        { "io", "OPERATION CLIENT LEG...", 3, ANY_NUMBER,
          BIT(OPTION_PREFLUSH) | BIT(OPTION_FUA) | BIT(OPTION_FILL),
          "one request: read, write, flush, discard or write-zeroes",
          "dmioctl io write alice a.img:8+8 b.img:40+8 < data",
          "A read takes one leg and writes to standard output. The others take 1 to 64 legs; a\n"
          "write puts the same data, standard input, on each of them: exactly as many bytes as\n"
          "the largest has. With --json a read puts its data into the reply, in base64.\n"
          "The exit status is 4 if some of the regions failed, 1 if all did.\n\n" LEG_DETAILS,
          verb_io },
        { "copy", "CLIENT SOURCE DESTINATION...", 3, ANY_NUMBER,
          BIT(OPTION_THROTTLE) | BIT(OPTION_IGNORE_ERRORS) | BIT(OPTION_SEQUENTIAL),
          "copy a region to others", "dmioctl copy alice a.img:0+1GiB b.img:0+1GiB",
          "Up to 8 destinations, each as long as the source. " JOB_DETAILS LEG_DETAILS, verb_copy },
        { "zero", "CLIENT LEG...", 2, ANY_NUMBER, BIT(OPTION_THROTTLE), "zero regions",
          "dmioctl zero alice a.img:0+1GiB",
          "Up to 8 legs of the same length. " JOB_DETAILS LEG_DETAILS, verb_zero },
        { "job list", "", 0, 0, 0, "show jobs, and the last ones that ended", "dmioctl job list",
          NULL, verb_job_list },
        { "job cancel", "JOB", 1, 1, 0, "end a job", "dmioctl job cancel 7", NULL,
          verb_job_cancel },
        { "statistics", "[CLIENT]", 0, 1, 0, "show what has been done, and how long it took",
          "dmioctl statistics alice",
          "For each client: what was done on its exports, by calls (io) and by jobs. For each\n"
          "export: on its file, and on each leg. P50 is the time that half of the operations\n"
          "did not exceed, P99 that of 99 of 100. Counters begin with their client or export.\n",
          verb_statistics },
        { "metrics", "[CLIENT]", 0, 1, 0, "the same for Prometheus, in its text format",
          "dmioctl metrics | promtool check metrics",
          "Put it where node_exporter's textfile collector finds it, or serve it.\n",
          verb_metrics },
        { "top", "", 0, 0, BIT(OPTION_INTERVAL) | BIT(OPTION_ONCE) | BIT(OPTION_BATCH),
          "show what goes on now, again and again", "dmioctl top --interval 500ms",
          "Rates, and how long reads and writes took, of clients, exports and legs. It goes on\n"
          "until it is interrupted; a daemon that goes away is waited for. If standard output is\n"
          "no terminal that is as with --batch.\n",
          verb_top },
        { "fault add", "CLIENT/NAME LEG ACTION", 3, 3,
          BIT(OPTION_OP) | BIT(OPTION_ERRNO) | BIT(OPTION_DELAY) | BIT(OPTION_BYTES) |
                  BIT(OPTION_RANGE) | BIT(OPTION_SKIP) | BIT(OPTION_TIMES),
          "a drill: make something go wrong on a leg, and print the fault's number",
          "dmioctl fault add alice/vol 1 error --errno EIO --op write --times 3",
          "ACTION is error, delay, short (fewer bytes at a time) or hold (until 'fault\n"
          "release'). The daemon's configuration has to allow it: drills = yes.\n",
          verb_fault_add },
        { "fault list", "[CLIENT]", 0, 1, 0, "show faults, and how often they have acted",
          "dmioctl fault list", NULL, verb_fault_list },
        { "fault release", "FAULT", 1, 1, 0, "let go what a fault holds now",
          "dmioctl fault release 2", NULL, verb_fault_release },
        { "fault remove", "FAULT", 1, 1, 0, "end a fault, and let go what it holds",
          "dmioctl fault remove 2", NULL, verb_fault_remove },
        { "monitor", "", 0, 0, 0, "show what happens, a line an event", "dmioctl monitor",
          "It goes on until it is interrupted, and ends with status 3 if the daemon goes. With\n"
          "--json each line is what the daemon sent. What is lost because it was not read in\n"
          "time is told as an 'overrun'.\n",
          verb_monitor },
        { "status", "", 0, 0, 0, "show the daemon and its pool", "dmioctl status --json", NULL,
          verb_status },
};

static void print_options(unsigned int mask)
{
        char text[64];

        for (unsigned int i = 0; i < _OPTION_MAX; i++) {
                if (!(mask & BIT(i)))
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
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                printf("  %s%s%s\n        %s\n        %s\n", verbs[i].name,
                       *verbs[i].args ? " " : "", verbs[i].args, verbs[i].summary,
                       verbs[i].example);
        puts("\nOptions for every verb:");
        print_options(GLOBAL_OPTIONS);
        puts("\n" LEG_DETAILS "\n"
             "Exit status: 0 done, 1 refused, 2 wrong usage, 3 no daemon, 4 some regions failed.\n"
             "'dmioctl VERB --help' tells more about a verb.");
}

static void print_verb(const struct verb *verb)
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

/* How many words of @args are the beginning of the verb's name; all of them: *@ret_whole. */
static unsigned int match_verb(const struct verb *verb, const char **args, unsigned int n_args,
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

static const struct verb *find_verb(const struct invocation *line)
{
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
                bool whole;

                match_verb(&verbs[i], line->args, line->n_args, &whole);
                if (whole)
                        return &verbs[i];
        }
        return NULL;
}

/* "client" alone, or something behind it that is none of its verbs: help or a complaint. */
static int handle_no_verb(const struct invocation *line)
{
        const char *first = line->n_args > 0 ? line->args[0] : NULL;
        const char *second = line->n_args > 1 ? line->args[1] : NULL;
        bool help = line->given[OPTION_HELP], whole;
        char known[128] = "";

        for (size_t i = 0; first && i < ARRAY_SIZE(verbs); i++) {
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

/* The argument number @n of a verb, as its usage calls it. */
static int complain_missing(const struct verb *verb, unsigned int n)
{
        const char *word = verb->args;

        while (n-- > 0)
                word += strcspn(word, " ") + 1;
        return complain_usage(verb->name, "%.*s is missing", (int)strcspn(word, " ."), word);
}

/* Take the option @text apart; @next is the argument behind it. 1: used @next; 0; or -EINVAL. */
static int parse_option(struct invocation *line, const char *text, const char *next)
{
        size_t length = strcspn(text, "=");
        unsigned int i;

        for (i = 0; i < _OPTION_MAX; i++)
                if (strlen(options[i].name) + 2 == length &&
                    memcmp(text + 2, options[i].name, length - 2) == 0)
                        break;
        if (text[1] != '-' || i == _OPTION_MAX) {
                complain_usage(NULL, "there is no option '%s'", text);
                return -EINVAL;
        }

        line->given[i] = true;
        if (!options[i].value && text[length] == '=') {
                complain_usage(NULL, "--%s takes no value", options[i].name);
                return -EINVAL;
        }
        if (!options[i].value)
                return 0;
        if (text[length] == '=') {
                line->values[i] = text + length + 1;
                return 0;
        }
        if (!next) {
                complain_usage(NULL, "--%s needs a value (%s)", options[i].name, options[i].value);
                return -EINVAL;
        }
        line->values[i] = next;
        return 1;
}

static int parse_line(struct invocation *line, int argc, char *argv[])
{
        bool only_args = false;
        int r;

        for (int i = 1; i < argc; i++) {
                const char *text = argv[i];

                /* What looks like a negative number is judged by whoever wants a number there. */
                if (only_args || text[0] != '-' || (text[1] >= '0' && text[1] <= '9')) {
                        line->args[line->n_args++] = text;
                } else if (strcmp(text, "--") == 0) {
                        only_args = true;
                } else {
                        r = parse_option(line, text, argv[i + 1]);
                        if (r < 0)
                                return r;
                        i += r;
                }
        }
        return 0;
}

static int run_verb(const struct verb *verb, struct invocation *line)
{
        bool whole;

        line->verb = verb->name;
        if (line->given[OPTION_HELP]) {
                print_verb(verb);
                return STATUS_OK;
        }
        for (unsigned int i = 0; i < _OPTION_MAX; i++)
                if (line->given[i] && !((verb->options | GLOBAL_OPTIONS) & BIT(i)))
                        return complain_usage(verb->name, "--%s does not go with '%s'",
                                              options[i].name, verb->name);

        unsigned int n_words = match_verb(verb, line->args, line->n_args, &whole);
        line->args += n_words;
        line->n_args -= n_words;
        if (line->n_args < verb->min_args)
                return complain_missing(verb, line->n_args);
        if (line->n_args > verb->max_args)
                return complain_usage(verb->name, "'%s' is one argument too many",
                                      line->args[verb->max_args]);
        return verb->run(line);
}

int main(int argc, char *argv[])
{
        DMIO_CLEANUP(freep) const char **args = calloc((size_t)argc + 1, sizeof(*args));
        struct invocation line = { .args = args };
        const struct verb *verb;
        int status;

        if (!args) {
                complain("out of memory");
                return STATUS_REFUSED;
        }
        if (parse_line(&line, argc, argv) < 0)
                return STATUS_USAGE;
        if (line.given[OPTION_VERSION]) {
                puts("dmioctl " DMIO_VERSION);
                return STATUS_OK;
        }

        verb = find_verb(&line);
        status = verb ? run_verb(verb, &line) : handle_no_verb(&line);

        if (fflush(stdout) != 0 || ferror(stdout)) {
                complain("cannot write to standard output: %s", strerror(errno));
                return status != STATUS_OK ? status : STATUS_REFUSED;
        }
        return status;
}
