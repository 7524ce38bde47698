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

int verb_copy(const struct invocation *invocation);
int verb_zero(const struct invocation *invocation);
int verb_job_list(const struct invocation *invocation);
int verb_job_cancel(const struct invocation *invocation);

int verb_statistics(const struct invocation *invocation);
int verb_metrics(const struct invocation *invocation);
int verb_top(const struct invocation *invocation);

int verb_fault_add(const struct invocation *invocation);
int verb_fault_list(const struct invocation *invocation);
int verb_fault_release(const struct invocation *invocation);
int verb_fault_remove(const struct invocation *invocation);

int verb_monitor(const struct invocation *invocation);
