/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What becomes of a wish to change the model, and why, for the error reply. */

#include <stdint.h>

struct grant;

/* Positive outcomes of the functions that change the model; each belongs to one error reply. */
enum model_outcome {
        MODEL_OK = 0,
        MODEL_E_NAME = 1, /* the name is not a valid one */
        MODEL_E_EXISTS,   /* there is one of that name */
        MODEL_E_LIMIT,    /* a limit of the uid: see struct model_refusal */
        MODEL_E_POOL,     /* the pool may not grow that far: see struct model_refusal */
        MODEL_E_NOT_RESERVED,
        MODEL_E_BUSY,   /* open, or a region is held by somebody: see struct model_refusal */
        MODEL_E_REGION, /* a region is not usable: see struct model_refusal */
        MODEL_E_CLOSING,
};

/* Why, for outcomes that have something to tell. Strings belong to the model or are constants. */
struct model_refusal {
        const char *limit;   /* MODEL_E_LIMIT: its name, for example "clients" */
        uint64_t value;      /* MODEL_E_LIMIT: its value */
        uint64_t requested;  /* MODEL_E_POOL: pages */
        uint64_t available;  /* MODEL_E_POOL: pages */
        unsigned int region; /* MODEL_E_BUSY, MODEL_E_REGION: which one */
        char reason[160];    /* MODEL_E_REGION */
        const char *client;  /* MODEL_E_BUSY: who holds it */
        const char *export;  /* MODEL_E_BUSY */
        unsigned int n_open; /* MODEL_E_BUSY of an export that is open; 0 for a region */
};

/* Why a region is not usable, as a half sentence that goes on after its name. MODEL_E_REGION. */
int refuse_region(struct model_refusal *refusal, unsigned int region, const char *format, ...)
        __attribute__((__format__(__printf__, 3, 4)));

/* Who holds sectors of the region. MODEL_E_BUSY. */
int refuse_held_region(struct model_refusal *refusal, unsigned int region,
                       const struct grant *grant);
