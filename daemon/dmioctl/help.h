/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Help, made of the tables of main.c. */

#include "dmioctl/dmioctl.h"

#define LEG_DETAILS                                                                                \
        "A leg is DEVICE:SECTOR+COUNT. Numbers are sectors of 512 bytes, or bytes with\n"          \
        "KiB, MiB, GiB or TiB behind them. A DEVICE with a slash in it, or the name of a\n"        \
        "file here, is opened with your own rights; any other is a name of the daemon's\n"         \
        "configuration.\n"

void print_verb(const struct verb *verb);

/* "client" alone, or something behind it that is none of its verbs: help or a complaint. */
int handle_no_verb(const struct invocation *line);
