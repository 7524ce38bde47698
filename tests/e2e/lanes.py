# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lanes: several writers on one export, each with its own bytes interleaved with the others' within
the same sectors. A write that is not whole sectors is read, changed and written, and must not undo
a neighbour's; and the legs must agree afterwards."""

import os
import random
import threading

from client import MOUNT, WORK, Connection, expect, expect_eq, image, ok, read_at, region

LANES = 8
WIDTHS = (1, 7, 100, 511, 512, 513, 1000, 4095)
ROUNDS = 30
STRIPES = 24

a = image('a.img', 8 << 20)
b = image('b.img', 8 << 20)
control = Connection()
control.call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
export = control.call('CreateExport', {'client': 'alice', 'name': 'vol', 'regions': [
    region(a, 0, 8192), region(b, 3, 8192)]})['export']
path = export['path']
expect_eq('path', path, MOUNT + '/alice/vol')
trouble = []


def lane(number, direct):
    """Stripe s of this lane: WIDTHS[number] bytes, the lanes of a stripe behind each other."""
    try:
        rng = random.Random(number)
        fd = os.open(path, os.O_RDWR | (os.O_DIRECT if direct else 0))
        at = sum(WIDTHS[:number])
        stripe = sum(WIDTHS)
        for round_ in range(ROUNDS):
            order = list(range(STRIPES))
            rng.shuffle(order)
            for s in order:
                data = bytes([(number * 31 + s + round_) % 255 + 1]) * WIDTHS[number]
                written = os.pwrite(fd, data, s * stripe + at)
                if written != len(data):
                    raise AssertionError('lane %d wrote %d' % (number, written))
                back = os.pread(fd, len(data), s * stripe + at)
                if back != data:
                    raise AssertionError('lane %d, stripe %d: lost its bytes' % (number, s))
        os.close(fd)
    except BaseException as e:      # pylint: disable=broad-except
        trouble.append(e)


threads = [threading.Thread(target=lane, args=(n, False)) for n in range(LANES)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
expect('no lane has lost a byte', not trouble, trouble)
with open(path, 'rb') as file:
    whole = file.read()
wanted = b''.join(bytes([(n * 31 + s + ROUNDS - 1) % 255 + 1]) * WIDTHS[n]
                  for s in range(STRIPES) for n in range(LANES))
expect('all lanes are there', whole[:len(wanted)] == wanted)
expect('nothing behind them', not any(whole[len(wanted):]))
expect('on leg 0', read_at(a, 0, 4 << 20) == whole)
expect('on leg 1', read_at(b, 3 * 512, 4 << 20) == whole)

# Overlapping writers: nobody knows who is last, but all legs agree on it, and a write is never torn
# at a byte that no writer chose.
def shouter(number):
    try:
        rng = random.Random(100 + number)
        fd = os.open(path, os.O_RDWR)
        for _ in range(300):
            length = rng.randrange(1, 6000)
            os.pwrite(fd, bytes([number + 1]) * length, rng.randrange(0, 65536 - length))
        os.close(fd)
    except BaseException as e:      # pylint: disable=broad-except
        trouble.append(e)


threads = [threading.Thread(target=shouter, args=(n,)) for n in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
expect('no writer has failed', not trouble, trouble)
with open(path, 'rb') as file:
    os.fsync(file.fileno())
    whole = file.read()
expect('overlapping writers: leg 0', read_at(a, 0, 4 << 20) == whole)
expect('overlapping writers: leg 1', read_at(b, 3 * 512, 4 << 20) == whole)
expect('only bytes that somebody wrote', set(whole[:65536]) <= set(range(256)) and
       not any(whole[len(wanted):]))

# Requests of Io and writes through the mount, to neighbouring sectors.
stop = threading.Event()


def through_the_mount():
    try:
        fd = os.open(path, os.O_RDWR)
        n = 0
        while not stop.is_set():
            n += 1
            os.pwrite(fd, bytes([n % 255 + 1]) * 700, 1 << 20)
        os.close(fd)
    except BaseException as e:      # pylint: disable=broad-except
        trouble.append(e)


thread = threading.Thread(target=through_the_mount)
thread.start()
for n in range(200):
    reply = control.call('Io', {'client': 'alice', 'op': 'write', 'memory': {'fill': n},
                                'regions': [region(a, 2048 + 16, 8), region(b, 3 + 2048 + 16, 8)]})
    if reply['error_bits'] != '0x0':
        trouble.append(reply)
stop.set()
thread.join()
expect('Io beside the mount', not trouble, trouble)
expect_eq('its last write', read_at(a, (2048 + 16) * 512, 4096), bytes([199]) * 4096)
expect_eq('on both', read_at(b, (3 + 2048 + 16) * 512, 4096), bytes([199]) * 4096)
whole = read_at(path, 0, 4 << 20)
expect('the legs agree', read_at(a, 0, 4 << 20) == whole == read_at(b, 3 * 512, 4 << 20))
control.call('CloseClient', {'name': 'alice'})
ok('and the client goes')
