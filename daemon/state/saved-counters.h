/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Counters as they lie in the state folder: those of clients that linger, by the number of the
 * node, in the form that Statistics has for them.
 */

#include <jansson.h>

#include "model/model.h"

/* NULL: no memory. Main loop. */
json_t *describe_saved_counters(const struct model *model, uint64_t epoch);

/*
 * Let the counters of the clients and exports that are there be as large as they are in @content;
 * those of exports that are gone are their client's. While nobody counts. Returns 0, -ENOMEM, or
 * -EBADMSG with what is wrong in *@ret_message, to be freed, and nothing changed.
 */
int saved_counters_apply(const json_t *content, struct model *model, uint64_t epoch,
                         char **ret_message);
