/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What stat(2) says about a node of the mount, and who may see that it exists. */

#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "model/model.h"

/* True if @peer may know of @node. Under the model's lock. */
bool node_is_visible(const struct node *node, const struct peer *peer);

/*
 * Fill *@ret. @start: when the daemon started, the time of everything that has no other. The size
 * of a .status is that of the text that @peer would read now. Returns 0; -ENODEV for a number that
 * names nothing any more, which only somebody who has it open can ask for; or -ENOMEM. Under the
 * model's lock.
 */
int node_stat(struct model *model, node_id_t id, const struct peer *peer, time_t start,
              struct stat *ret);

mode_t node_mode(enum node_type type, bool read_only);
