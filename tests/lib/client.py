# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control channel for tests in Python: what a shell cannot do, above all passing descriptors.

Nothing but the standard library. A test program run by with-dmiod.sh finds its daemon through the
variables below, reports with ok() and expect(), and fails by an exception.
"""

import array
import json
import os
import socket
import sys
import time
import traceback

CONTROL = os.environ.get('DMIO_CONTROL', '')
MOUNT = os.environ.get('DMIO_MOUNT', '')
WORK = os.environ.get('DMIO_WORK', '')
PID = int(os.environ.get('DMIO_PID', '0'))

SECTOR = 512
PAGE = 4096


class Refused(Exception):
    """An error reply."""

    def __init__(self, reply):
        super().__init__(json.dumps(reply))
        self.name = reply['error'].removeprefix('io.dmiod.')
        self.parameters = reply.get('parameters', {})


class Closed(Exception):
    """The daemon has closed the connection."""


class Connection:
    """One connection; @end is the byte that ends a message."""

    def __init__(self, path=None, end=b'\n', timeout=20):
        self.end = end
        self.buffer = b''
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(path or CONTROL)
        except OSError:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send_bytes(self, data, fds=()):
        """Sends @data as it is, with the descriptors going along with its first byte."""
        if fds:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))]
            sent = self.socket.sendmsg([data], ancillary)
            data = data[sent:]
        try:
            self.socket.sendall(data)
        except BrokenPipeError:
            pass    # why it was closed stands in what was sent before: receive() tells

    def send(self, method, parameters=None, fds=(), **members):
        message = {'method': method if '.' in method else 'io.dmiod.' + method, **members}
        if parameters is not None:
            message['parameters'] = parameters
        self.send_bytes(json.dumps(message).encode() + self.end, fds)

    def receive_bytes(self):
        """The next message without its end; Closed if there is none."""
        while self.end not in self.buffer:
            try:
                data = self.socket.recv(1 << 16)
            except (ConnectionResetError, BrokenPipeError):
                data = b''
            if not data:
                raise Closed(self.buffer)
            self.buffer += data
        message, self.buffer = self.buffer.split(self.end, 1)
        return message

    def receive(self):
        return json.loads(self.receive_bytes())

    def call(self, method, parameters=None, fds=(), **members):
        """The parameters of the reply, or Refused."""
        self.send(method, parameters, fds, **members)
        reply = self.receive()
        if 'error' in reply:
            raise Refused(reply)
        return reply.get('parameters', {})

    def call_more(self, method, parameters=None, fds=()):
        """A list of the parameters of all replies."""
        self.send(method, parameters, fds, more=True)
        replies = []
        while True:
            reply = self.receive()
            if 'error' in reply:
                raise Refused(reply)
            replies.append(reply.get('parameters', {}))
            if not reply.get('continues'):
                return replies

    def has_method(self, method):
        """False for one of the interface that this daemon does not offer yet."""
        return self.refusal(method, {'no such parameter': 1}).name not in (
            'org.varlink.service.MethodNotImplemented', 'org.varlink.service.MethodNotFound')

    def refusal(self, method, parameters=None, fds=(), **members):
        """The Refused of a call that must not succeed."""
        try:
            reply = self.call(method, parameters, fds, **members)
        except Refused as refused:
            return refused
        raise AssertionError('%s %s succeeded: %s' % (method, parameters, reply))


def skip_case(what):
    print('skip - ' + what, flush=True)


def connect_as(uid, timeout=20):
    """A connection of another user, for root: who connects is who one is at that moment."""
    os.seteuid(uid)
    try:
        return Connection(timeout=timeout)
    finally:
        os.seteuid(0)


def region(device, sector, count):
    return {'device': device, 'sector': sector, 'count': count}


def ok(what):
    print('ok - ' + what, flush=True)


def expect(what, condition, detail=''):
    if not condition:
        print('not ok - %s %s' % (what, detail), flush=True)
        sys.exit(1)
    ok(what)


def expect_eq(what, actual, wanted):
    expect(what, actual == wanted, 'is %r, not %r' % (actual, wanted))


def wait_for(what, condition, limit=20):
    """Until condition() is true; fails after @limit seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise AssertionError('waited %d s in vain: %s' % (limit, what))
        time.sleep(0.01)


def skip(why):
    print('SKIP: ' + why, flush=True)
    sys.exit(77)


def as_user(uid, function, *arguments, groups=()):
    """Runs function(*arguments) as that user, and returns what it returns (as JSON)."""
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            os.setgroups(list(groups))
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            answer = {'result': function(*arguments)}
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


def memfd(data, name='memory'):
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
    return fd


def image(name, size):
    """A new image file of zeroes in the work folder; its path."""
    path = os.path.join(WORK, name)
    with open(path, 'wb') as file:
        file.truncate(size)
    return path


def pattern(length, seed=1):
    import random
    return random.Random(seed).randbytes(length)


def read_at(path, offset, length):
    with open(path, 'rb') as file:
        file.seek(offset)
        return file.read(length)


def daemon_fds():
    return len(os.listdir('/proc/%d/fd' % PID))


def daemon_rss_kib():
    with open('/proc/%d/status' % PID) as status:
        for line in status:
            if line.startswith('VmRSS:'):
                return int(line.split()[1])
    raise AssertionError('no VmRSS')


def sanitized():
    """Memory figures mean little under a sanitizer."""
    with open('/proc/%d/maps' % PID) as maps:
        mapped = maps.read()
    return 'libasan' in mapped or 'libtsan' in mapped or bool(os.environ.get('DMIO_SANITIZE'))
