# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statistics: every operation is counted once, where it was done, with its bytes and errors; who sees
what; and that nothing shrinks.
"""

import ctypes
import json
import os
import threading

from client import (SECTOR, WORK, Connection, expect, expect_eq, image, memfd, ok, region)

control = Connection()


def as_user(uid, method, parameters=None):
    """One call by another user, in a process of its own; the reply or what was refused."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgid(uid)
        os.setuid(uid)
        with Connection() as connection:
            connection.send(method, parameters)
            os.write(write_end, connection.receive_bytes())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, 'rb') as file:
        text = file.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def by_name(operations):
    return {operation['operation']: operation for operation in operations}


def of_export(name, client='alice'):
    """Operations of the export, and of each of its legs."""
    reply = control.call('Statistics', {'client': client})
    export = [e for e in reply['exports'] if e['name'] == name][0]
    return (by_name(export['operations']),
            [by_name(leg['operations']) for leg in export['legs']])


def of_client(name='alice'):
    clients = control.call('Statistics', {'client': name})['clients']
    expect_eq('one client is told of', [c['client']['name'] for c in clients], [name])
    return {part: by_name(clients[0][part]) for part in ('exports', 'calls', 'jobs')}


def figures(operation):
    return operation['count'], operation['errors'], operation['bytes']


def check(what, operations, **wanted):
    """Exactly these operations, each with (count, errors, bytes), and a time for every one of them."""
    expect_eq(what, {name: figures(o) for name, o in operations.items()}, wanted)
    for operation in operations.values():
        buckets = operation['latency']
        bounds = [bucket.get('upto_us', 1 << 40) for bucket in buckets]
        total = operation['total_us']
        expect(what + ': each is in one bucket',
               sum(bucket['count'] for bucket in buckets) == operation['count']
               and bounds == sorted(set(bounds)) and all(b['count'] > 0 for b in buckets), buckets)
        expect(what + ': the buckets are not below the sum',
               total <= sum(bucket['count'] * bound for bucket, bound in zip(buckets, bounds)),
               operation)


a, b, c = (image(name, 1 << 20) for name in ('a.img', 'b.img', 'c.img'))
control.call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
control.call('OpenClient', {'name': 'bob', 'pages': 0, 'linger': True})


def export(name, *legs, client='alice', **more):
    return control.call('CreateExport', {
        'client': client, 'name': name,
        'regions': [region(path, sector, 1024) for path, sector in legs], **more})['export']['path']


# --- exports and their legs
path = export('vol', (a, 0), (b, 512))
check('a new export has done nothing', of_export('vol')[0])
fd = os.open(path, os.O_RDWR)
for i in range(7):
    expect_eq('a write', os.pwrite(fd, b'x' * 4096, i * 4096), 4096)
for i in range(5):
    os.pread(fd, 8192, i * 8192)
os.fsync(fd)
os.fsync(fd)
whole, legs = of_export('vol')
check('the export', whole, write=(7, 0, 7 * 4096), read=(5, 0, 5 * 8192), flush=(2, 0, 0))
check('leg 0 has written and read', legs[0], write=(7, 0, 7 * 4096), read=(5, 0, 5 * 8192), flush=(2, 0, 0))
check('leg 1 has written', legs[1], write=(7, 0, 7 * 4096), flush=(2, 0, 0))

os.pwrite(fd, b'y' * 100, 10)           # less than a block: it is read first
whole, legs = of_export('vol')
expect_eq('the bytes are the client\'s', figures(whole['write']), (8, 0, 7 * 4096 + 100))
expect_eq('of the leg, those of the block', figures(legs[0]['write']), (8, 0, 7 * 4096 + SECTOR))
expect_eq('which was read', figures(legs[0]['read']), (6, 0, 5 * 8192 + SECTOR))
expect_eq('by nobody else', figures(whole['read']), (5, 0, 5 * 8192))

size = 1024 * SECTOR
expect_eq('past the end there is nothing', os.pread(fd, 10, size), b'')
expect_eq('that is not counted', figures(of_export('vol')[0]['read']), (5, 0, 5 * 8192))
expect_eq('the end', len(os.pread(fd, 4096, size - 1000)), 1000)
expect_eq('as many as there were', figures(of_export('vol')[0]['read']), (6, 0, 5 * 8192 + 1000))

libc = ctypes.CDLL(None, use_errno=True)
PUNCH_HOLE, KEEP_SIZE = 2, 1
expect_eq('a hole', libc.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(8192)), 0)
whole, legs = of_export('vol')
expect_eq('is write_zeroes', figures(whole['write_zeroes']), (1, 0, 8192))
for i in range(2):
    expect_eq('on leg %d, too' % i, figures(legs[i]['write_zeroes'])[0], 1)

# Many at once, on however many queue threads there are.
def writer(k):
    for i in range(50):
        os.pwrite(fd, b'z' * SECTOR, (k * 50 + i) * SECTOR)


threads = [threading.Thread(target=writer, args=(k,)) for k in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
whole, legs = of_export('vol')
expect_eq('none of many is lost', whole['write']['count'], 8 + 200)
expect_eq('nor of those of a leg', legs[1]['write']['count'], 8 + 200)

# A copy within the mount is reads and writes.
other = export('other', (c, 0))
other_fd = os.open(other, os.O_RDWR)
before = of_export('vol')[0]['read']
expect_eq('a copy', os.copy_file_range(fd, other_fd, 16384, 0, 0), 16384)
after = of_export('vol')[0]['read']
expect_eq('reads from the one', after['bytes'] - before['bytes'], 16384)
check('writes to the other', of_export('other')[0], write=(1, 0, 16384))

# --- errors
os.truncate(c, 256 * SECTOR)            # what was there is gone
try:
    os.pread(other_fd, 4096, 512 * SECTOR)
    expect('a read past the leg fails', False)
except OSError:
    ok('a read past the leg fails')
whole, legs = of_export('other')
expect_eq('it is an error', figures(whole['read']), (1, 1, 0))
expect_eq('of the leg, too', figures(legs[0]['read']), (1, 1, 0))
os.close(other_fd)

# --- Io, SubmitIo and jobs
start = of_client()
check('no calls yet', start['calls'])
for op, regions, more in (('write', [region(a, 1024, 8), region(b, 0, 8)], {'memory': {'fill': 7}}),
                          ('read', [region(a, 1024, 8)], {}),
                          ('read', [region(a, 1024, 4)], {}),
                          ('flush', [region(a, 0, 0)], {}),
                          ('write_zeroes', [region(a, 1024, 8)], {}),
                          ('discard', [region(a, 1024, 8)], {})):
    control.call('Io', {'client': 'alice', 'op': op, 'regions': regions, **more})
check('calls', of_client()['calls'], write=(1, 0, 8192), read=(2, 0, 6144), flush=(1, 0, 0),
      write_zeroes=(1, 0, 4096), discard=(1, 0, 4096))
reply = control.call('Io', {'client': 'alice', 'op': 'write', 'memory': {'fill': 1},
                            'regions': [region(a, 1024, 8), region(c, 4000, 8)]})
expect_eq('one region fails', reply['error_bits'], '0x2')
expect_eq('that is an error', figures(of_client()['calls']['write']), (2, 1, 8192))
request = control.call('SubmitIo', {'client': 'alice', 'op': 'read', 'regions': [region(a, 0, 1)],
                                    'memory': {'fd': 0, 'vm': 0}}, [memfd(b'\0' * SECTOR)])
control.call('WaitIo', {'client': 'alice', 'ids': [request['id']]})
expect_eq('a submitted one counts', figures(of_client()['calls']['read']), (3, 0, 6656))

control.call('Copy', {'client': 'alice', 'source': region(a, 0, 1024), 'destinations': [region(a, 1024, 1024)]})
control.call('Zero', {'client': 'alice', 'destinations': [region(a, 1024, 256)]})
check('jobs', of_client()['jobs'], copy=(1, 0, 1024 * SECTOR), zero=(1, 0, 256 * SECTOR))

# --- a client is the sum of its exports, also of those that are gone
def total():
    return {name: figures(o) for name, o in of_client()['exports'].items()}


whole = of_export('vol')[0]
gone = of_export('other')[0]
sums = {}
for part in (whole, gone):
    for name, operation in part.items():
        old = sums.get(name, (0, 0, 0))
        sums[name] = tuple(x + y for x, y in zip(old, figures(operation)))
expect_eq('a client is the sum', total(), sums)
control.call('RemoveExport', {'client': 'alice', 'name': 'other'})
expect_eq('still, when one is gone', total(), sums)
os.close(fd)
control.call('RemoveExport', {'client': 'alice', 'name': 'vol'})
expect_eq('and when all are', total(), sums)
expect_eq('an export is told of while it is there', control.call('Statistics')['exports'], [])
export('vol', (a, 0))
check('a new one of the same name has done nothing', of_export('vol')[0])

# --- who sees what
os.chmod(os.environ['DMIO_CONTROL'], 0o666)
os.chmod(WORK, 0o711)
expect_eq('root sees all', sorted(x['client']['name'] for x in control.call('Statistics')['clients']),
          ['alice', 'bob'])
expect_eq('others nothing', as_user(65534, 'Statistics')['parameters']['clients'], [])
expect_eq('and no exports', as_user(65534, 'Statistics')['parameters']['exports'], [])
expect_eq('not even by name', as_user(65534, 'Statistics', {'client': 'alice'})['error'],
          'io.dmiod.NoSuchClient')
expect_eq('nor root, whom there is not', control.refusal('Statistics', {'client': 'carol'}).name, 'NoSuchClient')
expect_eq('what is unknown is refused', control.refusal('Statistics', {'reset': True}).parameters['parameter'],
          'reset')
first = control.call('Statistics')['uptime_us']
expect('the daemon\'s time goes on', 0 < first < control.call('Statistics')['uptime_us'])
expect('the pool is told of', control.call('Statistics')['pool']['reserved'] == 256)
