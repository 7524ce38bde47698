# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that is sent along: a memfd described by a page list, by bio vectors, or as one piece; for
writes and reads, in any order, with odd lengths; too short, sealed, shrinking."""

import fcntl
import os
import sys
import threading

from client import (PAGE, SECTOR, Connection, daemon_fds, daemon_rss_kib, expect, expect_eq, image, memfd, ok,
                    pattern, read_at, region, sanitized, skip_case, wait_for)

a = image('a.img', 1 << 20)
b = image('b.img', 1 << 20)
c = Connection()
c.call('OpenClient', {'name': 'alice', 'pages': 64, 'linger': True})
fds = daemon_fds()


def io(op, regions, memory, send=()):
    return c.call('Io', {'client': 'alice', 'op': op, 'regions': regions, 'memory': memory}, send)


def refused(op, regions, memory, send=()):
    return c.refusal('Io', {'client': 'alice', 'op': op, 'regions': regions, 'memory': memory}, send)


data = pattern(8 * PAGE, 1)
fd = memfd(data)
two = [region(a, 8, 17), region(b, 100, 9)]
n = 17 * SECTOR


def check_write(what, memory, wanted):
    reply = io('write', two, memory, [fd])
    expect_eq(what + ': no error', reply['error_bits'], '0x0')
    expect(what + ': leg 0', read_at(a, 8 * SECTOR, n) == wanted[:n])
    expect(what + ': leg 1 has its beginning', read_at(b, 100 * SECTOR, 9 * SECTOR)
           == wanted[:9 * SECTOR])


# --- page lists
for order in ([0, 1, 2], [7, 3, 5], [2, 1, 0], [4, 4, 4]):
    for offset in (0, 1, 100, 512, 3583):
        flat = b''.join(data[p * PAGE:(p + 1) * PAGE] for p in order)[offset:]
        check_write('page list %s from %d' % (order, offset),
                    {'fd': 0, 'page_list': order, 'page_offset': offset}, flat)
check_write('page list without an offset', {'fd': 0, 'page_list': [1, 2, 3]}, data[PAGE:])
expect_eq('a page list that is too short',
          refused('write', two, {'fd': 0, 'page_list': [0, 1], 'page_offset': 0}, [fd]).name,
          'InvalidMemory')
expect_eq('a page that is not there',
          refused('write', two, {'fd': 0, 'page_list': [0, 1, 8]}, [fd]).name, 'InvalidMemory')
expect('an offset of a whole page',
       refused('write', two, {'fd': 0, 'page_list': [0, 1, 2, 3], 'page_offset': 4096}, [fd]).name in
       ('InvalidMemory', 'org.varlink.service.InvalidParameter'))

# --- bio vectors
for lengths in ((1, 511, 3, 4093, 512, 4096), (8704,), (4352, 4352), (100,) * 88, (1, 8703),
                (0, 8704, 0)):
    at, segments, flat = 5, [], b''
    for length in lengths:
        segments.append({'offset': at, 'length': length})
        flat += data[at:at + length]
        at += length + 13
    check_write('vectors of %s' % (lengths[:6],), {'fd': 0, 'bvec': segments}, flat)
expect_eq('vectors that are too short',
          refused('write', two, {'fd': 0, 'bvec': [{'offset': 0, 'length': n - 1}]}, [fd]).name,
          'InvalidMemory')
expect_eq('vectors beyond the end',
          refused('write', two, {'fd': 0, 'bvec': [{'offset': 8 * PAGE - 100, 'length': n}]},
                  [fd]).name, 'InvalidMemory')
expect('a vector that is very long',
       refused('write', two, {'fd': 0, 'bvec': [{'offset': 0, 'length': (1 << 53) - 1}]}, [fd]).name in
       ('InvalidMemory', 'org.varlink.service.InvalidParameter'))

# --- one piece
for at in (0, 1, 511, 4096, 4097):
    check_write('one piece from %d' % at, {'fd': 0, 'vm': at}, data[at:])
expect_eq('a piece beyond the end', refused('write', two, {'fd': 0, 'vm': 7 * PAGE}, [fd]).name,
          'InvalidMemory')

# --- reads
source = pattern(64 * SECTOR, 2)
with open(a, 'r+b') as file:
    file.seek(200 * SECTOR)
    file.write(source)


def check_read(what, memory, holes):
    target = memfd(bytes(8 * PAGE))
    reply = io('read', [region(a, 200, 17)], memory, [target])
    expect_eq(what + ': no error', reply['error_bits'], '0x0')
    expect(what + ': the data is there only', not reply.get('data'))
    wanted, at = bytearray(8 * PAGE), 0
    for start, length in holes:
        take = min(length, n - at)
        wanted[start:start + take] = source[at:at + take]
        at += take
    expect(what + ': exactly there', os.pread(target, 8 * PAGE, 0) == bytes(wanted))
    os.close(target)


check_read('read into pages', {'fd': 0, 'page_list': [6, 0, 3], 'page_offset': 100},
           [(6 * PAGE + 100, PAGE - 100), (0, PAGE), (3 * PAGE, PAGE)])
check_read('read into vectors', {'fd': 0, 'bvec': [{'offset': 3, 'length': 511},
                                                   {'offset': 1000, 'length': 1},
                                                   {'offset': 9999, 'length': 9000}]},
           [(3, 511), (1000, 1), (9999, 9000)])
check_read('read into one piece', {'fd': 0, 'vm': 777}, [(777, n)])
ordinary = image('ordinary', 65536)
target = os.open(ordinary, os.O_RDWR)
io('read', [region(a, 200, 17)], {'fd': 0, 'vm': 0}, [target])
expect('read into an ordinary file', read_at(ordinary, 0, n) == source[:n])
os.close(target)

# --- much of it: mapped and used in place, so the daemon does not grow
large, length = [image('large-%d.img' % i, 64 << 20) for i in range(2)], 64 << 20
fd64 = memfd(pattern(1 << 20, 3) * 64)
before = daemon_rss_kib()
for memory in ({'fd': 0, 'vm': 0}, {'fd': 0, 'page_list': list(range(length // PAGE - 1, -1, -1))}):
    reply = io('write', [region(path, 0, length // SECTOR) for path in large], memory, [fd64])
    expect_eq('64 MiB to two regions', reply['error_bits'], '0x0')
    for path in large:
        for at in 0, length // 2, length - PAGE:
            whence = length - PAGE - at if 'page_list' in memory else at
            expect('... is there, at %d' % at, read_at(path, at, PAGE) == os.pread(fd64, PAGE, whence))
target = memfd(bytes(length))
reply = io('read', [region(large[0], 0, length // SECTOR)], {'fd': 0, 'vm': 0}, [target])
expect('64 MiB are read', reply['error_bits'] == '0x0' and
       os.pread(target, length, 0) == read_at(large[0], 0, length))
if not sanitized():
    # What is mapped counts only as long as it is.
    wait_for('the daemon does not grow', lambda: daemon_rss_kib() < before + 8192)
    ok('the daemon does not grow')
for leftover in (fd64, target):
    os.close(leftover)
for path in large:
    os.unlink(path)

# --- a read that fails leaves zeroes
target = memfd(b'\xee' * (4 * PAGE))
reply = io('read', [region(a, 2044, 8)], {'fd': 0, 'vm': 0}, [target])
expect_eq('a read past the end', (reply['error_bits'], reply['failed']), ('0x1', [0]))
expect('leaves zeroes there and nothing else',
       os.pread(target, 4 * PAGE, 0) == bytes(PAGE) + b'\xee' * (3 * PAGE))
os.close(target)

# --- what cannot be memory
for what, memory, send in (
        ('two places', {'fd': 0, 'vm': 0, 'page_list': [0]}, [fd]),
        ('no place', {'fd': 0}, [fd]),
        ('a place without a descriptor', {'vm': 0}, []),
        ('a descriptor that was not sent', {'fd': 1, 'vm': 0}, [fd]),
        ('no descriptor at all', {'fd': 0, 'vm': 0}, []),
        ('nothing', {}, []),
):
    expect_eq(what, refused('write', two, memory, send).name, 'InvalidMemory')
read_end, write_end = os.pipe()
expect_eq('a pipe', refused('write', two, {'fd': 0, 'vm': 0}, [read_end]).name, 'InvalidMemory')
folder = os.open('/', os.O_RDONLY)
expect_eq('a folder', refused('write', two, {'fd': 0, 'vm': 0}, [folder]).name, 'InvalidMemory')
read_only = os.open(ordinary, os.O_RDONLY)
expect_eq('a file for reading only is good for a write',
          io('write', two, {'fd': 0, 'vm': 0}, [read_only])['error_bits'], '0x0')
expect_eq('but not for a read',
          refused('read', [region(a, 200, 17)], {'fd': 0, 'vm': 0}, [read_only]).name,
          'InvalidMemory')
sealed = memfd(data)
fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
expect_eq('sealed memory is good for a write',
          io('write', two, {'fd': 0, 'vm': 0}, [sealed])['error_bits'], '0x0')
expect_eq('but not for a read',
          refused('read', [region(a, 200, 17)], {'fd': 0, 'vm': 0}, [sealed]).name, 'InvalidMemory')
for leftover in (read_end, write_end, folder, read_only, sealed):
    os.close(leftover)

# --- memory that shrinks meanwhile must not take the daemon down
shrinking = memfd(bytes(64 * PAGE))
stop = threading.Event()


def shrink():
    while not stop.is_set():
        os.ftruncate(shrinking, 0)
        os.ftruncate(shrinking, 64 * PAGE)


thread = threading.Thread(target=shrink)
thread.start()
for _ in range(300):
    c.send('Io', {'client': 'alice', 'op': 'write', 'regions': [region(a, 0, 512)],
                  'memory': {'fd': 0, 'vm': 0}}, [shrinking])
    c.receive()
stop.set()
thread.join()
os.close(shrinking)
ok('memory that is truncated during the call harms nobody: ' + c.call('Status')['version'])

# --- the same with SubmitIo and WaitIo
if not c.has_method('SubmitIo'):
    skip_case('SubmitIo: this daemon does not have it')
    c.call('CloseClient', {'name': 'alice'})
    wait_for('no descriptor is kept', lambda: daemon_fds() <= fds)
    ok('no descriptor is kept')
    sys.exit(0)
ids = [c.call('SubmitIo', {'client': 'alice', 'op': 'write', 'regions': [region(b, i * 8, 8)],
                           'memory': {'fd': 0, 'vm': i * 512}}, [fd])['id'] for i in range(20)]
expect('ids differ', len(set(ids)) == 20)
with Connection() as other:
    replies = other.call_more('WaitIo', {'client': 'alice', 'ids': ids})
expect_eq('each completes once', sorted(r['id'] for r in replies), sorted(ids))
expect('without an error', all(r['error_bits'] == '0x0' for r in replies))
for i in range(20):
    if read_at(b, i * PAGE, PAGE) != data[i * 512:i * 512 + PAGE]:
        raise AssertionError('request %d' % i)
ok('and with its bytes')

wait_for('no descriptor is kept', lambda: daemon_fds() <= fds + 4)
c.call('CloseClient', {'name': 'alice'})
wait_for('nor afterwards', lambda: daemon_fds() <= fds)
ok('no descriptor is kept')
