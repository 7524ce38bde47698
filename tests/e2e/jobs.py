# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copy, Zero, ListJobs and CancelJob: what is copied, byte for byte; progress, cancellation, what is
refused, whose job it is, and what ends with whom. A job that is to last is throttled to one percent."""

import atexit
import os
import subprocess
import time

from client import (MOUNT, WORK, Connection, daemon_fds, expect, expect_eq, image, ok,
                    pattern, read_at, region, skip_case, wait_for)

OTHER = 65534
MIB = 1 << 20
SECTORS = 2048      # of a MiB
LONG = 512          # MiB: at one percent this takes very long


def jobs(c, **wanted):
    return [job for job in c.call('ListJobs')['jobs']
            if all(job[key] == value for key, value in wanted.items())]


def loop_device(path):
    try:
        made = subprocess.run(['losetup', '-f', '--show', path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    device = made.stdout.decode().strip()
    atexit.register(subprocess.run, ['losetup', '-d', device], check=False)
    return device


def long_copy(client, more=True, **parameters):
    """A connection on which a copy has been asked for that does not end by itself."""
    c = Connection()
    start_long(c, client, more, **parameters)
    return c


def start_long(c, client, more=True, **parameters):
    c.send('Copy', {'client': client, 'source': region(long_source, 0, LONG * SECTORS),
                    'destinations': [region(long_dest, 0, LONG * SECTORS)], 'throttle': 1,
                    **parameters}, more=more)


def last_reply(c):
    while True:
        reply = c.receive()
        if not reply.get('continues'):
            return reply


c = Connection()
c.call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
c.call('OpenClient', {'name': 'bob', 'pages': 16, 'linger': True})
fds = daemon_fds()
in_use = c.call('Status')['pool']['in_use']
source, first = image('source.img', 16 * MIB), image('first.img', 16 * MIB)
second = image('second.img', 16 * MIB)
data = pattern(16 * MIB)
with open(source, 'r+b') as f:
    f.write(data)
long_source, long_dest = image('long-source.img', LONG * MIB), image('long-dest.img', LONG * MIB)

# --- what is copied
loop = loop_device(second)
if not loop:
    skip_case('a loop device: there is none')
reply = c.call('Copy', {'client': 'alice', 'source': region(source, 24, 20001),
                        'destinations': [region(first, 8, 20001), region(loop or second, 1, 20001)]})
number = reply.pop('job')
expect_eq('a copy to two regions', reply,
          {'state': 'done', 'done_sectors': 20001, 'total_sectors': 20001, 'read_failed': False,
           'error_bits': '0x0', 'failed': []})
wanted = data[24 * 512:20025 * 512]
expect('the first has the bytes', read_at(first, 8 * 512, len(wanted)) == wanted)
expect('none beside them', not any(read_at(first, 0, 8 * 512)) and
       not any(read_at(first, 20009 * 512, MIB)))
expect('the second, a device, as well', read_at(loop or second, 512, len(wanted)) == wanted)
expect('nothing beside them', not any(read_at(loop or second, 0, 512)) and
       not any(read_at(loop or second, 20002 * 512, MIB)))
for name, parameters in (('sequential', {'sequential': True}),
                         ('ignore_errors', {'ignore_errors': True}),
                         ('both, a client with few pages',
                          {'sequential': True, 'ignore_errors': True, 'client': 'bob'})):
    c.call('Zero', {'client': 'alice', 'destinations': [region(first, 0, 32768)]})
    expect('zeroed', not any(read_at(first, 0, 16 * MIB)))
    reply = c.call('Copy', {'client': 'alice', 'source': region(source, 0, 32768),
                            'destinations': [region(first, 0, 32768)], **parameters})
    expect_eq(name + ': a copy', reply['state'], 'done')
    expect('it has the bytes', read_at(first, 0, 16 * MIB) == data)
reply = c.call('Zero', {'client': 'bob', 'destinations': [region(first, 8, 100),
                                                          region(loop or second, 9, 100)]})
expect('zeroes, an odd place of a device', reply['state'] == 'done' and 'read_failed' not in reply,
       reply)
expect('exactly there', read_at(first, 0, MIB) == data[:8 * 512] + bytes(51200) +
       data[108 * 512:MIB] and not any(read_at(loop or second, 9 * 512, 51200)))
expect('and not beside', read_at(loop or second, 8 * 512, 512) == data[31 * 512:32 * 512] and
       read_at(loop or second, 109 * 512, 512) == data[132 * 512:133 * 512])
reply = c.call('Copy', {'client': 'alice', 'source': region(source, 0, 8),
                        'destinations': [region(source, 8 + 8 * i, 8) for i in range(8)]})
expect('eight destinations on the source\'s device', reply['state'] == 'done' and
       read_at(source, 4096, 8 * 4096) == data[:4096] * 8, reply)
expect_eq('numbers differ', len({job['job'] for job in jobs(c)}), len(jobs(c)))
expect_eq('the first one is listed', [(job['client'], job['kind'], job['state'])
                                      for job in jobs(c, job=number)], [('alice', 'copy', 'done')])
expect('and when it started', 0 <= jobs(c, job=number)[0]['started'] < 600)

# --- progress
start = time.monotonic()
replies = c.call_more('Copy', {'client': 'alice', 'source': region(source, 0, 32768),
                               'destinations': [region(first, 0, 32768)], 'throttle': 3})
elapsed = time.monotonic() - start
expect_eq('with more: first, that it runs', replies[0]['state'], 'running')
expect_eq('last, that it is done', (replies[-1]['state'], replies[-1]['done_sectors']), ('done', 32768))
expect('between these running ones', all(r['state'] == 'running' for r in replies[:-1]))
done = [r['done_sectors'] for r in replies]
expect_eq('progress goes forward', done, sorted(done))
expect_eq('of one job', len({r['job'] for r in replies}), 1)
expect('at most four times a second', len(replies) - 2 <= elapsed * 4, (len(replies), elapsed))

# --- cancellation
running = long_copy('alice')
reply = running.receive()
job = reply['parameters']['job']
expect('a long one tells its number', reply['continues'] and reply['parameters']['state'] == 'running')
expect_eq('it is listed as running', [j['job'] for j in jobs(c, state='running')], [job])
while reply['parameters']['done_sectors'] == 0:
    reply = running.receive()
ok('it makes progress')
c.call('CancelJob', {'job': job})
reply = last_reply(running)
expect_eq('cancelled, that is its reply', reply['parameters']['state'], 'cancelled')
expect('before its end', 0 < reply['parameters']['done_sectors'] < LONG * SECTORS)
c.call('CancelJob', {'job': job})
expect_eq('once more changes nothing', jobs(c, job=job)[0]['state'], 'cancelled')
expect_eq('the connection goes on', running.call('ListJobs'), c.call('ListJobs'))
c.call('CancelJob', {'job': number})
expect_eq('nor is one cancelled that was done', jobs(c, job=number)[0]['state'], 'done')
refused = c.refusal('CancelJob', {'job': 123456})
expect_eq('no such job', (refused.name, refused.parameters), ('NoSuchJob', {'job': 123456}))
start_long(running, 'alice', more=False)
wait_for('it runs', lambda: jobs(c, state='running'))
c.call('CancelJob', {'job': jobs(c, state='running')[0]['job']})
expect_eq('without more there is one reply', running.receive()['parameters']['state'], 'cancelled')
running.close()

# --- what is refused
BAD = (
    ('a source beyond the end', region(source, 32760, 16), [region(first, 0, 16)], -1),
    ('a destination beyond the end', region(source, 0, 16), [region(second, 0, 16),
                                                             region(first, 32760, 16)], 1),
    ('counts that differ', region(source, 0, 16), [region(first, 0, 16), region(second, 0, 17)], 1),
    ('a source of another length', region(source, 0, 15), [region(first, 0, 16)], -1),
    ('a destination on the source', region(source, 0, 16), [region(first, 0, 16),
                                                            region(source, 15, 16)], 1),
)
before = read_at(first, 0, 16 * MIB), read_at(second, 0, 16 * MIB), read_at(source, 0, 16 * MIB)
for what, from_, to, number in BAD:
    refused = c.refusal('Copy', {'client': 'alice', 'source': from_, 'destinations': to})
    expect_eq(what, (refused.name, refused.parameters['region']), ('InvalidRegion', number))
one = {'client': 'alice', 'source': region(source, 0, 8), 'destinations': [region(first, 0, 8)]}
for what, parameters, name in (
        ('no destination', {'destinations': []}, 'destinations'),
        ('nine', {'destinations': [region(first, 8 * i, 8) for i in range(9)]}, 'destinations'),
        ('a throttle of 0', {'throttle': 0}, 'throttle'),
        ('a throttle of 101', {'throttle': 101}, 'throttle'),
        ('a member that is not known', {'speed': 1}, 'speed')):
    refused = c.refusal('Copy', {**one, **parameters})
    expect_eq(what, (refused.name, refused.parameters['parameter']),
              ('org.varlink.service.InvalidParameter', name))
expect_eq('no such client', c.refusal('Copy', {**one, 'client': 'nobody'}).name, 'NoSuchClient')
expect_eq('no such device', c.refusal('Copy', {**one, 'source': region(WORK + '/none', 0, 8)}).name,
          'NoSuchDevice')
expect_eq('Zero has no source', c.refusal('Zero', one).parameters['parameter'], 'source')
read_only = os.open(first, os.O_RDONLY)
expect_eq('a destination that can only be read',
          c.refusal('Copy', {**one, 'destinations': [region('fd:0', 0, 8)]}, [read_only]).name,
          'DeviceError')
expect_eq('as a source it will do',
          c.call('Copy', {**one, 'source': region('fd:0', 0, 8),
                          'destinations': [region(second, 0, 8)]}, [read_only])['state'], 'done')
os.close(read_only)
expect('none of them has written', (read_at(first, 0, 16 * MIB), read_at(second, 4096, 16 * MIB),
                                    read_at(source, 0, 16 * MIB)) ==
       (before[0], before[1][4096:], before[2]))

# --- sectors of others
c.call('CreateExport', {'client': 'bob', 'name': 'vol', 'regions': [region(first, 100, 100)]})
for what, from_, to, number in (
        ('to an export of another client', region(source, 0, 8),
         [region(second, 0, 8), region(first, 199, 8)], 1),
        ('from one', region(first, 93, 8), [region(second, 0, 8)], -1)):
    refused = c.refusal('Copy', {'client': 'alice', 'source': from_, 'destinations': to})
    expect_eq('a copy ' + what, (refused.name, refused.parameters),
              ('RegionBusy', {'region': number, 'client': 'bob', 'name': 'vol'}))
expect_eq('zeroes there', c.refusal('Zero', {'client': 'alice',
                                             'destinations': [region(first, 150, 1)]}).name, 'RegionBusy')
expect_eq('beside it', c.call('Zero', {'client': 'alice', 'destinations': [region(first, 99, 1)]})['state'],
          'done')
expect_eq('its own client may', c.call('Copy', {'client': 'bob', 'source': region(source, 0, 100),
                                                'destinations': [region(first, 100, 100)]})['state'], 'done')
expect('which its file shows', read_at(MOUNT + '/bob/vol', 0, 51200) == read_at(source, 0, 51200))
c.call('RemoveExport', {'client': 'bob', 'name': 'vol'})
c.call('CreateExport', {'client': 'bob', 'name': 'vol', 'shared': True,
                        'regions': [region(first, 100, 100)]})
expect_eq('a shared export is in nobody\'s way',
          c.call('Zero', {'client': 'alice', 'destinations': [region(first, 100, 100)]})['state'], 'done')
c.call('RemoveExport', {'client': 'bob', 'name': 'vol'})

running = long_copy('alice')
job = running.receive()['parameters']['job']
for what, device in (('source', long_source), ('destination', long_dest)):
    refused = c.refusal('CreateExport', {'client': 'bob', 'name': 'vol',
                                         'regions': [region(device, (LONG - 1) * SECTORS, 8)]})
    expect_eq('no export is made of the %s of a job' % what,
              (refused.name, refused.parameters['client']), ('RegionBusy', 'alice'))
c.call('CancelJob', {'job': job})
last_reply(running)
c.call('CreateExport', {'client': 'bob', 'name': 'vol', 'regions': [region(long_dest, 0, 8)]})
ok('when it has ended one can be')
c.call('RemoveExport', {'client': 'bob', 'name': 'vol'})
running.close()

# --- who goes, and what ends with it
for more in True, False:
    kind = 'with more' if more else 'without'
    holder = Connection()
    holder.call('OpenClient', {'name': 'brief', 'pages': 64})
    start_long(holder, 'brief', more)
    wait_for('it runs', lambda: jobs(c, client='brief', state='running'))
    holder.close()
    wait_for('the client is gone', lambda: not [x for x in c.call('ListClients')['clients']
                                                if x['name'] == 'brief'])
    expect_eq('%s: a job ends with the connection of its client' % kind, jobs(c, client='brief'), [])

    lost = long_copy('alice', more)
    wait_for('it runs', lambda: jobs(c, state='running'))
    connections = daemon_fds()
    lost.close()
    if more:
        wait_for('the connection is gone', lambda: daemon_fds() < connections)
    job = jobs(c, client='alice')[-1]
    expect_eq('%s: the job of a client that lingers goes on' % kind, job['state'], 'running')
    wait_for('it gets on', lambda: jobs(c, job=job['job'])[0]['done_sectors'] > job['done_sectors'])
    c.call('CancelJob', {'job': job['job']})
    wait_for('it can be cancelled', lambda: jobs(c, job=job['job'])[0]['state'] == 'cancelled')
    ok('%s: until it is cancelled' % kind)
running = long_copy('bob')
running.receive()
c.call('CloseClient', {'name': 'bob'})
expect_eq('a client that is closed cancels its jobs', last_reply(running)['parameters']['state'],
          'cancelled')
expect_eq('which go with it', jobs(c, client='bob'), [])
running.close()

# --- results are kept for a while
for _ in range(20):
    c.call('Zero', {'client': 'alice', 'destinations': [region(first, 0, 8)]})
expect_eq('the last sixteen', len(jobs(c)), 16)


# --- another user
def as_other(function):
    """Runs function() as another user; what it says is its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(OTHER, OTHER, OTHER)
            os.setresuid(OTHER, OTHER, OTHER)
            function()
            status = 0
        except BaseException as e:  # pylint: disable=broad-except
            os.write(2, ('%r\n' % e).encode())
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def other_user():
    mine = Connection()
    mine.call('OpenClient', {'name': 'mine', 'pages': 16})
    assert mine.call('ListJobs')['jobs'] == []
    assert mine.refusal('CancelJob', {'job': job}).name == 'NoSuchJob'
    assert mine.refusal('Copy', one).name == 'NoSuchClient'
    assert mine.refusal('Copy', {**one, 'client': 'mine'}).name == 'PermissionDenied'
    granted = {'client': 'mine', 'source': region('granted', 0, 65536), 'throttle': 1,
               'destinations': [region('granted', 65536, 65536)]}
    runners = [Connection() for _ in range(2)]
    for runner in runners:
        runner.send('Copy', granted, more=True)
        assert runner.receive()['parameters']['state'] == 'running'
    assert len(mine.call('ListJobs')['jobs']) == 2
    refused = mine.refusal('Copy', granted)
    assert (refused.name, refused.parameters) == ('LimitReached', {'limit': 'jobs', 'value': 2})
    number = mine.call('ListJobs')['jobs'][0]['job']
    mine.call('CancelJob', {'job': number})
    assert last_reply(runners[0])['parameters']['state'] == 'cancelled'
    runners[0].send('Copy', granted, more=True)
    assert runners[0].receive()['parameters']['state'] == 'running'
    # They end with us.


image('granted.img', 64 * MIB)
running = long_copy('alice')
job = running.receive()['parameters']['job']
expect_eq('another user sees, cancels and starts none of ours, and is limited', as_other(other_user), 0)
expect_eq('ours still runs', jobs(c, job=job)[0]['state'], 'running')
wait_for('the other\'s are gone', lambda: not jobs(c, client='mine'))
more = [long_copy('alice') for _ in range(3)]
for x in more:
    expect_eq('root is not limited', x.receive()['parameters']['state'], 'running')
for x in jobs(c, state='running'):
    c.call('CancelJob', {'job': x['job']})
for x in more + [running]:
    expect_eq('all are cancelled', last_reply(x)['parameters']['state'], 'cancelled')
    x.close()

# --- nothing is left
wait_for('no descriptor is kept', lambda: daemon_fds() <= fds)
expect_eq('nor a page', c.call('Status')['pool']['in_use'], in_use)

# One is left running: the daemon is about to be stopped.
long_copy('alice').receive()
