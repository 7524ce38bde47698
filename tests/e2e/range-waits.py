# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who waits for whom on an export: a write on a leg is held, on purpose; writes that overlap it wait for
it, in their order, and nobody else does, be it for a byte beside it."""

import os
import threading

from client import SECTOR, Connection, expect, expect_eq, image, region, wait_for

SECTORS = 4096
BLOCK = 4096
control = Connection()
a, b = (image(name, SECTORS * SECTOR) for name in ('a.img', 'b.img'))
control.call('OpenClient', {'name': 'alice', 'pages': 512, 'linger': True})
vol = control.call('CreateExport', {'client': 'alice', 'name': 'vol', 'regions': [
    region(a, 0, SECTORS), region(b, 0, SECTORS)]})['export']['path']
done = []


class Write(threading.Thread):
    """A write with a descriptor of its own, as a program of its own would make it."""

    def __init__(self, name, data, offset):
        super().__init__(daemon=True)
        self.name, self.data, self.offset = name, data, offset
        self.start()

    def run(self):
        fd = os.open(vol, os.O_RDWR)
        try:
            assert os.pwrite(fd, self.data, self.offset) == len(self.data)
        finally:
            os.close(fd)
        done.append(self.name)


def held(fault):
    return [f['held'] for f in control.call('ListFaults')['faults'] if f['fault'] == fault][0]


def in_flight():
    return control.call('ListClients')['clients'][0]['in_flight_pages']


# Of leg 1 alone: leg 0 has the bytes when the others come.
first = 100 * BLOCK
fault = control.call('AddFault', {'client': 'alice', 'export': 'vol', 'leg': 1, 'action': 'hold',
                                  'operation': 'write', 'sector': first // SECTOR, 'count': 8,
                                  'times': 1})['fault']
writers = [Write('held', b'1' * BLOCK, first)]
wait_for('it is held', lambda: held(fault) == 1)

overlapping = (('second', b'2' * BLOCK, first + 512), ('third', b'3' * 700, first + 100))
for name, data, offset in overlapping:
    pages = in_flight()
    writers.append(Write(name, data, offset))
    wait_for('it has come as far as it can', lambda: in_flight() > pages)

fd = os.open(vol, os.O_RDWR)
for n in range(200):
    if n not in (100, 101):
        os.pwrite(fd, b'n' * BLOCK, n * BLOCK)
os.pwrite(fd, b'just before', first - 11)
os.pwrite(fd, b'behind', first + 3 * BLOCK)
expect_eq('two hundred others are done meanwhile', done, [])
# (No fsync here: the kernel keeps that back until the writes of others have been answered.)
expect('nobody who overlaps has got through', held(fault) == 1 and not done)
expect_eq('what was written beside it is there', os.pread(fd, 11, first - 11), b'just before')

control.call('ReleaseFault', {'fault': fault})
for writer in writers:
    writer.join(20)
    expect('it goes on', not writer.is_alive())
wanted = bytearray(b'1' * BLOCK + b'n' * BLOCK)
wanted[BLOCK:] = os.pread(fd, 2 * BLOCK, first)[BLOCK:]
for _, data, offset in overlapping:
    wanted[offset - first:offset - first + len(data)] = data
expect_eq('they have written in the order in which they came', os.pread(fd, 2 * BLOCK, first), bytes(wanted))
os.close(fd)
with open(a, 'rb') as leg0, open(b, 'rb') as leg1:
    expect('the legs are equal', leg0.read() == leg1.read())
