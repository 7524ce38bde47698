/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The model as JSON: the types Client, Export, Leg, Region and Pool of the interface text, used by
 * the control channel's answers and by the .status files alike. Each returns a new object, or NULL
 * when memory is short. Under the model's lock, or on the main loop.
 */

#include <jansson.h>

#include "model/client.h"
#include "model/export.h"

json_t *describe_client(const struct client *client);
json_t *describe_export(const struct export *export);
json_t *describe_leg(const struct leg *leg);
json_t *describe_pool(struct model *model);

/* What Status answers; counts only what @peer can see. */
json_t *describe_daemon(struct model *model, const struct peer *peer);

/* What Statistics answers: of all clients that @peer can see, or of one of them. */
json_t *describe_statistics(struct model *model, const struct client *only,
                            const struct peer *peer);

/* Names of the operations that are counted, and of jobs; NULL ends them. */
extern const char *const counted_operations[];
extern const char *const counted_jobs[];

/* The counters that outlast the daemon: an array (state/saved-counters.h). Main loop. */
json_t *describe_lasting_counters(const struct model *model);

/* The contents of the .status files: indented JSON with a newline at the end; free() it. */
char *describe_status_file(struct model *model, const struct node *node, const struct peer *peer);

/* "EIO" and so on; for numbers without a name "errno 4711" in a buffer of the thread. */
const char *errno_name(int error);

/* The number of "EIO" and so on; 0 for what is no such name. */
int errno_number(const char *name);
