# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults on purpose: what they do to an export, whom they leave alone, how they end, who may have them."""

import errno
import json
import os
import signal
import threading

from client import (PID, SECTOR, WORK, Connection, expect, expect_eq, image, ok, read_at, region,
                    wait_for)

SECTORS = 1024
CONF = os.path.join(WORK, 'dmiod.conf')
control = Connection()
a, b, other_image = (image(name, 2 * SECTORS * SECTOR) for name in ('a.img', 'b.img', 'other.img'))
control.call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
control.call('OpenClient', {'name': 'bob', 'pages': 64, 'linger': True})


def export(name, *legs, client='alice', **more):
    return control.call('CreateExport', {
        'client': client, 'name': name,
        'regions': [region(path, sector, SECTORS) for path, sector in legs], **more})['export']['path']


def add(name, leg, action, **more):
    return control.call('AddFault', {'client': 'alice', 'export': name, 'leg': leg, 'action': action,
                                     **more})['fault']


def remove(fault):
    control.call('RemoveFault', {'fault': fault})


def fault(number):
    return [f for f in control.call('ListFaults')['faults'] if f['fault'] == number][0]


def legs(name):
    reply = control.call('Statistics', {'client': 'alice'})
    found = [e for e in reply['exports'] if e['name'] == name][0]
    return [(leg['leg'], {o['operation']: o for o in leg['operations']}) for leg in found['legs']]


def operations(name):
    reply = control.call('Statistics', {'client': 'alice'})
    found = [e for e in reply['exports'] if e['name'] == name][0]
    return {o['operation']: o for o in found['operations']}


def errno_of(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


# --- a read is served by the other leg
vol = export('vol', (a, 0), (b, 0))
fd = os.open(vol, os.O_RDWR)
data = os.urandom(8192)
os.pwrite(fd, data, 0)
number = add('vol', 0, 'error', errno='EIO', operation='read')
for i in range(3):
    expect_eq('a leg that cannot be read: the other one is', os.pread(fd, 8192, 0), data)
(leg0, done0), (leg1, done1) = legs('vol')
expect_eq('three errors are counted', (done0['read']['count'], done0['read']['errors'],
                                       done0['read']['bytes']), (3, 3, 0))
expect_eq('with the leg, too', (leg0['errors'], leg0['last_error'], leg0['state']), (3, 'EIO', 'active'))
expect_eq('the other one has read', (done1['read']['count'], done1['read']['errors'],
                                     done1['read']['bytes']), (3, 0, 3 * 8192))
whole = operations('vol')['read']
expect_eq('the client has met no error', (whole['count'], whole['errors'], whole['bytes']), (3, 0, 3 * 8192))
expect_eq('it is listed', fault(number), {
    'fault': number, 'client': 'alice', 'export': 'vol', 'leg': 0, 'action': 'error',
    'operation': 'read', 'errno': 'EIO', 'matches': 3, 'hits': 3, 'held': 0})
remove(number)
expect_eq('removed', control.call('ListFaults')['faults'], [])
os.pread(fd, 8192, 0)
expect_eq('the first leg reads again', legs('vol')[0][1]['read']['bytes'], 8192)

# --- a delay is seen, in the histogram of that leg
before = legs('vol')[1][1]['write']['count']
number = add('vol', 1, 'delay', delay_us=20000, operation='write')
for i in range(4):
    os.pwrite(fd, data, 0)
expect_eq('all were delayed', fault(number)['hits'], 4)


def slow(operation):
    """How many took more than 16384 us, where the bucket begins that 20 ms falls into."""
    return sum(bucket['count'] for bucket in operation['latency']
               if bucket.get('upto_us', 1 << 40) >= 20000)


expect('four writes of the leg took 20 ms', slow(legs('vol')[1][1]['write']) >= 4, legs('vol'))
expect('and took it together', legs('vol')[1][1]['write']['total_us'] >= 80000)
expect('so did those of the export', slow(operations('vol')['write']) >= 4)
expect_eq('which is all that there were', legs('vol')[1][1]['write']['count'], before + 4)
remove(number)

# --- some of them, and no more
number = add('vol', 0, 'error', errno='EREMOTEIO', operation='read', skip=1, times=2)
for i in range(5):
    os.pread(fd, 512, 0)
expect_eq('one is let pass, two fail', (fault(number)['matches'], fault(number)['hits'],
                                        legs('vol')[0][0]['errors']), (5, 2, 5))
expect_eq('the last of them', legs('vol')[0][0]['last_error'], 'EREMOTEIO')
remove(number)

# --- a range is of the export's sectors, wherever the leg lies
high = export('high', (a, SECTORS), (b, SECTORS))
high_fd = os.open(high, os.O_RDWR)
number = add('high', 0, 'error', errno='EIO', operation='read', sector=100, count=8)
for sector, hits in ((99, 0), (100, 1), (107, 2), (108, 2)):
    os.pread(high_fd, SECTOR, sector * SECTOR)
    expect_eq('sector %d' % sector, fault(number)['hits'], hits)
os.pread(fd, SECTOR, 100 * SECTOR)
expect_eq('not of another export on the device', fault(number)['matches'], 2)
remove(number)

# --- short transfers change nothing
number = add('high', 0, 'short', bytes=512)
os.pwrite(high_fd, data, 0)
expect_eq('it comes in pieces', os.pread(high_fd, 8192, 0), data)
expect('sixteen of them, each way', fault(number)['hits'] >= 32, fault(number))
expect_eq('on the device', read_at(a, SECTORS * SECTOR, 8192), data)
remove(number)

# --- flushes are those of the leg
number = add('high', 1, 'error', errno='EIO', operation='flush')
os.fsync(fd)
expect_eq('a flush of another export on the device', fault(number)['matches'], 0)
os.fsync(high_fd)
expect_eq('of this one', fault(number)['hits'], 1)
expect_eq('fails the leg', [leg['state'] for leg, _ in legs('high')], ['active', 'failed'])
remove(number)

# --- others are not met, even on the same sectors
shared = export('shared', (other_image, 0), shared=True)
guest = export('guest', (other_image, 0), client='bob', shared=True)
number = add('shared', 0, 'error', errno='EIO')
guest_fd, shared_fd = os.open(guest, os.O_RDWR), os.open(shared, os.O_RDWR)
expect_eq('the other client reads', len(os.pread(guest_fd, 512, 0)), 512)
os.fsync(guest_fd)
expect_eq('its requests are not even matches', fault(number)['matches'], 0)
expect_eq('this one cannot read', errno_of(os.pread, shared_fd, 512, 0), 'EIO')
expect_eq('nor flush', errno_of(os.fsync, shared_fd), 'EIO')
expect_eq('an error of the export, too', operations('shared')['read']['errors'], 1)
remove(number)
os.close(guest_fd)
os.close(shared_fd)

# --- a hold, let go one time and once and for all
held = add('vol', 1, 'hold', operation='write')


def in_background(call, *arguments):
    result = []
    thread = threading.Thread(target=lambda: result.append(errno_of(call, *arguments)))
    thread.start()
    return thread, result


thread, result = in_background(os.pwrite, fd, data, 4096)
wait_for('it is held', lambda: fault(held)['held'] == 1)
expect_eq('nobody is told yet', result, [])
expect_eq('let go', control.call('ReleaseFault', {'fault': held}), {'released': 1})
thread.join(20)
expect_eq('it goes on', result, [None])
thread, result = in_background(os.pwrite, fd, data, 0)
wait_for('the next one is held', lambda: fault(held)['held'] == 1)
remove(held)
thread.join(20)
expect_eq('with the fault it goes on', result, [None])
expect_eq('both legs are well', [leg['state'] for leg, _ in legs('vol')], ['active', 'active'])

# --- a write that fails on one leg
number = add('vol', 1, 'error', errno='EIO', operation='write', times=1)
os.pwrite(fd, data, 0)
(leg0, done0), (leg1, done1) = legs('vol')
expect_eq('fails the leg', (leg0['state'], leg1['state'], leg1['last_error']), ('active', 'failed', 'EIO'))
expect_eq('one error', (done0['write']['errors'], done1['write']['errors']), (0, 1))
asked = done1['write']['count']
os.pwrite(fd, data, 0)
expect_eq('which is asked no more', legs('vol')[1][1]['write']['count'], asked)
remove(number)

# --- a leg that refuses a write, and fails before the others have back what it has: they do not need it
refused = export('refused', *((image(name, SECTORS * SECTOR), 0) for name in ('c.img', 'd.img')))
refused_fd = os.open(refused, os.O_RDWR)
refusal = add('refused', 0, 'error', errno='EINVAL', operation='write', sector=0, count=8)
held = add('refused', 0, 'hold', operation='read')
thread, result = in_background(os.pwrite, refused_fd, data[:4096], 0)
wait_for('what was there before is being read', lambda: fault(held)['held'] == 1)
remove(refusal)
first = add('refused', 0, 'error', errno='EIO', operation='write')
os.pwrite(refused_fd, data[4096:], 4096)
second = add('refused', 1, 'error', errno='EIO', operation='write')
remove(held)
thread.join(20)
remove(second)
remove(first)
expect_eq('the last leg does not fail', [leg['state'] for leg, _ in legs('refused')], ['failed', 'active'])
expect_eq('and what it took is written', (result, os.pread(refused_fd, 8192, 0)), ([None], data))

# --- the end of an export is the end of its faults, also of what they hold
for action, more in (('hold', {}), ('delay', {'delay_us': 3600000000})):
    doomed = export('doomed', (other_image, SECTORS))
    doomed_fd = os.open(doomed, os.O_RDWR)
    number = add('doomed', 0, action, **more)
    thread, result = in_background(os.pwrite, doomed_fd, data, 0)
    wait_for('it waits', lambda: fault(number)['hits'] == 1)
    control.call('RemoveExport', {'client': 'alice', 'name': 'doomed', 'force': True})
    thread.join(20)
    expect_eq('%s: what it kept is done' % action, result, [None])
    expect_eq('%s: it is gone' % action, control.refusal('RemoveFault', {'fault': number}).name, 'NoSuchFault')
    os.close(doomed_fd)

# --- what cannot be
good = {'client': 'alice', 'export': 'vol', 'leg': 0, 'action': 'error', 'errno': 'EIO'}


def bad(parameter, **changes):
    parameters = {key: value for key, value in {**good, **changes}.items() if value is not None}
    refused = control.refusal('AddFault', parameters)
    expect_eq('%s is refused' % changes, (refused.name, refused.parameters['parameter']),
              ('org.varlink.service.InvalidParameter', parameter))


bad('leg', leg=2)
bad('leg', leg=64)
bad('action', action='explode')
bad('errno', errno=None)
bad('errno', errno='EWHAT')
bad('errno', errno='EAGAIN')
bad('errno', action='hold')
bad('delay_us', delay_us=5)
bad('delay_us', action='delay', errno=None)
bad('delay_us', action='delay', errno=None, delay_us=3600000001)
bad('bytes', action='short', errno=None)
bad('bytes', action='short', errno=None, bytes=0)
bad('sector', count=8)
bad('count', sector=8)
bad('count', sector=SECTORS - 1, count=2)
bad('count', sector=0, count=0)
bad('times', times=0)
bad('operation', operation='copy')
bad('sector', operation='flush', sector=0, count=8)
bad('speed', speed=1)
expect_eq('no such export', control.refusal('AddFault', {**good, 'export': 'none'}).name, 'NoSuchExport')
expect_eq('no such client', control.refusal('AddFault', {**good, 'client': 'none'}).name, 'NoSuchClient')
for method in ('RemoveFault', 'ReleaseFault'):
    expect_eq('no such fault', control.refusal(method, {'fault': 4711}).name, 'NoSuchFault')
expect_eq('nothing is left of it', control.call('ListFaults')['faults'], [])

# --- who may
os.chmod(os.environ['DMIO_CONTROL'], 0o666)


def as_user(uid, method, parameters=None, fds=()):
    """One call by another user, in a process of its own: the reply."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        with Connection() as connection:
            connection.send(method, parameters, fds)
            os.write(write_end, connection.receive_bytes())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, 'rb') as file:
        text = file.read()
    os.waitpid(pid, 0)
    return json.loads(text)


mine = add('vol', 0, 'delay', delay_us=1)
expect_eq('others do not see it', as_user(65534, 'ListFaults')['parameters']['faults'], [])
for method in ('RemoveFault', 'ReleaseFault'):
    expect_eq('others cannot touch it', as_user(65534, method, {'fault': mine})['error'], 'io.dmiod.NoSuchFault')
expect_eq('nor make one', as_user(65534, 'AddFault', good)['error'], 'io.dmiod.NoSuchClient')
own = os.open(image('own.img', SECTORS * SECTOR), os.O_RDWR)
as_user(65534, 'OpenClient', {'name': 'carol', 'pages': 0, 'linger': True})
reply = as_user(65534, 'CreateExport', {'client': 'carol', 'name': 'vol',
                                        'regions': [region('fd:0', 0, SECTORS)]}, [own])
expect('another user has an export', 'error' not in reply, reply)
carols = {'client': 'carol', 'export': 'vol', 'leg': 0, 'action': 'error', 'errno': 'EIO'}
for i in range(3):
    expect('and makes faults on it', 'error' not in as_user(65534, 'AddFault', carols))
reply = as_user(65534, 'AddFault', carols)
expect_eq('up to the limit', (reply['error'], reply['parameters']),
          ('io.dmiod.LimitReached', {'limit': 'faults', 'value': 3}))
expect_eq('root sees all', len(control.call('ListFaults')['faults']), 4)
expect_eq('or those of one', len(control.call('ListFaults', {'client': 'carol'})['faults']), 3)
control.call('CloseClient', {'name': 'carol'})
expect_eq('they go with their client', len(control.call('ListFaults')['faults']), 1)

# --- switched off, they all end
with open(CONF) as file:
    text = file.read()


def reload(new):
    with open(CONF + '.new', 'w') as file:
        file.write(new)
    os.rename(CONF + '.new', CONF)
    os.kill(PID, signal.SIGHUP)


remove(mine)
stuck = add('vol', 0, 'hold')
thread, result = in_background(os.pread, fd, 512, 0)
wait_for('a read is held', lambda: fault(stuck)['held'] == 1)
reload(text.replace('drills = yes', 'drills = no'))
thread.join(20)
expect_eq('drills end: it goes on', result, [None])
wait_for('all faults have ended', lambda: control.call('ListFaults')['faults'] == [])
refused = control.refusal('AddFault', good)
expect_eq('and there are no new ones', refused.name, 'PermissionDenied')
expect('which says what to do', 'drills = yes' in refused.parameters['reason'])
reload(text)


def add_works():
    control.send('AddFault', {**good, 'action': 'hold', 'errno': None})
    return 'error' not in control.receive()


wait_for('they are on again', add_works)
