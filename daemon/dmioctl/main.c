/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The command line: which verbs and options there are.
 *
 * Two tables say it all; help.c prints them, completion.c completes what they have. Options may
 * stand anywhere; "--" ends them. An option means the same for every verb that takes it, so the
 * line can be taken apart before the verb is known.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmioctl/call.h"
#include "dmioctl/completion.h"
#include "dmioctl/dmioctl.h"
#include "dmioctl/errors.h"
#include "dmioctl/help.h"
#include "dmioctl/interrupt.h"
#include "dmioctl/show.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define BIT(option) OPTION_BIT(option)

const struct option_info options[_OPTION_MAX] = {
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
        [OPTION_OUTPUT] = { "output", "FILE", "read: put the data there" },
        [OPTION_MORE] = { "more", NULL, "the daemon may reply several times" },
        [OPTION_NO_HEADER] = { "no-header", NULL, "the rows of the table alone" },
        [OPTION_CONFIG] = { "config", "FILE",
                            "the daemon's configuration (/etc/dmiod/dmiod.conf)" },
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

#define ANY_NUMBER 10000

#define JOB_DETAILS                                                                                \
        "The command stays until the job has\n"                                                    \
        "ended; an interrupt (Ctrl-C) cancels it. On a terminal it shows how far it is. With\n"    \
        "--json there is a line for each reply, and the last one is the result.\n"                 \
        "The exit status is 4 if some of the destinations failed, 1 if all did, or the source,\n"  \
        "or if the job was cancelled.\n\n"

const struct verb verbs[] = {
        { "client open", "NAME", 1, 1, BIT(OPTION_PAGES) | BIT(OPTION_LINGER),
          "make a client and reserve pages for it",
          "dmioctl client open alice --pages 1MiB --linger",
          "Without --linger the command stays in the foreground and holds the client until it is\n"
          "interrupted; the client then ends. With --linger it lasts until 'client close'.\n",
          verb_client_open },
        { "client close", "CLIENT", 1, 1, 0, "end a client, its exports and its reservation",
          "dmioctl client close alice", NULL, verb_client_close },
        { "client list", "", 0, 0, BIT(OPTION_NO_HEADER), "show your clients",
          "dmioctl client list", NULL, verb_client_list },
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
        { "export remove", "EXPORT", 1, 1, BIT(OPTION_FORCE), "take the file away",
          "dmioctl export remove alice/vol", "An EXPORT is CLIENT/NAME.\n", verb_export_remove },
        { "export list", "[CLIENT]", 0, 1, BIT(OPTION_NO_HEADER),
          "show exports, their legs and errors", "dmioctl export list alice", NULL,
          verb_export_list },
        { "io", "OPERATION CLIENT LEG...", 3, ANY_NUMBER,
          BIT(OPTION_PREFLUSH) | BIT(OPTION_FUA) | BIT(OPTION_FILL) | BIT(OPTION_OUTPUT),
          "one request: read, write, flush, discard or write-zeroes",
          "dmioctl io write alice a.img:8+8 b.img:40+8 < data",
          "A read takes one leg and writes to standard output, or to --output. The others take 1 "
          "to 64 legs; a\n"
          "write puts the same data, standard input, on each of them: exactly as many bytes as\n"
          "the largest has. With --json, but without --output, a read has its data in the\n"
          "reply, in base64.\n"
          "The exit status is 4 if some of the regions failed, 1 if all did.\n\n" LEG_DETAILS,
          verb_io },
        { "submit", "OPERATION CLIENT LEG...", 3, ANY_NUMBER,
          BIT(OPTION_PREFLUSH) | BIT(OPTION_FUA) | BIT(OPTION_FILL) | BIT(OPTION_OUTPUT),
          "one request like io, which is not waited for; prints its id",
          "dmioctl submit write alice a.img:8+8 b.img:40+8 < data",
          "The data of a read go to the file --output; with --json they may come with the\n"
          "result instead, up to 64 KiB. The result is kept until it is fetched with "
          "'wait'.\n\n" LEG_DETAILS,
          verb_submit },
        { "wait", "CLIENT [ID...]", 1, ANY_NUMBER, 0,
          "what became of submitted requests, as they complete", "dmioctl wait alice 3 4",
          "Without an ID all are waited for that are outstanding now. Each result is given\n"
          "once. The exit status is 4 if a region of one of them failed.\n",
          verb_wait },
        { "copy", "CLIENT SOURCE DESTINATION...", 3, ANY_NUMBER,
          BIT(OPTION_THROTTLE) | BIT(OPTION_IGNORE_ERRORS) | BIT(OPTION_SEQUENTIAL),
          "copy a region to others", "dmioctl copy alice a.img:0+8MiB b.img:0+8MiB",
          "Up to 8 destinations, each as long as the source. " JOB_DETAILS LEG_DETAILS, verb_copy },
        { "zero", "CLIENT LEG...", 2, ANY_NUMBER, BIT(OPTION_THROTTLE), "zero regions",
          "dmioctl zero alice a.img:0+8MiB",
          "Up to 8 legs of the same length. " JOB_DETAILS LEG_DETAILS, verb_zero },
        { "job list", "", 0, 0, BIT(OPTION_NO_HEADER), "show jobs, and the last ones that ended",
          "dmioctl job list", NULL, verb_job_list },
        { "job watch", "JOB", 1, 1, 0, "show how far a job is, until it has ended",
          "dmioctl job watch 7",
          "An interrupt (Ctrl-C) ends the command alone; the job goes on. With --json there is a\n"
          "line whenever something has changed.\n",
          verb_job_watch },
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
        { "fault add", "EXPORT NUMBER ACTION", 3, 3,
          BIT(OPTION_OP) | BIT(OPTION_ERRNO) | BIT(OPTION_DELAY) | BIT(OPTION_BYTES) |
                  BIT(OPTION_RANGE) | BIT(OPTION_SKIP) | BIT(OPTION_TIMES),
          "a drill: make something go wrong on a leg, and print the fault's number",
          "dmioctl fault add alice/vol 1 error --errno EIO --op write --times 3",
          "NUMBER is that of the leg. ACTION is error, delay, short (fewer bytes at a time) or "
          "hold (until 'fault\n"
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
        { "call", "METHOD [PARAMETERS] [FILE...]", 1, 2 + CONTROL_MAX_DESCRIPTORS, BIT(OPTION_MORE),
          "call any method of the daemon, with parameters in JSON",
          "dmioctl call ListExports '{\"client\":\"alice\"}'",
          "A METHOD without a dot is one of io.dmiod. PARAMETERS that are '-' come from standard\n"
          "input. Each FILE is opened, for writing too if that is allowed, and sent along: "
          "\"fd:0\"\n"
          "is the first. Replies are JSON, a line each; with --more there may be several.\n",
          verb_call },
        { "interface", "[INTERFACE]", 0, 1, 0, "print what the daemon can be asked, and how",
          "dmioctl interface", "With --json it is a string in the reply.\n", verb_interface },
        { "doctor", "", 0, 0, BIT(OPTION_CONFIG) | BIT(OPTION_NO_HEADER),
          "look for what is wrong here, and tell what to do", "dmioctl doctor",
          "It needs no daemon, and starts none. The exit status is 1 if a check fails.\n",
          verb_doctor },
};

const unsigned int n_verbs = ARRAY_SIZE(verbs);

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
                if (only_args || text[0] != '-' || !text[1] || (text[1] >= '0' && text[1] <= '9')) {
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
        unsigned int n_words;
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

        if (line->given[OPTION_NO_HEADER])
                show_without_header();
        n_words = match_verb(verb, line->args, line->n_args, &whole);
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
        int status, r;

        if (!args)
                return complain_memory();
        /* Before anything is taken apart: what is completed is not a whole command line. */
        if (argc > 1 && strcmp(argv[1], COMPLETION_VERB) == 0)
                return complete(argc - 2, argv + 2);

        interrupt_init();
        if (parse_line(&line, argc, argv) < 0)
                return STATUS_USAGE;
        if (line.given[OPTION_VERSION]) {
                puts("dmioctl " DMIO_VERSION);
                status = STATUS_OK;
        } else {
                verb = find_verb(line.args, line.n_args);
                status = verb ? run_verb(verb, &line) : handle_no_verb(&line);
        }

        r = show_flush();
        if (r < 0 && !has_complained())
                complain("cannot write to standard output: %s; %s", strerror(-r),
                         r == -EPIPE ? "see why its reader has ended" : errno_advice(-r));
        return r < 0 && status == STATUS_OK ? STATUS_REFUSED : status;
}
