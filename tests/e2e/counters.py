# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counters of a daemon that is killed again and again under load: each operation that was answered has
been counted once, and nobody who looks meanwhile sees a counter that has become smaller."""

import mmap
import os
import random
import subprocess
import threading
import time

from client import Closed, Connection, expect, expect_eq, image, ok, region, wait_for
from killing import BLOCK, SIZE, daemon_pid, export, kill_daemon

KILLS = int(os.environ.get('DMIO_KILLS', '15'))
THREADS = 8
OLD_KERNEL = 'DMIO_TEST_NO_RESEND' in os.environ
DMIOCTL = os.path.join(os.environ['DMIO_BUILD'], 'daemon/dmioctl')


class Load(threading.Thread):
    """Reads, writes and flushes, one after the other, and how they ended."""

    def __init__(self, fd, seed):
        super().__init__(daemon=True)
        self.fd, self.random, self.stop = fd, random.Random(seed), False
        self.done = {}  # operation: [count, errors, bytes]
        self.start()

    def one(self):
        operation = self.random.choice(('read', 'read', 'write', 'write', 'flush'))
        length = self.random.choice((1, 1, 2, 16)) * BLOCK
        memory = mmap.mmap(-1, length)
        offset = self.random.randrange(0, (SIZE - length) // BLOCK) * BLOCK
        figures = self.done.setdefault(operation, [0, 0, 0])
        try:
            if operation == 'read':
                os.preadv(self.fd, [memory], offset)
            elif operation == 'write':
                os.pwritev(self.fd, [memory], offset)
            else:
                os.fdatasync(self.fd)
                length = 0
            figures[2] += length
        except OSError:
            figures[1] += 1
        figures[0] += 1

    def run(self):
        while not self.stop:
            self.one()


def sum_of(loads):
    total = {}
    for load in loads:
        for operation, figures in load.done.items():
            total[operation] = [a + b for a, b in zip(total.get(operation, [0, 0, 0]), figures)]
    return total


def figures(operations):
    return {o['operation']: [o['count'], o['errors'], o['bytes']] for o in operations}


def numbers(reply):
    """Everything in an answer of Statistics that only grows, by where it is."""
    found = {}

    def operations(where, items):
        for o in items:
            at = where + (o['operation'],)
            for key in ('count', 'errors', 'bytes', 'total_us'):
                found[at + (key,)] = o[key]
            for bucket in o['latency']:
                found[at + (bucket.get('upto_us'),)] = bucket['count']

    for client in reply['clients']:
        name = client['client']['name']
        found[(name, 'waits')] = client['client']['waits']
        for part in ('exports', 'calls', 'jobs'):
            operations((name, part), client[part])
    for entry in reply['exports']:
        if entry['name'] == 'brief':
            continue
        operations((entry['client'], entry['name']), entry['operations'])
        for i, leg in enumerate(entry['legs']):
            found[(entry['client'], entry['name'], i, 'errors')] = leg['leg']['errors']
            operations((entry['client'], entry['name'], i), leg['operations'])
    return found


def metrics(text):
    """The counters of Prometheus that are of a client, also the parts of histograms."""
    return {line.rpartition(' ')[0]: float(line.rpartition(' ')[2])
            for line in text.splitlines()
            if '{client=' in line and '"brief"' not in line and ('_total{' in line or '_seconds_' in line)}


class Watcher(threading.Thread):
    """Looks as often as it can."""

    def __init__(self, look):
        super().__init__(daemon=True)
        self.look, self.stop, self.shrunk, self.looks, self.last = look, False, [], 0, {}
        self.start()

    def run(self):
        while not self.stop:
            now = self.look()
            if now is None:
                continue
            for key, value in self.last.items():
                if now.get(key, -1) < value:
                    self.shrunk.append((key, value, now.get(key)))
            self.last = now
            self.looks += 1


def ask():
    try:
        with Connection() as connection:
            return numbers(connection.call('Statistics'))
    except (Closed, OSError):
        return None


def scrape():
    done = subprocess.run([DMIOCTL, '--control=' + os.environ['DMIO_CONTROL'], 'metrics'],
                          capture_output=True, text=True, check=False)
    return metrics(done.stdout) if done.returncode == 0 else None


def statistics():
    with Connection() as connection:
        return connection.call('Statistics')


def of_export(name):
    return [e for e in statistics()['exports'] if e['name'] == name][0]


with Connection() as control:
    control.call('OpenClient', {'name': 'alice', 'pages': 256, 'linger': True})
a, b = image('a.img', SIZE), image('b.img', SIZE)
pair = export('pair', a, b)
brief = image('brief.img', SIZE)

loads = [Load(pair, i) for i in range(THREADS)]
watchers = [Watcher(ask), Watcher(scrape)]
chance = random.Random(4)
gone = [0, 0, 0]
calls = 0
for kill in range(KILLS):
    # An export that does not last: what was done on it stays its client's.
    fd = export('brief', brief)
    load = Load(fd, 1000 + kill)
    time.sleep(chance.uniform(0.02, 0.2))
    kill_daemon()
    load.stop = True
    load.join(30)
    os.close(fd)
    write = load.done.get('write', [0, 0, 0])
    gone = [x + y for x, y in zip(gone, write)]
    with Connection() as control:
        control.call('Io', {'client': 'alice', 'op': 'write', 'memory': {'fill': 1},
                            'regions': [region(image('io.img', BLOCK), 0, 8)]})
        calls += 1
        control.call('RemoveExport', {'client': 'alice', 'name': 'brief', 'force': True})
for load in loads:
    load.stop = True
for load in loads:
    load.join(30)
    expect('the load has ended', not load.is_alive())
done = sum_of(loads)
print('done:', done, 'looks:', [w.looks for w in watchers], flush=True)
for watcher in watchers:
    looks = watcher.looks
    wait_for('one more look', lambda: watcher.looks > looks)
    watcher.stop = True
    watcher.join(30)
    expect_eq('no counter has ever become smaller', watcher.shrunk[:5], [])
    expect('it has been looked often', watcher.looks > KILLS, watcher.looks)
if not OLD_KERNEL:
    expect_eq('nothing has failed', sum(f[1] for f in done.values()), 0)

entry = of_export('pair')
expect_eq('each operation has been counted once', figures(entry['operations']), done)
for operation in entry['operations']:
    expect_eq('each is in a bucket', sum(b['count'] for b in operation['latency']),
              operation['count'])
for leg in entry['legs']:
    for operation, (count, _, _) in figures(leg['operations']).items():
        if operation == 'read':
            continue
        extra = count - (done[operation][0] - done[operation][1])
        expect('a leg counts again what was done again, and no more',
               -done[operation][1] <= extra <= KILLS * THREADS, (operation, count, done))

client = [c for c in statistics()['clients'] if c['client']['name'] == 'alice'][0]
total = figures(client['exports'])
expect_eq('exports that are gone have left their counters', total['write'],
          [x + y for x, y in zip(done['write'], gone)])
expect_eq('calls go on', figures(client['calls'])['write'], [calls, 0, calls * BLOCK])

before = statistics()
kill_daemon()
after = statistics()
expect_eq('a quiet kill changes nothing', numbers(after), numbers(before))
expect('but the uptime begins anew', after['uptime_us'] < before['uptime_us'],
       (before['uptime_us'], after['uptime_us']))
os.close(pair)
ok(f'{KILLS} kills, {sum(f[0] for f in done.values())} operations, pid {daemon_pid()}')
