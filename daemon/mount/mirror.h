/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The legs of an export as one device. Here it is decided what a leg's error means:
 *
 * A write goes to every active leg. A leg that did not take what another active leg took fails:
 * from then on it takes part in nothing. If no leg took it, no leg is behind the others, so none
 * fails, and the writer gets the error. A failed leg does not come back by itself, and the last
 * active leg never fails.
 *
 * A read goes to the first active leg, and on an error to the next, each once. Read errors are
 * counted but fail no leg: what it has is as good as before.
 *
 * Errors that speak of the request and not of the leg (unsupported, invalid) fail nothing; they go
 * to whoever asked. If other legs took such a write, they get back what the leg that refused it
 * has, so that it was not done at all, and the legs are equal. Only a leg from which that cannot be
 * read fails after all: better none than one that differs.
 *
 * Of an export that outlasts the daemon the failure of a leg is written down before anybody hears
 * of what came of it, be it a read or a write. A write hears of EIO where that cannot be done.
 */

#include <stdbool.h>
#include <stdint.h>

#include <dmio/io.h>

#include "model/record.h"

struct transfer;

/* @error: 0 or a negative errno, fit for the client. */
typedef void (*mirror_fn)(struct transfer *transfer, int error);

struct mirror {
        mirror_fn then;
        struct page_list *pages;
        uint64_t offset;
        uint64_t length;
        uint64_t tried; /* reads: bit set for each leg that was asked */
        int first_error;
        enum dm_io_op op; /* as it was asked for, for the events of legs */
        bool may_undo;    /* writes: the pages may be used for what was there before */

        unsigned int n_slots;            /* legs of this request */
        unsigned int n_sent;             /* of them, those in the present dm_io() */
        uint8_t leg[DM_IO_MAX_REGIONS];  /* slot -> leg */
        uint8_t sent[DM_IO_MAX_REGIONS]; /* region -> slot */
        int error[DM_IO_MAX_REGIONS];    /* slot -> positive errno */
        struct dm_io_leg_error leg_errors[DM_IO_MAX_REGIONS]; /* region -> what became of it */

        struct record_wait record; /* for the failure of a leg to be written down */
        int result;                /* which is the callback's then */
};

/* Offsets and lengths are in bytes, and whole blocks. The callback may run inside the call. */
void mirror_read(struct transfer *transfer, uint64_t offset, uint64_t length,
                 struct page_list *pages, mirror_fn then);

/* The pages are undefined afterwards, unless all went well. */
void mirror_write(struct transfer *transfer, uint64_t offset, uint64_t length,
                  struct page_list *pages, unsigned int flags, mirror_fn then);

/* Like a write of zeroes; legs that have no operation for it are written to. */
void mirror_zero(struct transfer *transfer, uint64_t offset, uint64_t length, mirror_fn then);

/* Make durable what was written. */
void mirror_flush(struct transfer *transfer, mirror_fn then);
