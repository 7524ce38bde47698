# SPDX-License-Identifier: LGPL-2.1-or-later
"""What programs may expect of a file, and what differs because it is a block device in a file's clothes:
appending, the end, limits, odd vectors, copying by the kernel, descriptors that are passed on, statfs."""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import subprocess

from client import MOUNT, Connection, expect, expect_eq, image, ok, pattern, region

SIZE = 1 << 20
a = image('a.img', SIZE)
b = image('b.img', SIZE)
control = Connection()
control.call('OpenClient', {'name': 'alice', 'pages': 64, 'linger': True})
path = control.call('CreateExport', {'client': 'alice', 'name': 'vol', 'regions': [
    region(a, 0, SIZE // 512), region(b, 0, SIZE // 512)]})['export']['path']
data = pattern(SIZE)
with open(path, 'r+b') as file:
    file.write(data)


def attempt(fn, *arguments):
    """What it returns, or the name of its errno."""
    try:
        return fn(*arguments)
    except OSError as e:
        return errno.errorcode[e.errno]


def whole():
    with open(path, 'rb') as f:
        return f.read()


# --- appending: at the end, where there is no room
fd = os.open(path, os.O_RDWR | os.O_APPEND)
expect_eq('O_APPEND writes at the end', attempt(os.write, fd, b'x'), 'ENOSPC')
expect_eq('wherever one was', (os.lseek(fd, 0, os.SEEK_SET), attempt(os.write, fd, b'x' * 5000)),
          (0, 'ENOSPC'))
expect_eq('reading is not affected', os.pread(fd, 100, 5), data[5:105])
expect_eq('pwrite appends, too (pwrite(2), BUGS)', attempt(os.pwrite, fd, b'x', 0), 'ENOSPC')
os.close(fd)
expect_eq('by a shell', subprocess.run(['sh', '-c', 'echo x >>"$1"', 'sh', path], check=False,
                                       stderr=subprocess.DEVNULL).returncode != 0, True)
expect('nothing has changed', whole() == data)

# --- O_TRUNC: nothing, for everybody, while others read
watcher = os.open(path, os.O_RDONLY)
for flags in os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_DIRECT:
    fd = os.open(path, flags | os.O_TRUNC)
    expect_eq('O_TRUNC leaves the size', (os.fstat(fd).st_size, os.fstat(watcher).st_size,
                                         len(os.pread(watcher, 4096, SIZE - 4096))), (SIZE, SIZE, 4096))
    os.close(fd)
expect('and the bytes', whole() == data)
expect_eq('O_CREAT | O_EXCL', attempt(os.open, path, os.O_RDWR | os.O_CREAT | os.O_EXCL), 'EEXIST')
os.close(watcher)

# --- places
fd = os.open(path, os.O_RDWR)
expect_eq('SEEK_END', os.lseek(fd, 0, os.SEEK_END), SIZE)
expect_eq('reading there', os.read(fd, 10), b'')
expect_eq('seeking behind it', os.lseek(fd, 12345, os.SEEK_END), SIZE + 12345)
expect_eq('reading there', os.read(fd, 10), b'')
expect_eq('writing there', attempt(os.write, fd, b'x'), 'ENOSPC')
expect_eq('before the beginning', attempt(os.lseek, fd, -1, os.SEEK_SET), 'EINVAL')
expect_eq('a read across the end', os.pread(fd, 1 << 20, SIZE - 777), data[-777:])
expect_eq('a write across the end', os.pwrite(fd, data[-777:] + b'x' * 9999, SIZE - 777), 777)
expect_eq('st_blocks are the bytes that it occupies', os.fstat(fd).st_blocks, SIZE // 512)
expect_eq('without holes', (os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE)), (0, SIZE))

# --- vectors
parts = [bytes([n % 251]) * n for n in (1, 511, 3, 4096, 0, 513, 77)]
expect_eq('pwritev', os.pwritev(fd, parts, 1021), sum(map(len, parts)))
back = [bytearray(len(part)) for part in reversed(parts)]
expect_eq('preadv, cut in another way', os.preadv(fd, back, 1021), sum(map(len, parts)))
expect_eq('are the same bytes', b''.join(back), b''.join(parts))
many = [b'%4d' % n for n in range(1024)]
expect_eq('1024 entries', os.pwritev(fd, many, 3), 4096)
expect_eq('are written', os.pread(fd, 4096, 3), b''.join(many))
os.pwrite(fd, data[:8192], 0)
big = pattern(SIZE - 3, 9)
expect_eq('more than one request', os.pwrite(fd, big, 1), len(big))
expect('is written whole', whole() == data[:1] + big + data[-2:])
os.pwrite(fd, data, 0)

# --- unaligned memory, with O_DIRECT
direct = os.open(path, os.O_RDWR | os.O_DIRECT)
memory = mmap.mmap(-1, 1 << 20)
libc = ctypes.CDLL(None, use_errno=True)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for shift, length, at in ((0, 4096, 4096), (1, 4096, 8192), (512, 65536, 512), (3, 700001, 17)):
    memory[shift:shift + length] = pattern(length, shift)
    written = libc.pwrite(direct, ctypes.c_void_p(address + shift), ctypes.c_size_t(length),
                          ctypes.c_long(at))
    expect_eq('O_DIRECT from byte %d of a page' % shift, written, length)
    expect('has its bytes', os.pread(fd, length, at) == pattern(length, shift))
os.close(direct)
os.pwrite(fd, data, 0)

# --- limits: as of any file, with the signal
old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
try:
    expect_eq('RLIMIT_FSIZE, below', os.pwrite(fd, data[:4096], 0), 4096)
    expect_eq('RLIMIT_FSIZE, across', os.pwrite(fd, data[61440:61440 + 8192], 61440), 4096)
    expect_eq('RLIMIT_FSIZE, above', attempt(os.pwrite, fd, b'x', 65536), 'EFBIG')
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, old)
expect('nothing has changed', whole() == data)

# --- copying by the kernel
out = os.open(path, os.O_RDWR)
expect_eq('copy_file_range', os.copy_file_range(fd, out, 10000, 5, 500000), 10000)
expect_eq('has copied', os.pread(fd, 10000, 500000), data[5:10005])
with open(a, 'rb') as source:
    expect_eq('sendfile to it', os.sendfile(out, source.fileno(), 0, 4096), 4096)
reader, writer = os.pipe()
expect_eq('splice from it', os.splice(fd, writer, 4096, offset_src=12345), 4096)
expect_eq('has its bytes', os.read(reader, 4096), data[12345:12345 + 4096])
os.write(writer, data[7:1007])
expect_eq('splice to it', os.splice(reader, out, 1000, offset_dst=7), 1000)
os.pwrite(fd, data, 0)
expect('all is as before', whole() == data)

# --- what a descriptor is good for elsewhere
expect_eq('locks', (fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), fcntl.flock(out, fcntl.LOCK_EX)),
          (None, None))
again = os.dup(fd)
os.lseek(fd, 0, os.SEEK_SET)
child = subprocess.run(['dd', 'bs=4096', 'count=1', 'status=none'], stdin=again, check=True,
                       stdout=subprocess.PIPE)
expect_eq('inherited', len(child.stdout), 4096)
for call in os.fsync, os.fdatasync:
    expect_eq(call.__name__, call(again), None)
expect_eq('fsync of one that is open for reading', os.fsync(os.open(path, os.O_RDONLY)), None)
expect_eq('sync_file_range and posix_fadvise', (
    libc.sync_file_range(fd, ctypes.c_long(0), ctypes.c_long(0), 7),
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)), (0, None))
# The library goes through the file, where there is no such operation.
expect_eq('posix_fallocate', attempt(os.posix_fallocate, fd, 0, SIZE), None)
expect('changes nothing', whole() == data)

# --- statfs
for place in path, MOUNT, MOUNT + '/alice':
    stat = os.statvfs(place)
    expect_eq('statfs of ' + place[len(MOUNT):], (stat.f_blocks * stat.f_frsize, stat.f_bfree,
                                                  stat.f_bavail, stat.f_namemax), (SIZE, 0, 0, 64))
expect_eq('fstatfs', os.fstatvfs(fd).f_blocks * os.fstatvfs(fd).f_frsize, SIZE)

control.call('RemoveExport', {'client': 'alice', 'name': 'vol', 'force': True})
for what, fn in (('preadv', lambda: os.preadv(fd, [bytearray(10)], 3)),
                 ('pwritev', lambda: os.pwritev(fd, [b'x'], 3)),
                 ('fdatasync', lambda: os.fdatasync(fd))):
    expect_eq(what + ' of what is gone', attempt(fn), 'ENODEV')
expect_eq('statfs is answered', os.statvfs(MOUNT).f_blocks, 0)
ok('a file')
