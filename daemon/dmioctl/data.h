/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The data of a request. They travel in a memory file, whose descriptor is sent along, in either
 * direction: standard input is read into it before a write, and after a read it is copied to
 * standard output. So no size is too large for a message, and nothing is encoded.
 *
 * The functions return an exit status, and have complained when that is not STATUS_OK.
 */

#include <stdint.h>

#include "dmioctl/dmioctl.h"

/* A memory file of @length bytes. */
int data_new(uint64_t length, int *ret);

/* Read standard input, which must have exactly @length bytes, into @memory. */
int data_read_input(const struct invocation *invocation, int memory, uint64_t length);

int data_write_output(int memory, uint64_t length);

/* Instead of a memory file: the file @path, made if need be, as long as the data. */
int data_open_output(const char *path, uint64_t length, int *ret);
