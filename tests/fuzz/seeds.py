#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes what the corpora begin with: inputs that say what each target is about, by name. What the fuzzer
has found of interest since has names of numbers, and lies beside it."""

import base64
import json
import os
import struct
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'corpus')


def write(target, name, data):
    os.makedirs(os.path.join(FOLDER, target), exist_ok=True)
    with open(os.path.join(FOLDER, target, name), 'wb') as file:
        file.write(data)


def call(method, parameters=None, **members):
    message = {'method': method if '.' in method else 'io.dmiod.' + method, **members}
    if parameters is not None:
        message['parameters'] = parameters
    return json.dumps(message).encode()


def region(sector, count, device='disk0'):
    return {'device': device, 'sector': sector, 'count': count}


DATA = base64.b64encode(bytes(4096)).decode()
PARAMETERS = {
    'GetInterfaceDescription': {'interface': 'io.dmiod'},
    'OpenClient': {'name': 'd', 'pages': 8, 'linger': True},
    'CloseClient': {'name': 'c'},
    'Get': {'client': 'c', 'pages': 4},
    'CreateExport': {'client': 'c', 'name': 'f', 'regions': [region(64, 64), region(0, 64, 'disk1')],
                     'read_only': False, 'shared': True, 'cache': 'none'},
    'RemoveExport': {'client': 'c', 'name': 'e', 'force': True},
    'ListExports': {'client': 'c'},
    'Io': {'client': 'c', 'op': 'write', 'regions': [region(0, 8), region(8, 8, 'disk1')],
           'memory': {'data': DATA}, 'preflush': True, 'fua': True},
    'WaitIo': {'client': 'c', 'ids': [1, 2]},
    'Copy': {'client': 'c', 'source': region(0, 64), 'destinations': [region(64, 64), region(0, 64, 'disk1')],
             'ignore_errors': True, 'sequential': True, 'throttle': 50},
    'Zero': {'client': 'c', 'destinations': [region(64, 64)], 'throttle': 100},
    'CancelJob': {'job': 1},
}

# --- arguments: the method, a message, a leg, base64
for number, (name, parameters) in enumerate(PARAMETERS.items()):
    write('arguments', name, bytes([number]) + json.dumps(parameters).encode())
number = len(PARAMETERS)
for name, text in (('message', call('Status', {}, more=True, oneway=False)),
                   ('message-twice', b'{"method":"a.B","method":"a.C","oneway":true}'),
                   ('message-numbers', b'{"method":"a.B","parameters":{"x":[1e400,1e3,9007199254740993,-0.0]}}'),
                   ('message-deep', b'{"method":' + b'[' * 40 + b']' * 40 + b'}')):
    write('arguments', name, bytes([number]) + text)
for name, text in (('leg', b'a.img:100+16384'), ('leg-units', b'/dev/a:b:1MiB+2GiB'), ('leg-max', b'x:9007199254740991+1TiB'),
                   ('leg-none', b':+')):
    write('arguments', name, bytes([number + 1]) + text)
for name, text in (('base64', base64.b64encode(b'dmio 12')), ('base64-bits', b'QUJ='), ('base64-short', b'QUJ')):
    write('arguments', name, bytes([number + 2]) + text)

# --- config
write('config', 'full', b"""# all keys
[daemon]
mount = /run/dmio
control = /run/dmiod/control
state = /var/lib/dmiod
backend = threads
queues = 2
max-pages = 4096
spin-us = 50
log-level = debug
[limits]
clients-per-uid = 64
exports-per-uid = 256
connections-per-uid = 1024
pages-per-uid = 65536
jobs-per-uid = 32
requests-per-uid = 256
message-bytes = 1048576
message-depth = 32
message-descriptors = 64
monitor-events = 256
[device disk]
path = /dev/null
users = nobody 1000
groups = nogroup
read-only = yes
""")
for name, text in (('empty', b''), ('no-section', b'a = b\n'), ('unknown', b'[daemon]\ncolour = red\n'),
                   ('twice', b'[device a]\npath=/a\n[device a]\npath=/b\n'), ('no-path', b'[device a]\nusers=root\n'),
                   ('nul', b'[daemon]\nmount = /a\0b\n'), ('long', b'[daemon]\nmount = /' + b'x' * 5000 + b'\n'),
                   ('continued', b'[device a]\npath = /a\n  /b\n; comment\n'), ('bom', b'\xef\xbb\xbf[daemon]\nqueues=1\n'),
                   ('range', b'[limits]\nmessage-depth = 18446744073709551616\n')):
    write('config', name, text)

# --- message: how (see message.c), then the bytes
CLIENT, EXPORT, OPEN, NO_END, DEAF, PIECES = 8, 24, 32, 64, 128, 4
for name, parameters in PARAMETERS.items():
    if name == 'GetInterfaceDescription':
        name, method = 'interface', 'org.varlink.service.GetInterfaceDescription'
    else:
        method = name
    write('message', name, bytes([EXPORT if 'Export' in method else CLIENT]) + call(method, parameters))
page = {'client': 'c', 'op': 'write', 'regions': [region(0, 8), region(64, 4, 'disk1')]}
for name, memory in (('page-list', {'fd': 0, 'page_list': [3, 1], 'page_offset': 100}),
                     ('bvec', {'fd': 0, 'bvec': [{'offset': 5, 'length': 2000}, {'offset': 9000, 'length': 3000}]}),
                     ('vm', {'fd': 0, 'vm': 777}), ('zero', {'fd': 1, 'vm': 0}), ('fill', {'fill': 7})):
    write('message', 'io-' + name, bytes([CLIENT | 2]) + call('Io', dict(page, memory=memory)))
write('message', 'io-read', bytes([CLIENT]) + call('Io', {'client': 'c', 'op': 'read', 'regions': [region(0, 8)]}))
write('message', 'io-descriptor', bytes([CLIENT | 1]) +
      call('Io', {'client': 'c', 'op': 'write', 'regions': [region(0, 8, 'fd:0')], 'memory': {'fill': 1}}))
for op in 'flush', 'discard', 'write_zeroes':
    write('message', 'io-' + op, bytes([CLIENT]) + call('Io', {'client': 'c', 'op': op, 'regions': [region(0, 64)]}))
write('message', 'submit-and-wait', bytes([CLIENT]) +
      b'\n'.join([call('SubmitIo', dict(page, memory={'fill': 1}))] * 5 + [call('WaitIo', {'client': 'c'}, more=True)]))
write('message', 'copy-more', bytes([CLIENT]) + call('Copy', PARAMETERS['Copy'], more=True))
write('message', 'zero-cancel', bytes([CLIENT]) + call('Zero', PARAMETERS['Zero']) + b'\n' +
      call('ListJobs') + b'\n' + call('CancelJob', {'job': 1}))
write('message', 'monitor', bytes([CLIENT | OPEN]) + call('Monitor', more=True))
write('message', 'pipeline-nul', bytes([CLIENT]) + b'\0'.join([call('Status')] * 20 + [call('ListClients')]) + b'\0')
write('message', 'deaf', bytes([CLIENT | DEAF]) + b'\n'.join([call('ListExports')] * 50))
write('message', 'oneway', bytes([CLIENT]) + call('Get', PARAMETERS['Get'], oneway=True) + b'\n' + call('ListClients'))
write('message', 'pieces', bytes([CLIENT | PIECES | 1]) + call('Io', dict(page, memory={'fd': 0, 'vm': 0})))
write('message', 'half', bytes([CLIENT | NO_END | 2]) + call('Status')[:-3])
write('message', 'too-many-descriptors', bytes([3]) + call('Status'))
write('message', 'not-json', bytes([0]) + b'GET / HTTP/1.1\r\n' + call('Status'))
write('message', 'put-and-list', bytes([EXPORT]) + b'\n'.join(
    [call('Put', {'client': 'c', 'pages': 8}), call('ListExports'), call('ListClients'), call('ListJobs'),
     call('org.varlink.service.GetInfo')]))

# --- fuse: operation (its place in the table of fuse.c), node and file, user, length, body
ORDER = ('LOOKUP FORGET GETATTR SETATTR READLINK SYMLINK MKNOD MKDIR UNLINK RMDIR RENAME RENAME2 LINK OPEN READ '
         'WRITE STATFS RELEASE FSYNC SETXATTR GETXATTR LISTXATTR REMOVEXATTR FLUSH OPENDIR READDIR READDIRPLUS '
         'RELEASEDIR FSYNCDIR GETLK SETLK ACCESS CREATE INTERRUPT BMAP IOCTL POLL FALLOCATE LSEEK '
         'COPY_FILE_RANGE BATCH_FORGET NONE').split()
ROOT, STATUS, DIRECTORY, CLIENT_STATUS, ONE, TWO, READ_ONLY = range(7)


def request(name, where, body=b'', who=1):
    return struct.pack('<BBBH', ORDER.index(name), where, who, len(body)) + body


def open_(node, flags=2):
    return request('OPEN', node, struct.pack('<II', flags, 0))


def read(file, offset, size):
    return request('READ', file, struct.pack('<QQIIQII', 0, offset, size, 0, 1, 0, 0))


def data(file, offset, length):
    return request('WRITE', file, struct.pack('<QQIIQII', 0, offset, 0, 0, 1, 0, 0) + b'x' * length)


write('fuse', 'names', request('LOOKUP', ROOT, b'c\0') + request('LOOKUP', ROOT, b'.status\0') +
      request('LOOKUP', DIRECTORY, b'two\0') + request('LOOKUP', DIRECTORY, b'.status\0') + request('GETATTR', TWO, bytes(16)))
write('fuse', 'folders', b''.join(request(op, node, struct.pack('<QQIIQII', 0, 0, 4096, 0, 0, 0, 0), who)
                                  for op in ('READDIR', 'READDIRPLUS') for node in (ROOT, DIRECTORY) for who in (1, 2, 4)))
write('fuse', 'read', open_(ONE) + read(0, 0, 4096) + read(0, 100, 1000) + read(0, 102300, 4096) + read(0, 1 << 63, 512))
write('fuse', 'write', open_(TWO) + data(0, 0, 4096) + data(0, 511, 2) + data(0, 4095, 5000) + data(0, 524700, 200) +
      data(0, 524800, 1) + data(0, 8192, 40000) + read(0, 0, 8192))
write('fuse', 'overlap', open_(TWO) + b''.join(data(0, i * 100, 1000) for i in range(10)) + request('FSYNC', 0, bytes(16)))
write('fuse', 'zero', open_(TWO) + b''.join(request('FALLOCATE', 0, struct.pack('<QQQII', 0, at, n, mode, 0))
                                            for at, n, mode in ((0, 4096, 3), (100, 1000, 0x11), (0, 1 << 40, 3), (5, 7, 0x10),
                                                                (0, 10, 0), (1 << 63, 1 << 63, 3))))
write('fuse', 'copy', open_(ONE) + open_(TWO) + request('COPY_FILE_RANGE', 0, struct.pack('<QQQQQQQ', 0, 0, 5, 1, 100, 50000, 0)) +
      request('COPY_FILE_RANGE', 0, struct.pack('<QQQQQQQ', 0, 0, 5, 0, 100, 50000, 0)))
write('fuse', 'status', request('OPEN', STATUS, bytes(8)) + read(0, 0, 32768) + read(0, 5, 3) +
      request('OPEN', CLIENT_STATUS, bytes(8)) + request('LSEEK', 0, struct.pack('<QQII', 0, 5, 4, 0)))
write('fuse', 'attributes', b''.join(request('SETATTR', node, struct.pack('<IIQQ', mask, 0, 0, size) + bytes(64))
                                     for node in (ROOT, ONE, READ_ONLY) for mask in (8, 1, 2, 0x70) for size in (0, 102400, 5)))
write('fuse', 'xattr', b''.join(request('GETXATTR', TWO, struct.pack('<II', size, 0) + name + b'\0')
                                for name in (b'user.dmio.legs', b'user.dmio.failed', b'user.dmio.state', b'user.x')
                                for size in (0, 5, 4096)) + request('LISTXATTR', TWO, struct.pack('<II', 100, 0)) +
      request('SETXATTR', TWO, bytes(8) + b'user.x\0value'))
write('fuse', 'interrupt', open_(ONE) + data(0, 0, 100) + request('INTERRUPT', 0, struct.pack('<Q', 6)) + read(0, 0, 100))
write('fuse', 'wrong-lengths', b''.join(request(op, ONE, bytes(50), 0x80 | n) for op in ('READ', 'WRITE', 'LOOKUP', 'OPEN', 'SETXATTR')
                                        for n in (0, 4, 7, 127)))
write('fuse', 'read-only', open_(READ_ONLY) + open_(READ_ONLY, 0) + data(0, 0, 512) + read(0, 0, 512) +
      request('FALLOCATE', 0, struct.pack('<QQQII', 0, 0, 512, 3, 0)))
write('fuse', 'refused', b''.join(request(op, ROOT, b'\0' * 48 + b'a\0b\0') for op in
                                  'SYMLINK MKNOD MKDIR UNLINK RMDIR RENAME RENAME2 LINK CREATE READLINK NONE BMAP IOCTL POLL GETLK'.split()))
# --- state: the content (even), or the document with its checksum (odd)
LEG = {'device': '/a', 'how': 'path', 'state': 'active', 'sector': 8, 'count': 16, 'errors': 2, 'last_error': 5,
       'block': False, 'major': 8, 'minor': 1, 'inode': '18446744073709551615', 'capacity': 24, 'born_sec': 17,
       'born_nsec': 999999999, 'serial': '', 'kept': 0}
EXPORT_SAVED = {'name': 'vol', 'node': 8589934592, 'ctime': 1700000000, 'read_only': True, 'shared': False,
                'cache': 'none', 'legs': [LEG, LEG]}
CLIENT_SAVED = {'name': 'alice', 'uid': 1001, 'gid': 4294967294, 'pages': 256, 'node': 4294967296,
                'status_node': 4294967297, 'exports': [EXPORT_SAVED]}
for name, clients in (('none', []), ('one', [CLIENT_SAVED]), ('twice', [CLIENT_SAVED] * 2),
                      ('no-legs', [dict(CLIENT_SAVED, exports=[dict(EXPORT_SAVED, legs=[])])])):
    content = {'boot': 'b', 'epoch': 2, 'clients': clients}
    write('state', name, b'\0' + json.dumps(content).encode())
    write('state', 'document-' + name, b'\1' + json.dumps(
        {'format': 1, 'checksum': '0' * 64, 'content': content}).encode())

sys.stdout.write('written to %s\n' % FOLDER)
