/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What may stand at the end of a command line, for the shell. "dmioctl complete WORD..." takes the
 * words behind "dmioctl" as bash has them, the last of which is to be completed, and prints what it
 * may become, a line each. Lines that begin with a colon speak to the script that asks:
 *
 *   :files     the names of files, too
 *   :nospace   the word may go on
 *
 * The tables of main.c say what there is. Names of clients, exports and jobs are the daemon's, if
 * it runs and answers soon; it is not started to be asked.
 */

#define COMPLETION_VERB "complete"

/* Always 0: there is nobody to complain to. */
int complete(int n_words, char *words[]);
