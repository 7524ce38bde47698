# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel that does not send requests again (DMIO_TEST_NO_RESEND makes one of this): what the dead
daemon had received is answered all the same. Whatever can be done again is; writes get EIO, and the
legs are equal nevertheless."""

import ctypes
import errno
import os
import shutil
import threading

from client import Connection, image, ok, wait_for
from killing import (BLOCK, SIZE, SlowLeg, Writer, export, kill_daemon, must, read_block, stored)

control = Connection()
control.call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
slow = SlowLeg('slow')
fast = image('fast.img', SIZE)
pair = export('pair', fast, slow.path)
Writer(pair, b'0', 0, 64 * BLOCK).finish()
slow.forget()


class Task(threading.Thread):
    def __init__(self, fn):
        super().__init__(daemon=True)
        self.fn, self.result = fn, None
        self.start()

    def run(self):
        try:
            self.result = self.fn()
        except OSError as e:
            self.result = errno.errorcode[e.errno]


libc = ctypes.CDLL(None, use_errno=True)
path = os.readlink(f'/proc/self/fd/{pair}')
for turn in range(3):
    slow.hold()
    begun = [Writer(pair, b'A', n * BLOCK) for n in range(4)]
    for n in range(4):
        wait_for('the writes have been begun', lambda n=n: slow.has_got(n * BLOCK))
    waiting = [Writer(pair, b'B', n * BLOCK) for n in range(2)]
    readers = [Task(lambda n=n: read_block(pair, n * BLOCK)) for n in range(4)]
    wait_for('all are with the daemon', lambda: Connection().call('ListClients')['clients'][0]
             ['in_flight_pages'] >= 10)
    kill_daemon()
    slow.release()
    for writer in begun + waiting:
        writer.join(20)
        must('a write is answered', writer.done)
        must('with EIO', writer.error and writer.error.errno == errno.EIO, writer.error)
    for n, reader in enumerate(readers):
        reader.join(20)
        must('a read is answered', reader.result in (b'A' * BLOCK, b'0' * BLOCK),
             str(reader.result)[:40])
    # The kernel lets nobody else write to the file meanwhile.
    slow.forget()
    slow.hold()
    zeroes = Task(lambda: libc.fallocate64(pair, 1 | 2, ctypes.c_int64(8 * BLOCK),
                                           ctypes.c_int64(4 * BLOCK)))
    wait_for('the zeroes are being made', lambda: slow.has_got(8 * BLOCK))
    kill_daemon()
    slow.release()
    zeroes.join(20)
    must('zeroes are made', zeroes.result == 0, zeroes.result)
    must('and are there', read_block(pair, 9 * BLOCK) == bytes(BLOCK))
    # What the killed one left is put in order, and the ranges are free.
    for n in range(2, 6):
        Writer(pair, b'0', n * BLOCK).finish()
    must('a file is opened', os.close(os.open(path, os.O_RDONLY)) is None)
    wait_for('the legs are equal', lambda: stored(fast, 0, SIZE) == stored(slow.image, 0, SIZE))
    slow.forget()
ok('writes get EIO, all else is done, and the legs are equal')

# Opens, closes, looks: from many threads while it is killed.
stop = []


def look():
    n = 0
    while not stop:
        fd = os.open(path, os.O_RDONLY)
        must('the size', os.fstat(fd).st_size == SIZE)
        os.close(fd)
        os.listdir(os.path.dirname(path))
        n += 1
    return n


lookers = [Task(look) for _ in range(6)]
for _ in range(5):
    kill_daemon()
stop.append(True)
for looker in lookers:
    looker.join(20)
    must('nobody hears of an error', isinstance(looker.result, int) and looker.result > 0,
         looker.result)
ok('opens and looks go on')

os.close(pair)
control = Connection()
wait_for('nothing is open', lambda: control.call('ListExports', {'client': 'alice'})['exports'][0]
         ['open_count'] == 0)
ok('every close has been heard')
control.call('RemoveExport', {'client': 'alice', 'name': 'pair'})
slow.end()
