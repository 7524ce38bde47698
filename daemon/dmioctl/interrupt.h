/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What an interrupt leaves behind. SIGINT and SIGTERM end dmioctl where it stands, by the signal
 * itself so that a shell sees it, but not before one line has told what became of the request.
 * Verbs that have something to do then take these signals themselves.
 */

void interrupt_init(void);

/* From now on @line is what is said; it must last, and ends with a newline. */
void interrupt_say(const char *line);

#define INTERRUPT_NOTHING_ASKED "dmioctl: interrupted; nothing was asked of the daemon\n"
#define INTERRUPT_NO_ANSWER                                                                        \
        "dmioctl: interrupted before the daemon answered; it may still do what it was asked, see " \
        "'dmioctl client list', 'export list' and 'job list'\n"
#define INTERRUPT_ANSWERED "dmioctl: interrupted; the daemon has done what it was asked\n"
