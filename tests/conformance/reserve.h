/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the cases about reservations have in common: get and put by either face, and what must hold
 * of them.
 */

#include "kit.h"
#include "starve.h"

int kit_get(struct kit *kit, unsigned int n);
int kit_put(struct kit *kit, unsigned int n);

/*
 * @n pages are reserved, and four contexts for each; nothing is in flight. The classic face does
 * not tell: a put of one more is refused.
 */
void kit_expect_reserved(struct kit *kit, unsigned int n);

/* Nothing is reserved. Without pages there is no asynchronous classic call. */
void kit_expect_gone(struct kit *kit);

/* Skips the case if allocations cannot be made to fail. */
void kit_need_starving(struct kit *kit);

struct dmio_pool_stats pool_of(struct dmio_engine *engine);
struct dm_io_client_stats stats_of(struct dm_io_client *client);
