# SPDX-License-Identifier: LGPL-2.1-or-later
"""Three thousand connections at once; what they leave behind; the limit of one user."""

import os
import resource
import signal
import socket
import time

from client import (MOUNT, PID, Connection, Closed, Refused, daemon_fds, daemon_rss_kib, expect, expect_eq,
                    image, ok, region, sanitized, skip, wait_for)

WANTED = 3000

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if hard < WANTED + 200:
    skip('needs %d descriptors' % (WANTED + 200))
resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, WANTED + 200), hard))

with Connection() as c:
    c.call('Status')
    own_pages = c.call('Status')['pool']['reserved']     # what the daemon needs itself
fds_before = daemon_fds()


def wave(count, client_each):
    connections = []
    for _ in range(count):
        connections.append(Connection(timeout=60))
    for number, c in enumerate(connections):
        if client_each:
            c.send('OpenClient', {'name': 'c%d' % number, 'pages': 1})
        else:
            c.send('Status')
    good = 0
    for c in connections:
        try:
            good += 'parameters' in c.receive() or 0
        except Closed:
            pass
    return connections, good


connections, good = wave(WANTED, False)
expect_eq('%d connections at once are all answered' % WANTED, good, WANTED)
expect('they are all open', daemon_fds() >= WANTED)
for c in connections[::3]:
    c.call('Status')
ok('every third asks again')
for c in connections:
    c.close()
wait_for('their descriptors are closed', lambda: daemon_fds() <= fds_before)
ok('nothing of them is left')

rss = []
for round_ in range(4):
    connections, good = wave(500, True)
    expect_eq('round %d: 500 clients' % round_, good, 500)
    for c in connections:
        c.close()
    with Connection() as c:
        wait_for('they are gone', lambda: not c.call('ListClients')['clients'])
    rss.append(daemon_rss_kib())
with Connection() as c:
    expect_eq('no page is left', c.call('Status')['pool']['reserved'], own_pages)
if not sanitized():
    expect('memory does not grow', rss[-1] < rss[0] + 4096, rss)
wait_for('descriptors are as before', lambda: daemon_fds() <= fds_before)

# --- a name is free for whoever has left it
for _ in range(300):
    c = Connection()
    c.call('OpenClient', {'name': 'again', 'pages': 1})
    c.close()
ok('opened 300 times, each time by a new connection')
with Connection() as c, Connection() as other:
    wait_for('the last one is gone', lambda: not c.call('ListClients')['clients'])
    c.call('OpenClient', {'name': 'again', 'pages': 1})
    other.send('OpenClient', {'name': 'again', 'pages': 1})
    expect_eq('a client whose connection lives is there', other.receive()['error'],
              'io.dmiod.ClientExists')
    other.send('OpenClient', {'name': 'again', 'pages': 1})
    c.call('CloseClient', {'name': 'again'})
    expect('closed meanwhile, it is opened', 'parameters' in other.receive())

# --- calls that wait for a file to be closed are in nobody's way
path = image('busy.img', 1 << 20)
with Connection() as c:
    c.call('OpenClient', {'name': 'busy', 'pages': 0})
    c.call('CreateExport', {'client': 'busy', 'name': 'vol', 'regions': [region(path, 0, 1024)]})
    removers = [Connection() for _ in range(1000)]
    with open(MOUNT + '/busy/vol', 'rb'):
        def removals(connections):
            """How long so many take, sent at once."""
            start = time.monotonic()
            for remover in connections:
                remover.send('RemoveExport', {'client': 'busy', 'name': 'vol'})
            answers = {remover.receive().get('error') for remover in connections}
            expect_eq('%d removals of an open export' % len(connections), answers,
                      {'io.dmiod.ExportBusy'})
            return time.monotonic() - start

        # One waits for the grace of a file that is closed. How long that is depends on the load, for
        # one as for many; if each waited for the one before, this would be a thousand times as long.
        alone = min(removals(removers[:1]) for _ in range(5))
        together = removals(removers)
        expect('do not wait one for the other', together < 500 * alone, (alone, together))
    c.call('RemoveExport', {'client': 'busy', 'name': 'vol'})
    ok('closed, it is removed')
    for remover in removers:
        remover.close()

# --- another user has a limit, and root is still served when it is reached
ours, theirs = socket.socketpair()
pid = os.fork()
if pid == 0:
    ours.close()
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    held, status = [], 1
    try:
        for _ in range(1100):
            c = Connection()
            held.append(c)
            c.call('ListClients')
    except Refused as refused:
        status = 0 if refused.name == 'LimitReached' and refused.parameters['limit'] == 'connections' \
            else 2
    except Closed:
        status = 3
    # What is there when the daemon comes to it tells how the refusal is to end.
    theirs.send(b'full')
    if status == 0 and theirs.recv(16) == b'daemon sleeps':
        for end in b'\n', b'\0':
            held.append(Connection(end=end))
            held[-1].send('Status')
        theirs.send(b'sent')
        for c in held[-2:]:
            if c.receive()['parameters']['limit'] != 'connections' or c.socket.recv(1) or c.buffer:
                status = 4
    os.write(2, b'%d connections, then status %d\n' % (len(held), status))
    os._exit(status)
theirs.close()
expect_eq('the limit is reached', ours.recv(16), b'full')
os.kill(PID, signal.SIGSTOP)
try:
    ours.send(b'daemon sleeps')
    ours.recv(16)
finally:
    os.kill(PID, signal.SIGCONT)
_, status = os.waitpid(pid, 0)
expect_eq('another user is told when the limit is reached', os.waitstatus_to_exitcode(status), 0)
with Connection() as c:
    ok('root is served all the same: ' + c.call('Status')['version'])
