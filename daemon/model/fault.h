/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A fault: what is made to go wrong on a leg of an export, for drills (<dmio/fault.h> does it).
 *
 * It acts on what the export's client asks of the leg's device and sectors, so nobody else's
 * requests meet it, whosever the device is; flushes count by the leg that they are for. It goes
 * with its export, and lets go what it holds as soon as the removal begins. Main loop only.
 */

#include <dmio/fault.h>

#include "model/export.h"

struct fault_spec {
        unsigned int leg;
        enum dmio_fault_action action;
        unsigned int ops; /* DMIO_FAULT_READ ... */
        sector_t sector;  /* of the export */
        sector_t count;   /* 0: all of them, and flushes if ops has them */
        uint64_t skip;
        uint64_t times; /* 0: for as long as it is there */
        int error;
        uint64_t delay_usec;
        uint64_t bytes;
};

struct fault {
        struct list link; /* export.faults */
        struct export *export;
        uint64_t number;
        struct fault_spec spec;
        struct dmio_fault *rule;
};

/*
 * The caller has checked leg and range against the export. Returns MODEL_OK; MODEL_E_LIMIT
 * ("faults"); -EINVAL for what dmio_fault_add() refuses; or another negative errno.
 */
int fault_new(struct export *export, const struct fault_spec *spec, struct fault **ret,
              struct model_refusal *refusal);

/* It ends, and what waits for it goes on. Returns NULL. */
struct fault *fault_free(struct fault *fault);

/* The fault of that number that @peer can see, or NULL. */
struct fault *fault_find(struct model *model, uint64_t number, const struct peer *peer);

/* End the faults of an export; those of all exports, and return how many there were. */
void faults_forget(struct export *export);
unsigned int faults_stop(struct model *model);
