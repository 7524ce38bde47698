/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Another build of the daemon, for tests of upgrades (-include of dmiod-other, see
 * tests/meson.build): another version, and another layout of the memory file. Slots and records of
 * open files are longer, and of everything there is another number. Which of both is the newer one
 * is for the test to say.
 */

#define DMIO_OTHER_BUILD
#undef DMIO_VERSION
#define DMIO_VERSION "0.1.0-other"

#define SLOT_REQUEST 288
#define MEMORY_QUEUES 48
#define MEMORY_SLOTS 8192
#define MEMORY_HANDLES (UINT32_C(1) << 19)
#define MEMORY_FAILURES 500
