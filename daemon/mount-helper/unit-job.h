/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the service manager is about to do with a unit, asked by systemctl(1): an interface that
 * stays, and that needs no message bus as long as root asks.
 */

#include <stdbool.h>

enum unit_job {
        UNIT_JOB_NONE,
        UNIT_JOB_STOP,  /* and nothing else */
        UNIT_JOB_OTHER, /* restart, start, reload... */
};

/* The job of @unit, of the system or of the user: one of enum unit_job, or a negative errno. */
int unit_job(const char *unit, bool user);

/* 1 if @unit is not started again after it has ended without an error, 0, or a negative errno. */
int unit_stays_down(const char *unit, bool user);

/*
 * From a command that runs after the end of @unit: have it not started again, and end the socket,
 * if any, that would start it. Returns 0 when the service manager has begun with that, or a
 * negative errno.
 */
int unit_stop(const char *unit, bool user);
