/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The clients and exports of an earlier daemon, made again before anybody can ask for them.
 *
 * A leg comes back if its device is there and is the same one: the same file, or the same block
 * device, of the same size. A descriptor that a supervisor has kept comes before
 * the path that it was opened by. Numbers of devices are compared within one boot only, what they
 * are called (device-serial.h) always. Paths are opened as the daemon, and names of the
 * configuration if they are still granted to the owner.
 *
 * Devices are opened side by side, and have config->restore_timeout to answer (opening.h).
 *
 * A leg that does not come back while another one does will miss what is written from now on: it
 * has failed. If none does, nothing can be missed: the export is there and gives EIO, and lasts
 * with its legs as they were, so the next start tries again.
 */

#include "descriptor-store.h"
#include "model/model.h"
#include "state/saved.h"

/*
 * @same_boot: the numbers of devices mean what they meant. Returns 0; -ECANCELED if a signal asks
 * to stop; or a negative errno; both after logging why, with some clients perhaps made.
 */
int restore(struct model *model, struct descriptor_store *store, const struct saved *saved,
            bool same_boot);

/* The name of a device's descriptor in the store. */
#define RESTORE_NAME_SIZE 40
void restore_name(uint64_t number, char ret[static RESTORE_NAME_SIZE]);
