#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon in dmiod's place, for tests of the units: serves one file, "file", on the /dev/fuse that
the service manager keeps, whether a session has begun on it or not. It can misbehave:

    stand-in.py FOLDER      FOLDER/fail: does not start; FOLDER/stubborn: does not stop when told to;
                            FOLDER/keep: has more kept. FOLDER/names: what it was passed
"""

import os
import signal
import socket
import struct
import sys

INIT, LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE = 26, 1, 2, 3, 14, 15, 17, 18
FLUSH, OPENDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 25, 27, 29, 36, 42
CONTENT = b"served\n"
FOPEN_DIRECT_IO = 1


def notify(text, descriptors=()):
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect("\0" + address[1:] if address[0] == "@" else address)
        socket.send_fds(manager, [text.encode()], list(descriptors))


def attributes(node):
    mode, size = (0o40755, 0) if node == 1 else (0o100444, len(CONTENT))
    return struct.pack("=6Q10I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(opcode, node, body):
    """The body of the reply, or an errno."""
    if opcode == INIT:
        return struct.pack("=4I2H2I2HI7I", 7, 31, 0, 0, 16, 12, 4096, 1, 0, 0, 0, *[0] * 7)
    if opcode == LOOKUP:
        if body.rstrip(b"\0") != b"file":
            return 2
        return struct.pack("=4Q2I", 2, 0, 0, 0, 0, 0) + attributes(2)
    if opcode == GETATTR:
        return struct.pack("=Q2I", 0, 0, 0) + attributes(node)
    if opcode in (OPEN, OPENDIR):
        return struct.pack("=Q2I", 0, FOPEN_DIRECT_IO, 0)
    if opcode == READ:
        offset, size = struct.unpack_from("=QI", body, 8)
        return CONTENT[offset:offset + size]
    if opcode == STATFS:
        return struct.pack("=5Q10I", 0, 0, 0, 0, 0, 4096, 255, 4096, *[0] * 7)
    if opcode in (RELEASE, RELEASEDIR, FLUSH):
        return b""
    return 38


def main():
    folder = sys.argv[1]
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if os.path.exists(folder + "/fail"):
        sys.exit(1)
    if "fuse" not in names:
        sys.exit("no descriptor of a mount")
    fuse = 3 + names.index("fuse")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if os.path.exists(folder + "/stubborn")
                  else lambda *_: sys.exit(0))
    with open(folder + "/names", "w", encoding="ascii") as file:
        file.write(" ".join(sorted(names)) + "\n")
    if os.path.exists(folder + "/keep"):
        for name in "state", "state-2", "fuse-1", "dmio-dev-1":
            notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", [os.memfd_create(name)])
    notify("READY=1")
    while True:
        request = os.read(fuse, 1 << 20)
        opcode, unique, node = struct.unpack_from("=IQQ", request, 4)
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        reply = answer(opcode, node, request[40:])
        error, body = (-reply, b"") if isinstance(reply, int) else (0, reply)
        os.write(fuse, struct.pack("=IiQ", 16 + len(body), error, unique) + body)


main()
