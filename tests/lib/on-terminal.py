# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a command on a terminal of its own: on-terminal.py ROWS COLUMNS OUTPUT PID-FILE COMMAND...

What it writes goes to the file OUTPUT as it comes. Ends with the command, and with its exit status.
"""

import fcntl
import os
import pty
import struct
import sys
import termios

rows, columns = int(sys.argv[1]), int(sys.argv[2])
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
    os.environ['TERM'] = 'xterm'
    os.execv(sys.argv[5], sys.argv[5:])
with open(sys.argv[4], 'w') as file:
    print(pid, file=file)
with open(sys.argv[3], 'wb', buffering=0) as output:
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:     # how a terminal says that nobody has it any more
            break
        if not data:
            break
        output.write(data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
