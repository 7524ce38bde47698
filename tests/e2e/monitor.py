# SPDX-License-Identifier: LGPL-2.1-or-later
"""Monitor: what is told, in which order, with which numbers, and to whom; what becomes of a reader that
does not read, of one that hangs up, and of all when the daemon stops; dmioctl monitor."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

from client import (MOUNT, PID, WORK, Closed, Connection, daemon_fds, daemon_rss_kib, expect,
                    expect_eq, image, ok, region, sanitized, skip_case, wait_for)

OTHER = 65534
QUEUE = 20      # monitor-events in monitor.conf
BUILD = os.environ['DMIO_BUILD']
DMIOCTL = BUILD + '/daemon/dmioctl'


class Monitor(Connection):
    """A connection that has begun to monitor."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.send('Monitor', more=True)
        self.seq = None
        self.last = False
        self.expect('watching')

    def next(self):
        """The next event; its number must be one more, but for what an overrun tells of."""
        reply = self.receive()
        assert 'error' not in reply, reply
        self.last = not reply.get('continues')
        event = reply['parameters']
        assert set(event) == {'seq', 'event', 'details'}, event
        if self.seq is not None:
            step = event['details']['lost'] if event['event'] == 'overrun' else 1
            assert event['seq'] == self.seq + step, (self.seq, event)
        self.seq = event['seq']
        return event

    def expect(self, name, **details):
        event = self.next()
        expect_eq('event ' + name, event['event'], name)
        for key, value in details.items():
            expect_eq('%s of %s' % (key, name), event['details'].get(key), value)
        return event['details']

    def expect_nothing(self, what):
        """Nothing has come, though a call that was made later has been answered."""
        self.socket.setblocking(False)
        try:
            self.buffer += self.socket.recv(1 << 16)
        except BlockingIOError:
            pass
        self.socket.settimeout(20)
        expect_eq(what, self.buffer, b'')


def as_user(uid, function):
    """Runs function() as that user, and returns what it returns (as JSON)."""
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            answer = {'result': function()}
        except BaseException:   # pylint: disable=broad-except
            answer = {'trouble': traceback.format_exc()}
        with os.fdopen(write_end, 'w') as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = json.load(pipe)
    os.waitpid(pid, 0)
    if 'trouble' in answer:
        raise AssertionError(answer['trouble'])
    return answer['result']


def flip_pages(connection, client, n):
    """Makes n events, an even number."""
    for _ in range(n // 2):
        connection.call('Get', {'client': client, 'pages': 1})
        connection.call('Put', {'client': client, 'pages': 1})


control = Connection()
a = image('a.img', 1 << 20)
granted = image('granted.img', 1 << 20)
# What the first use of anything leaves open does not count below.
control.call('OpenClient', {'name': 'first', 'pages': 1})
control.call('CloseClient', {'name': 'first'})

# --- how it is called
refused = control.refusal('Monitor')
expect_eq('without more', (refused.name, refused.parameters),
          ('org.varlink.service.ExpectedMore', {}))
expect_eq('a parameter it does not know',
          control.refusal('Monitor', {'colour': 1}, more=True).name,
          'org.varlink.service.InvalidParameter')
with open(a, 'rb') as file:
    expect_eq('descriptors that it would hold',
              control.refusal('Monitor', fds=[file.fileno()], more=True).parameters['parameter'],
              'descriptors')
control.send('Monitor', oneway=True, more=True)
expect('one-way it is over at once', 'version' in control.call('Status'))

# --- what is told
monitor = Monitor()
control.call('OpenClient', {'name': 'alice', 'pages': 64, 'linger': True})
monitor.expect('client-opened', client='alice', uid=0, pages=64, linger=True)
control.call('Get', {'client': 'alice', 'pages': 6})
monitor.expect('pages-changed', client='alice', pages=70, before=64)
control.call('Put', {'client': 'alice', 'pages': 30})
monitor.expect('pages-changed', client='alice', pages=40, before=70)
control.call('Get', {'client': 'alice', 'pages': 0})
control.refusal('Put', {'client': 'alice', 'pages': 41})
control.refusal('OpenClient', {'name': 'alice', 'pages': 1})
control.call('CreateExport', {'client': 'alice', 'name': 'vol', 'read_only': True,
                              'regions': [region(a, 8, 64)]})
monitor.expect('export-created', client='alice', export='vol', path=MOUNT + '/alice/vol', sectors=64,
               read_only=True, regions=[region(a, 8, 64)])
control.call('RemoveExport', {'client': 'alice', 'name': 'vol'})
monitor.expect('export-removed', client='alice', export='vol')
os.kill(PID, signal.SIGHUP)
monitor.expect('configuration-reloaded')
control.call('CreateExport', {'client': 'alice', 'name': 'vol', 'regions': [region(a, 8, 64)]})
monitor.expect('export-created', export='vol', read_only=False)
control.call('CloseClient', {'name': 'alice'})
monitor.expect('export-removed', client='alice', export='vol')
monitor.expect('client-closed', client='alice', uid=0)
with Connection() as c:
    c.call('OpenClient', {'name': 'brief', 'pages': 1})
monitor.expect('client-opened', client='brief', linger=False)
monitor.expect('client-closed', client='brief')
second = Monitor()
expect_eq('a later one begins with the number of the last event', second.seq, monitor.seq)
second.close()

# --- legs
if shutil.which('nbdfuse') and shutil.which('nbdkit'):
    folder = os.path.join(WORK, 'bad')
    os.mkdir(folder)
    server = subprocess.Popen(
        ['nbdfuse', folder + '/disk', '[', 'nbdkit', '--exit-with-parent', '-f', '--filter=error',
         'memory', '1M', 'error-pread=EIO', 'error-pread-rate=100%',
         'error-pread-file=' + folder + '.read', 'error-pwrite=ENOSPC', 'error-pwrite-rate=100%',
         'error-pwrite-file=' + folder + '.write', ']'],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for('the bad device', lambda: os.path.exists(folder + '/disk'))
        bad = region(folder + '/disk', 16, 512)
        # Not one that lasts: its removals would wait for the disk, with reads going on meanwhile.
        control.call('OpenClient', {'name': 'bob', 'pages': 64})
        file = control.call('CreateExport', {'client': 'bob', 'name': 'vol', 'regions': [
            bad, region(a, 0, 512)]})['export']['path']
        monitor.expect('client-opened')
        monitor.expect('export-created')
        fd = os.open(file, os.O_RDWR)
        open(folder + '.read', 'w').close()
        os.pread(fd, 4096, 65536)
        os.unlink(folder + '.read')
        monitor.expect('leg-error', client='bob', export='vol', leg=0, region=bad, errno='EIO',
                       operation='read', errors=1)
        open(folder + '.write', 'w').close()
        os.pwrite(fd, b'x' * 4096, 0)
        monitor.expect('leg-failed', client='bob', export='vol', leg=0, region=bad, errno='ENOSPC',
                       operation='write')
        os.pwrite(fd, b'x' * 4096, 0)
        expect_eq('it is failed', [leg['state'] for leg in control.call('ListExports')['exports'][0]
                                   ['legs']], ['failed', 'active'])
        os.close(fd)
        control.call('RemoveExport', {'client': 'bob', 'name': 'vol'})
        monitor.expect('export-removed')

        # Errors while it is being removed come before the removal; many come as few.
        os.unlink(folder + '.write')
        file = control.call('CreateExport', {'client': 'bob', 'name': 'vol', 'regions': [
            bad, region(a, 0, 512)]})['export']['path']
        monitor.expect('export-created')
        open(folder + '.read', 'w').close()
        fd = os.open(file, os.O_RDWR)
        n_read = []

        def read_much():
            try:
                while len(n_read) < 200:
                    os.pread(fd, 512, 131072 + 4096 * len(n_read) % 65536)
                    n_read.append(1)
            except OSError:
                pass

        thread = threading.Thread(target=read_much)
        thread.start()
        wait_for('some reads', lambda: len(n_read) > 20)
        control.call('RemoveExport', {'client': 'bob', 'name': 'vol', 'force': True})
        thread.join(20)
        n_errors = 0
        while True:
            event = monitor.next()
            if event['event'] != 'leg-error':
                break
            n_errors += event['details']['errors']
        expect_eq('the removal is last', event['event'], 'export-removed')
        # The last one may have been done after its leg's error, when there was no export any more.
        expect('all errors are counted', len(n_read) <= n_errors <= len(n_read) + 1,
               (n_errors, len(n_read)))
        os.close(fd)
        control.call('CloseClient', {'name': 'bob'})
        monitor.expect('client-closed')
    finally:
        server.terminate()
        server.wait(20)
else:
    skip_case('legs: nbdfuse and nbdkit are not there')

# --- whose events
control.call('OpenClient', {'name': 'boss', 'pages': 8, 'linger': True})
monitor.expect('client-opened', client='boss')


def see_its_own():
    mine = Monitor()
    first = mine.seq
    flip_pages(control, 'boss', 4)
    os.write(wake, b'x')        # root's side sends SIGHUP
    c = Connection()
    c.call('OpenClient', {'name': 'mine', 'pages': 8})
    c.call('CreateExport', {'client': 'mine', 'name': 'vol', 'regions': [region('granted', 0, 8)]})
    flip_pages(control, 'boss', 2)
    c.close()
    events = [mine.next() for _ in range(4)]
    return [first, [(e['seq'], e['event'], e['details']['client']) for e in events],
            events[1]['details']['regions']]


ready, wake = os.pipe()


def reload_when_told():
    os.read(ready, 1)
    os.kill(PID, signal.SIGHUP)


thread = threading.Thread(target=reload_when_told)
thread.start()
first, events, regions = as_user(OTHER, see_its_own)
thread.join(20)
expect_eq('another user has a count of its own', first, 0)
expect_eq('it sees its own', events,
          [[1, 'client-opened', 'mine'], [2, 'export-created', 'mine'],
           [3, 'export-removed', 'mine'], [4, 'client-closed', 'mine']])
expect_eq('with the names that it may use', regions, [region('granted', 0, 8)])
seen = [monitor.next() for _ in range(11)]
expect_eq('root sees all', sorted(e['event'] for e in seen),
          sorted(['pages-changed'] * 6 + ['client-opened', 'export-created', 'export-removed',
                                          'client-closed', 'configuration-reloaded']))
expect_eq('with the owner', [e['details']['uid'] for e in seen if e['event'] == 'client-opened'],
          [OTHER])

# --- order of answers
pipelined = Connection()
for method, more in (('Status', False), ('Monitor', True), ('Status', False)):
    pipelined.send(method, more=more)
expect('an answer before', 'version' in pipelined.receive()['parameters'])
expect_eq('the first event', pipelined.receive()['parameters']['event'], 'watching')
flip_pages(control, 'boss', 2)
for _ in range(2):
    expect_eq('the call behind waits', pipelined.receive()['parameters']['event'], 'pages-changed')
    monitor.expect('pages-changed', client='boss')
pipelined.close()

half = Monitor()
half.socket.shutdown(1)
flip_pages(control, 'boss', 2)
half.expect('pages-changed', client='boss')
half.expect('pages-changed', client='boss')
ok('who sends no more is told all the same')
half.close()
monitor.expect('pages-changed')
monitor.expect('pages-changed')

# --- a reader that does not read
slow = Monitor()
begin = slow.seq
rss = daemon_rss_kib()
TOTAL = 6000
for _ in range(TOTAL // 20):
    flip_pages(control, 'boss', 20)
    for _ in range(20):
        assert monitor.next()['event'] == 'pages-changed'
ok('others are not held up')
if not sanitized():
    expect('memory is bounded', daemon_rss_kib() < rss + 4096, (rss, daemon_rss_kib()))
n_read = n_lost = n_overruns = 0
while slow.seq < begin + TOTAL:
    event = slow.next()     # checks the numbers
    if event['event'] == 'overrun':
        n_overruns += 1
        n_lost += event['details']['lost']
    else:
        n_read += 1
expect_eq('read and lost make all', n_read + n_lost, TOTAL)
expect_eq('what is lost is told once', n_overruns, 1)
expect('the limit holds', n_lost > 0 and n_read >= QUEUE, (n_read, n_lost))
flip_pages(control, 'boss', 2)
slow.expect('pages-changed')
slow.expect('pages-changed')
ok('it goes on afterwards')
slow.close()
monitor.expect('pages-changed')
monitor.expect('pages-changed')

# --- a peer that hangs up: idle, and with much unread
fds = daemon_fds()
gone = [Monitor() for _ in range(10)]
flip_pages(control, 'boss', 2000)
gone += [Monitor() for _ in range(10)]
for c in gone:
    c.send('Status')
    c.close()
wait_for('their descriptors are closed', lambda: daemon_fds() <= fds)
flip_pages(control, 'boss', 2)
while monitor.seq is not None:
    event = monitor.next()
    if event['seq'] == Monitor().seq:
        break
ok('the others go on')
monitor.expect_nothing('and have had all')


# --- dmioctl monitor
def start(*arguments, **more):
    process = subprocess.Popen([DMIOCTL, '--control=' + os.environ['DMIO_CONTROL'], 'monitor',
                                *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, **more)
    return process, process.stdout.readline()


for number in signal.SIGINT, signal.SIGTERM:
    process, line = start()
    expect('a line an event', line[8:] == ' watching\n' and line[2] == ':', line)
    control.call('Get', {'client': 'boss', 'pages': 2})
    expect_eq('with what it is about', process.stdout.readline()[8:],
              ' pages-changed boss: 10 pages, before 8\n')
    control.call('Put', {'client': 'boss', 'pages': 2})
    process.stdout.readline()
    process.send_signal(number)
    expect_eq('a signal ends it', (process.wait(20), process.stderr.read()), (0, ''))
process, line = start('--json')
expect_eq('--json', json.loads(line)['event'], 'watching')
control.call('CloseClient', {'name': 'boss'})
event = json.loads(process.stdout.readline())
expect_eq('is what the daemon sent', (event['seq'], event['event'], event['details']),
          (json.loads(line)['seq'] + 1, 'client-closed', {'client': 'boss', 'uid': 0}))
process.terminate()
process.wait(20)
monitor.close()

# --- the daemon stops: one of our own
CONTROL = os.path.join(WORK, 'control2')
log = open(os.path.join(WORK, 'dmiod2.log'), 'w')
daemon = subprocess.Popen([BUILD + '/daemon/dmiod', '--config=' + WORK + '/dmiod.conf',
                           '--mount=' + WORK + '/mnt2', '--control=' + CONTROL,
                           '--state=' + os.environ['DMIO_STATE'] + '2'], stdout=log, stderr=log)


def is_up():
    try:
        Connection(path=CONTROL).close()
        return True
    except OSError:
        return False


try:
    wait_for('another daemon', is_up)
    control = Connection(path=CONTROL)
    control.call('OpenClient', {'name': 'last', 'pages': 8, 'linger': True})
    reader, never = (Monitor(path=CONTROL) for _ in range(2))
    process = subprocess.Popen([DMIOCTL, '--control=' + CONTROL, 'monitor', '--json'],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    reader.send('Status')
    for _ in range(300):
        flip_pages(control, 'last', 20)
        for _ in range(20):
            reader.next()
            process.stdout.readline()
    idle = Monitor(path=CONTROL)
    flip_pages(control, 'last', QUEUE - 2)
    for _ in range(QUEUE - 2):
        reader.next()
        process.stdout.readline()
    begin = time.monotonic()
    daemon.terminate()
    reader.expect('stopping')
    expect('it is the last', reader.last)
    try:
        reader.receive()
        raise AssertionError('there is more')
    except Closed:
        ok('then the connection is closed')
    event = json.loads(process.stdout.readline())
    expect_eq('dmioctl shows it', event['event'], 'stopping')
    expect_eq('and ends with 3', process.wait(20), 3)
    expect_eq('the daemon ends well', daemon.wait(20), 0)
    expect('and is not held up', time.monotonic() - begin < 9, time.monotonic() - begin)
    for _ in range(QUEUE - 2):
        idle.expect('pages-changed')
    idle.expect('stopping')
    ok('who is late finds all of it')
    try:
        while True:
            never.next()
    except Closed:
        expect('who has not read at all is told no lies', not never.last)
finally:
    if daemon.poll() is None:
        daemon.kill()
        daemon.wait()
with open(os.path.join(WORK, 'dmiod2.log')) as file:
    text = file.read()
expect('no complaint of a sanitizer', 'Sanitizer' not in text and 'runtime error' not in text, text)
