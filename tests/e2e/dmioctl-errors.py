# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every failure of dmioctl: its exit status, and one line at the end that says what to do next. The
daemon's errors come from a socket of our own, so that none is left out; so does what no daemon does."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

from client import (CONTROL, WORK, Connection, expect, expect_eq, image, ok, skip_case, wait_for)

DMIOCTL = os.environ['DMIO_BUILD'] + '/daemon/dmioctl'
INTERFACE = os.environ['DMIO_SOURCE'] + '/daemon/control/io.dmiod.varlink'
FAKE = WORK + '/fake'
NOBODY = 65534

# A reason, and behind it what to do.
LINE = re.compile(r"dmioctl: .+(; .+|, see .+|is the socket the right one\?)\n")


def start(*arguments, control=CONTROL, **more):
    more.setdefault('stdin', subprocess.DEVNULL)
    more.setdefault('stdout', subprocess.PIPE)
    return subprocess.Popen([DMIOCTL, '--control=' + control, *arguments], stderr=subprocess.PIPE,
                            text=True, **more)


def expect_end(what, process, status, says='', output=''):
    """It ends with @status, @output and one line that has @says in it."""
    out, error = process.communicate(timeout=20)
    expect_eq(what, process.returncode, status)
    expect(what + ': one line with what to do', LINE.fullmatch(error), repr(error))
    expect(what + ': nothing is left open in it', '{' not in error and '(null)' not in error, error)
    expect(what + ': it tells why', says in error, repr((says, error)))
    if output is not None:
        expect_eq(what + ': the output', out or '', output)


def expect_failure(what, status, says, *arguments, output='', **more):
    expect_end(what, start(*arguments, **more), status, says, output)


# --- what the daemon may say
class Fake:
    """Answers each connection with some bytes, and then hangs up, or waits."""

    def __init__(self, answer, hang_up=True):
        if os.path.exists(FAKE):
            os.unlink(FAKE)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(FAKE)
        self.socket.listen()
        self.answer, self.hang_up = answer, hang_up
        self.asked = threading.Event()
        self.kept = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            data = connection.recv(65536)
            while data and b'\0' not in data:
                data = connection.recv(65536)
            if not data:
                connection.close()
                continue
            self.asked.set()
            connection.sendall(self.answer)
            if self.hang_up:
                connection.close()
            else:
                self.kept.append(connection)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(20)
        for connection in self.kept:
            connection.close()


VALUES = {'string': 'some', 'int': 7}
errors = []
with open(INTERFACE) as file:
    for name, members in re.findall(r'^error (\w+) \((.*?)\)', file.read(), re.MULTILINE):
        parameters = dict(re.findall(r'(\w+): (\w+)', members))
        errors.append(('io.dmiod.' + name, {key: VALUES[kind] for key, kind in parameters.items()}))
expect('the interface has errors', len(errors) > 10)
errors += [('org.varlink.service.' + name, parameters) for name, parameters in (
    ('InterfaceNotFound', {'interface': 'some'}), ('MethodNotFound', {'method': 'some'}),
    ('MethodNotImplemented', {'method': 'some'}), ('InvalidParameter', {'parameter': 'some'}),
    ('InvalidParameter', {'parameter': 'some', 'reason': 'must not'}),
    ('PermissionDenied', {}), ('ExpectedMore', {}))]
errors += [('io.dmiod.RegionBusy', {'region': 7, 'client': 'some', 'name': ''}),
           ('io.dmiod.NoSuchRequest', {'id': 0})]
errors += [('io.dmiod.DeviceError', {'device': 'some', 'errno': errno}) for errno in
           ('ENOENT', 'EACCES', 'EROFS', 'EBUSY', 'EIO', 'ENODEV', 'EPROTO', 'nonsense')]
for name, parameters in errors:
    reply = json.dumps({'error': name, 'parameters': parameters}, separators=(',', ':'))
    with Fake(reply.encode() + b'\0'):
        process = start('status', control=FAKE)
        out, error = process.communicate(timeout=20)
        expect_eq(name, (process.returncode, out), (1, ''))
        expect(name + ': what to do', LINE.fullmatch(error), repr(error))
        expect(name + ' is known', 'the daemon says' not in error and '{' not in error, error)
        for value in parameters.values():
            expect(name + ' has what came with it', str(value) in error or value in ('', 0), error)
        expect_failure(name + ' --json', 1, '', 'status', '--json', control=FAKE, output=reply + '\n')
with Fake(b'{"error":"org.example.New","parameters":{"a":1}}\0'):
    process = start('status', control=FAKE)
    out, error = process.communicate(timeout=20)
    expect('an error of a later version', 'org.example.New {"a":1}; ' in error, error)

for what, says, answer in (
        ('no answer', 'ended the connection', b''),
        ('half an answer', 'ended the connection', b'{"parameters":{"vers'),
        ('no JSON', 'not a reply of dmiod', b'HTTP/1.0 400 Bad Request\r\n\0'),
        ('no object', 'not a reply of dmiod', b'[]\0'),
        ('a line', 'ended the connection', b'{}\n')):
    with Fake(answer):
        expect_failure(what, 3, says, 'status', control=FAKE)

# --- interrupts
for number in signal.SIGINT, signal.SIGTERM:
    with Fake(b'', hang_up=False) as fake:
        process = start('status', control=FAKE)
        expect('it is asked', fake.asked.wait(20))
        process.send_signal(number)
        expect_end('interrupted (%d)' % number, process, -number, 'may still do')
with Fake(b'', hang_up=False):
    path = image('interrupted.img', 4096)
    process = start('io', 'write', 'some', path + ':0+8', control=FAKE, stdin=subprocess.PIPE)
    process.stdin.write('x')
    process.stdin.flush()

    def is_reading():
        with open('/proc/%d/syscall' % process.pid) as call:
            return call.read().startswith('0 0x0 ')
    wait_for('it reads', is_reading)
    process.send_signal(signal.SIGINT)
    stdin, process.stdin = process.stdin, None
    expect_end('interrupted while it reads', process, -signal.SIGINT, 'nothing was asked')
    stdin.close()
process = start('status', preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
expect_eq('what is ignored stays so', process.wait(20), 0)
process.communicate()

# --- no daemon
expect_failure('no socket', 3, 'no daemon at', 'status', control=WORK + '/none')
expect_failure('no folder', 3, 'no daemon at', 'status', control=WORK + '/none/none')
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
    stale.bind(WORK + '/stale')
expect_failure('a socket that nobody serves', 3, 'no daemon at', 'status', control=WORK + '/stale')
expect_failure('a file', 3, 'no daemon at', 'status', control=image('file', 1))
expect_failure('too long a path', 3, 'File name too long', 'status', control=WORK + '/x' * 100)
environment = {key: value for key, value in os.environ.items() if key != 'XDG_RUNTIME_DIR'}
process = subprocess.Popen([DMIOCTL, '--user', 'status'], env=environment, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
expect_end('--user without a folder', process, 3, 'XDG_RUNTIME_DIR')

# --- output that goes nowhere
control = Connection()
control.call('OpenClient', {'name': 'alice', 'pages': 64, 'linger': True})
a = image('a.img', 16 << 20)
small = image('small.img', 4096)


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


for what, verb in (('a list', ('client', 'list')), ('help', ('--help',)), ('a version', ('--version',)),
                   ('data', ('io', 'read', 'alice', a + ':0+64')),
                   ('an id', ('submit', 'flush', 'alice', a + ':0+0')),
                   ('results', ('wait', 'alice', '--json')), ('an event', ('monitor',)),
                   ('the text', ('interface',)), ('a reply', ('call', 'Status')),
                   ('a report', ('doctor', '--config=' + WORK + '/dmiod.conf')),
                   ('progress', ('copy', 'alice', a + ':0+8', a + ':8+8', '--json'))):
    writer = closed_pipe()
    expect_failure(what + ' that nobody reads', 1, '', *verb, stdout=writer, output=None)
    os.close(writer)
    if what != 'results':
        with open('/dev/full', 'w') as full:
            expect_failure(what + ' on a full disk', 1, '', *verb, stdout=full, output=None)
subprocess.run([DMIOCTL, '--control=' + CONTROL, 'wait', 'alice'], capture_output=True, check=False)

# --- what the daemon says to a request, in the words of the user
expect_failure('no client', 1, "'dmioctl client list'", 'get', 'nobody', '1')
expect_failure('a configured device that is not', 1, "'nothing'", 'io', 'flush', 'alice', 'nothing:0+0')
expect_failure('a region beyond the end', 1, 'region 1 (%s:8+8)' % small, 'export', 'create', 'alice/v',
               a + ':0+8', small + ':8+8')
expect_failure('one of two fails', 4, 'region 1 (%s:8+8) failed: ENOSPC' % small, 'io', 'write',
               'alice', a + ':0+8', small + ':8+8', '--fill=1')
process = start('io', 'write', 'alice', a + ':0+8', small + ':8+8', '--fill=1', '--json')
out, error = process.communicate(timeout=20)
expect('it is told with --json, too', LINE.fullmatch(error) and json.loads(out)['failed'] == [1], error)
expect_failure('one of a copy fails', 1, 'destination 0 (%s:8+8)' % small, 'copy', 'alice', a + ':0+8',
               small + ':8+8')
expect_failure('no job', 1, "'dmioctl job list'", 'job', 'watch', '99')
expect_failure('no request', 1, "'dmioctl submit'", 'wait', 'alice')
expect_failure('no request of that id', 1, 'request 99', 'wait', 'alice', '99')
submitted = start('submit', 'write', 'alice', a + ':0+8', small + ':8+8', '--fill=1')
number = submitted.communicate(timeout=20)[0].strip()
expect_failure('a request that fails', 4, 'request %s: region 1 failed: ENOSPC' % number, 'wait',
               'alice', number)
expect_failure('no method', 1, "'io.dmiod.Fly'", 'call', 'Fly',
               output='{"error":"org.varlink.service.MethodNotFound","parameters":'
               '{"method":"io.dmiod.Fly"}}\n')

# --- files
expect_failure('no file', 1, 'check the name', 'io', 'flush', 'alice', WORK + '/none:0+0')
expect_failure('a folder', 1, 'neither', 'io', 'flush', 'alice', WORK + ':0+0')
expect_failure('a device that is none for us', 1, 'neither', 'io', 'flush', 'alice', '/dev/null:0+0')
expect_failure('no file to send', 1, 'check the name', 'call', 'Status', '{}', WORK + '/none')
expect_failure('a folder to send', 1, 'neither', 'call', 'Status', '{}', WORK)
expect_failure('nowhere to put data', 1, 'check the name', 'io', 'read', 'alice', a + ':0+8',
               '--output=' + WORK + '/none/none')
expect_failure('a folder to put data', 1, 'use a file', 'io', 'read', 'alice', a + ':0+8',
               '--output=' + WORK)
expect_failure('a folder as input', 1, 'nothing was asked', 'io', 'write', 'alice', a + ':0+8',
               stdin=os.open(WORK, os.O_RDONLY))
expect_failure('no input', 2, 'has 0 bytes', 'io', 'write', 'alice', a + ':0+8')
if shutil.which('setpriv'):
    command = WORK + '/dmioctl'
    shutil.copy(DMIOCTL, command)
    os.chmod(command, 0o755)
    os.chmod(CONTROL, 0o600)
    secret = image('secret.img', 4096)
    os.chmod(secret, 0o600)

    def other(*arguments):
        return subprocess.Popen(['setpriv', '--reuid=%d' % NOBODY, '--regid=%d' % NOBODY,
                                 '--clear-groups', command, '--control=' + CONTROL, *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                stdin=subprocess.DEVNULL)
    expect_end('a socket that is not for us', other('status'), 3, 'you may not use the socket')
    os.chmod(CONTROL, 0o666)
    expect_end('a file that is not for us', other('io', 'flush', 'x', secret + ':0+0'), 1,
               'ask its owner')
else:
    skip_case('as another user: needs setpriv')

# --- usage
LEGS = [a + ':%d+1' % i for i in range(65)]
for arguments in ([], ['fly'], ['client'], ['client', 'fly'], ['client', 'open'], ['--fly'], ['-x'],
                  ['status', '--json=1'], ['status', '--control'], ['status', 'more'],
                  ['status', '--linger'], ['client', 'open', 'a', 'b'], ['get', 'a'], ['get', 'a', 'x'],
                  ['put', 'a', '1KiB'], ['export', 'create', 'ab', LEGS[0]],
                  ['export', 'create', 'a/b', a], ['export', 'create', 'a/b', LEGS[0], '--cache=x'],
                  ['export', 'remove', 'ab'], ['io', 'fly', 'a', LEGS[0]],
                  ['io', 'read', 'a', *LEGS[:2]], ['io', 'write', 'a', *LEGS], ['io', 'read', 'a', a + ':0+0'],
                  ['io', 'flush', 'a', LEGS[0], '--fua'], ['io', 'write', 'a', LEGS[0], '--fill=256'],
                  ['io', 'write', 'a', LEGS[0], '--output=x'], ['submit', 'read', 'a', LEGS[0]],
                  ['wait', 'a', 'x'], ['copy', 'a', LEGS[0]], ['copy', 'a', *LEGS[:10]],
                  ['zero', 'a', LEGS[0], '--throttle=0'], ['job', 'cancel', 'x'], ['job', 'watch', '-1'],
                  ['call'], ['call', 'Status', '{'], ['call', 'Status', '[]'],
                  ['call', 'Status', '{"a":1,"a":1}'], ['io', 'flush', 'a', 'fd:0:0+0'],
                  ['call', 'Status', '{}', *[a] * 65], ['client', 'open', b'\xff']):
    expect_failure('usage: %r' % arguments[:4], 2, '', *arguments)
expect_eq('none of it reached the daemon', len(control.call('ListClients')['clients']), 1)

# --- the daemon is killed
command = [os.environ['DMIO_BUILD'] + '/daemon/dmiod', '--config=/dev/null', '--mount=' + WORK + '/mnt2',
           '--control=' + WORK + '/control2', '--state=' + WORK + '/state2']
with open(WORK + '/dmiod2.log', 'w') as log:
    daemon = subprocess.Popen(command, stdout=log, stderr=log)


def is_up():
    try:
        Connection(path=WORK + '/control2').close()
        return True
    except OSError:
        return False


try:
    wait_for('another daemon', is_up)
    second = {'control': WORK + '/control2'}
    Connection(**{'path': second['control']}).call(
        'OpenClient', {'name': 'alice', 'pages': 64, 'linger': True})
    processes = [('a client that does not linger', start('client', 'open', 'bob', **second)),
                 ('a job', start('copy', 'alice', a + ':0+16384', a + ':16384+16384', '--throttle=1',
                                 **second)),
                 ('monitor', start('monitor', **second))]
    state = Connection(path=second['control'])
    wait_for('all of them', lambda: len(state.call('ListClients')['clients']) == 2 and
             [job['state'] for job in state.call('ListJobs')['jobs']] == ['running'])
    wait_for('monitor', lambda: processes[2][1].stdout.readline())
    processes.append(('another that watches it', start('job', 'watch', '1', '--json', **second)))
    wait_for('it watches', lambda: processes[3][1].stdout.readline())
    expect('the client is said to last', 'lasts until' in processes[0][1].stderr.readline())
    daemon.kill()
    daemon.wait(20)
    for what, process in processes:
        expect_end(what + ', and the daemon is killed', process, 3, '', output=None)
finally:
    if daemon.poll() is None:
        daemon.kill()
    subprocess.run(['umount', '-l', WORK + '/mnt2'], check=False)
ok('the daemon is gone')
control.call('CloseClient', {'name': 'alice'})
