/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What lasts, as it lies in the state file: the form of its content, and what must be true of it.
 *
 * saved_describe() makes a content of the model, saved_read() reads one and checks it as a whole,
 * so that whoever restores from it has only the world outside to look at.
 *
 * A key that a newer version has added is left out, by rule (document.h), and no more written.
 */

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "control/fields.h"
#include "model/model.h"

/* New node ids are those of the epoch, which each start raises; so none is ever used twice. */
#define SAVED_EPOCH_SHIFT 32
#define SAVED_EPOCH_MAX INT32_MAX

struct saved_leg {
        char *device;
        int how;   /* enum leg_how */
        int state; /* enum leg_state: active or failed */
        int64_t sector;
        int64_t count;
        int64_t errors;
        int64_t last_error;
        bool block;
        int64_t major;
        int64_t minor;
        char *inode; /* decimal: not every number of an inode is an int64_t */
        int64_t capacity;
        int64_t born_sec;
        int64_t born_nsec;
        char *serial;
        int64_t kept;
};

struct saved_export {
        char *name;
        int64_t node;
        int64_t ctime;
        bool read_only;
        bool shared;
        int cache;               /* enum export_cache */
        struct field_array legs; /* struct saved_leg */
};

struct saved_client {
        char *name;
        int64_t uid;
        int64_t gid;
        int64_t pages;
        int64_t node;
        int64_t status_node;
        struct field_array exports; /* struct saved_export */
};

struct saved {
        char *boot; /* the kernel's boot id: numbers of devices mean nothing after it */
        int64_t epoch;
        struct field_array clients; /* struct saved_client */
        unsigned int n_unknown;     /* keys that were left out */
};

/* What of @model is to last. NULL: no memory. Main loop. */
json_t *saved_describe(const struct model *model, const char *boot, uint64_t epoch);

/*
 * Returns 0, to be cleared with saved_clear(); -ENOMEM; or -EBADMSG with what is wrong and where in
 * *@ret_message, to be freed (NULL without memory).
 */
int saved_read(const json_t *content, struct saved *ret, char **ret_message);

void saved_clear(struct saved *saved);
