/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How counters come from one daemon to the next.
 *
 * Where descriptors are kept it is the memory that they are counted in (model/counters-file.h), so
 * that nothing is lost but by the end of that, such as that of the machine. Everywhere else, and
 * then, it is a file of the state folder, which is written at the stop and every few minutes. Each
 * counter goes on from the larger of the two: it only grows, so that is the later one.
 *
 * Neither is a reason not to start. What is damaged is said to be, and left out.
 */

#include <jansson.h>
#include <systemd/sd-event.h>

#include "descriptor-store.h"
#include "model/commit.h"
#include "model/counters-file.h"
#include "model/model.h"
#include "state/folder.h"

/* For tests: microseconds in place of the minutes. */
#define STATE_COUNTERS_USEC_VARIABLE "DMIO_TEST_COUNTERS_USEC"

struct state_counters {
        struct model *model;
        uint64_t epoch;
        struct counters_file file; /* model->counters, if it is there */
        sd_event_source *timer;
        json_t *content; /* as it was written, or is about to be */
        bool due;        /* the latter */
        bool writing;    /* with the write that is in progress */
};

/* Before anything is restored: take up what is kept of memory, or begin. 0 or a negative errno. */
int state_counters_new(struct state_counters *counters, struct model *model,
                       struct descriptor_store *store, sd_event *event);

/* And after that: what the folder has. @epoch is that of this daemon. */
void state_counters_restore(struct state_counters *counters, const struct folder *folder,
                            uint64_t epoch);

/* A write of what lasts begins (keeper_class.describe): its part of that; and it is being done, on
 * the thread. */
void state_counters_describe(struct state_counters *counters, bool last);
void state_counters_write(struct state_counters *counters, struct folder *folder);

void state_counters_free(struct state_counters *counters);
