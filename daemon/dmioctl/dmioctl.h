/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * dmioctl: the control interface for people. A verb turns its arguments into one method call, and
 * the reply into a few lines of text.
 *
 * A verb speaks itself where something goes wrong, and then returns the exit status. Nothing is
 * sent before everything that can be judged on this side has been.
 */

#include <stdbool.h>
#include <stdint.h>

/* In the order of --help; the table is in main.c. */
enum option {
        OPTION_CONTROL,
        OPTION_USER,
        OPTION_JSON,
        OPTION_HELP,
        OPTION_VERSION,
        OPTION_PAGES,
        OPTION_LINGER,
        OPTION_READ_ONLY,
        OPTION_SHARED,
        OPTION_CACHE,
        OPTION_FORCE,
        OPTION_PREFLUSH,
        OPTION_FUA,
        OPTION_FILL,
        OPTION_THROTTLE,
        OPTION_IGNORE_ERRORS,
        OPTION_SEQUENTIAL,
        OPTION_OUTPUT,
        OPTION_MORE,
        OPTION_NO_HEADER,
        OPTION_CONFIG,
        OPTION_OP,
        OPTION_ERRNO,
        OPTION_DELAY,
        OPTION_BYTES,
        OPTION_RANGE,
        OPTION_SKIP,
        OPTION_TIMES,
        OPTION_INTERVAL,
        OPTION_ONCE,
        OPTION_BATCH,
        _OPTION_MAX,
};

enum status {
        STATUS_OK = 0,
        STATUS_REFUSED = 1,   /* the daemon, or the system, said no */
        STATUS_USAGE = 2,     /* nothing was asked of the daemon */
        STATUS_NO_DAEMON = 3, /* nobody there, or gone before the reply came */
        STATUS_PARTLY = 4,    /* some regions failed, others did not */
};

/* The command line, taken apart. */
struct invocation {
        bool given[_OPTION_MAX];
        const char *values[_OPTION_MAX];
        const char **args; /* behind the verb */
        unsigned int n_args;
        const char *verb; /* for messages: "client open" */
};

#define OPTION_BIT(option) (UINT64_C(1) << (option))

/* What every verb takes. */
#define GLOBAL_OPTIONS                                                                             \
        (OPTION_BIT(OPTION_CONTROL) | OPTION_BIT(OPTION_USER) | OPTION_BIT(OPTION_JSON) |          \
         OPTION_BIT(OPTION_HELP) | OPTION_BIT(OPTION_VERSION))

struct option_info {
        const char *name;
        const char *value; /* NULL: takes none. Lower case: "this|that", and nothing else */
        const char *summary;
};

struct verb {
        const char *name; /* one or two words */
        const char *args; /* one word each, in brackets if it may be missing; see completion.c */
        unsigned int min_args;
        unsigned int max_args;
        uint64_t options;
        const char *summary;
        const char *example;
        const char *details; /* lines for its own --help, or NULL */
        int (*run)(const struct invocation *invocation);
};

/* The tables of main.c. */
extern const struct option_info options[_OPTION_MAX];
extern const struct verb verbs[];
extern const unsigned int n_verbs;

/* How many words of @args are the beginning of the verb's name; all of them: *@ret_whole. */
unsigned int match_verb(const struct verb *verb, const char **args, unsigned int n_args,
                        bool *ret_whole);
const struct verb *find_verb(const char **args, unsigned int n_args);

int verb_client_open(const struct invocation *invocation);
int verb_client_close(const struct invocation *invocation);
int verb_client_list(const struct invocation *invocation);
int verb_get(const struct invocation *invocation);
int verb_put(const struct invocation *invocation);
int verb_status(const struct invocation *invocation);

int verb_export_create(const struct invocation *invocation);
int verb_export_remove(const struct invocation *invocation);
int verb_export_list(const struct invocation *invocation);

int verb_io(const struct invocation *invocation);
int verb_submit(const struct invocation *invocation);
int verb_wait(const struct invocation *invocation);

int verb_copy(const struct invocation *invocation);
int verb_zero(const struct invocation *invocation);
int verb_job_list(const struct invocation *invocation);
int verb_job_watch(const struct invocation *invocation);
int verb_job_cancel(const struct invocation *invocation);

int verb_statistics(const struct invocation *invocation);
int verb_metrics(const struct invocation *invocation);
int verb_top(const struct invocation *invocation);

int verb_fault_add(const struct invocation *invocation);
int verb_fault_list(const struct invocation *invocation);
int verb_fault_release(const struct invocation *invocation);
int verb_fault_remove(const struct invocation *invocation);

int verb_monitor(const struct invocation *invocation);

int verb_call(const struct invocation *invocation);
int verb_interface(const struct invocation *invocation);
int verb_doctor(const struct invocation *invocation);
