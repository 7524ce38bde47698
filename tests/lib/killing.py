# SPDX-License-Identifier: LGPL-2.1-or-later
"""For tests that kill their dmiod (with-supervisor.sh): legs whose writes can be held back, writes
that wait in threads of their own."""

import atexit
import mmap
import os
import signal
import subprocess
import threading

from client import WORK, Connection, image, region, wait_for

PID_FILE = os.environ['DMIO_PID_FILE']
BLOCK = 4096
SIZE = 8 << 20
CHUNK = 256 << 10  # of a copy


def daemon_pid():
    with open(PID_FILE, encoding='ascii') as file:
        return int(file.read())


def kill_daemon():
    """Returns when another one serves calls."""
    before = daemon_pid()
    os.kill(before, signal.SIGKILL)
    wait_for('another daemon', lambda: daemon_pid() != before)
    Connection().call('Status')


def must(what, condition, detail=''):
    if not condition:
        raise AssertionError(f'{what}: {detail}')


class SlowLeg:
    """A file; what is written to it from the byte @first on is held back while it is held."""

    def __init__(self, name):
        self.image = image(name + '.img', SIZE)
        self.folder = os.path.join(WORK, name)
        os.mkdir(self.folder)
        self.path = self.folder + '/leg'
        self.hold_file = os.path.join(WORK, name + '.hold')
        self.server = subprocess.Popen(
            [os.path.join(os.environ['DMIO_BUILD'], 'tests/holding-file'), self.image,
             self.hold_file, self.folder])
        atexit.register(self.release)
        wait_for('the slow leg', lambda: os.path.exists(self.path))

    def hold(self, first=0):
        """Writes that come from now on, until they are released."""
        if os.path.exists(self.hold_file + '.free'):
            os.unlink(self.hold_file + '.free')
        with open(self.hold_file + '.new', 'w', encoding='ascii') as file:
            file.write(f'{first}\n')
        os.rename(self.hold_file + '.new', self.hold_file)

    def let_others_pass(self):
        if os.path.exists(self.hold_file):
            os.unlink(self.hold_file)

    def release(self):
        with open(self.hold_file + '.free', 'w', encoding='ascii'):
            pass
        self.let_others_pass()

    def has_got(self, offset):
        return os.path.exists(f'{self.hold_file}.{offset}')

    def forget(self):
        for name in os.listdir(WORK):
            if name.startswith(os.path.basename(self.hold_file) + '.') and name[-1].isdigit():
                os.unlink(os.path.join(WORK, name))

    def end(self):
        subprocess.run(['umount', '-l', self.folder], check=True)
        self.server.wait()


class Writer(threading.Thread):
    """One write; error is the name of its errno, or None; done once it is answered."""

    def __init__(self, fd, byte, offset, length=BLOCK):
        super().__init__(daemon=True)
        self.fd, self.offset, self.error, self.done = fd, offset, None, False
        self.memory = mmap.mmap(-1, length)
        self.memory[:] = byte * length
        self.start()

    def run(self):
        try:
            os.pwritev(self.fd, [self.memory], self.offset)
        except OSError as e:
            self.error = e
        self.done = True

    def finish(self):
        self.join(30)
        must('a write of %r at %d is answered' % (self.memory[:1], self.offset), self.done)
        must('and well', self.error is None, self.error)


def read_block(fd, offset):
    memory = mmap.mmap(-1, BLOCK)
    os.preadv(fd, [memory], offset)
    return memory[:]


def stored(path, offset, length=BLOCK):
    with open(path, 'rb') as file:
        return os.pread(file.fileno(), length, offset)


def export(name, *devices, cache='none'):
    """Opened past the page cache. @cache: as CreateExport has it; None for what it does by itself."""
    parameters = {'client': 'alice', 'name': name,
                  'regions': [region(device, 0, SIZE // 512) for device in devices]}
    if cache:
        parameters['cache'] = cache
    reply = Connection().call('CreateExport', parameters)
    return os.open(reply['export']['path'], os.O_RDWR | os.O_DIRECT)
