/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The configuration: what the command line, /etc/dmiod/dmiod.conf and dmiod.conf.d/ say. One table
 * of keys (config-keys.c) gives names, types, defaults and ranges to the parser, to --help and to
 * the manual.
 *
 * A configuration is read as a whole or not at all: the first wrong key, value or section is an
 * error that names file and line.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "peer.h"
#include "util/list.h"

/* [device NAME]: what a peer that is not privileged may name. */
struct device_grant {
        struct list link;
        char *name;
        char *path;
        uid_t *users;
        size_t n_users;
        gid_t *groups;
        size_t n_groups;
        bool read_only;
};

struct config {
        char *mount;
        char *control;
        char *state;
        char *backend;          /* "uring", "threads", "memory"; NULL for the best that works */
        bool user;              /* --user */
        unsigned int queues;    /* 0: by the number of CPUs */
        uint64_t max_pages;     /* 0: half the memory */
        unsigned int spin_usec; /* how long a queue thread polls before it sleeps */
        unsigned int restore_timeout; /* seconds */
        int log_level;
        bool drills;                /* faults on purpose are allowed */
        uint64_t limit_clients;     /* per uid */
        uint64_t limit_exports;     /* per uid */
        uint64_t limit_connections; /* per uid */
        uint64_t limit_pages;       /* per uid */
        uint64_t limit_jobs;        /* per uid */
        uint64_t limit_requests;    /* per uid */
        uint64_t limit_monitors;    /* per uid */
        uint64_t limit_faults;      /* per uid */
        uint64_t limit_buffers;     /* per uid: bytes of messages and answers that are held */
        uint64_t limit_held;        /* per uid: descriptors of messages that are held */
        uint64_t limit_message;     /* bytes of a message */
        uint64_t limit_nesting;     /* levels of a message */
        uint64_t limit_descriptors; /* of a message */
        uint64_t limit_events;      /* that wait for a reader of Monitor */
        struct list devices;
};

/* The configured device of that name that @peer may use, or NULL. */
const struct device_grant *config_find_device(const struct config *config, const char *name,
                                              const struct peer *peer);

struct config *config_free(struct config *config);

/* Nothing but the defaults. Returns 0 or -ENOMEM. */
int config_new(bool user, struct config **ret);

/*
 * Defaults for the system or the user service, then the file (@path NULL: the default one, which
 * need not exist) and the *.conf files of the folder "<file>.d", in the order of their names.
 * Returns 0 or a negative errno, with one line that says what is wrong and where in *@ret_message
 * (to be freed).
 */
int config_load(const char *path, bool user, struct config **ret, char **ret_message);

/* Set a key of the [daemon] section from the command line. Returns 0 or -EINVAL with a message. */
int config_set(struct config *config, const char *key, const char *value, char **ret_message);

/*
 * Whether everything that has no default of its own is known now, and what is needed to serve the
 * mount is not in it. Returns 0 or -EINVAL.
 */
int config_check(const struct config *config, char **ret_message);

/*
 * Some keys are read at the start only. Give @config the values of @running for them; the names of
 * those that @config wanted to change are returned as one text, to be freed, or NULL. -ENOMEM
 * leaves
 * @config of no use.
 */
int config_keep_fixed(struct config *config, const struct config *running, char **ret_keys);
