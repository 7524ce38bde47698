/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a block device is called by those who made it: its number is only good until it is taken out
 * or the machine starts again, and its size is that of many others.
 */

#include <sys/types.h>

#define DEVICE_SERIAL_SIZE 160

/*
 * Writes a text that is the same for the same device and, as far as the kernel knows, no other one:
 * from the worldwide name or serial number of a disk, the uuid of a mapped device or the backing
 * file of a loop device, and the number of a partition. "" if the kernel knows nothing of it.
 * Returns 0; or -EMFILE, -ENFILE, -ENOMEM, if it could not be asked: then nothing is known.
 */
int device_serial(dev_t device, char ret[static DEVICE_SERIAL_SIZE]);
