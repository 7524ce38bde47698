#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""dmiod's control channel from Python, with nothing but the standard library: devices and memory are
sent along as descriptors, so any user can do this with what he may open himself.

    control.py SOCKET DEVICE...

Writes 16 KiB to sector 8 of every DEVICE, at once, from memory that is shared with the daemon; reads
it back from each that took it; and shows what Monitor tells meanwhile. Exit status: 0 all have it,
1 some do not, 2 usage, 3 the daemon said no.
"""

import array
import json
import mmap
import os
import socket
import sys

SECTOR = 8
COUNT = 32      # sectors of 512 bytes


class Refused(Exception):
    """An error reply."""


class Control:
    """A connection: calls on it are answered in order."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.replies = self.socket.makefile('r', encoding='utf-8')

    def send(self, method, fds=(), more=False, **parameters):
        message = {'method': 'io.dmiod.' + method, 'parameters': parameters}
        if more:
            message['more'] = True
        data = json.dumps(message).encode() + b'\n'
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        # The descriptors go with the first bytes; the kernel may take fewer than all at once.
        self.socket.sendall(data[self.socket.sendmsg([data], rights):])

    def receive(self):
        """The parameters of the next reply."""
        line = self.replies.readline()
        if not line:
            raise Refused('the daemon has closed the connection')
        reply = json.loads(line)
        if 'error' in reply:
            raise Refused('%s %s' % (reply['error'], reply.get('parameters')))
        return reply['parameters']

    def call(self, method, fds=(), **parameters):
        self.send(method, fds, **parameters)
        return self.receive()


def write_to_all(control, client, devices, memory):
    """One request, a region for each device. Returns the indexes of those that failed."""
    regions = [{'device': 'fd:%d' % i, 'sector': SECTOR, 'count': COUNT}
               for i in range(len(devices))]
    # The memory is one descriptor more; its pages may be named in any order.
    result = control.call('Io', devices + [memory], client=client, op='write', regions=regions,
                          memory={'fd': len(devices), 'page_list': [0, 1, 2, 3]}, fua=True)
    for error in result['errors']:
        print('region %d: %s at sector %d' % (error['region'], error['errno'], error['sector']))
    return result['failed']


def read_back(control, client, device):
    memory = os.memfd_create('back')
    os.ftruncate(memory, COUNT * 512)
    result = control.call('Io', [device, memory], client=client, op='read',
                          regions=[{'device': 'fd:0', 'sector': SECTOR, 'count': COUNT}],
                          memory={'fd': 1, 'vm': 0})
    with mmap.mmap(memory, COUNT * 512) as view:
        data = bytes(view)
    os.close(memory)
    return data if result['error_bits'] == '0x0' else None


def show_events(events, client):
    """Up to the end of our client; it is known when they come, not how many there are."""
    while True:
        event = events.receive()
        details = event['details']
        if details.get('client') == client:
            print('event %s %s' % (event['event'], client))
        if event['event'] == 'client-closed' and details['client'] == client:
            return


def main(path, *names):
    client = 'python-%d' % os.getpid()
    events = Control(path)
    events.send('Monitor', more=True)
    events.receive()            # "watching": from now on nothing is missed

    control = Control(path)
    control.call('OpenClient', name=client, pages=64)
    devices = [os.open(name, os.O_RDWR | os.O_CLOEXEC) for name in names]
    data = os.urandom(COUNT * 512)
    memory = os.memfd_create('data')
    os.write(memory, data)

    failed = write_to_all(control, client, devices, memory)
    for i, (name, device) in enumerate(zip(names, devices)):
        if i in failed:
            print('%s: failed' % name)
        elif read_back(control, client, device) == data:
            print('%s: written' % name)
        else:
            failed.append(i)
            print('%s: not what was written' % name)

    control.socket.close()      # the client does not linger, so it ends with the connection
    control.replies.close()
    show_events(events, client)
    return 1 if failed else 0


if __name__ == '__main__':
    if len(sys.argv) < 3:
        print('usage: control.py SOCKET DEVICE...', file=sys.stderr)
        sys.exit(2)
    try:
        sys.exit(main(*sys.argv[1:]))
    except (Refused, OSError) as trouble:
        print('control.py: %s' % trouble, file=sys.stderr)
        sys.exit(3)
