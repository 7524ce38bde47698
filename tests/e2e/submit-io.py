# SPDX-License-Identifier: LGPL-2.1-or-later
"""SubmitIo and WaitIo: each result comes once, to whoever of the owner asks for it first, with its
bytes; what is refused is refused at once; results are limited and go with their client. Requests that
are to stay in flight read a device that answers only when a file is gone."""

import atexit
import base64
import os
import shutil
import subprocess

from client import (WORK, Connection, daemon_fds, expect, expect_eq, image, ok, pattern, read_at,
                    region, skip_case, wait_for)

OTHER = 65534
MIB = 1 << 20


def submit(c, op='write', sector=0, count=8, client='alice', fds=(), path=None, **more):
    parameters = {'client': client, 'op': op, 'regions': [region(path or disk, sector, count)], **more}
    return c.call('SubmitIo', parameters, fds)['id']


def wait(c, ids=None, client='alice'):
    return c.call('WaitIo', {'client': client, **({} if ids is None else {'ids': ids})})


def nothing(c, ids=None, client='alice'):
    refused = c.refusal('WaitIo', {'client': client, **({} if ids is None else {'ids': ids})})
    return refused.name, refused.parameters


disk = image('disk.img', 16 * MIB)
c = Connection()
c.call('OpenClient', {'name': 'alice', 'pages': 64, 'linger': True})
fds = daemon_fds()
in_use = c.call('Status')['pool']['in_use']
data = pattern(65536)

# --- one at a time
expect_eq('nothing is outstanding', nothing(c), ('NoSuchRequest', {'id': 0}))
first = submit(c, memory={'data': base64.b64encode(data[:4096]).decode()})
expect_eq('a write', wait(c, [first]), {'id': first, 'error_bits': '0x0', 'failed': [], 'errors': []})
expect('has written', read_at(disk, 0, 4096) == data[:4096])
expect_eq('its result comes once', nothing(c, [first]), ('NoSuchRequest', {'id': first}))
expect_eq('nor is there another', nothing(c), ('NoSuchRequest', {'id': 0}))
number = submit(c, 'read', 1, 3)
expect('ids are never used twice', number > first)
reply = wait(c)
expect('a read brings its data', base64.b64decode(reply.pop('data')) == data[512:2048])
expect_eq('and its id', reply['id'], number)
for op in 'flush', 'discard', 'write_zeroes':
    number = submit(c, op, 8, 0 if op == 'flush' else 8)
    expect_eq(op, wait(c)['id'], number)
refused = c.refusal('SubmitIo', {'client': 'alice', 'op': 'read', 'regions': [region(disk, 0, 129)]})
expect_eq('more than 64 KiB do not go inline', refused.name, 'InvalidMemory')
number = submit(c, 'read', 0, 128)
expect('64 KiB do', len(base64.b64decode(wait(c)['data'])) == 65536)

# --- what is refused is refused at once
for what, parameters, error in (
        ('no such client', {'client': 'nobody'}, 'NoSuchClient'),
        ('no such device', {'path': WORK + '/none', 'memory': {'fill': 1}}, 'NoSuchDevice'),
        ('no memory', {}, 'InvalidMemory')):
    parameters = {'client': 'alice', 'op': 'write',
                  'regions': [region(parameters.get('path', disk), 0, 8)], **parameters}
    parameters.pop('path', None)
    expect_eq(what, c.refusal('SubmitIo', parameters).name, error)
c.call('OpenClient', {'name': 'bob', 'pages': 8, 'linger': True})
c.call('CreateExport', {'client': 'bob', 'name': 'vol', 'regions': [region(disk, 4096, 8)]})
expect_eq('sectors of others', c.refusal('SubmitIo', {
    'client': 'alice', 'op': 'write', 'regions': [region(disk, 4096, 8)],
    'memory': {'fill': 1}}).name, 'RegionBusy')
c.call('RemoveExport', {'client': 'bob', 'name': 'vol'})
expect_eq('none of it is outstanding', nothing(c), ('NoSuchRequest', {'id': 0}))
expect_eq('ids of none', c.refusal('WaitIo', {'client': 'alice', 'ids': []}).parameters['parameter'],
          'ids')
expect_eq('ids that are none', c.refusal('WaitIo', {'client': 'alice', 'ids': ['x']}).name,
          'org.varlink.service.InvalidParameter')
number = submit(c, 'read', 0, 1, client='bob')
expect_eq('another client\'s', nothing(c, [number]), ('NoSuchRequest', {'id': number}))
expect_eq('is there for that one', wait(c, client='bob')['id'], number)

# --- what fails tells so
number = submit(c, 'write', 32760, 16, memory={'fill': 1})
reply = wait(c)
expect_eq('a region that does not fit', (reply['id'], reply['error_bits'], reply['failed'],
                                         reply['errors'][0]['errno']), (number, '0x1', [0], 'ENOSPC'))

# --- many, fetched by others
ids = [submit(c, 'write', 8 * i, 8, memory={'fill': i}) for i in range(50)]
with Connection() as other:
    replies = other.call_more('WaitIo', {'client': 'alice', 'ids': ids[10:20] + ids[10:12]})
    expect_eq('those that are named, each once', sorted(r['id'] for r in replies), ids[10:20])
    replies = other.call_more('WaitIo', {'client': 'alice'})
    expect_eq('then all that are left', sorted(r['id'] for r in replies), ids[:10] + ids[20:])
    expect_eq('and no more', nothing(other), ('NoSuchRequest', {'id': 0}))
expect('all have written', all(read_at(disk, 4096 * i, 4096) == bytes([i]) * 4096 for i in range(50)))
ids = [submit(c, 'read', i, 1) for i in range(10)]
with Connection() as one, Connection() as two:
    got = []
    for _ in range(5):
        for each in one, two:
            each.send('WaitIo', {'client': 'alice'})
        got += [each.receive()['parameters']['id'] for each in (one, two)]
expect_eq('two who ask in turns get all', sorted(got), ids)

# --- results that nobody has fetched yet stay with those who do not read
ids = [submit(c, 'read', 0, 128) for i in range(100)]
slow = Connection()
slow.socket.setsockopt(1, 8, 4096)  # SO_RCVBUF
slow.send('WaitIo', {'client': 'alice'}, more=True)
got = []
while len(got) < 100:
    reply = slow.receive()
    got.append(reply['parameters']['id'])
    expect_eq('reply %d' % len(got), (len(reply['parameters']['data']), reply.get('continues', False)),
              (87384, len(got) < 100))
expect_eq('a slow reader gets all', sorted(got), ids)
slow.close()

# --- whoever does not read, and goes away, takes nothing along that it has not been sent
ids = [submit(c, 'read', 0, 128) for i in range(40)]
gone = Connection()
gone.socket.setsockopt(1, 8, 4096)
gone.send('WaitIo', {'client': 'alice'}, more=True)
taken = {gone.receive()['parameters']['id']}
left = {r['id'] for r in c.call_more('WaitIo', {'client': 'alice'})}
gone.close()
expect('what it had not taken is there for others', left <= set(ids) - taken and len(left) >= 20,
       len(left))
wait_for('nothing of it is left', lambda: daemon_fds() <= fds)


# --- while they are in flight
def held_device():
    """A device whose reads, but for the first 64 KiB, wait until the file named hold is gone."""
    if not (shutil.which('nbdfuse') and shutil.which('nbdkit')):
        return None
    folder = os.path.join(WORK, 'held')
    os.mkdir(folder)
    server = subprocess.Popen(
        ['nbdfuse', folder + '/disk', '[', 'nbdkit', '--exit-with-parent', '-f', 'eval',
         'get_size=echo 1048576', 'pread=while [ $4 -ge 65536 -a -e %s ]; do sleep 0.02; done; '
         'head -c $3 /dev/zero' % hold, ']'],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(server.terminate)
    atexit.register(subprocess.run, ['umount', '-l', folder], stderr=subprocess.DEVNULL, check=False)
    wait_for('the device', lambda: os.path.exists(folder + '/disk'))
    return folder + '/disk'


hold = os.path.join(WORK, 'hold')
held = held_device()
if held:
    def submit_held(client='alice'):
        with open(hold, 'wb'):
            pass
        return submit(c, 'read', 128, 8, client=client, path=held)

    ids = [submit_held()] + [submit(c, 'read', i, 1) for i in range(3)]
    open_now = daemon_fds()
    for _ in range(3):
        with Connection() as gone:
            gone.send('WaitIo', {'client': 'alice', 'ids': ids[:1]}, more=True)
    wait_for('they are gone', lambda: daemon_fds() <= open_now)
    one, two, three = Connection(), Connection(), Connection()
    one.send('WaitIo', {'client': 'alice', 'ids': ids[:3]}, more=True)
    two.send('WaitIo', {'client': 'alice', 'ids': [ids[0]]})
    three.send('WaitIo', {'client': 'alice'}, more=True)
    os.unlink(hold)
    got = []
    for each in one, two, three:
        while True:
            reply = each.receive()
            if 'error' in reply:
                expect_eq('one whose requests others have fetched is told', reply['error'],
                          'io.dmiod.NoSuchRequest')
                break
            got.append(reply['parameters']['id'])
            if not reply.get('continues'):
                break
        each.close()
    expect_eq('waiters that want the same share them', sorted(got), ids)
    expect_eq('nothing is left', nothing(c), ('NoSuchRequest', {'id': 0}))

    # Others fetch all but the last one of those that somebody waits for who does not read.
    ids = [submit(c, 'read', 0, 128) for i in range(40)]
    last = submit_held()
    gone = Connection()
    gone.socket.setsockopt(1, 8, 4096)
    gone.send('WaitIo', {'client': 'alice'}, more=True)
    gone.receive()
    for i in ids:
        c.send('WaitIo', {'client': 'alice', 'ids': [i]})
        c.receive()  # the result, or that it has been taken
    os.unlink(hold)
    expect_eq('the last one is not taken by who has not read those before', wait(c, [last])['id'], last)
    gone.close()

    number = submit_held('bob')
    one, two = Connection(), Connection()
    one.send('WaitIo', {'client': 'bob', 'ids': [number]})
    two.send('CloseClient', {'name': 'bob'})
    wait_for('bob is closing', lambda: c.refusal(
        'SubmitIo', {'client': 'bob', 'op': 'flush', 'regions': [region(disk, 0, 0)]}).name ==
        'NoSuchClient')
    os.unlink(hold)
    expect_eq('who waits for a request of a client that is closed', one.receive()['parameters']['id'],
              number)
    expect('gets it before the client ends', 'parameters' in two.receive())
    one.close()
    two.close()
    c.call('OpenClient', {'name': 'bob', 'pages': 8, 'linger': True})
else:
    skip_case('requests in flight: nbdfuse and nbdkit are not there')

# --- a client that goes takes its results along
for _ in range(5):
    submit(c, 'read', 0, 1, client='bob')
c.call('CloseClient', {'name': 'bob'})
c.call('OpenClient', {'name': 'bob', 'pages': 8, 'linger': True})
expect_eq('a new one of that name has none of them', nothing(c, client='bob'),
          ('NoSuchRequest', {'id': 0}))
with Connection() as brief:
    brief.call('OpenClient', {'name': 'brief', 'pages': 8})
    submit(brief, 'read', 0, 8, client='brief')
wait_for('a client ends with its connection and results',
         lambda: len(c.call('ListClients')['clients']) == 2)
ok('a client that ends with its connection')


# --- another user
def other_user():
    mine = Connection()
    assert mine.refusal('WaitIo', {'client': 'alice'}).name == 'NoSuchClient'
    mine.call('OpenClient', {'name': 'mine', 'pages': 8})
    read = {'client': 'mine', 'op': 'read', 'regions': [region('granted', 0, 8)]}
    numbers = [mine.call('SubmitIo', read)['id'] for _ in range(3)]
    refused = mine.refusal('SubmitIo', read)
    assert (refused.name, refused.parameters) == ('LimitReached', {'limit': 'requests', 'value': 3})
    assert mine.refusal('WaitIo', {'client': 'mine', 'ids': [outstanding]}).name == 'NoSuchRequest'
    with Connection() as second:
        assert wait(second, [numbers[1]], 'mine')['id'] == numbers[1]
    numbers[1] = mine.call('SubmitIo', read)['id']
    assert sorted(r['id'] for r in mine.call_more('WaitIo', {'client': 'mine'})) == sorted(numbers)


image('granted.img', MIB)
outstanding = submit(c, 'read', 0, 8)
pid = os.fork()
if pid == 0:
    status = 1
    try:
        os.setgroups([])
        os.setresgid(OTHER, OTHER, OTHER)
        os.setresuid(OTHER, OTHER, OTHER)
        other_user()
        status = 0
    except BaseException as e:  # pylint: disable=broad-except
        os.write(2, ('%r\n' % e).encode())
    os._exit(status)
expect_eq('another user has a limit, and none of ours',
          os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
expect_eq('ours is there', wait(c)['id'], outstanding)

wait_for('no descriptor is kept', lambda: daemon_fds() <= fds)
expect_eq('nor a page', c.call('Status')['pool']['in_use'], in_use)
