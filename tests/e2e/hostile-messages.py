# SPDX-License-Identifier: LGPL-2.1-or-later
"""More than a hundred kinds of bad input on the control socket. After each one a good call on a
connection of its own is answered; what was bad gets an error or the end of its connection, in time;
nothing has changed, and no descriptor and no memory is left behind."""

import array
import json
import os
import random
import socket
import struct
import time

from client import (Closed, Connection, daemon_fds, daemon_rss_kib, expect, expect_eq, image, ok,
                    region, sanitized, wait_for)

LIMIT = 1 << 20     # bytes of a message

path = image('a.img', 1 << 20)
control = Connection()
control.call('OpenClient', {'name': 'alice', 'pages': 16, 'linger': True})
control.call('CreateExport', {'client': 'alice', 'name': 'vol', 'regions': [region(path, 0, 1024)]})


def state():
    status = control.call('Status')
    clients = control.call('ListClients')['clients']
    for client in clients:
        del client['waits']     # a figure that only grows
    return [clients, control.call('ListExports'), status['pool']['reserved'],
            status['pool']['in_use'], open(path, 'rb').read()]


def call(method, parameters):
    return json.dumps({'method': method, 'parameters': parameters}).encode()


def io(**changes):
    parameters = {'client': 'alice', 'op': 'write', 'regions': [region(path, 1024, 8)],
                  'memory': {'fill': 1}}
    parameters.update(changes)
    return call('io.dmiod.Io', {k: v for k, v in parameters.items() if v is not REMOVED})


REMOVED = object()
NAME = 'io.dmiod.OpenClient'
bad = {}

# --- what is not JSON
for number, text in enumerate((
        b'garbage', b'{', b'}', b'[', b']', b'"', b'{"method"', b'{"method":', b'{"method":}', b'{]',
        b'{"method":"io.dmiod.Status"', b'{"method":"io.dmiod.Status",}', b'{method:"x"}',
        b"{'method':'io.dmiod.Status'}", b'{"method":"io.dmiod.Status"}}', b'nul', b'tru', b'-', b'+1',
        b'01', b'1.', b'.5', b'1e', b'NaN', b'Infinity', b'{"a":NaN}', b'{"a":1e999}', b'//', b'/* */',
        b'{"method":"io.dmiod.Status"} x', b'{"method":"io.dmiod.Status"}{"method":"io.dmiod.Status"}',
        b'GET / HTTP/1.1\r', b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', b'\xff\xfe{\x00}\x00',
        b'\xef\xbb\xbf{"method":"io.dmiod.Status"}', b'{"method":"\xff"}', b'{"method":"\xc0\x80"}',
        b'{"method":"\xed\xa0\x80"}', b'{"method":"\xf4\x90\x80\x80"}', b'{"method":"\xe2\x82"}',
        b'{"method":"\\ud800"}', b'{"method":"\\udc00\\ud800"}', b'{"method":"\\u12"}',
        b'{"method":"\\x41"}', b'{"method":"a\tb"}', b'{"method":"a\x01b"}', b'{"\xff":1}')):
    bad['not JSON %d: %r' % (number, text[:24])] = text

# --- JSON that is no call
for text in (b'null', b'true', b'1', b'"io.dmiod.Status"', b'[]', b'[1]', b'{}', b'{"parameters":{}}',
             b'{"method":null}', b'{"method":1}', b'{"method":[]}', b'{"method":{}}', b'{"method":""}',
             b'{"method":"."}', b'{"method":"Status"}', b'{"method":".Status"}',
             b'{"method":"io.dmiod."}', b'{"method":"io.dmiod"}', b'{"method":"io.dmiod.status"}',
             b'{"method":"IO.DMIOD.STATUS"}', b'{"method":"io.dmiod.Status "}',
             b'{"method":"io.dmiod.Status\\u0000"}',
             b'{"method":"io.dmiod.Status","parameters":[]}',
             b'{"method":"io.dmiod.Status","parameters":"x"}',
             b'{"method":"io.dmiod.Status","parameters":{"x":1}}',
             b'{"method":"io.dmiod.Status","more":1}', b'{"method":"io.dmiod.Status","more":"yes"}',
             b'{"method":"io.dmiod.Status","oneway":"yes"}', b'{"method":"io.dmiod.Status","upgrade":true}',
             b'{"method":"io.dmiod.Status","nonsense":1}',
             b'{"method":"io.dmiod.Status","method":"io.dmiod.Nothing"}',
             b'{"method":"io.dmiod.Nothing","method":"io.dmiod.Status"}',
             b'{"error":"io.dmiod.NoSuchClient"}', b'{"parameters":{},"continues":true}'):
    bad['no call: %r' % text] = text
bad['a method of 1,000 characters'] = call('io.dmiod.' + 'X' * 1000, {})
bad['a method of 500,000 characters'] = call('io.dmiod.' + 'X' * 500000, {})
bad['many members'] = json.dumps({'m%d' % i: i for i in range(20000)}).encode()

# --- deep, long
for depth in (33, 100, 1000, 100000):
    bad['arrays, %d deep' % depth] = (b'{"method":"io.dmiod.Status","parameters":{"a":' + b'[' * depth +
                                     b']' * depth + b'}}')
    bad['objects, %d deep' % depth] = (b'{"method":"io.dmiod.Status","parameters":' +
                                      b'{"a":' * depth + b'1' + b'}' * depth + b'}')
bad['100,000 open brackets'] = b'[' * 100000
bad['a string of just over 1 MiB'] = call(NAME, {'name': 'x' * LIMIT, 'pages': 1})
bad['zeroes of 2 MiB, no end'] = b' ' * (2 * LIMIT)
bad['a number of 10,000 digits'] = b'{"method":"io.dmiod.Status","parameters":{"x":' + b'9' * 10000 + b'}}'
bad['a list of 100,000 regions'] = io(regions=[0] * 100000)

# --- parameters of the wrong kind: every type, in every place
values = (None, True, False, -1, -(1 << 63), 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 64, 10 ** 30, 1.0, 1.5,
          1e300, -0.5, '', '1', 'x' * 100, '\u0000', 'a\u0000b', '\uffff', '\U0001f4a9', '../..', '%s%n',
          [], [1], [[]], {}, {'a': 1})
for value in values:
    shown = json.dumps(value)[:24]
    bad['pages: ' + shown] = call(NAME, {'name': 'bad', 'pages': value})
    if not isinstance(value, str) or value in ('', '\u0000', 'a\u0000b', '\uffff', '../..', '%s%n') or \
            len(value) > 64:
        bad['name: ' + shown] = call(NAME, {'name': value, 'pages': 0})
    if not isinstance(value, bool) and value is not None:
        bad['linger: ' + shown] = call(NAME, {'name': 'bad', 'pages': 0, 'linger': value})
    bad['client: ' + shown] = io(client=value)
    bad['op: ' + shown] = io(op=value)
    bad['regions: ' + shown] = io(regions=value)
    if value is not None and value != {}:
        bad['memory: ' + shown] = io(memory=value)
    for place in 'device', 'sector', 'count':
        if place == 'sector' and value == 1.0:
            continue
        bad['%s: %s' % (place, shown)] = io(regions=[dict(region(path, 1024, 8), **{place: value})])
    bad['fill: ' + shown] = io(memory={'fill': value})
    for place in 'data', 'page_list', 'vm', 'bvec', 'page_offset', 'fd':
        if place == 'data' and value == '1':
            continue
        bad['%s: %s' % (place, shown)] = io(memory={place: value})
for missing in 'client', 'op', 'regions', 'memory':
    bad['without ' + missing] = io(**{missing: REMOVED})
bad['a region without a device'] = io(regions=[{'sector': 0, 'count': 8}])
bad['a region with a colour'] = io(regions=[dict(region(path, 1024, 8), colour='red')])
bad['sector + count overflows'] = io(regions=[region(path, (1 << 53) - 1, (1 << 53) - 1)])
bad['65 regions'] = io(regions=[region(path, 1024, 1)] * 65)
bad['a very long device'] = io(regions=[region('/' + 'x' * 5000, 0, 8)])
bad['a device with a NUL'] = io(regions=[region('/etc/passwd\0.img', 0, 8)])
bad['fd:99999999999999999999'] = io(regions=[region('fd:99999999999999999999', 0, 8)])
bad['twice the same parameter'] = (b'{"method":"io.dmiod.OpenClient","parameters":{"name":"bad",'
                                   b'"name":"bad2","pages":0}}')
bad['export: name of a path'] = call('io.dmiod.CreateExport', {
    'client': 'alice', 'name': '../../etc/passwd', 'regions': [region(path, 1024, 8)]})
bad['WaitIo of what is not there'] = call('io.dmiod.WaitIo', {'client': 'alice', 'ids': [12345]})
bad['WaitIo of negative ids'] = call('io.dmiod.WaitIo', {'client': 'alice', 'ids': [-1]})
for unit in ({'offset': -1, 'length': 8}, {'offset': 0}, {'length': 8}, {'offset': 1 << 52, 'length': 1},
             {'offset': 0, 'length': 1.5}, {}, 7, None):
    bad['bvec entry %s' % unit] = io(memory={'fd': 0, 'bvec': [unit]})


def is_answered(raw, end):
    """True for an error reply, None for the end of the connection; anything else is trouble."""
    with Connection(end=end, timeout=10) as c:
        try:
            c.send_bytes(raw + end)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            reply = c.receive()
        except Closed:
            return None
        if 'error' not in reply:
            raise AssertionError('accepted: %r -> %r' % (raw[:200], reply))
        if '.' not in reply['error']:
            raise AssertionError('an error without a name: %r' % reply)
        return True


before = state()
fds = daemon_fds()
rss = None
expect('there are more than a hundred kinds (%d)' % len(bad), len(bad) > 100)
for wave in range(3):
    closed = 0
    for what, raw in bad.items():
        for end in (b'\n', b'\0'):
            if end in raw:
                continue
            start = time.monotonic()
            try:
                closed += is_answered(raw, end) is None
            except (AssertionError, TimeoutError, ValueError) as e:
                expect(what, False, e)
            if time.monotonic() - start > 5:
                expect(what + ' is answered in time', False)
    if control.call('Status')['clients'] != 1:
        expect('nothing was made', False, control.call('ListClients'))
    ok('wave %d: %d kinds, each answered by an error (%d by the end of the connection alone)' %
       (wave, len(bad), closed))
    if wave == 0:
        rss = daemon_rss_kib()
expect_eq('nothing has changed', state(), before)
wait_for('no descriptor is left', lambda: daemon_fds() <= fds)
ok('no descriptor is left')
if not sanitized():
    expect('memory does not grow', daemon_rss_kib() < rss + 4096, (rss, daemon_rss_kib()))

# --- big messages leave nothing behind, whatever they are made of
if not sanitized():
    rss = daemon_rss_kib()
    many = [b'{"method":"io.dmiod.Status","parameters":{"a":[' + b','.join([b'{}'] * 300000) + b']}}',
            b'[' + b','.join([b'{"a":1}'] * 120000) + b']', bad['many members']]
    for raw in many + [text[:-1] for text in many]:
        is_answered(raw, b'\n')
    wait_for('what big messages took is given back', lambda: daemon_rss_kib() < rss + 4096)
    ok('what big messages took is given back')

# --- an error that is no JSON is one reply, then the end
with Connection() as c:
    c.send_bytes(b'garbage\n{"method":"io.dmiod.Status"}\n')
    expect('garbage is answered', 'error' in c.receive())
    try:
        c.receive()
        expect('and nothing after it', False)
    except Closed:
        ok('and nothing after it')
# A call that is wrong is no reason to close.
with Connection() as c:
    expect('a wrong call is refused', c.refusal('Io', {'x': 1}))
    expect('the next one is answered', c.call('Status'))
    for text, parameter in ((b'[]', 'message'), (b'5', 'message'), (b'null', 'message'),
                            (b'{"method":"a.b.C","method":"a.b.D"}', 'message'),
                            (b'{"method":1e999}', 'message'), (b'{"a\\u0000":1}', 'message'),
                            (b'{"method":"io.dmiod.Status\\u0000"}', 'method'),
                            (call('io.dmiod.CloseClient', {'name': 'alice\0x'}), 'name'),
                            (io(op='write\0'), 'op'), (io(memory={'fill': 10 ** 30}), 'memory.fill'),
                            (io(regions=[region(path + '\0', 1024, 8)]), 'regions[0].device')):
        c.send_bytes(text + b'\n')
        reply = c.receive()
        expect_eq('%r: what is wrong is named' % text[:24], reply['parameters'].get('parameter'),
                  parameter)
        expect('and the next one is answered', c.call('Status'))

# --- random bytes, and good messages with a byte changed
rng = random.Random(42)
good = call('io.dmiod.ListExports', {'client': 'alice'})
for _ in range(1500):
    raw = bytearray(good if rng.random() < 0.8 else rng.randbytes(rng.randrange(1, 200)))
    for _ in range(rng.randrange(1, 4)):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    with Connection(timeout=10) as c:
        c.send_bytes(bytes(raw).replace(b'\n', b' ') + b'\n')
        c.socket.shutdown(socket.SHUT_WR)
        try:
            while True:
                c.receive()
        except Closed:
            pass
ok('1,500 changed messages')
# Cut off anywhere, and gone.
for length in range(len(good)):
    with Connection() as c:
        c.send_bytes(good[:length])
ok('messages cut off at every byte')
for _ in range(200):
    with Connection() as c:
        c.send_bytes(io(op='read', memory=REMOVED, regions=[region(path, 0, 1024)]) + b'\n')
ok('callers that do not wait for their answer')

# --- descriptors
def descriptors(count, message, times=1):
    opened = [os.open('/dev/null', os.O_RDONLY) for _ in range(count)]
    try:
        # What those who went asked for, 100 MiB in base64, comes first.
        with Connection(timeout=60) as c:
            for _ in range(times):
                c.send_bytes(message, opened)
            c.socket.shutdown(socket.SHUT_WR)
            try:
                while True:
                    c.receive()
            except Closed:
                pass
    finally:
        for fd in opened:
            os.close(fd)


for count in (1, 63, 64, 65, 200, 253):
    descriptors(count, good + b'\n')
    descriptors(count, b'garbage\n')
    descriptors(count, good)        # no end
descriptors(64, b' ', times=50)     # one after the other, in one message that never ends
descriptors(10, good[:10])
with Connection() as c:             # other ancillary data
    credentials = struct.pack('iII', os.getpid(), 0, 0)
    c.socket.sendmsg([good + b'\n'], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
    expect('credentials are not in the way', 'parameters' in c.receive())
# A connection sent over itself, closed by nobody but the daemon.
with Connection() as c:
    c.socket.sendmsg([b'{"method":"io.dmiod.Status"}\n'],
                     [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [c.socket.fileno()]))])
    c.receive()
wait_for('no descriptor is left', lambda: daemon_fds() <= fds)
ok('descriptors that nobody asked for are closed')
wait_for('still nothing has changed', lambda: state() == before)
ok('still nothing has changed')
