/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A call that changes what lasts: its answer waits until the change is written (model/commit.h),
 * and if that fails it is undone. Meanwhile it holds its client and its export, so that they are
 * still there. Main loop only.
 */

#include "control/call.h"
#include "model/commit.h"

struct lasting {
        struct commit commit;
        struct call *call;
        struct client *client;
        struct export *export; /* may be NULL */
        uint64_t pages;        /* of Get and Put */
        int error;             /* why it is being undone */
        /* It is written, or not (a negative errno). Ends with lasting_end(). */
        void (*then)(struct lasting *lasting, int error);
};

/* Returns NULL, or an error: there is no memory, or somebody is closing the client. */
json_t *lasting_new(struct call *call, struct client *client, struct export *export,
                    void (*then)(struct lasting *lasting, int error), struct lasting **ret);

/* Write. @lasting may be gone afterwards. */
void lasting_commit(struct lasting *lasting);

/* Hold the client no longer, so that it can be closed. */
void lasting_let_go(struct lasting *lasting);

/* Let go and free. Whatever was waited for in the client may go on. */
void lasting_end(struct lasting *lasting);
