/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <signal.h>

#include <systemd/sd-daemon.h>

#include "starting.h"

/* What the rest of the start takes, on a busy machine. */
#define MARGIN_USEC UINT64_C(30000000)

bool starting_goes_on(const char *text, uint64_t left_usec)
{
        sigset_t pending;

        (void)sd_notifyf(0, "STATUS=Starting: %s\nEXTEND_TIMEOUT_USEC=%" PRIu64, text,
                         left_usec + MARGIN_USEC);
        if (sigpending(&pending) < 0)
                return true;
        return sigismember(&pending, SIGTERM) != 1 && sigismember(&pending, SIGINT) != 1;
}
