/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Whether regions can be the legs of an export: each fits its device and its blocks, all are of one
 * length, those of a writable export do not overlap, and nobody holds sectors of them.
 */

#include <stdbool.h>

#include <dmio/device.h>

struct client;
struct leg_spec;
struct model;
struct model_refusal;

/*
 * @infos: of the legs' devices; a leg without one is left out. @logical_block: the largest of them,
 * in bytes. Returns MODEL_OK, MODEL_E_REGION or MODEL_E_BUSY, with the reason. Main loop.
 */
int legs_check(struct model *model, const struct client *client, const struct leg_spec *legs,
               unsigned int n_legs, bool read_only, bool shared,
               const struct dmio_device_info *infos, unsigned int logical_block,
               struct model_refusal *refusal);
