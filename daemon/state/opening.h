/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The devices of what is restored, opened and recognised: all of them side by side (aside.h), and
 * within one limit of time. A device that has not answered by then is one that is not there. If it
 * does answer later it is closed again, and nobody hears of it.
 *
 * A leg that is not there fails, perhaps for good; so it must not be our own want of something that
 * keeps it from being opened. What passes (no descriptors, no memory, an interrupt) is tried again
 * until the limit, and if it is then still we who have nothing, openings_run() fails, and with it
 * the start: nothing has been changed, and the supervisor tries again.
 */

#include "control/resolve.h"
#include "model/export.h"

struct openings;

/* How to get at the device of a leg. The texts are copied. */
struct opening_how {
        const char *name;
        const char *path; /* NULL for a descriptor */
        int fd;           /* taken, also on failure; or -EBADF */
        enum leg_how how;
        bool writes;
        const struct leg_identity *identity; /* what it must be; unknown: 0 */
};

/* @mount_device: of a mount of ours that is there already, or 0. Returns 0 or a negative errno. */
int openings_new(dev_t mount_device, struct openings **ret);

/* One more; they are numbered from 0 on. Returns 0 or -ENOMEM. */
int openings_add(struct openings *openings, const struct opening_how *how);

/*
 * Open them; each has @limit_sec, and so has the time until all have been begun. Returns 0;
 * -ECANCELED if a signal asks to stop; or a negative errno that says what we have not got, with the
 * number of one that lacks it in *@ret_number.
 */
int openings_run(struct openings *openings, unsigned int limit_sec, size_t *ret_number);

/*
 * What has become of one. 0: its device, which stays ours until it is taken, and what it is. Or why
 * it is not there, in words in *@ret_reason: -ETIMEDOUT if it has not answered, else -ENODEV.
 */
int openings_get(const struct openings *openings, size_t number, struct block_device **ret,
                 struct leg_identity *ret_identity, const char **ret_reason);

/* It is the caller's now. */
void openings_take(struct openings *openings, size_t number);

/* Closes, without waiting, what was not taken. Returns NULL. */
struct openings *openings_free(struct openings *openings);
