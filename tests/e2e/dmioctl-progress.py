# SPDX-License-Identifier: LGPL-2.1-or-later
"""What dmioctl shows of a job on a terminal: one line that never wraps, whatever its size; nothing on
anything else; and what Ctrl-C does, to a copy and to one who only watches."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time

from client import CONTROL, PID, WORK, Connection, expect, expect_eq, image, ok, wait_for

DMIOCTL = os.environ['DMIO_BUILD'] + '/daemon/dmioctl'
control = Connection()


class Terminal:
    """A program with a terminal of its own, which has sent it SIGINT when @keys has one."""

    def __init__(self, *arguments, columns=80, term='xterm', error_to=None):
        self.main, side = os.openpty()
        self.resize(columns)
        self.text = ''
        self.process = subprocess.Popen(
            [DMIOCTL, '--control=' + CONTROL, *arguments], stdin=side, stdout=side,
            stderr=error_to or side, env={**os.environ, 'TERM': term}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(side)

    def resize(self, columns):
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))

    def read(self, seconds):
        """What has come, if anything does within @seconds; False at the end."""
        if not select.select([self.main], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.main, 65536)
        except OSError:
            return False
        self.text += data.decode()
        return bool(data)

    def lines(self):
        """Those that were drawn over each other."""
        return re.findall(r'\r(job [^\r\n\x1b]*)\x1b\[K', self.text)

    def wait_for_line(self, what, condition):
        end = time.monotonic() + 20
        while not [line for line in self.lines() if condition(line)]:
            expect(what, time.monotonic() < end and self.read(1), repr(self.text[-300:]))
        ok(what)

    def end(self):
        """The exit status and all that was shown."""
        end = time.monotonic() + 20
        while self.read(1):
            assert time.monotonic() < end, self.text
        os.close(self.main)
        return self.process.wait(20), self.text

    def key(self, text):
        os.write(self.main, text.encode())


def state_of(job):
    return [entry['state'] for entry in control.call('ListJobs')['jobs'] if entry['job'] == job][0]


def last_job():
    return control.call('ListJobs')['jobs'][-1]['job']


control.call('OpenClient', {'name': 'alice', 'pages': 64, 'linger': True})
a, b = image('a.img', 512 << 20), image('b.img', 512 << 20)
LONG = ['copy', 'alice', a + ':0+512MiB', b + ':0+512MiB', '--throttle=1']
BAR = re.compile(r'job \d+  +\d+ %  \[#*-*\]  \S+ \S+ of 512 MiB(  \S+ \S+/s(  [\d:]+ left)?)?')

# --- on a terminal
terminal = Terminal(*LONG)
terminal.wait_for_line('a line with a bar', BAR.fullmatch)
terminal.wait_for_line('with a rate and the time that is left',
                       lambda line: re.search(r'/s  [\d:]+ left$', line))
expect('it fits', all(len(line) < 80 for line in terminal.lines()), terminal.lines())
expect('it is drawn over itself', '\n' not in terminal.text, repr(terminal.text))
for columns in 120, 40, 20, 8:
    terminal.resize(columns)
    terminal.text = ''
    terminal.wait_for_line('the terminal has %d columns now' % columns, lambda line: True)
    terminal.wait_for_line('so has the line, and not more',
                           lambda line: columns - 24 < len(line) < columns)
    # One may have been drawn just when it was resized.
    expect('as have all but one', all(len(line) < columns for line in terminal.lines()[1:]),
           terminal.lines())
terminal.resize(80)

# --- Ctrl-C
job = last_job()
terminal.text = ''
terminal.key('\x03')
status, text = terminal.end()
expect_eq('Ctrl-C: refused', status, 1)
expect_eq('the job is cancelled', state_of(job), 'cancelled')
expect('the line is taken away, and the last one tells', re.search(
    r'\r\x1b\[Kdmioctl: job %d was cancelled, \S+ \S+ of 512 MiB copied; .*\r\n$' % job, text), repr(text))

# The daemon hears the first one and does not answer: the second one ends the command.
terminal = Terminal(*LONG)
terminal.wait_for_line('another', BAR.fullmatch)
job = last_job()
os.kill(PID, signal.SIGSTOP)
try:
    terminal.text = ''
    terminal.key('\x03')

    def has_taken_it():
        # From then on it has its default effect, or rather ours.
        with open('/proc/%d/status' % terminal.process.pid) as file:
            return re.search(r'^SigBlk:\s*0+$', file.read(), re.MULTILINE)
    wait_for('the first Ctrl-C', has_taken_it)
    terminal.key('\x03')
    status, text = terminal.end()
finally:
    os.kill(PID, signal.SIGCONT)
expect_eq('the second Ctrl-C ends it', status, -signal.SIGINT)
expect('which it says', re.search(r'dmioctl: interrupted[^\n]*; [^\n]*\r\n$', text), repr(text))
wait_for('the first one was heard', lambda: state_of(job) == 'cancelled')

# --- to the end
terminal = Terminal('copy', 'alice', a + ':0+1MiB', b + ':0+1MiB')
status, text = terminal.end()
expect_eq('one that is done', status, 0)
expect('nothing is left of the line', text.split('\x1b[K')[-1] == '1 MiB copied, 1 destination\r\n', repr(text))

# --- who watches
begun = subprocess.Popen([DMIOCTL, '--control=' + CONTROL, *LONG], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
wait_for('a job', lambda: state_of(last_job()) == 'running')
job = last_job()
terminal = Terminal('job', 'watch', str(job))
terminal.wait_for_line('job watch shows the same line', BAR.fullmatch)
terminal.key('\x03')
status, text = terminal.end()
expect_eq('Ctrl-C ends it', status, -signal.SIGINT)
expect('which it says', re.search(r'dmioctl: interrupted; the job goes on, .*\r\n$', text), repr(text))
expect_eq('the job goes on', state_of(job), 'running')
terminal = Terminal('job', 'watch', str(job), columns=60)
terminal.wait_for_line('another one', lambda line: len(line) < 60)
control.call('CancelJob', {'job': job})
status, text = terminal.end()
expect_eq('a job that is cancelled', status, 1)
expect('is told of', re.search(r'\r\x1b\[Kdmioctl: job %d was cancelled .*; .*\r\n$' % job, text), repr(text))
out, error = begun.communicate(timeout=20)
expect_eq('whoever began it hears that', begun.returncode, 1)
expect('but saw no line', '\r' not in error and out == '' and error.count('\n') == 1, repr(error))

# --- where no line can be drawn
SHORT = ['copy', 'alice', a + ':0+8MiB', b + ':0+8MiB', '--throttle=20']
terminal = Terminal(*SHORT, term='dumb')
expect_eq('a terminal that cannot', terminal.end(), (0, '8 MiB copied, 1 destination\r\n'))
with open(WORK + '/errors', 'w+') as file:
    terminal = Terminal(*SHORT, error_to=file)
    expect_eq('errors that go elsewhere', terminal.end(), (0, '8 MiB copied, 1 destination\r\n'))
    file.seek(0)
    expect_eq('and nothing goes there', file.read(), '')
control.call('CloseClient', {'name': 'alice'})
