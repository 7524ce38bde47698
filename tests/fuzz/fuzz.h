/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a fuzz target is made of: one function that is given bytes, again and again in one process,
 * and must neither crash nor keep anything. libFuzzer calls it (run.sh), or replay.c with the files
 * of a corpus, as a test.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever the bytes are, also without assertions. */
#define fuzz_require(condition)                                                                    \
        do {                                                                                       \
                if (!(condition)) {                                                                \
                        (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,    \
                                      #condition);                                                 \
                        abort();                                                                   \
                }                                                                                  \
        } while (0)
