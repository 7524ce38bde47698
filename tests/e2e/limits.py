# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every limit of the configuration is reached by another user, has its own name, and costs nothing
when it is; and what a reload changes for who is there already: limits below what is used, a device
that is taken away, keys that are read at the start only, and a file that is wrong."""

import os
import signal
import subprocess

from client import (MOUNT, PID, WORK, Connection, as_user, daemon_fds, expect, expect_eq, image, ok,
                    region, wait_for)

OTHER = 65534
BUILD = os.environ['DMIO_BUILD']


# --- each limit: what is allowed just so, then one more, whose reply is returned
def said(refused):
    return [refused.name, refused.parameters.get('limit'), refused.parameters.get('value')]


def clients(c):
    for n in range(3):
        c.call('OpenClient', {'name': 'c%d' % n, 'pages': 1})
    return c.refusal('OpenClient', {'name': 'more', 'pages': 1})


def exports(c):
    c.call('OpenClient', {'name': 'c', 'pages': 1})
    for n in range(3):
        call = c.call if n < 2 else c.refusal
        reply = call('CreateExport', {'client': 'c', 'name': 'e%d' % n,
                                      'regions': [region('granted', 8 * n, 8)]})
    return reply


def connections(c):
    held = [Connection() for _ in range(8 - 1)]
    for one in held:
        one.call('ListClients')
    return Connection().refusal('ListClients')


def pages(c):
    c.call('OpenClient', {'name': 'c', 'pages': 60})
    c.call('OpenClient', {'name': 'd', 'pages': 40})
    return c.refusal('Get', {'client': 'c', 'pages': 1})


def jobs(c):
    c.call('OpenClient', {'name': 'c', 'pages': 16})
    copy = {'client': 'c', 'source': region('granted', 0, 32768), 'throttle': 1,
            'destinations': [region('granted', 32768, 32768)]}
    with Connection() as runner:
        runner.send('Copy', copy, more=True)
        assert runner.receive()['parameters']['state'] == 'running'
        return c.refusal('Copy', copy)


def requests(c):
    c.call('OpenClient', {'name': 'c', 'pages': 8})
    read = {'client': 'c', 'op': 'read', 'regions': [region('granted', 0, 1)]}
    for _ in range(2):
        c.call('SubmitIo', read)
    return c.refusal('SubmitIo', read)


def monitors(c):
    held = [Connection() for _ in range(2)]
    for one in held:
        one.send('Monitor', more=True)
        assert one.receive()['parameters']['event'] == 'watching'
    refused = c.refusal('Monitor', more=True)
    held[0].close()
    wait_for('a monitor less is one that may be', starts_monitor)
    return refused


def starts_monitor():
    with Connection() as c:
        c.send('Monitor', more=True)
        return 'error' not in c.receive()


def faults(c):
    c.call('OpenClient', {'name': 'c', 'pages': 8})
    c.call('CreateExport', {'client': 'c', 'name': 'e', 'regions': [region('granted', 0, 8)]})
    fault = {'client': 'c', 'export': 'e', 'leg': 0, 'action': 'hold', 'operation': 'write'}
    for _ in range(2):
        c.call('AddFault', fault)
    return c.refusal('AddFault', fault)


def message(c):
    start = b'{"method":"io.dmiod.ListClients"'
    c.send_bytes(start + b' ' * (4096 - len(start) - 1) + b'}\n')
    assert 'parameters' in c.receive()
    return c.refusal('ListClients', {'x': ' ' * 4096})


def nesting(c):
    deep = []
    for _ in range(8 - 3):
        deep = [deep]
    assert c.refusal('ListClients', {'x': deep}).name == 'org.varlink.service.InvalidParameter'
    return c.refusal('ListClients', {'x': [deep]})


def descriptors(c):
    c.call('ListClients', fds=[0] * 3)
    return c.refusal('ListClients', fds=[0] * 4)


def run_case(function):
    with Connection() as c:
        return said(function(c))


def nobody_is_there():
    return root.call('ListClients')['clients'] == [] and daemon_fds() <= fds


VALUES = {}
with open(WORK + '/dmiod.conf') as conf:
    for line in conf:
        if ' = ' in line:
            key, value = line.split(' = ')
            VALUES[key] = value.strip()
image('granted.img', 64 << 20)
root = Connection()
as_user(OTHER, run_case, exports)     # what the first use of anything leaves open does not count
wait_for('it ends', lambda: root.call('ListClients')['clients'] == [])
fds = daemon_fds()

table = subprocess.run([BUILD + '/daemon/print-keys', 'limits'], stdout=subprocess.PIPE, check=True)
for line in table.stdout.decode().splitlines():
    key, name = line.split('\t')
    if name in ('buffers', 'held-descriptors'):     # it takes many peers: hostile-peers.py
        continue
    expect('%s has a case' % key, name in globals())
    expect_eq('%s is reached' % key, as_user(OTHER, run_case, globals()[name]),
              ['LimitReached', name, int(VALUES[key])])
    wait_for('nothing of it is left', nobody_is_there)
as_user(OTHER, run_case, monitors)
wait_for('they can be there again', nobody_is_there)
for function in message, nesting, descriptors:
    expect_eq('root is bound by the size of messages, too: ' + function.__name__,
              run_case(function)[:2], ['LimitReached', function.__name__])
watchers = [Connection() for _ in range(3)]
for watcher in watchers:
    watcher.send('Monitor', more=True)
    expect_eq('root may watch as often as it likes', watcher.receive()['parameters']['event'], 'watching')
    watcher.close()


# --- a reload
monitor = Connection()
monitor.send('Monitor', more=True)
monitor.receive()
log = open(WORK + '/dmiod.log', encoding='utf-8')
with open(WORK + '/dmiod.conf') as conf:
    before = conf.read()


def write_configuration(text):
    with open(WORK + '/dmiod.conf', 'w') as conf:
        conf.write(text)
    log.seek(0, os.SEEK_END)
    os.kill(PID, signal.SIGHUP)


def reload(text):
    """Returns what is logged meanwhile."""
    write_configuration(text)
    while monitor.receive()['parameters']['event'] != 'configuration-reloaded':
        pass
    return log.read()


def settle():
    c = Connection()
    for n in range(3):
        c.call('OpenClient', {'name': 'l%d' % n, 'pages': 20, 'linger': True})
    c.call('CreateExport', {'client': 'l0', 'name': 'vol', 'regions': [region('granted', 0, 8)]})


def look(file):
    """What is possible now, by the names of the errors."""
    c = Connection()
    result = {}
    for what, method, parameters in (
            ('open', 'OpenClient', {'name': 'l3', 'pages': 0}),
            ('get', 'Get', {'client': 'l0', 'pages': 1}),
            ('get nothing', 'Get', {'client': 'l0', 'pages': 0}),
            ('put', 'Put', {'client': 'l0', 'pages': 1}),
            ('io', 'Io', {'client': 'l0', 'op': 'read', 'regions': [region('granted', 8, 1)]}),
            ('export', 'CreateExport', {'client': 'l1', 'name': 'vol',
                                        'regions': [region('granted', 16, 8)]})):
        c.send(method, parameters)
        reply = c.receive()
        result[what] = reply.get('error', '.ok').split('.')[-1]
        if result[what] == 'LimitReached':
            result[what] = reply['parameters']['value']
    with open(file, 'r+b', buffering=0) as f:
        result['write'] = os.pwrite(f.fileno(), b'still', 0)
        result['read'] = os.pread(f.fileno(), 5, 0).decode()
    return result


def close(*names):
    c = Connection()
    for name in names:
        c.call('CloseClient', {'name': name})


as_user(OTHER, settle)
lowered = before.replace('clients-per-uid = 3', 'clients-per-uid = 2') \
                .replace('pages-per-uid = 100', 'pages-per-uid = 50') \
                .replace('users = 65534', 'users = 65532')
reload(lowered)
found = as_user(OTHER, look, MOUNT + '/l0/vol')
expect_eq('limits below what is used: nothing more', [found['open'], found['get']], [2, 50])
expect_eq('what is there stays, and can be given back', found['put'], 'ok')
expect_eq('a device taken away cannot be named any more', [found['io'], found['export']],
          ['NoSuchDevice'] * 2)
expect_eq('an export of it goes on', [found['write'], found['read']], [5, 'still'])
expect_eq('a client less is not enough', as_user(OTHER, lambda: [close('l1'), Connection().refusal(
    'OpenClient', {'name': 'l3', 'pages': 0}).parameters['value']][1]), 2)
as_user(OTHER, close, 'l2')
expect_eq('below the limit there is room', as_user(OTHER, lambda: Connection().call(
    'OpenClient', {'name': 'l3', 'pages': 0})['client']['name']), 'l3')
reload(before)
expect_eq('given back, it can be named again',
          as_user(OTHER, lambda: Connection().call('Io', {'client': 'l0', 'op': 'read', 'regions': [
              region('granted', 0, 1)]})['error_bits']), '0x0')
as_user(OTHER, close, 'l0')

text = reload(before + '[daemon]\nqueues = 7\nmount = /elsewhere\nspin-us = 1\n')
expect('what is read at the start only is named, but not what the command line overrides',
       'Changed, but read at the start only: queues, spin-us\n' in text, text)
expect('the next reload is about what runs', 'start only' not in reload(before))
expect('said at info', 'has been read again' in reload(before))
expect('the level of the log is changed by a reload',
       'has been read again' not in reload(before + '[daemon]\nlog-level = error\n'))
reload(before)

# A device that is not there is the business of who names it; and may come.
reload(before + '[device absent]\npath = %s/absent.img\nusers = 65534\n' % WORK)
absent = {'client': 'a', 'op': 'read', 'regions': [region('absent', 0, 1)]}
root.call('OpenClient', {'name': 'a', 'pages': 1})
refused = root.refusal('Io', absent)
expect_eq('a device that is not there', [refused.name, refused.parameters],
          ['NoSuchDevice', {'device': 'absent'}])
image('absent.img', 1 << 20)
expect_eq('now it is', root.call('Io', absent)['error_bits'], '0x0')

for what, text in (('an unknown key', before + 'colour = red\n'),
                   ('an unknown user', before + '[device x]\npath = /x\nusers = no-such-user\n')):
    write_configuration(text.replace('clients-per-uid = 3', 'clients-per-uid = 0'))
    lines = []

    def has_complained():
        lines.extend(log.read().splitlines())
        return any('stays as it was' in line for line in lines)

    wait_for('%s is named' % what, has_complained)
    expect(what + ': with file and line', '%s/dmiod.conf:%d: ' % (WORK, len(text.splitlines()))
           in '\n'.join(lines), lines)
    expect_eq(what + ': nothing of the file counts', as_user(OTHER, run_case, clients)[2], 3)
os.unlink(WORK + '/dmiod.conf')
os.kill(PID, signal.SIGHUP)
wait_for('a file that is gone is an error, too', lambda: 'No such file' in log.read())
expect_eq('and changes nothing', as_user(OTHER, run_case, clients)[2], 3)
ok('the daemon goes on')
