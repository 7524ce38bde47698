# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peers by the thousand that are slow, do not read, send halves of messages with descriptors, or disappear:
memory and descriptors stay within limits, each with its error; the processor rests; others are served."""

import json
import os
import pty
import resource
import select
import socket
import sys
import time

from client import (MOUNT, PID, WORK, Closed, Connection, Refused, connect_as, daemon_fds, daemon_rss_kib, expect,
                    expect_eq, image, memfd, ok, region, sanitized, skip_case, wait_for)

NOBODY, OTHER = 65534, 65533
CONNECTIONS, DESCRIPTORS, BUFFERS = 1000, 1000, 32 << 20      # as in hostile-peers.conf
STATUS = b'{"method":"io.dmiod.Status"}\n'

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def close(connections):
    for c in connections:
        c.close()
    connections.clear()


def state_and_time():
    """Of the main thread: 'S' if it waits; and the seconds that the process has used."""
    with open('/proc/%d/stat' % PID) as stat:
        fields = stat.read().rsplit(') ', 1)[1].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def expect_rest(what):
    """There is nothing to do, and nothing is done. What is under way may end first; and on a busy machine
    who has something to do may have to wait for his turn, and is not resting then."""
    def is_resting():
        before = state_and_time()[1]
        for _ in range(30):
            time.sleep(0.01)
            state, now = state_and_time()
            if state != 'S' or now - before > 0.03:
                return False
        return True
    wait_for(what, is_resting, limit=60)
    ok(what)


def expect_rss(what, grown_kib, before):
    if not sanitized():
        now = daemon_rss_kib()
        expect('%s: memory grows by %d KiB, at most %d' % (what, now - before, grown_kib),
               now - before <= grown_kib)


def expect_served(what):
    for uid in OTHER, 0:
        with connect_as(uid) as c:
            expect('%s: uid %d is served' % (what, uid), c.call('Status')['version'])


with Connection() as c:
    c.call('Status')
fds = daemon_fds()
rss = daemon_rss_kib()


def all_gone(what):
    wait_for(what + ': no descriptor is left', lambda: daemon_fds() <= fds)
    ok(what + ': no descriptor is left')


# --- who never reads: noticed by what is dropped 30 seconds later, at the end of this test
deaf = []
for _ in range(5):
    c = connect_as(NOBODY)
    c.socket.setblocking(False)
    try:
        while True:
            c.socket.send(STATUS * 100)
    except BlockingIOError:
        deaf.append(c)
expect_served('5 that do not read')
expect_rest('5 that do not read cost no time')
expect_rss('5 that do not read', 5 * 2048 + 4096, rss)

# --- slow ones: a byte each, again and again
slow = [connect_as(NOBODY) for _ in range(CONNECTIONS - len(deaf))]
for i in range(len(STATUS)):
    for c in slow:
        c.socket.send(STATUS[i:i + 1])
    if i == len(STATUS) // 2:
        expect_served('%d half messages' % len(slow))
        expect_rest('half messages cost no time')
        expect_rss('%d half messages' % len(slow), 5 * 2048 + 4096 + len(slow) * 8, rss)
expect_eq('byte by byte, all of them are answered', sum('version' in c.receive()['parameters'] for c in slow),
          len(slow))

# --- one more is told why not, and others get in
refused = 0
for _ in range(20):
    with connect_as(NOBODY) as c:
        c.send('Status')
        refused += c.receive()['parameters'] == {'limit': 'connections', 'value': CONNECTIONS}
        try:
            c.receive()
            refused = -100
        except Closed:
            pass
expect_eq('one connection too many, 20 times', refused, 20)
expect_served('the limit of one')
close(slow)


# --- halves of large messages
def halves(count, size, fds_each=()):
    """Sends as many beginnings of messages; returns those that are kept and what the others were told."""
    kept, told = [], []
    start = b'{"method":"io.dmiod.Status","parameters":{"x":"'
    for _ in range(count):
        c = connect_as(NOBODY)
        c.send_bytes(start + b'x' * size, fds_each)
        kept.append(c)
    expect_rest('all of %d halves have been seen' % count)
    for c in list(kept):
        if select.select([c.socket], [], [], 0)[0]:
            told.append(c.receive())
            try:
                c.receive()
                told.append('is not closed')
            except Closed:
                pass
            c.close()
            kept.remove(c)
    return kept, told


kept, told = halves(100, 700000)
expect_eq('too many large halves: what is said', {json.dumps(t) for t in told},
          {json.dumps({'error': 'io.dmiod.LimitReached', 'parameters': {'limit': 'buffers', 'value': BUFFERS}})})
expect('what is within the limit is kept (%d, %d refused)' % (len(kept), len(told)),
       10 <= len(kept) <= BUFFERS // 700000)
expect_served('large halves')
expect_rest('large halves cost no time')
expect_rss('large halves', BUFFERS // 1024 + 5 * 2048 + 8192, rss)
c = kept.pop()
c.send_bytes(b'"}}\n')
expect_eq('one of them goes on', c.receive()['parameters'], {'parameter': 'x', 'reason': 'is not known here'})
c.close()
close(kept)
all_gone_fds = len(deaf)
wait_for('they are gone', lambda: daemon_fds() <= fds + all_gone_fds)
kept, told = halves(3, 700000)
expect_eq('gone, they leave room for others', (len(kept), told), (3, []))
close(kept)

# --- many descriptors, in halves of messages
sent = [os.open('/dev/null', os.O_RDONLY) for _ in range(64)]
kept, told = halves(100, 1, sent)
expect_eq('too many descriptors: what is said', {json.dumps(t) for t in told},
          {json.dumps({'error': 'io.dmiod.LimitReached',
                       'parameters': {'limit': 'held-descriptors', 'value': DESCRIPTORS}})})
expect_eq('what is within the limit is kept', len(kept), DESCRIPTORS // 64)
expect('so many are open (%d)' % (daemon_fds() - fds), daemon_fds() - fds < DESCRIPTORS + 200)
with connect_as(OTHER) as c:
    expect('another sends some', c.call('Status', fds=sent)['version'])
close(kept)
wait_for('they are closed', lambda: daemon_fds() <= fds + all_gone_fds)
for _ in range(DESCRIPTORS // 64 * 3):
    with connect_as(NOBODY) as c:
        c.call('Status', fds=sent)
ok('closed, they count no more')
for fd in sent:
    os.close(fd)

# --- no descriptors at all
limit = resource.prlimit(PID, resource.RLIMIT_NOFILE)
resource.prlimit(PID, resource.RLIMIT_NOFILE, (daemon_fds() + 100, limit[1]))
try:
    many, told = [], None
    for _ in range(300):
        c = connect_as(NOBODY, timeout=5)
        many.append(c)
        c.send('Status')
    expect_rest('without descriptors the main loop rests')
    with Connection() as c:
        expect('root is served all the same', c.call('Status')['version'])
    answered = [c.receive() for c in many if select.select([c.socket], [], [], 0)[0]]
    refused = [a for a in answered if 'error' in a]
    expect('others are told (%d of %d)' % (len(refused), len(many)), len(refused) > 100)
    expect_eq('what they are told', {a['parameters']['limit'] for a in refused}, {'open-descriptors'})
    close(many)
    wait_for('they are gone', lambda: daemon_fds() <= fds + all_gone_fds)
    with connect_as(NOBODY) as c:
        expect('then there is room again', c.call('Status')['version'])
finally:
    resource.prlimit(PID, resource.RLIMIT_NOFILE, limit)

# --- odd descriptors: not asked for, as a device, as memory
path = image('a.img', 1 << 20)
control = Connection()
control.call('OpenClient', {'name': 'odd', 'pages': 8})
control.call('CreateExport', {'client': 'odd', 'name': 'vol', 'regions': [region(path, 0, 1024)]})
mine = os.open(MOUNT + '/odd/vol', os.O_RDWR)
master, slave = pty.openpty()
pipes = os.pipe()
left, right = socket.socketpair()
epoll = select.epoll()
odd = {
    'a file of its own mount': mine,
    'its own connection': control.socket.fileno(),
    'an epoll': epoll.fileno(),
    'a pidfd': os.pidfd_open(os.getpid()),
    'a path': os.open(path, os.O_PATH),
    'a folder': os.open('/', os.O_RDONLY),
    'a folder of its own mount': os.open(MOUNT, os.O_RDONLY),
    '/dev/zero': os.open('/dev/zero', os.O_RDWR),
    '/dev/null': os.open('/dev/null', os.O_RDWR),
    'a terminal': slave,
    'a pipe': pipes[0],
    'a socket': left.fileno(),
    'an event counter': os.eventfd(0),
}
for what, fd in odd.items():
    with Connection() as c:
        expect(what + ' that nobody asked for', c.call('Status', fds=[fd])['version'])
        for method in 'Io', 'SubmitIo':
            refused = c.refusal(method, {'client': 'odd', 'op': 'write', 'regions': [region('fd:0', 0, 8)],
                                         'memory': {'fill': 1}}, [fd])
            expect('%s as a device of %s: %s' % (what, method, refused),
                   refused.name in ('DeviceError', 'InvalidRegion', 'NoSuchDevice'))
            for op in 'write', 'read':
                refused = c.refusal(method, {'client': 'odd', 'op': op, 'regions': [region(path, 1024, 8)],
                                             'memory': {'fd': 0, 'vm': 0}}, [fd])
                expect('%s as memory of a %s: %s' % (what, op, refused), refused.name == 'InvalidMemory')
os.close(mine)

# --- who disappears in the middle
control.call('Get', {'client': 'odd', 'pages': 600})
wait_for('the file is closed', lambda: control.call('ListExports')['exports'][0]['open_count'] == 0)
before = daemon_fds()
submitted = control.call('SubmitIo', {'client': 'odd', 'op': 'flush', 'regions': [region(path, 0, 0)]})
for round_ in range(40):
    gone = [Connection() for _ in range(6)]
    gone[0].send('Monitor', {}, more=True)
    gone[1].send('Copy', {'client': 'odd', 'source': region(path, 0, 512), 'throttle': 1,
                          'destinations': [region(path, 1024, 512)]}, more=True)
    gone[2].send('Zero', {'client': 'odd', 'destinations': [region(path, 1536, 512)], 'throttle': 1}, more=True)
    gone[3].send('WaitIo', {'client': 'odd'}, more=True)
    gone[4].send('Io', {'client': 'odd', 'op': 'read', 'regions': [region(path, 0, 1024)]})
    fd = memfd(bytes(1 << 16))
    gone[5].send('Io', {'client': 'odd', 'op': 'read', 'regions': [region(path, 0, 128)],
                        'memory': {'fd': 0, 'vm': 0}}, [fd])
    os.close(fd)
    if round_ % 2:
        control.call('Status')
    close(gone)
    for job in control.call('ListJobs')['jobs']:
        try:
            control.call('CancelJob', {'job': job['job']})
        except Refused:
            pass        # it has ended meanwhile
wait_for('nothing of those that disappeared is left', lambda: daemon_fds() <= before)
wait_for('nor a page', lambda: control.call('ListClients')['clients'][0]['in_flight_pages'] == 0)
ok('peers that disappear leave nothing behind')
control.close()

# --- very many calls before the first answer is read
n = 20000 if sanitized() else 200000
with Connection(timeout=100) as c:
    text = STATUS * 1000
    sent = got = 0
    c.socket.setblocking(False)
    pending, tail = text, b''
    highest = 0
    while got < n:
        readable, writable, _ = select.select([c.socket], [c.socket] if sent < n * len(STATUS) else [], [], 60)
        if writable:
            try:
                done = c.socket.send(pending)
                sent += done
                pending = pending[done:] or text
            except BlockingIOError:
                pass
            continue
        if not readable:
            raise AssertionError('no answer in 60 s')
        data = c.socket.recv(1 << 20)
        got += data.count(b'\n')
        highest = max(highest, daemon_rss_kib()) if got % 1000 < 50 else highest
    expect_eq('%d calls that were sent ahead' % n, got, n)
    if not sanitized():
        expect('meanwhile memory stays small (%d KiB)' % (highest - rss), highest < rss + 5 * 2048 + 8192)

# --- those that never read, when there are too many of them, and after a while
log = os.path.join(WORK, 'dmiod.log')


def dropped(why):
    with open(log) as file:
        return sum(why in line and 'uid %d' % NOBODY in line for line in file)


if sanitized():
    skip_case('too many that do not read: takes too long with a sanitizer')
else:
    more = []
    for _ in range(60):
        c = connect_as(NOBODY)
        c.socket.setblocking(False)
        try:
            while True:
                c.socket.send(STATUS * 100)
        except (BlockingIOError, ConnectionResetError, BrokenPipeError):
            more.append(c)
    expect_served('60 more that do not read')
    wait_for('some of them are dropped', lambda: dropped('bytes unread') >= 5, limit=60)
    expect_rss('what they leave unread', BUFFERS // 1024 + 8192, rss)
    close(more)
wait_for('those that never read are dropped', lambda: daemon_fds() <= fds, limit=60)
# On a slow machine some have too much unread first.
expect('and the log says why', dropped('does not read its answer') + dropped('bytes unread') >= len(deaf))
close(deaf)
all_gone('all of them')
if not sanitized():
    wait_for('memory is as it was', lambda: daemon_rss_kib() < rss + 8192)
    ok('memory is as it was')
sys.exit(0)
