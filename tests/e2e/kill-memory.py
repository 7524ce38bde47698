# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is kept of a killed daemon does not fit: damaged memory, a mount that somebody has detached.
It is refused with a message, and there is a mount again, though not with the files that were open.
It is there twice, or under its other name, because who copied it was killed: nothing is lost then.
And who is connected, or connects while there is no daemon, can go on."""

import errno
import fcntl
import os
import signal
import socket
import struct

from client import MOUNT, WORK, Closed, Connection, expect, expect_eq, image, ok, wait_for
from killing import SIZE, daemon_pid, export, kill_daemon

SUPERVISOR = os.getppid() and int(open(f'/proc/{daemon_pid()}/status').read()
                                  .split('PPid:')[1].split()[0])
INIT, AGREED, SLOTS = 1, 2, 6  # types of sections (memory-layout.h)


def memory():
    """The newest of the supervisor's descriptors of that name."""
    folder = f'/proc/{SUPERVISOR}/fd'
    found = [name for name in os.listdir(folder)
             if os.readlink(os.path.join(folder, name)).startswith('/memfd:dmiod-state')]
    expect_eq('one piece of memory is kept', len(found), 1)
    return os.open(os.path.join(folder, found[0]), os.O_RDWR)


def section(wanted):
    """Where the first section of that type begins."""
    fd = memory()
    section_size, count = struct.unpack_from('<12xI8xI', os.pread(fd, 40, 0))
    table = os.pread(fd, section_size * count, 40)
    os.close(fd)
    return next(struct.unpack_from('<16xQ', table, i)[0] for i in range(0, len(table), section_size)
                if struct.unpack_from('<I', table, i)[0] == wanted)


def copy_of_memory():
    """What was another build's has been copied: here of the same layout."""
    fd, copy = memory(), os.memfd_create('dmiod-state', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    size = os.fstat(fd).st_size
    os.ftruncate(copy, size)
    at = 0
    try:
        while True:  # what has ever been written
            at = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, at, os.SEEK_HOLE)
            os.pwrite(copy, os.pread(fd, end - at, at), at)
            at = end
    except OSError as e:
        expect_eq('all of it', errno.errorcode[e.errno], 'ENXIO')
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    os.close(fd)
    return copy


def notify(message, *fds):
    """What a daemon says to the supervisor."""
    with open(f'/proc/{daemon_pid()}/environ', 'rb') as file:
        variables = dict(line.partition(b'=')[::2] for line in file.read().split(b'\0'))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect(variables[b'NOTIFY_SOCKET'])
        socket.send_fds(notifier, [message], fds)


def log():
    with open(os.path.join(WORK, 'dmiod.log'), encoding='utf-8') as file:
        return file.read()


def damage(at, data):
    fd = memory()
    os.pwrite(fd, data, at)
    os.close(fd)


def number_of(fd):
    try:
        return len(os.pread(fd, 512, 0))
    except OSError as e:
        return errno.errorcode[e.errno]


control = Connection()
control.call('OpenClient', {'name': 'alice', 'pages': 64, 'linger': True})
disk = image('disk.img', SIZE)
fd = export('disk', disk)
os.close(fd)
path = os.path.join(MOUNT, 'alice', 'disk')

for what, at, data, message in (
        ('the magic', 0, b'X', 'does not begin as one of ours'),
        ('a number in the header', 20, b'\xff', 'checksum of its header'),
        ('the INIT request', section(INIT) + 16, b'\xff\xff', 'checksum of the INIT'),
        ('the state of a request', section(SLOTS), struct.pack('<I', 77),
         'has a state that does not exist'),
        ('a promise to the kernel', section(AGREED), struct.pack('<Q', 1 << 16),
         'promised the kernel what this one cannot keep'),
        ('the largest write', section(AGREED) + 8, struct.pack('<I', 1 << 30),
         'promised the kernel what this one cannot keep'),
):
    fd = os.open(path, os.O_RDONLY)
    before = len(log())
    damage(at, data)
    kill_daemon()
    expect(f'{what} is damaged: it is said', message in log()[before:], log()[before:])
    expect('and what is lost', 'files that were open there are lost' in log()[before:])
    expect_eq('what was open is dead', number_of(fd), 'ENOTCONN')
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    expect_eq('and there is a mount again', number_of(fd), 512)
    kill_daemon()
    expect_eq('which outlasts the next kill', number_of(fd), 512)
    os.close(fd)

fd = os.open(path, os.O_RDONLY)
notify(b'FDSTORE=1\nFDNAME=state-2', copy_of_memory())
kill_daemon()
expect_eq('it is there twice: what is open stays open', number_of(fd), 512)
os.close(memory())
ok('and one is left')
spare = copy_of_memory()
pid = daemon_pid()
os.kill(pid, signal.SIGSTOP)
notify(b'FDSTORE=1\nFDNAME=state-2', spare)
notify(b'FDSTOREREMOVE=1\nFDNAME=state')
kill_daemon()
expect_eq('it is there under its other name: what is open stays open', number_of(fd), 512)
kill_daemon()
expect_eq('and after the next kill', number_of(fd), 512)
os.close(memory())
ok('and one is left')
os.close(fd)

before = len(log())
os.kill(SUPERVISOR, signal.SIGSTOP)
pid = daemon_pid()
waiting = Connection()
waiting.call('Status')
os.kill(pid, signal.SIGKILL)
os.system(f'umount -l {MOUNT}')
try:
    waiting.call('Status')
    raise AssertionError('there is nobody who could have answered')
except Closed:
    ok('who is connected hears that the daemon is gone')
early = Connection()
early.send('Status')
os.kill(SUPERVISOR, signal.SIGCONT)
expect('who connects while there is none is answered by the next', 'version' in
       early.receive()['parameters'])
expect('that the mount is gone is said', 'has been unmounted meanwhile' in log()[before:],
       log()[before:])
wait_for('a mount', lambda: os.path.exists(path))
fd = os.open(path, os.O_RDONLY)
expect_eq('there is another', number_of(fd), 512)
os.close(fd)
