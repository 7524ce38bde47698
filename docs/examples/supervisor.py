#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A supervisor for dmiod: starts it again when it dies, and keeps its descriptors in between.

    supervisor.py [--unmount=DIR] [--pid-file=FILE] [--] dmiod [OPTION...]

It speaks as much of systemd's notification protocol as dmiod needs (docs/supervisor.md). With it
`kill -9` of dmiod is a pause: files on the mount stay open and I/O goes on.

SIGTERM ends dmiod and the supervisor; the mount at DIR is then detached. SIGUSR1 restarts dmiod in
good order, for example because there is a new one. FILE always holds the process number of the
dmiod that runs.
"""

import argparse
import array
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

STORE_MAX = 1024  # descriptors that are kept
RETRY_SEC = 0.1   # after a start that failed
LISTEN_FDS_START = 3


class Supervisor:
    def __init__(self, options):
        self.options = options
        self.store = []  # (name, descriptor), in the order in which they came
        self.stopping = self.restarting = False
        self.folder = tempfile.TemporaryDirectory(prefix='supervisor.')
        address = os.path.join(self.folder.name, 'notify')
        self.messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.messages.bind(address)
        self.environment = dict(os.environ, NOTIFY_SOCKET=address, FDSTORE=str(STORE_MAX))

    def receive(self):
        """One message, of which dmiod has sent many; returns False if there is none."""
        try:
            text, control, _, _ = self.messages.recvmsg(
                4096, socket.CMSG_SPACE(253 * 4), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        fds = array.array('i')
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
        fields = dict(line.partition('=')[::2] for line in text.decode().splitlines())
        name = fields.get('FDNAME', 'stored')
        if fields.get('FDSTOREREMOVE') == '1':
            for entry in [entry for entry in self.store if entry[0] == name]:
                self.store.remove(entry)
                os.close(entry[1])
        elif fields.get('FDSTORE') == '1':
            self.store += [(name, fd) for fd in fds]
            fds = []
        for fd in fds:  # those of BARRIER=1: closing them says that all before has been seen
            os.close(fd)
        return True

    def start(self):
        pid = os.fork()
        if pid:
            return pid
        try:
            if self.store:
                # Out of the way first, what lies where the descriptors are to be.
                high = LISTEN_FDS_START + len(self.store)
                moved = [os.dup(fd) if fd < high else fd for _, fd in self.store]
                while any(fd < high for fd in moved):
                    moved = [os.dup(fd) if fd < high else fd for fd in moved]
                for i, fd in enumerate(moved):
                    os.dup2(fd, LISTEN_FDS_START + i, inheritable=True)
                self.environment.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)),
                                        LISTEN_FDNAMES=':'.join(name for name, _ in self.store))
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.execvpe(self.options.command[0], self.options.command, self.environment)
        except OSError as error:
            print(f'supervisor: {error}', file=sys.stderr)
        finally:
            os._exit(127)

    def run_once(self, signals):
        """From a start to the end; returns the status as waitpid(2) tells it."""
        pid = self.start()
        if self.options.pid_file:
            with open(self.options.pid_file + '.new', 'w') as file:
                file.write(f'{pid}\n')
            os.rename(self.options.pid_file + '.new', self.options.pid_file)
        while True:
            select.select([self.messages, signals], [], [])
            for number in self.pending(signals):
                self.stopping |= number in (signal.SIGTERM, signal.SIGINT)
                self.restarting |= number == signal.SIGUSR1
                if number != signal.SIGCHLD:
                    os.kill(pid, signal.SIGTERM)
            done, status = os.waitpid(pid, os.WNOHANG)
            # What it said before it died; now that it has been waited for there is no more.
            while self.receive():
                pass
            if done:
                return status

    @staticmethod
    def pending(signals):
        try:
            return os.read(signals, 64)
        except BlockingIOError:
            return b''

    def run(self):
        signals, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda number, frame: None)
        while True:
            status = self.run_once(signals)
            if self.stopping or (status == 0 and not self.restarting):
                break
            self.restarting = False
            if os.WIFSIGNALED(status):
                print('supervisor: ended by signal', os.WTERMSIG(status), file=sys.stderr, flush=True)
            if os.WIFEXITED(status) and status != 0:
                time.sleep(RETRY_SEC)
        for _, fd in self.store:
            os.close(fd)
        if self.options.unmount:
            subprocess.run(['umount', '-l', self.options.unmount], check=False)
        return os.waitstatus_to_exitcode(status)


def main():
    parser = argparse.ArgumentParser(usage='%(prog)s [--unmount=DIR] [--pid-file=FILE] COMMAND...')
    parser.add_argument('--unmount')
    parser.add_argument('--pid-file')
    parser.add_argument('command', nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command[:1] == ['--']:
        del options.command[0]
    if not options.command:
        parser.error('no command')
    sys.exit(abs(Supervisor(options).run()))


if __name__ == '__main__':
    main()
