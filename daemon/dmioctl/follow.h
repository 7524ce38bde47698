/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A job that is begun and followed to its end, with a line of progress on a terminal. */

#include "dmioctl/progress.h"
#include "dmioctl/request.h"

/* What of a job is known on this side. */
struct follow {
        struct request *request;
        const char *done;       /* "copied" */
        unsigned int n_sources; /* legs before the destinations */
        json_int_t job;         /* 0: not known yet */
        char name[32];
        bool cancel; /* as soon as it is known */
        struct progress progress;
};

/* Ask for the job and follow it. Takes @parameters; returns an exit status. */
int follow_job(struct follow *follow, const char *method, json_t *parameters);
