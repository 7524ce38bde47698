# SPDX-License-Identifier: LGPL-2.1-or-later
"""A leg whose server hangs: whoever uses it waits, and nobody else does. And what is open: a descriptor
works in a process of another uid, and after a forced removal answers ENODEV to everything."""

import errno
import os
import shutil
import signal
import subprocess
import threading

from client import (WORK, Connection, daemon_fds, expect, expect_eq, image, ok, pattern, region, skip,
                    wait_for)

if not (shutil.which('nbdfuse') and shutil.which('nbdkit')):
    skip('nbdfuse and nbdkit are not there')

control = Connection()
control.call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
control.call('OpenClient', {'name': 'bob', 'pages': 64, 'linger': True})
a = image('a.img', 1 << 20)


def attempt(fn, *arguments):
    """What it returns, or the name of its errno."""
    try:
        return fn(*arguments)
    except OSError as e:
        return errno.errorcode[e.errno]


def mount_slow():
    folder = os.path.join(WORK, 'slow')
    os.mkdir(folder)
    server = subprocess.Popen(
        ['nbdfuse', folder + '/disk', '[', 'nbdkit', '--exit-with-parent', '-f', 'memory', '1M', ']'],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for('the slow device', lambda: os.path.exists(folder + '/disk'))
    return server, folder


# --- a hung leg
server, folder = mount_slow()
fds = daemon_fds()
try:
    slow = control.call('CreateExport', {'client': 'alice', 'name': 'slow', 'regions': [
        region(folder + '/disk', 0, 1024)]})['export']['path']
    fast = control.call('CreateExport', {'client': 'bob', 'name': 'fast', 'regions': [
        region(a, 0, 1024)]})['export']['path']
    slow_fd = os.open(slow, os.O_RDWR)
    fast_fd = os.open(fast, os.O_RDWR)
    data = pattern(8192)

    server.send_signal(signal.SIGSTOP)
    done = []
    waiting = [threading.Thread(target=lambda n=n: done.append(os.pwrite(slow_fd, data, n * 8192)))
               for n in range(8)]
    waiting.append(threading.Thread(target=lambda: done.append(
        Connection().call('Io', {'client': 'alice', 'op': 'write', 'regions': [
            region(folder + '/disk', 1024, 512)], 'memory': {'fill': 7}})['error_bits'])))
    for thread in waiting:
        thread.start()
    wait_for('the writes are on their way', lambda: control.call('ListClients')['clients'][0]
             ['in_flight_pages'] >= 16)

    for n in range(50):
        os.pwrite(fast_fd, data, n * 8192)
    expect_eq('another export is written and read', os.pread(fast_fd, 8192, 0), data)
    os.stat(fast)
    expect('folders are listed', 'fast' in os.listdir(os.path.dirname(fast)))
    expect_eq('and calls are answered', len(control.call('ListExports')['exports']), 2)
    expect('nothing of the hung ones is done', not done)
finally:
    server.send_signal(signal.SIGCONT)
for thread in waiting:
    thread.join(20)
expect_eq('all are done when it goes on', sorted(map(str, done)), sorted(['8192'] * 8 + ['0x0']))
expect_eq('with their bytes', os.pread(slow_fd, 8192, 3 * 8192), data)

# --- a descriptor of another uid's process
with open(fast, 'rb') as opened:
    child = subprocess.run(['cat'], stdin=opened, stdout=subprocess.PIPE, check=False, user=65534,
                           group=65534)
expect_eq('cat as nobody, of what root has opened', (child.returncode, child.stdout[:8192]),
          (0, data))

# --- after a forced removal
control.call('RemoveExport', {'client': 'bob', 'name': 'fast', 'force': True})
for what, fn in (('pread', lambda: os.pread(fast_fd, 512, 0)),
                 ('pread at the end', lambda: os.pread(fast_fd, 512, 1 << 19)),
                 ('pwrite', lambda: os.pwrite(fast_fd, b'x', 0)),
                 ('pwrite at the end', lambda: os.pwrite(fast_fd, b'x', 1 << 19)),
                 ('fsync', lambda: os.fsync(fast_fd)),
                 ('fstat', lambda: os.fstat(fast_fd)),
                 ('ftruncate', lambda: os.ftruncate(fast_fd, 0)),
                 ('lseek for data', lambda: os.lseek(fast_fd, 0, os.SEEK_DATA)),
                 ('fgetxattr', lambda: os.getxattr(fast_fd, 'user.dmio.state'))):
    expect_eq(what + ' of what is gone', attempt(fn), 'ENODEV')
expect_eq('by name it is not there', attempt(os.stat, fast), 'ENOENT')
os.close(fast_fd)
os.close(slow_fd)
control.call('RemoveExport', {'client': 'alice', 'name': 'slow'})
expect('the devices are closed when the removal is told', daemon_fds() <= fds,
       (daemon_fds(), fds))
server.terminate()
server.wait(20)
ok('the server of the leg ends')
