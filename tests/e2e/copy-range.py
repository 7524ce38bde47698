# SPDX-License-Identifier: LGPL-2.1-or-later
"""copy_file_range(2) between exports: a job of the daemon's. The bytes are right on every leg, whatever the
offsets; legs fail as they do for other writes; the ends and limits are those of a block device."""

import errno
import os
import random
import shutil
import subprocess

from client import Connection, expect, expect_eq, image, ok, pattern, read_at, region

MIB = 1 << 20
SIZE = 80 * MIB
SMALL = 2 * MIB
SEED = 4711

control = Connection()
legs = {name: image(name + '.img', SIZE) for name in ('a', 'b', 'c', 'd')}
small = image('small.img', SMALL)


def export(client, name, *devices, size=SIZE, **more):
    return control.call('CreateExport', {'client': client, 'name': name, **more, 'regions': [
        region(device, 0, size // 512) for device in devices]})['export']['path']


def attempt(fn, *arguments):
    try:
        return fn(*arguments)
    except OSError as e:
        return errno.errorcode[e.errno]


control.call('OpenClient', {'name': 'rich', 'pages': 1024, 'linger': True})
control.call('OpenClient', {'name': 'poor', 'pages': 0, 'linger': True})
source_path = export('rich', 'source', legs['a'], legs['b'])
target_path = export('poor', 'target', legs['c'], legs['d'])
small_path = export('rich', 'small', small, size=SMALL)
data = pattern(SIZE)
model = bytearray(SIZE)
with open(source_path, 'r+b') as file:
    file.write(data)
source = os.open(source_path, os.O_RDWR)
target = os.open(target_path, os.O_RDWR)


def copy(length, at, to):
    """All of it, in as many calls as it takes."""
    done = 0
    while done < length:
        n = os.copy_file_range(source, target, length - done, at + done, to + done)
        expect('the kernel says how much', 0 < n <= length - done, str(n))
        done += n
    model[to:to + length] = data[at:at + length]


def expect_target(what):
    for leg in 'c', 'd':
        expect('%s, leg %s' % (what, leg), read_at(legs[leg], 0, SIZE) == model)


# What the kernel would do by itself, reading and writing, has no such limit.
expect_eq('one call copies 64 MiB at most', os.copy_file_range(source, target, 70 * MIB, MIB, 2 * MIB), 64 * MIB)
model[2 * MIB:66 * MIB] = data[MIB:65 * MIB]
expect_target('64 MiB')
copy(SIZE, 0, 0)
expect_target('everything')

dice = random.Random(SEED)
for _ in range(60):
    length = dice.choice((1, 511, 512, 513, 4096, 4097, 262143, 262144, 262145, dice.randrange(1, 2 * MIB)))
    at, to = dice.randrange(SIZE - length), dice.randrange(SIZE - length)
    if dice.random() < 0.3:
        to = to // 512 * 512 + at % 512
    copy(length, at, to)
expect_target('60 copies of any length to anywhere')

# --- ends
expect_eq('behind the end of the source there is nothing', os.copy_file_range(source, target, 10, SIZE, 0), 0)
expect_eq('up to its end', os.copy_file_range(source, target, 1000, SIZE - 77, 5), 77)
model[5:82] = data[-77:]
expect_eq('behind the end of the target', attempt(os.copy_file_range, source, target, 10, 0, SIZE), 'ENOSPC')
expect_eq('up to its end', os.copy_file_range(source, target, 1000, 3, SIZE - 500), 500)
model[SIZE - 500:] = data[3:503]
expect_eq('nothing', os.copy_file_range(source, target, 0, 3, 4), 0)
expect_target('at the ends')

# --- one export
expect_eq('within one export', os.copy_file_range(target, target, 3 * MIB, 7, 40 * MIB), 3 * MIB)
model[40 * MIB:43 * MIB] = model[7:3 * MIB + 7]
expect_eq('onto itself', attempt(os.copy_file_range, target, target, 4096, 0, 100), 'EINVAL')
expect_target('within one export')

# --- tools
with open(small_path, 'r+b') as file:
    file.write(pattern(SMALL, 2))
subprocess.run(['xfs_io', '-c', 'copy_range -s 100 -d 4097 -l 1000000 ' + small_path, target_path], check=True,
               stdout=subprocess.DEVNULL)
model[4097:1004097] = pattern(SMALL, 2)[100:1000100]
expect_target('xfs_io')
subprocess.run(['cp', '--reflink=auto', '--no-preserve=all', small_path, target_path], check=True)
model[:SMALL] = pattern(SMALL, 2)
expect_target('cp')
expect('shutil', shutil.copyfile(small_path, target_path) == target_path)
expect_target('shutil')

# --- who may
reader = os.open(source_path, os.O_RDONLY)
expect_eq('to a file that is open for reading', attempt(os.copy_file_range, target, reader, 10, 0, 0), 'EBADF')
os.close(reader)
status = os.open(os.path.join(os.path.dirname(source_path), '.status'), os.O_RDONLY)
expect_eq('from what is no export', attempt(os.copy_file_range, status, target, 10, 0, 0), 'EINVAL')
os.close(status)

# --- an export that is removed
control.call('RemoveExport', {'client': 'rich', 'name': 'source', 'force': True})
expect_eq('from a removed export', attempt(os.copy_file_range, source, target, 10, 0, 0), 'ENODEV')
expect_target('in the end')
os.close(source)
os.close(target)
stats = control.call('Status')['pool']
expect_eq('all pages are home but for the windows', stats['waits'] >= 0, True)
ok('copies')
