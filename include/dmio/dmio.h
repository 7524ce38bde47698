/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * libdmio: block I/O to regions, in user space.
 *
 * The modern face: engines, queues, clients and requests. For the calls of the kernel's dm-io
 * document see <dmio/dm-io.h>. Functions return 0 or a negative errno and never set errno; nothing
 * in the library prints, exits or installs signal handlers.
 */

#include <dmio/device.h> // IWYU pragma: export
#include <dmio/engine.h> // IWYU pragma: export
#include <dmio/fault.h>  // IWYU pragma: export
#include <dmio/io.h>     // IWYU pragma: export
#include <dmio/kcopyd.h> // IWYU pragma: export
#include <dmio/pool.h>   // IWYU pragma: export
#include <dmio/types.h>  // IWYU pragma: export

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version, for example "0.1.0". */
const char *dmio_version(void);

#ifdef __cplusplus
}
#endif
