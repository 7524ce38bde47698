# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what. Another user reaches for root's client on the socket and in the mount, for paths,
for devices that are granted to others; and gets what it was given: devices by name, descriptors with
the access mode they have, its own clients, within its limits. Everything is done by a child with
another uid; the results come back through a pipe."""

import json
import os
import stat

from client import (MOUNT, WORK, Connection, Refused, as_user, expect, expect_eq, image, ok, read_at, region,
                    skip_case)

OTHER = 65534


def outcome(call, *arguments, **more):
    """The name of the error, or the reply."""
    try:
        return call(*arguments, **more)
    except Refused as refused:
        return refused.name


def errno_of(call, *arguments):
    try:
        result = call(*arguments)
        if isinstance(result, int):
            os.close(result)
        return 'success'
    except OSError as e:
        return os.strerror(e.errno)


secret = image('secret.img', 1 << 20)
granted = image('granted.img', 1 << 20)
sealed = image('sealed.img', 1 << 20)
os.chmod(secret, 0o600)
root = Connection()
root.call('OpenClient', {'name': 'boss', 'pages': 16, 'linger': True})
file = root.call('CreateExport', {'client': 'boss', 'name': 'vol',
                                  'regions': [region(secret, 0, 1024)]})['export']['path']
with open(file, 'r+b') as f:
    f.write(b'secret' * 100)

# --- root's client, from another user's side
FILL = {'fill': 1}
attempts = {
    'Get': {'client': 'boss', 'pages': 1},
    'Put': {'client': 'boss', 'pages': 1},
    'CloseClient': {'name': 'boss'},
    'CreateExport': {'client': 'boss', 'name': 'mine', 'regions': [region('granted', 0, 8)]},
    'RemoveExport': {'client': 'boss', 'name': 'vol', 'force': True},
    'ListExports': {'client': 'boss'},
    'Io': {'client': 'boss', 'op': 'write', 'regions': [region('granted', 0, 8)], 'memory': FILL},
    'SubmitIo': {'client': 'boss', 'op': 'read', 'regions': [region('granted', 0, 8)]},
    'WaitIo': {'client': 'boss'},
}


def reach_for_root():
    c = Connection()
    result = {method: outcome(c.call, method, parameters) for method, parameters in attempts.items()}
    result['list'] = c.call('ListClients')['clients']
    result['exports'] = c.call('ListExports')['exports']
    status = c.call('Status')
    result['counts'] = [status['clients'], status['exports']]
    result['name taken'] = outcome(c.call, 'OpenClient', {'name': 'boss', 'pages': 0})
    return result


for method in ('SubmitIo', 'WaitIo'):
    if not root.has_method(method):
        skip_case(method + ': this daemon does not have it')
        del attempts[method]
found = as_user(OTHER, reach_for_root)
for method in attempts:
    expect_eq("another user's " + method, found[method], 'NoSuchClient')
expect_eq('it sees no client', found['list'], [])
expect_eq('nor export', found['exports'], [])
expect_eq('nor how many there are', found['counts'], [0, 0])
expect_eq('the name is taken, though', found['name taken'], 'ClientExists')
expect_eq('the reservation is untouched',
          [x['pages'] for x in root.call('ListClients')['clients']], [16])
expect('the export is there', os.path.exists(file))


def reach_into_the_mount():
    status = json.load(open(MOUNT + '/.status'))
    return {
        'list': os.listdir(MOUNT),
        'folder': errno_of(os.listdir, MOUNT + '/boss'),
        'stat': errno_of(os.stat, file),
        'open': errno_of(os.open, file, os.O_RDONLY),
        'write': errno_of(os.open, file, os.O_RDWR),
        'truncate': errno_of(os.truncate, file, 0),
        'xattr': errno_of(os.getxattr, file, 'user.dmio.legs'),
        'status': errno_of(os.open, MOUNT + '/boss/.status', os.O_RDONLY),
        'new': errno_of(os.mkdir, MOUNT + '/mine'),
        'clients': status['clients'],
        'exports': status['exports'],
    }


found = as_user(OTHER, reach_into_the_mount)
for what in ('folder', 'stat', 'open', 'write', 'truncate', 'xattr', 'status'):
    expect("root's client in the mount: " + what,
           found[what] in ('Permission denied', 'No such file or directory',
                           'Operation not permitted'), found[what])
expect('nothing can be made there', found['new'] in ('Permission denied',
                                                     'Operation not permitted'), found['new'])
expect('it is not in the status either', found['clients'] == [] and found['exports'] == [])
expect_eq('nor in the listing', [n for n in found['list'] if not n.startswith('.')], [])

# --- paths and names
def name_things():
    c = Connection()
    c.call('OpenClient', {'name': 'mine', 'pages': 8})
    result = {}
    for what, device in (('a path', secret), ('a path to what is granted', granted),
                         ('/etc/passwd', '/etc/passwd'), ('a device node', '/dev/loop0'),
                         ('/proc/self/fd/0', '/proc/self/fd/0'),
                         ('a path with ..', WORK + '/../' + WORK + '/granted.img'),
                         ("another user's", 'others'), ("a group's", 'group'),
                         ('no such name', 'nothing'), ('a number', '1'), ('empty', ''),
                         ('no descriptor', 'fd:0'), ('a negative one', 'fd:-1'),
                         ('nonsense', 'fd:x')):
        for method in 'CreateExport', 'Io':
            parameters = {'client': 'mine', 'regions': [region(device, 0, 8)]}
            parameters.update({'name': 'x'} if method == 'CreateExport' else
                              {'op': 'write', 'memory': FILL})
            result[method + ' with ' + what] = outcome(c.call, method, parameters)
    return result


for what, name in as_user(OTHER, name_things).items():
    expect(what, name in ('PermissionDenied', 'NoSuchDevice', 'org.varlink.service.InvalidParameter'),
           name)
expect('no byte of it has been written', not any(read_at(granted, 0, 1 << 20)))


def use_what_is_granted():
    c = Connection()
    result = {'client': c.call('OpenClient', {'name': 'mine', 'pages': 8})['client']}
    export = c.call('CreateExport', {'client': 'mine', 'name': 'vol',
                                     'regions': [region('granted', 8, 64)]})['export']
    st = os.stat(export['path'])
    result['stat'] = [st.st_uid, stat.S_IMODE(st.st_mode), st.st_size]
    with open(export['path'], 'r+b') as f:
        f.write(b'mine')
    result['listing'] = sorted(os.listdir(MOUNT + '/mine'))
    result['status'] = json.load(open(MOUNT + '/mine/.status'))['client']['name']
    result['io'] = c.call('Io', {'client': 'mine', 'op': 'write', 'memory': FILL,
                                 'regions': [region('granted', 800, 8)]})['error_bits']
    result['sealed write'] = outcome(c.call, 'Io', {'client': 'mine', 'op': 'write', 'memory': FILL,
                                                    'regions': [region('sealed', 0, 8)]})
    result['sealed export'] = outcome(c.call, 'CreateExport', {
        'client': 'mine', 'name': 'writable', 'regions': [region('sealed', 0, 8)]})
    result['sealed read'] = c.call('Io', {'client': 'mine', 'op': 'read',
                                          'regions': [region('sealed', 0, 8)]})['error_bits']
    result['grant of a group'] = outcome(c.call, 'Io', {
        'client': 'mine', 'op': 'read', 'regions': [region('group', 0, 8)]})
    return result


found = as_user(OTHER, use_what_is_granted)
expect_eq('its client is its own', found['client']['uid'], OTHER)
expect_eq('its export, too', found['stat'], [OTHER, 0o600, 64 * 512])
expect_eq('in its folder', found['listing'], ['.status', 'vol'])
expect_eq('with its status', found['status'], 'mine')
expect_eq('a granted device can be written', found['io'], '0x0')
expect_eq('through the mount, too', read_at(granted, 8 * 512, 4), b'mine')
for what in ('sealed write', 'sealed export'):
    expect('a device granted for reading: ' + what,
           isinstance(found[what], str) or found[what].get('error_bits') == '0x1', found[what])
expect_eq('it can be read', found['sealed read'], '0x0')
expect('no byte of it has changed', not any(read_at(sealed, 0, 1 << 20)))
expect_eq('a group that it is not in', found['grant of a group'], 'NoSuchDevice')
found = as_user(OTHER, use_what_is_granted, groups=[65533])
expect_eq('a group that it is in', found['grant of a group']['error_bits'], '0x0')

# --- descriptors
own = os.path.join(WORK, 'own.img')
with open(own, 'wb') as f:
    f.truncate(1 << 20)
os.chown(own, OTHER, OTHER)


def send_descriptors():
    c = Connection()
    c.call('OpenClient', {'name': 'mine', 'pages': 8})
    writable, readable = os.open(own, os.O_RDWR), os.open(own, os.O_RDONLY)
    write_only, path_only = os.open(own, os.O_WRONLY), os.open(own, os.O_PATH)
    append = os.open(own, os.O_RDWR | os.O_APPEND)
    result = {}

    def io(what, op, fd, device='fd:0', count=8):
        parameters = {'client': 'mine', 'op': op, 'regions': [region(device, 0, count)]}
        if op == 'write':
            parameters['memory'] = FILL
        result[what] = outcome(c.call, 'Io', parameters, [fd])

    io('write', 'write', writable)
    io('read', 'read', readable)
    io('write with a descriptor for reading', 'write', readable)
    io('read with a descriptor for writing', 'read', write_only)
    io('write with a descriptor for writing', 'write', write_only)
    io('a descriptor for nothing', 'read', path_only)
    io('append', 'write', append)
    io('another index', 'read', readable, device='fd:1')
    read_end, write_end = os.pipe()
    io('a pipe', 'read', read_end)
    io('a socket', 'read', c.socket.fileno())
    io('a folder', 'read', os.open('/', os.O_RDONLY))
    io('a terminal or nothing', 'read', os.open('/dev/null', os.O_RDWR))
    os.close(read_end)
    os.close(write_end)
    export = c.call('CreateExport', {'client': 'mine', 'name': 'vol', 'read_only': True,
                                     'regions': [region('fd:0', 0, 64)]}, [readable])['export']
    result['export'] = [export['read_only'], oct(os.stat(export['path']).st_mode & 0o777)]
    result['writable export'] = outcome(c.call, 'CreateExport', {
        'client': 'mine', 'name': 'vol2', 'regions': [region('fd:0', 64, 64)]}, [readable])
    return result


found = as_user(OTHER, send_descriptors)
expect_eq('its own descriptor: write', found['write']['error_bits'], '0x0')
expect_eq('its own descriptor: read', found['read']['error_bits'], '0x0')
expect_eq('it wrote where it should', read_at(own, 0, 4096), b'\1' * 4096)
expect('the size is the same', os.stat(own).st_size == 1 << 20)
for what in ('write with a descriptor for reading', 'read with a descriptor for writing',
             'write with a descriptor for writing', 'a descriptor for nothing', 'another index',
             'a pipe', 'a socket', 'a folder', 'a terminal or nothing', 'writable export'):
    expect(what + ' is refused',
           isinstance(found[what], str) or found[what].get('error_bits') == '0x1', found[what])
expect('a descriptor with O_APPEND writes where it is told or not at all',
       isinstance(found['append'], str) or found['append']['error_bits'] in ('0x0', '0x1'))
expect_eq('a read-only export of a descriptor for reading', found['export'], [True, '0o400'])

# --- descriptors do not lend root's rights: /proc/self/fd of the daemon is not the user's
def two_regions_one_descriptor():
    c = Connection()
    c.call('OpenClient', {'name': 'mine', 'pages': 8})
    fd = os.open(own, os.O_RDWR)
    good = c.call('Io', {'client': 'mine', 'op': 'write', 'memory': {'fill': 2},
                         'regions': [region('fd:0', 16, 8), region('fd:1', 32, 8),
                                     region('fd:0', 48, 8)]}, [fd, fd])
    mixed = outcome(c.call, 'Io', {'client': 'mine', 'op': 'write', 'memory': {'fill': 3},
                                   'regions': [region('fd:0', 64, 8), region(secret, 64, 8)]}, [fd])
    return [good['error_bits'], mixed]


bits, mixed = as_user(OTHER, two_regions_one_descriptor)
expect_eq('several regions of one descriptor', bits, '0x0')
expect_eq('one forbidden region forbids all', mixed, 'PermissionDenied')
expect('nothing of it is written', not any(read_at(own, 64 * 512, 4096)))


# --- limits of one user, each with its own name
def run_into_limits():
    c = Connection()
    result = {'clients': [], 'pages': None, 'exports': []}
    for n in range(5):
        try:
            c.call('OpenClient', {'name': 'l%d' % n, 'pages': 10})
            result['clients'].append('ok')
        except Refused as refused:
            result['clients'].append([refused.name, refused.parameters])
    try:
        c.call('Get', {'client': 'l0', 'pages': 71})
    except Refused as refused:
        result['pages'] = [refused.name, refused.parameters]
    result['just so'] = c.call('Get', {'client': 'l0', 'pages': 70})['pages']
    for n in range(3):
        try:
            c.call('CreateExport', {'client': 'l1', 'name': 'e%d' % n,
                                    'regions': [region('granted', 100 + 8 * n, 8)]})
            result['exports'].append('ok')
        except Refused as refused:
            result['exports'].append([refused.name, refused.parameters])
    return result


found = as_user(OTHER, run_into_limits)
full = ['LimitReached', {'limit': 'clients', 'value': 3}]
expect_eq('clients', found['clients'], ['ok', 'ok', 'ok', full, full])
expect_eq('pages', found['pages'], ['LimitReached', {'limit': 'pages', 'value': 100}])
expect_eq('up to the limit', found['just so'], 80)
expect_eq('exports', found['exports'],
          ['ok', 'ok', ['LimitReached', {'limit': 'exports', 'value': 2}]])
for n in range(5):
    root.call('OpenClient', {'name': 'root%d' % n, 'pages': 100})
ok('root is not limited')


# --- root sees everybody's; its connection keeps the uid with which it was made
def hold_while_root_looks():
    c = Connection()
    c.call('OpenClient', {'name': 'second', 'pages': 1})
    c.call('CreateExport', {'client': 'second', 'name': 'vol', 'regions': [region('granted', 0, 8)]})
    return [sorted(x['name'] for x in root.call('ListClients')['clients']),
            [x['name'] for x in Connection().call('ListClients')['clients']]]


seen_by_root, seen_by_other = as_user(OTHER, hold_while_root_looks)
expect('root sees all', {'boss', 'second'} <= set(seen_by_root), seen_by_root)
expect_eq('the other one sees its own', seen_by_other, ['second'])
root.call('CloseClient', {'name': 'boss'})
