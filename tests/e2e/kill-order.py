# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a killed daemon had begun is done once, and never after what came later to the same bytes.

One of the legs is a file whose server can be told to hold writes back, so that each case is made
and not waited for: writes that have been begun, that wait for others, that are on their way to the
device while the daemon is gone; copies that are half done; clients that die in between.
"""

import ctypes
import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

from client import Connection, expect, expect_eq, image, ok, region, wait_for
from killing import (BLOCK, CHUNK, SIZE, SlowLeg, Writer, daemon_pid, export, kill_daemon, must,
                     read_block, stored)

control = Connection()
control.call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
slow = SlowLeg('slow')
fast = image('fast.img', SIZE)
other = image('other.img', SIZE)


alone = export('alone', slow.path)
far = export('far', other)

# --- what is on its way to a device when the daemon dies arrives before anything else does
slow.hold()
first = Writer(alone, b'A', 0)
wait_for('the write is on its way', lambda: slow.has_got(0))
slow.let_others_pass()
kill_daemon()
Writer(far, b'x', 0).finish()
expect('others are served meanwhile', read_block(far, 0) == b'x' * BLOCK)
elsewhere = Writer(alone, b'y', 1 << 20)
expect('the write is not answered while it is on its way', not first.done)
second = Writer(alone, b'B', 0)
time.sleep(0.3)
expect('nor is one that comes later to the same bytes', not second.done)
slow.release()
for writer in (first, second, elsewhere):
    writer.finish()
expect('in the end the later one has won', stored(slow.image, 0) == b'B' * BLOCK)
slow.forget()
os.close(alone)
control = Connection()
control.call('RemoveExport', {'client': 'alice', 'name': 'alone'})

# --- what has begun, and been seen, is done before what waited for it
shutil.copyfile(slow.image, fast)
pair = export('pair', fast, slow.path)
for turn in range(4):
    N = 6
    base = (1 << 20) + turn * N * BLOCK
    slow.hold()
    firsts = [Writer(pair, b'A', base + n * BLOCK) for n in range(N)]
    # The first leg has it, for all to see.
    for n in range(N):
        wait_for('the writes have been begun',
                 lambda n=n: stored(fast, base + n * BLOCK) == b'A' * BLOCK)
    seconds = [Writer(pair, b'B', base + n * BLOCK) for n in range(N)]
    # These overlap more than one of them each.
    wide = Writer(pair, b'B', base + BLOCK // 2, N * BLOCK - BLOCK) if turn % 2 else None
    time.sleep(0.05)
    kill_daemon()
    slow.release()
    for writer in firsts + seconds + ([wide] if wide else []):
        writer.finish()
    for leg in (fast, slow.image):
        must('the later writes have won, turn %d' % turn,
             stored(leg, base, N * BLOCK) == b'B' * (N * BLOCK), leg)
    slow.forget()
ok('what has begun is done before what waited for it')
expect('the legs are equal', stored(fast, 0, SIZE) == stored(slow.image, 0, SIZE))

# --- the same with zeroes, whose ends are no whole blocks
base = 3 << 20
libc = ctypes.CDLL(None, use_errno=True)
results = []
punch = threading.Thread(target=lambda: results.append(libc.fallocate64(
    pair, 1 | 2, ctypes.c_int64(base + 100), ctypes.c_int64(3 * BLOCK))))
Writer(pair, b'Z', base, 4 * BLOCK).finish()
slow.forget()
slow.hold()
punch.start()
wait_for('the zeroes are on their way', lambda: any(
    slow.has_got(base + n * 512) for n in range(0, 32)))
late = Writer(pair, b'L', base + BLOCK)
time.sleep(0.05)
kill_daemon()
slow.release()
punch.join(30)
late.finish()
expect_eq('fallocate is answered', results, [0])
wanted = (b'Z' * 100 + bytes(BLOCK - 100) + b'L' * BLOCK + bytes(BLOCK + 100) + b'Z' * (BLOCK - 100))
for leg in (fast, slow.image):
    expect('zeroes, and what came later over them', stored(leg, base, 4 * BLOCK) == wanted, leg)
slow.forget()

# --- a copy does not copy again what it had copied
source = far
for n in range(16):
    Writer(source, bytes([ord('a') + n]), n * CHUNK, CHUNK).finish()
base = 4 << 20
slow.hold(base + 2 * CHUNK)
copied = []


def copy():
    try:
        copied.append(os.copy_file_range(source, pair, 16 * CHUNK, 0, base))
    except OSError as e:
        copied.append(e)


copier = threading.Thread(target=copy, daemon=True)
copier.start()
wait_for('the first chunks are there', lambda: stored(slow.image, base + CHUNK, 1) == b'b')
wait_for('and others are held', lambda: slow.has_got(base + 3 * CHUNK))
# The kernel lets nobody else write to the file meanwhile; but the sectors are others' as well.
Connection().call('Io', {'client': 'alice', 'op': 'write', 'memory': {'fill': ord('W')}, 'regions': [
    region(device, base // 512, BLOCK // 512) for device in (fast, slow.path)]})
kill_daemon()
slow.release()
copier.join(30)
expect('the copy is answered', len(copied) == 1)
expect('with what was copied', isinstance(copied[0], int) and CHUNK <= copied[0] <= 16 * CHUNK, copied)
expect('and what was written over it meanwhile is there', read_block(pair, base) == b'W' * BLOCK)
expect('the rest of it is a copy', stored(fast, base + BLOCK, copied[0] - BLOCK) ==
       stored(other, BLOCK, copied[0] - BLOCK))
# A write over all of it comes after whatever was left of the copy.
wait_for('the rest is quiet', lambda: os.pwritev(pair, [mmap.mmap(-1, 4 * CHUNK)], base + 4 * CHUNK))
expect('the legs are equal', stored(fast, 0, SIZE) == stored(slow.image, 0, SIZE))
slow.forget()

# --- a copy whose first chunk was not done begins again with it
slow.hold(base)
copied.clear()
copier = threading.Thread(target=copy, daemon=True)
copier.start()
wait_for('the first chunk is held', lambda: slow.has_got(base))
kill_daemon()
slow.release()
copier.join(30)
expect('it is answered, with something', copied and isinstance(copied[0], int) and copied[0] > 0,
       copied)
expect('that is a copy', stored(slow.image, base, copied[0]) == stored(other, 0, copied[0]))
slow.forget()

# --- nobody waits any more: the legs are made equal, and the range is free again
slow.hold()
base = 2 << 20
program = ('import mmap, os, sys; m = mmap.mmap(-1, 4096); m[:] = b"K" * 4096; '
           'os.pwritev(os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT), [m], int(sys.argv[2]))')
path = os.readlink(f'/proc/self/fd/{pair}')
clients = [subprocess.Popen([sys.executable, '-c', program, path, str(base + n * BLOCK)])
           for n in range(6)]
for n in range(6):
    wait_for('the writes have been begun', lambda n=n: stored(fast, base + n * BLOCK, 1) == b'K')
os.kill(daemon_pid(), signal.SIGSTOP)
before = daemon_pid()
for client in clients:
    client.kill()
os.kill(before, signal.SIGKILL)
wait_for('another daemon', lambda: daemon_pid() != before)
slow.release()
for client in clients:
    client.wait(30)
for n in range(6):
    Writer(pair, b'N', base + n * BLOCK).finish()
ok('what the clients of them had written to is free')
expect('the legs are equal', stored(fast, 0, SIZE) == stored(slow.image, 0, SIZE))

for fd in (pair, far):
    os.close(fd)
control = Connection()
wait_for('nothing is open', lambda: all(
    e['open_count'] == 0 for e in control.call('ListExports', {'client': 'alice'})['exports']))
for name in ('pair', 'far'):
    control.call('RemoveExport', {'client': 'alice', 'name': name})
control.call('CloseClient', {'name': 'alice'})
expect_eq('nothing is in use', control.call('Status')['clients'], 0)
slow.end()
