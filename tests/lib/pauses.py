#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a block of FILE again and again until SIGTERM; says how long the longest waits were.

    pauses.py FILE [COUNT]      the median and the worst of the COUNT longest, in milliseconds
"""

import mmap
import os
import signal
import sys
import time

BLOCK = 4096


def main():
    path, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10
    ended = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    buffer = mmap.mmap(-1, BLOCK)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    waits = []
    while not ended:
        begin = time.monotonic()
        if os.preadv(fd, [buffer], 0) != BLOCK:
            sys.exit(f'{path}: a short read')
        waits.append(time.monotonic() - begin)
        waits = sorted(waits)[-count:]
        time.sleep(0.001)
    print(f'median {waits[len(waits) // 2] * 1000:.0f} ms, worst {waits[-1] * 1000:.0f} ms')


main()
