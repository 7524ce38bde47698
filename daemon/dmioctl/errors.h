/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The daemon's error replies in plain words: what is wrong, and what to do next. */

#include <jansson.h>

#include "dmioctl/devices.h"
#include "dmioctl/leg.h"

/*
 * The words for the error @name with @parameters, to be freed; NULL when memory is short. Regions,
 * which are numbered from @first_leg on, and descriptors of @devices are shown as the user wrote
 * them.
 */
char *error_text(const char *name, const json_t *parameters, const struct leg *legs,
                 unsigned int n_legs, unsigned int first_leg, const struct devices *devices);

/* What to do about an errno; never NULL. */
const char *errno_advice(int error);
