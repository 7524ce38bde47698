/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * dmiod's command line. What overrides the configuration is kept, so that a reload can put it over
 * the new file, too.
 */

#include <stdbool.h>

#include "config.h"

#define OPTIONS_OVERRIDES_MAX 16

struct options {
        char *config; /* NULL: the default file */
        bool user;
        bool check; /* --check: read the configuration, and nothing else */
        struct {
                const char *key;
                char *value;
        } overrides[OPTIONS_OVERRIDES_MAX]; /* later ones win */
        unsigned int n_overrides;
};

enum {
        OPTIONS_RUN = 0,
        OPTIONS_DONE = 1, /* --help or --version: said, nothing else to do */
};

/*
 * Returns OPTIONS_RUN, OPTIONS_DONE, or a negative errno after one line on standard error that
 * names what is wrong. To be deinitialized in any case.
 */
int options_init(struct options *options, int argc, char *argv[]);

void options_deinit(struct options *options);

struct option_text {
        const char *name;
        const char *argument; /* what its value is called, or NULL */
        const char *help;
};

/* The options in the order of --help; false behind the last one. */
bool options_describe(size_t index, struct option_text *ret);

/* The configuration that the command line asks for: files, then what overrides them. */
int options_load(const struct options *options, struct config **ret, char **ret_message);
