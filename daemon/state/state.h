/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The daemon's memory: what of the model is in the state folder, and comes back from there.
 *
 * At the start the folder is locked and its file read; the epoch is raised, so that no number of a
 * file in the mount is used twice; then clients and exports are made again. From then on the model
 * has a keeper (model/commit.h), which writes the file.
 *
 * Without a folder to write to, or if another daemon has it, the daemon goes on without: nothing
 * comes back, and nobody can linger. But a file that is there and not whole is a reason not to
 * start, because what it holds would be lost.
 */

#include <systemd/sd-event.h>

#include "descriptor-store.h"
#include "model/model.h"

struct state;

/*
 * By model->config; with @store, which must outlast it, for the descriptors of devices. Before the
 * mount and the control socket. Returns 0, with NULL in *@ret if there
 * is no folder; or a negative errno after logging why, with some clients perhaps made.
 */
int state_new(struct model *model, struct descriptor_store *store, sd_event *event,
              struct state **ret);

/* Nothing of the model is written from here on. Returns NULL. */
struct state *state_free(struct state *state);
