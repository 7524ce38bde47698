# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that goes while a request is in flight: its file is truncated, a hole is made, there is no room for what
is read, it is sealed. Whoever touches such a page with the processor gets SIGBUS, so the daemon must not; the
request fails with EFAULT, or has what is there. On a device that is held up for as long as it takes, so that it
happens in the middle; in place and between (bounced); for each back-end."""

import ctypes
import fcntl
import mmap
import os
import shutil
import signal
import subprocess
import threading

from client import (PAGE, SECTOR, WORK, Connection, Refused, connect_as, daemon_fds, expect, expect_eq,
                    image, memfd, ok, pattern, region, skip_case, wait_for)

MIB = 1 << 20
LENGTH = 32 * MIB
backend = os.environ.get('DMIO_BACKEND') or 'best'
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
libc = ctypes.CDLL(None, use_errno=True)

c = Connection()
expect('%s: it runs' % backend, c.call('Status')['version'])
c.call('OpenClient', {'name': 'alice', 'pages': 1024, 'linger': True})
fast = image('fast.img', LENGTH)
fds = daemon_fds()


def punch(fd, offset, length):
    if libc.fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, ctypes.c_long(offset),
                      ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), 'fallocate')


def huge():
    fd = os.memfd_create('huge', os.MFD_CLOEXEC | os.MFD_HUGETLB | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, LENGTH + 4 * MIB)
    try:
        mmap.mmap(fd, 4 * MIB).close()
    except OSError:
        os.close(fd)
        return None
    return fd


def new_file(folder):
    path = os.path.join(folder, 'memory')
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink(path)
    os.ftruncate(fd, LENGTH + 4 * MIB)
    return fd


def new_memfd():
    fd = os.memfd_create('memory', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, LENGTH + 4 * MIB)
    return fd


KINDS = {'memfd': new_memfd, 'file': lambda: new_file(WORK), 'tmpfs file': lambda: new_file('/dev/shm'),
         'huge pages': huge}
ALIGNED, ODD = {'fd': 0, 'vm': 0}, {'fd': 0, 'vm': 1}
PAGES = {'fd': 0, 'page_list': list(range(LENGTH // PAGE))}


def describe(reply):
    return reply['error_bits'], sorted({e['errno'] for e in reply['errors']})


# --- a read into a file system that is full: nothing can be stored there
small = os.path.join(WORK, 'small')
os.mkdir(small)
subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1M', 'tmpfs', small], check=True)
for name, memory in (('in place', ALIGNED), ('odd', ODD)):
    fd = new_file(small)
    reply = c.call('Io', {'client': 'alice', 'op': 'read', 'regions': [region(fast, 0, 8 * MIB // SECTOR)],
                          'memory': memory}, [fd])
    expect_eq('a read into a full file system, ' + name, describe(reply), ('0x1', ['EFAULT']))
    os.close(fd)

# --- a hole in memory that is written from reads as zeroes
fd = new_memfd()
os.pwrite(fd, b'\xff' * MIB, 0)
os.ftruncate(fd, 64)
os.ftruncate(fd, MIB)
for memory in ALIGNED, ODD:
    reply = c.call('Io', {'client': 'alice', 'op': 'write', 'regions': [region(fast, 0, 1024)],
                          'memory': memory}, [fd])
    expect_eq('memory with a hole', describe(reply), ('0x0', []))
os.close(fd)

# --- an overlay may show files of a server: only root may send them
for part in 'lower', 'upper', 'work', 'overlay':
    os.mkdir(os.path.join(WORK, part))
options = 'lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work'.format(WORK)
if subprocess.run(['mount', '-t', 'overlay', '-o', options, 'overlay', WORK + '/overlay'],
                  stderr=subprocess.DEVNULL, check=False).returncode == 0:
    fd = new_file(WORK + '/overlay')
    reply = c.call('Io', {'client': 'alice', 'op': 'write', 'regions': [region(fast, 0, 8)],
                          'memory': ALIGNED}, [fd])
    expect_eq('memory on an overlay, from root', describe(reply), ('0x0', []))
    with connect_as(65534) as other:
        other.call('OpenClient', {'name': 'bob', 'pages': 16})
        device = os.open(fast, os.O_RDWR)
        refused = other.refusal('Io', {'client': 'bob', 'op': 'write', 'regions': [region('fd:1', 0, 8)],
                                       'memory': ALIGNED}, [fd, device])
        expect_eq('from another', refused.name, 'InvalidMemory')
        os.close(device)
    os.close(fd)
else:
    skip_case('memory on an overlay: there are none here')

# --- truncated again and again, while requests come and go
for op in 'write', 'read':
    for name, memory in (('in place', ALIGNED), ('odd', ODD), ('in pages', PAGES)):
        fd = new_memfd()
        stop = threading.Event()

        def shrink():
            while not stop.is_set():
                os.ftruncate(fd, 0)
                os.ftruncate(fd, 4 * MIB)

        thread = threading.Thread(target=shrink)
        thread.start()
        outcomes = set()
        for _ in range(150):
            try:
                reply = c.call('Io', {'client': 'alice', 'op': op, 'memory': dict(memory, **(
                    {'page_list': list(range(900))} if memory is PAGES else {})),
                    'regions': [region(fast, 0, 3 * MIB // SECTOR)]}, [fd])
                outcomes |= {describe(reply)[0]} | set(describe(reply)[1])
            except Refused as refused:
                outcomes.add(refused.name)
        stop.set()
        thread.join()
        os.close(fd)
        expect('%s %s, truncated meanwhile: %s' % (op, name, sorted(outcomes)),
               outcomes <= {'0x0', '0x1', 'EFAULT', 'InvalidMemory'})

# --- a device that is held up, so that memory goes in the middle of the request
if backend == 'memory' or not (shutil.which('nbdfuse') and shutil.which('nbdkit')):
    skip_case('a device that is held up: needs nbdfuse and nbdkit, and real devices')
else:
    folder = os.path.join(WORK, 'slow')
    os.mkdir(folder)
    server = subprocess.Popen(
        ['nbdfuse', folder + '/disk', '[', 'nbdkit', '--exit-with-parent', '-f', '--filter=delay', 'memory', '64M',
         'delay-read=5ms', 'delay-write=5ms', ']'],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for('the slow device', lambda: os.path.exists(folder + '/disk'))
        # So that nobody has to ask the server when it is held up.
        c.call('CreateExport', {'client': 'alice', 'name': 'slow', 'regions': [region(folder + '/disk', 0, 8)]})
        for kind, make in KINDS.items():
            for op in 'write', 'read':
                for name, memory in (('in place', ALIGNED), ('odd', ODD), ('in pages', PAGES)):
                    fd = make()
                    if fd is None:
                        skip_case('%s %s %s: cannot be had' % (kind, op, name))
                        continue
                    # Held up before the request begins, and again as soon as it has.
                    server.send_signal(signal.SIGSTOP)
                    try:
                        with Connection() as s:
                            s.send('SubmitIo', {'client': 'alice', 'op': op, 'memory': memory,
                                                'regions': [region(folder + '/disk', 8, LENGTH // SECTOR)]}, [fd])
                            server.send_signal(signal.SIGCONT)
                            number = s.receive()['parameters']['id']
                            server.send_signal(signal.SIGSTOP)
                            os.ftruncate(fd, 2 * MIB if kind == 'huge pages' else 64 * 1024)
                            server.send_signal(signal.SIGCONT)
                            reply = s.call('WaitIo', {'client': 'alice', 'ids': [number]})
                    finally:
                        server.send_signal(signal.SIGCONT)
                    os.close(fd)
                    expect('%s %s %s: truncated in flight: %s' % (kind, op, name, describe(reply)),
                           describe(reply) == ('0x1', ['EFAULT']))
    finally:
        for export in c.call('ListExports')['exports']:
            c.call('RemoveExport', {'client': 'alice', 'name': export['name'], 'force': True})
        server.send_signal(signal.SIGCONT)
        subprocess.run(['umount', '-l', folder], check=False)
        server.terminate()
        server.wait()

# --- sealed against shrinking, which is what a careful client does
fd = memfd(pattern(MIB))
fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
for op in 'write', 'read':
    reply = c.call('Io', {'client': 'alice', 'op': op, 'regions': [region(fast, 0, 1024)], 'memory': ODD}, [fd])
    expect_eq('sealed against shrinking: ' + op, describe(reply), ('0x0', []))
os.close(fd)
wait_for('no descriptor is left', lambda: daemon_fds() <= fds)
ok('no descriptor is left')
expect_eq('all pages are back', c.call('ListClients')['clients'][0]['in_flight_pages'], 0)
