# SPDX-License-Identifier: LGPL-2.1-or-later
"""How messages are framed: newline or NUL as the first message has it, pieces, pipelines, half-closed
connections, order, the standard interface, and that one connection's slow call holds up nobody."""

import json
import os
import socket
import threading
import time

from client import Closed, Connection, expect, expect_eq, image, ok, region

STATUS = b'{"method":"io.dmiod.Status"}'

# --- terminators
for end, name in ((b'\n', 'newline'), (b'\0', 'NUL')):
    with Connection(end=end) as c:
        c.send_bytes(STATUS + end)
        raw = c.receive_bytes()
        reply = json.loads(raw)
        expect(name + ': a reply', reply['parameters']['version'])
        expect(name + ': in one line', b'\n' not in raw and b'\0' not in raw)
        expect(name + ': compact', b'": ' not in raw and b', "' not in raw)
        expect_eq(name + ': nothing but parameters', set(reply), {'parameters'})
        expect_eq(name + ': and nothing after it', c.buffer, b'')

with Connection(end=b'\n') as c:
    c.send_bytes(b'\n\n' + STATUS + b'\n')
    reply = c.receive()
    ok('what a blank line does is defined: ' + ('skipped' if 'parameters' in reply else 'an error'))

# --- pieces of one byte, and many messages in one piece
with Connection() as c:
    for byte in STATUS + b'\n':
        c.send_bytes(bytes([byte]))
    expect('byte by byte', 'parameters' in c.receive())
    n = 500
    c.send_bytes(b''.join(b'{"method":"io.dmiod.Io%d"}\n' % i for i in range(n)))
    for i in range(n):
        reply = c.receive()
        if reply.get('parameters', {}).get('method', '').split('.')[-1] != 'Io%d' % i:
            raise AssertionError('reply %d is %s' % (i, reply))
    ok('a pipeline of %d calls is answered in order' % n)

# --- a pipeline bigger than any buffer, whose replies are read late
with Connection(timeout=60) as c:
    n = 20000
    sender = threading.Thread(target=lambda: c.send_bytes((STATUS + b'\n') * n))
    sender.start()
    with Connection() as other:
        expect('others are answered meanwhile', 'version' in other.call('Status'))
    for i in range(n):
        if b'"version"' not in c.receive_bytes():
            raise AssertionError('reply %d' % i)
    sender.join()
    ok('%d calls, read late' % n)

# --- all calls first, then all replies: what fits the buffers of both sides needs no reader meanwhile
with Connection(timeout=8) as c:
    n = 1500
    for _ in range(n):
        c.send_bytes(STATUS + b'\n')           # in time, though nothing is read
    c.socket.shutdown(socket.SHUT_WR)
    got = 0
    try:
        while b'"version"' in c.receive_bytes():
            got += 1
    except Closed as closed:
        expect_eq('%d calls before the first reply is read' % n, (got, closed.args[0]), (n, b''))

# --- end of the sending side: what was asked is answered, then the connection is closed
with Connection() as c:
    c.send_bytes((STATUS + b'\n') * 3)
    c.socket.shutdown(socket.SHUT_WR)
    replies = [c.receive() for _ in range(3)]
    expect('half-closed: three replies', all('parameters' in r for r in replies))
    try:
        c.receive()
        raise AssertionError('a fourth reply')
    except Closed as closed:
        expect_eq('half-closed: then the end', closed.args[0], b'')
with Connection() as c:
    c.send_bytes(STATUS)            # no end
    c.socket.shutdown(socket.SHUT_WR)
    start = time.monotonic()
    try:
        c.receive()
    except Closed:
        pass
    expect('half a message: closed soon', time.monotonic() - start < 5)

# --- oneway and order
with Connection() as c:
    c.send('Status', oneway=True)
    c.send('OpenClient', {'name': 'oneway', 'pages': 3, 'linger': True}, oneway=True)
    c.send('ListClients')
    reply = c.receive()
    expect_eq('calls that want no reply get none, but are done',
              [x['name'] for x in reply['parameters']['clients']], ['oneway'])
    c.call('CloseClient', {'name': 'oneway'})
    for method, parameters in (
            ('Fly', {}), ('io.nobody.Fly', {}), ('nothing', {}), ('CloseClient', {'name': 'nobody'}),
            ('Get', {'client': 'x'}), ('Get', {'client': 'x', 'pages': 1, 'colour': 1}),
            ('Io', {'client': 'x', 'op': 'read', 'regions': []}), ('Monitor', {}),
            ('OpenClient', {'name': '..', 'pages': 0}), ('WaitIo', {'client': 'nobody'}),
            ('org.varlink.service.GetInterfaceDescription', {'interface': 'io.nobody'})):
        for more in False, True:
            c.send(method, parameters, oneway=True, more=more)
    c.send('Status', oneway=True, colour=1)
    c.send_bytes(b'{"oneway":true}\n{"oneway":true,"method":1}\n[]\n')
    expect_eq('nor is an error a reply to them', c.receive()['error'],
              'org.varlink.service.InvalidParameter')      # which is about the list
with Connection() as c:
    c.send_bytes(b'{"oneway":true,"method":"io.dmiod.Status",}\n')
    expect('but who sends what is no message is told before the end', 'error' in c.receive())

# --- the standard interface
with Connection(end=b'\0') as c:
    info = c.call('org.varlink.service.GetInfo')
    expect('GetInfo', {'vendor', 'product', 'version', 'url', 'interfaces'} <= set(info))
    expect('it names the interfaces',
           {'io.dmiod', 'org.varlink.service'} <= set(info['interfaces']))
    text = c.call('org.varlink.service.GetInterfaceDescription',
                  {'interface': 'io.dmiod'})['description']
    expect('the interface text', 'interface io.dmiod' in text and 'method Io(' in text)
    with open(os.path.join(os.environ['DMIO_SOURCE'], 'daemon/control/io.dmiod.varlink')) as file:
        expect_eq('is the file, byte for byte', text, file.read())
    expect_eq('an unknown interface',
              c.refusal('org.varlink.service.GetInterfaceDescription',
                        {'interface': 'io.nobody'}).name,
              'org.varlink.service.InterfaceNotFound')
    # Every method of the text is there, and wants its parameters.
    for line in text.splitlines():
        if not line.startswith('method '):
            continue
        method = line.split()[1].split('(')[0]
        if method in ('Status', 'ListClients', 'ListExports', 'ListJobs', 'Monitor'):
            continue
        refused = c.refusal(method, {'nonsense': 1})
        expect(method + ' is known, and refuses what it does not know',
               refused.name in ('org.varlink.service.InvalidParameter',
                                'org.varlink.service.MethodNotImplemented'), refused)
    expect_eq('an unknown method', c.refusal('Fly').name, 'org.varlink.service.MethodNotFound')
    refused = c.refusal('io.nobody.Fly')
    expect('an unknown interface of a call', refused.name.startswith('org.varlink.service.'))
    expect_eq('a missing parameter is named',
              c.refusal('OpenClient', {'pages': 1}).parameters['parameter'], 'name')
    expect_eq('an unknown one, too',
              c.refusal('OpenClient', {'name': 'x', 'pages': 1, 'colour': 'red'})
              .parameters['parameter'], 'colour')
    expect_eq('one of the wrong type, too',
              c.refusal('OpenClient', {'name': 'x', 'pages': 'many'}).parameters['parameter'],
              'pages')

# --- a slow call of one holds up nobody else
path = image('slow.img', 1 << 20)
with Connection() as c:
    c.call('OpenClient', {'name': 'slow', 'pages': 16})
    # 700 KB in each answer, many of them, unread: the connection is slow, not the daemon.
    for _ in range(50):
        c.send('Io', {'client': 'slow', 'op': 'read', 'regions': [region(path, 0, 1024)]})
    start = time.monotonic()
    with Connection() as other:
        for _ in range(100):
            other.call('Status')
    expect('a connection that does not read holds up nobody', time.monotonic() - start < 10)
    for _ in range(50):
        reply = c.receive()
        if reply['parameters']['error_bits'] != '0x0':
            raise AssertionError(reply)
    ok('and gets all of its answers in the end')
