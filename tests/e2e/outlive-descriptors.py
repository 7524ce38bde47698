# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices that came as descriptors, kept by whoever supervises the daemon: a small one of our own.

They come back after a kill, go from the store with their export, and what the store does not have is
not there. And the mount, if it was made before the daemon starts: nothing is looked for in it.
"""

import array
import ctypes
import os
import select
import socket
import subprocess
import threading

from client import WORK, Connection, Refused, expect, expect_eq, image, ok, read_at, region, wait_for

BUILD = os.environ['DMIO_BUILD']
SUPERVISED = os.path.join(WORK, 'control-supervised')
STATE = os.environ['DMIO_STATE'] + '-supervised'
NOBODY = 65534


class Supervisor:
    """Keeps what it is sent, and gives it to each daemon that it starts."""

    def __init__(self):
        self.store = []     # (name, descriptor)
        self.path = os.path.join(WORK, 'notify')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        self.log = open(os.path.join(WORK, 'supervised.log'), 'ab')
        self.daemon = None
        self.lock = threading.Lock()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        """The daemon waits for room in the socket, and for barriers."""
        while True:
            select.select([self.socket], [], [])
            self.listen()

    def listen(self):
        """Take what has been sent so far."""
        with self.lock:
            self.take()

    def take(self):
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(4096, 4096)
            except BlockingIOError:
                return
            fds = array.array('i')
            for _, _, content in ancillary:
                fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
            lines = dict(line.split('=', 1) for line in data.decode().splitlines())
            name = lines.get('FDNAME')
            if lines.get('FDSTORE') == '1':
                self.store += [(name, fd) for fd in fds]
                continue
            for fd in fds:
                os.close(fd)
            if lines.get('FDSTOREREMOVE') == '1':
                for entry in [entry for entry in self.store if entry[0] == name]:
                    os.close(entry[1])
                    self.store.remove(entry)

    def devices(self):
        self.listen()
        return sorted(name for name, _ in self.store if name.startswith('dmio-dev-'))

    def start(self, state=STATE):
        # Out of the way of the numbers that they get in the daemon.
        high = [os.dup2(fd, 200 + i, inheritable=False) for i, (_, fd) in enumerate(self.store)]

        def place():
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i, inheritable=True)

        environment = dict(os.environ, NOTIFY_SOCKET=self.path, FDSTORE='64')
        if self.store:
            environment.update(LISTEN_FDS=str(len(self.store)),
                               LISTEN_FDNAMES=':'.join(name for name, _ in self.store))
        self.daemon = subprocess.Popen(
            ['sh', '-c', '[ -z "$LISTEN_FDS" ] || export LISTEN_PID=$$; exec "$@"', '-',
             BUILD + '/daemon/dmiod', '--config=/dev/null', '--mount=' + WORK + '/mnt-supervised',
             '--control=' + SUPERVISED, '--state=' + state],
            env=environment, preexec_fn=place, close_fds=False, stdout=self.log, stderr=self.log,
            stdin=subprocess.DEVNULL)
        for fd in high:
            os.close(fd)
        wait_for('the daemon', self.is_up)

    def is_up(self):
        if self.daemon.poll() is not None:
            raise AssertionError('the daemon has ended with %d' % self.daemon.returncode)
        # The socket is kept, too: connecting tells nothing of who is there to answer.
        try:
            with Connection(path=SUPERVISED) as c:
                c.call('Status')
            return True
        except OSError:
            return False

    def has_open(self, path):
        folder = '/proc/%d/fd/' % self.daemon.pid
        for fd in os.listdir(folder):
            try:
                if os.readlink(folder + fd) == path:
                    return True
            except FileNotFoundError:
                pass        # closed meanwhile
        return False

    def make_mount(self, path):
        """As dmiod-mount does: nobody serves it until the daemon does."""
        subprocess.run(['umount', '-l', path], check=False, stderr=subprocess.DEVNULL)
        fd = os.open('/dev/fuse', os.O_RDWR)
        options = 'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions' % fd
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b'dmiod', path.encode(), b'fuse.dmiod', 0, options.encode()) < 0:
            raise OSError(ctypes.get_errno(), 'mount')
        self.store.append(('fuse', fd))

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()
        self.listen()


def legs():
    with Connection(path=SUPERVISED) as c:
        return {export['name']: [leg['state'] for leg in export['legs']]
                for export in c.call('ListExports')['exports']}


supervisor = Supervisor()
one, two = image('one.img', 1 << 20), image('two.img', 1 << 20)
fds = [os.open(path, os.O_RDWR) for path in (one, two)]
supervisor.start()
try:
    # As a user who may name no paths.
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with Connection(path=SUPERVISED) as c:
            c.call('OpenClient', {'name': 'nina', 'pages': 8, 'linger': True})
            c.call('CreateExport', {'client': 'nina', 'name': 'both', 'regions': [
                region('fd:0', 0, 8), region('fd:1', 0, 8)]}, fds)
            c.call('CreateExport', {'client': 'nina', 'name': 'twice', 'regions': [
                region('fd:0', 8, 8), region('fd:0', 16, 8)]}, fds[:1])
            c.call('OpenClient', {'name': 'brief', 'pages': 8})
            c.call('CreateExport', {'client': 'brief', 'name': 'brief', 'regions': [
                region('fd:0', 24, 8)]}, fds[:1])
            try:
                c.call('CreateExport', {'client': 'nina', 'name': 'both', 'regions': [
                    region('fd:0', 64, 8)]}, fds[:1])
                os._exit(1)
            except Refused:
                pass
        os._exit(0)
    expect_eq('exports by descriptors', os.waitpid(child, 0)[1], 0)
    wait_for('each descriptor is kept once for each export that lasts, and no other is',
             lambda: len(supervisor.devices()) == 3)
    before = supervisor.devices()

    for way in ('a kill', 'another kill'):
        supervisor.kill()
        supervisor.start()
        expect_eq('they come back after ' + way, legs(),
                  {'both': ['active', 'active'], 'twice': ['active', 'active']})
    file = os.path.join(WORK, 'mnt-supervised', 'nina', 'both')
    with open(file, 'r+b', buffering=0) as f:
        f.write(b'through the descriptor'.ljust(512))
    expect('and are what they were', all(read_at(path, 0, 22) == b'through the descriptor'
                                         for path in (one, two)))
    expect_eq('they stay in the store', supervisor.devices(), before)

    supervisor.daemon.terminate()
    expect_eq('a stop', supervisor.daemon.wait(20), 0)
    expect_eq('takes nothing out of it', supervisor.devices(), before)
    supervisor.start()
    expect_eq('and after it they come back', legs(),
              {'both': ['active', 'active'], 'twice': ['active', 'active']})

    with Connection(path=SUPERVISED) as c:
        c.call('RemoveExport', {'client': 'nina', 'name': 'twice'})
    wait_for('with its export a descriptor goes', lambda: len(supervisor.devices()) == 2)

    # One of an export that was never written down, or is no more.
    supervisor.kill()
    stray = image('stray.img', 1 << 20)
    kept = supervisor.devices()
    supervisor.store.append(('dmio-dev-999', os.open(stray, os.O_RDWR)))
    supervisor.start(state='/dev/null/nowhere')
    expect_eq('without a state folder everything stays in the store', supervisor.devices(),
              sorted(kept + ['dmio-dev-999']))
    expect('and the daemon has nothing of it open', not supervisor.has_open(stray))
    supervisor.kill()
    supervisor.start()
    expect_eq('what nobody knows goes from the store', supervisor.devices(), kept)
    expect('and from the daemon', not supervisor.has_open(stray))
    expect_eq('the others are there', legs(), {'both': ['active', 'active']})

    # One that the supervisor has lost; whoever names no path has no other way to it.
    supervisor.kill()
    lost = supervisor.store.pop([name for name, _ in supervisor.store].index(before[0]))
    os.close(lost[1])
    supervisor.start()
    expect_eq('what nobody has kept is not there', sorted(legs()['both']), ['active', 'failed'])

    # Root might have named the path.
    with Connection(path=SUPERVISED) as c:
        c.call('OpenClient', {'name': 'root', 'pages': 8, 'linger': True})
        c.call('CreateExport', {'client': 'root', 'name': 'root', 'regions': [
            region('fd:0', 128, 8)]}, fds[:1])
    supervisor.kill()
    for name, fd in supervisor.store:
        os.close(fd)
    supervisor.store = []
    supervisor.start()
    expect_eq('a descriptor of root is as good as its path', legs()['root'], ['active'])

    # A path that has come to lead into the mount, which nobody serves before the daemon has started.
    mount = os.path.join(WORK, 'mnt-supervised')
    link, around = os.path.join(WORK, 'link'), os.path.join(WORK, 'around')
    os.symlink(two, link)
    os.symlink('.', around)
    with Connection(path=SUPERVISED) as c:
        c.call('CreateExport', {'client': 'root', 'name': 'link', 'regions': [
            region(around + '/' + os.path.basename(link), 256, 8)]})
    supervisor.kill()
    supervisor.make_mount(mount)
    supervisor.start()
    expect_eq('links are followed', legs()['link'], ['active'])
    supervisor.kill()
    os.remove(link)
    os.symlink('around/mnt-supervised/root/root', link)
    supervisor.make_mount(mount)
    supervisor.start()
    expect_eq('what lies in the mount is not there', legs()['link'], ['failed'])
    expect_eq('and keeps nobody from starting', legs()['root'], ['active'])

    with Connection(path=SUPERVISED) as c:
        for client in ('root', 'nina'):
            c.call('CloseClient', {'name': client})
    expect_eq('nothing is left', (legs(), supervisor.devices()), ({}, []))
    supervisor.daemon.terminate()
    expect_eq('a stop, at the end', supervisor.daemon.wait(20), 0)
    ok('it stops')
except BaseException:
    with open(os.path.join(WORK, 'supervised.log')) as log:
        print(log.read()[-3000:])
    raise
finally:
    if supervisor.daemon.poll() is None:
        supervisor.daemon.kill()
        supervisor.daemon.wait()
