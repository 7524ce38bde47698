# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mappings, and the page cache, of files whose daemon is killed again and again: what was stored into
them is there, and on all legs."""

import mmap
import os
import random
import threading
import time

from client import Connection, expect, image
from killing import SIZE, export, kill_daemon, stored

KILLS = 4
MOST = 5000


class Writer(threading.Thread):
    """Stores into the mapping, and with @calls by write(2) as well; what it has stored is in shadow."""

    def __init__(self, fd, calls):
        super().__init__(daemon=True)
        self.fd, self.calls = fd, calls
        self.map = mmap.mmap(fd, SIZE)
        self.shadow = bytearray(SIZE)
        self.stop = False
        self.start()

    def run(self):
        dice = random.Random(1)
        while not self.stop:
            at = dice.randrange(SIZE - MOST)
            data = dice.randbytes(dice.randrange(1, MOST))
            if self.calls and dice.random() < 0.3:
                os.pwrite(self.fd, data, at)
            else:
                self.map[at:at + len(data)] = data
            self.shadow[at:at + len(data)] = data
            if dice.random() < 0.2:
                self.map.flush()


Connection().call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
for cache in ('page', None):
    name = cache or 'mapped'
    legs = image(name + '-a.img', SIZE), image(name + '-b.img', SIZE)
    direct = export(name, *legs, cache=cache)
    path = os.readlink(f'/proc/self/fd/{direct}')
    os.close(direct)
    writer = Writer(os.open(path, os.O_RDWR), cache == 'page')
    for _ in range(KILLS):
        time.sleep(0.2)
        kill_daemon()
    writer.stop = True
    writer.join(30)
    expect(f'{name}: nobody hung', not writer.is_alive())
    writer.map.flush()
    os.fsync(writer.fd)
    expect(f'{name}: the mapping has what was stored', writer.map[:] == bytes(writer.shadow))
    for leg in legs:
        expect(f'{name}: and so has each leg', stored(leg, 0, SIZE) == bytes(writer.shadow))
    writer.map.close()
    os.close(writer.fd)
