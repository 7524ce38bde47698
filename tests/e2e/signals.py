# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signals. On a leg that hangs: a program that has been killed goes, one that catches a signal hears of
EINTR, and a write that has not begun is never done. On a leg that works nobody hears of a signal."""

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import time

from client import WORK, Connection, expect, expect_eq, image, ok, pattern, region, skip, wait_for

if not (shutil.which('nbdfuse') and shutil.which('nbdkit')):
    skip('nbdfuse and nbdkit are not there')

libc = ctypes.CDLL(None, use_errno=True)
for call in libc.pread, libc.pwrite:
    call.restype = ctypes.c_ssize_t
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long]

control = Connection()
control.call('OpenClient', {'name': 'alice', 'pages': 512, 'linger': True})
a = image('a.img', 1 << 20)


def mount_slow():
    folder = os.path.join(WORK, 'slow')
    os.mkdir(folder)
    server = subprocess.Popen(
        ['nbdfuse', folder + '/disk', '[', 'nbdkit', '--exit-with-parent', '-f', 'memory', '1M', ']'],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for('the slow device', lambda: os.path.exists(folder + '/disk'))
    return server, folder + '/disk'


def in_child(fn):
    """Runs it in a process of its own; the exit status tells how it ended."""
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, True)
        status = 0 if fn() >= 0 else ctypes.get_errno()
    finally:
        os._exit(status)


def waits(pid):
    """In the kernel, for an answer."""
    try:
        with open('/proc/%d/wchan' % pid) as file:
            where = file.read()
        with open('/proc/%d/stat' % pid) as file:
            state = file.read().rsplit(')', 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state in 'SD' and where not in ('0', '') or state in 'SD' and where == '0'


def ended(pid, limit=10):
    """The status of its end, or None."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        got, status = os.waitpid(pid, os.WNOHANG)
        if got:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


server, disk = mount_slow()
try:
    path = control.call('CreateExport', {'client': 'alice', 'name': 'vol', 'regions': [
        region(a, 0, 1024), region(disk, 0, 1024)]})['export']['path']
    slow = control.call('CreateExport', {'client': 'alice', 'name': 'slow', 'regions': [
        region(disk, 1024, 1024)]})['export']['path']
    fd = os.open(path, os.O_RDWR)
    slow_fd = os.open(slow, os.O_RDWR)
    old = pattern(8192, 1)
    os.pwrite(fd, old, 0)
    os.pwrite(slow_fd, old, 0)
    buffer = ctypes.create_string_buffer(8192)
    first, second = pattern(4096, 2), pattern(4096, 3)
    server.send_signal(signal.SIGSTOP)

    calls = {
        'pread': lambda: libc.pread(slow_fd, buffer, 4096, 0),
        'pread of odd bytes': lambda: libc.pread(slow_fd, buffer, 100, 5),
        'pwrite': lambda: libc.pwrite(fd, first, 4096, 0),
        'pwrite of what is being written': lambda: libc.pwrite(fd, second, 4096, 0),
        'pwrite of odd bytes': lambda: libc.pwrite(slow_fd, second, 100, 70000),
        'fsync': lambda: libc.fsync(fd),
        'fallocate': lambda: libc.fallocate(slow_fd, 3, ctypes.c_long(16384), ctypes.c_long(8192)),
    }
    for number, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGALRM, errno.EINTR)):
        children = {}
        for what, fn in calls.items():
            children[what] = in_child(fn)
            # The second write is to be behind the first.
            wait_for(what + ' waits', lambda: waits(children[what]))
            if what == 'pwrite':
                wait_for('it is on its way', lambda: control.call('ListClients')['clients'][0]
                         ['in_flight_pages'] > 0)
        for pid in children.values():
            os.kill(pid, number)
        for what, pid in children.items():
            expect_eq('%s, %s' % (number.name, what), ended(pid), expected)

    # A signal that nobody waits long after: the program gets it when the call is done.
    child = in_child(lambda: libc.pread(slow_fd, buffer, 4096, 0))
    wait_for('it waits', lambda: waits(child))
    os.kill(child, signal.SIGALRM)
    server.send_signal(signal.SIGCONT)
    expect_eq('a read that is done soon is done', ended(child), 0)
    control_again = Connection()
    wait_for('all that was on its way is done',
             lambda: control_again.call('ListClients')['clients'][0]['in_flight_pages'] == 0)
    expect_eq('what had begun is done', os.pread(fd, 4096, 0), first)
    expect_eq('on both legs', open(disk, 'rb').read(4096), first)
    expect_eq('what had not is not', os.pread(slow_fd, 100, 70000), bytes(100))
    expect_eq('nothing else is changed', os.pread(fd, 4096, 4096), old[4096:])
finally:
    server.send_signal(signal.SIGCONT)
os.close(slow_fd)
os.close(fd)
control.call('CloseClient', {'name': 'alice'})
server.terminate()
server.wait(20)

# --- signals all the time, and a leg that works
control.call('OpenClient', {'name': 'alice', 'pages': 64, 'linger': True})
path = control.call('CreateExport', {'client': 'alice', 'name': 'vol', 'regions': [
    region(a, 0, 1024)]})['export']['path']
fd = os.open(path, os.O_RDWR)
count = []
signal.signal(signal.SIGALRM, lambda *_: count.append(1))
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
try:
    for n in range(3000):
        data = bytes([n % 255 + 1]) * 3000
        if libc.pwrite(fd, data, 3000, n * 100) != 3000:
            raise AssertionError('pwrite %d: %s' % (n, os.strerror(ctypes.get_errno())))
        if libc.pread(fd, buffer, 3000, n * 100) != 3000 or buffer.raw[:3000] != data:
            raise AssertionError('pread %d: %s' % (n, os.strerror(ctypes.get_errno())))
        if n % 100 == 0 and libc.fsync(fd) != 0:
            raise AssertionError('fsync: %s' % os.strerror(ctypes.get_errno()))
finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
expect('a program that gets signals all the time is not disturbed', len(count) > 50, len(count))
os.close(fd)
ok('signals')
sys.exit(0)
