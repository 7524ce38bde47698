#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# An export is a file like others, of a size that nobody changes: sizes and modes, truncation, the
# end, holes, extended attributes, status files, mappings, and what the mount refuses.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq python3 getfattr fallocate

start_dmiod
a=$(make_image 1M a.img)
b=$(make_image 2M b.img)
open_client alice 64
file=$(create_export alice vol "$a:0+1024" "$b:100+1024")
expect_eq "its path" "$file" "$MOUNT/alice/vol"
sealed=$(create_export alice sealed "$a:1024+16" -- '"read_only":true')
bare=$(create_export alice bare "$a:1040+16" -- '"cache":"none"')

expect_eq "size, mode and owner" "$(stat -c '%s %a %u %F' "$file")" "524288 600 0 regular file"
expect_eq "a read-only one" "$(stat -c '%s %a' "$sealed")" "8192 400"
expect_eq "the client's folder" "$(stat -c '%u %F' "$MOUNT/alice")" "0 directory"
expect_eq "what is in it" "$(ls -A "$MOUNT/alice" | tr '\n' ' ')" ".status bare sealed vol "
expect_match "free space can be asked for" "$(stat -f -c %s "$MOUNT")" "[1-9]*"

# --- bytes
fill "$file" 1
cmp -n 524288 "$file" "$a" || fail "leg 0 differs"
cmp -n 524288 "$file" "$b" 0 51200 || fail "leg 1 differs"
ok "what is written is on both legs"
expect_eq "nothing before or behind leg 1" \
    "$( (head -c 51200 "$b"; tail -c +575489 "$b") | tr -d '\0' | wc -c)" 0

# --- truncation
python3 - "$file" <<'END'
import errno, os, sys
path = sys.argv[1]
size = 524288
before = open(path, 'rb').read()
watcher = os.open(path, os.O_RDONLY)
fd = os.open(path, os.O_RDWR | os.O_TRUNC)
assert os.fstat(fd).st_size == os.fstat(watcher).st_size == os.stat(path).st_size == size
assert open(path, 'rb').read() == before
os.ftruncate(fd, size)
os.truncate(path, 0)
assert os.stat(path).st_size == size
for wrong in 1, 512, size - 1, size + 1, size + 512, 1 << 40:
    for call in lambda: os.ftruncate(fd, wrong), lambda: os.truncate(path, wrong):
        try:
            call()
        except OSError as e:
            assert e.errno == errno.EPERM, e
        else:
            raise AssertionError('truncation to %d' % wrong)
assert os.stat(path).st_size == size and open(path, 'rb').read() == before
END
ok "truncation to the size or to 0 does nothing, any other is EPERM"
head -c 1000 /dev/urandom >"$WORK/small"
cat "$WORK/small" >"$file"
expect_eq "a shell's > keeps the size" "$(stat -c %s "$file")" 524288
expect "and writes at the beginning" cmp -n 1000 "$WORK/small" "$file"
expect "cp writes over it" cp "$a" "$WORK/copy"
expect_errno "a cp that does not fit says so" "No space left" cp "$b" "$file"
fill "$file" 1

# --- the end
python3 - "$file" "$a" <<'END'
import errno, os, sys
path, image = sys.argv[1:]
size = 524288
image_before = open(image, 'rb').read()
fd = os.open(path, os.O_RDWR)

def refused(number, call):
    try:
        call()
    except OSError as e:
        assert e.errno == number, e
        return
    raise AssertionError('not refused')

assert os.pread(fd, 4096, size) == b''
assert os.pread(fd, 4096, size + 12345) == b''
assert len(os.pread(fd, 4096, size - 100)) == 100
refused(errno.ENOSPC, lambda: os.pwrite(fd, b'x', size))
refused(errno.ENOSPC, lambda: os.pwrite(fd, b'x' * 4096, size))
refused(errno.ENOSPC, lambda: os.pwrite(fd, b'x' * 10, size + (1 << 30)))
assert open(image, 'rb').read() == image_before, 'a write past the end has changed the image'
# Across the end: what fits is written and reported; the rest is not.
tail = os.pread(fd, 700, size - 700)
assert os.pwrite(fd, b'y' * 1000, size - 700) == 700
assert os.pread(fd, 1000, size - 700) == b'y' * 700
assert open(image, 'rb').read()[size:] == image_before[size:], 'bytes behind the export have changed'
assert os.stat(path).st_size == size
assert os.pwrite(fd, tail, size - 700) == 700
assert open(image, 'rb').read() == image_before
os.fsync(fd)
os.fdatasync(fd)
assert os.pwrite(fd, b'', 0) == 0
END
ok "reads end at the end; a write behind it is ENOSPC, across it short"

# --- holes
expect "a hole can be punched" fallocate -p -o 4096 -l 8192 "$file"
expect_eq "it reads as zeroes" "$(count_others "$file" 4096 8192 '\0')" 0
expect "on every leg" cmp -n 524288 "$a" "$b" 0 51200
expect "a range can be zeroed" fallocate -z -n -o 20001 -l 777 "$file"
expect_eq "it reads as zeroes, odd as it is" \
    "$(count_others "$file" 20001 777 '\0')" 0
python3 - "$file" <<'END'
import random, sys
data = bytearray(random.Random(1).randbytes(524288))
data[4096:12288] = bytes(8192)
data[20001:20778] = bytes(777)
assert open(sys.argv[1], 'rb').read() == data
END
ok "and nothing else has changed"
expect "all legs agree" cmp -n 524288 "$a" "$b" 0 51200
expect_errno "preallocation is not supported" "not supported" fallocate -l 4096 "$file"
expect_errno "nor collapsing" "not supported" fallocate -c -o 0 -l 4096 "$file"
expect_errno "nor inserting" "not supported" fallocate -i -o 0 -l 4096 "$file"
python3 - "$file" <<'END'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = 524288
data = os.pread(fd, size, 0)
at = 0
while at < size:                        # what is called a hole must read as zeroes
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as e:
        assert e.errno == errno.ENXIO
        start = size
    assert start >= at
    assert not any(data[at:start]), 'a hole at %d has data' % at
    if start == size:
        break
    at = os.lseek(fd, start, os.SEEK_HOLE)
    assert start < at <= size
for whence in os.SEEK_DATA, os.SEEK_HOLE:
    try:
        os.lseek(fd, size, whence)
    except OSError as e:
        assert e.errno == errno.ENXIO
    else:
        raise AssertionError('seek at the end')
END
ok "SEEK_DATA and SEEK_HOLE tell the truth"

# --- attributes and status
expect_eq "user.dmio.state" "$(getfattr --absolute-names --only-values -n user.dmio.state "$file")" ok
expect_eq "user.dmio.failed" "$(getfattr --absolute-names --only-values -n user.dmio.failed "$file")" ""
expect_match "user.dmio.legs" "$(getfattr --absolute-names --only-values -n user.dmio.legs "$file")" "*$a*$b*"
expect_eq "they are listed" "$(getfattr --absolute-names -d -m - "$file" | grep -c '^user\.dmio\.')" 3
expect_errno "others are not there" "No such attribute" getfattr -n user.other "$file"
expect_errno "and cannot be set" "not permitted" setfattr -n user.dmio.state -v x "$file"
expect_eq ".status of a client" \
    "$(jq -c '[.client.name, .client.uid, .client.pages, (.exports | map(.name) | sort)]' \
        "$MOUNT/alice/.status")" '["alice",0,64,["bare","sealed","vol"]]'
expect_eq "it has the legs" \
    "$(jq -c '.exports[] | select(.name == "vol").legs | map([.region.sector, .state])' \
        "$MOUNT/alice/.status")" '[[0,"active"],[100,"active"]]'
expect_eq ".status of the daemon" \
    "$(jq -c '[.daemon.mount, .daemon.exports, (.clients | length)]' "$MOUNT/.status")" "[\"$MOUNT\",3,1]"
expect_not "a status cannot be written" sh -c ": >>$MOUNT/.status"

# --- what the mount refuses
for command in "touch $MOUNT/new" "mkdir $MOUNT/new" "touch $MOUNT/alice/new" "mkdir $MOUNT/alice/d" \
    "rm -f $file" "mv $file $MOUNT/alice/other" "ln -s x $MOUNT/alice/link" "ln $file $MOUNT/alice/hard" \
    "mknod $MOUNT/alice/node c 1 3" "rmdir $MOUNT/alice"; do
    # shellcheck disable=SC2086 # a command line
    expect_errno "no ${command%% *}" "not permitted" $command
done
expect_eq "everything is where it was" "$(ls -A "$MOUNT/alice" | tr '\n' ' ')" ".status bare sealed vol "
expect_errno "no file that is not there" "No such file" cat "$MOUNT/alice/nothing"
expect_errno "no client that is not there" "No such file" ls "$MOUNT/nobody"
python3 - "$sealed" <<'END'
import errno, os, sys
for flags in os.O_RDWR, os.O_WRONLY:
    try:
        os.close(os.open(sys.argv[1], flags))
    except OSError as e:
        assert e.errno in (errno.EROFS, errno.EACCES, errno.EPERM), e
    else:
        raise AssertionError('a read-only export was opened for writing')
assert len(open(sys.argv[1], 'rb').read()) == 8192
END
ok "a read-only export cannot be opened for writing, not even by root"

# --- mappings
python3 - "$bare" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(fd, b'plain', 100)
assert os.pread(fd, 5, 100) == b'plain'
END
ok "without a cache there is plain reading and writing"

# Before Linux 6.6 a file that is open past the page cache cannot be mapped shared; cache.sh has the rest.
if ! kernel_has 6.6; then
    skip_case "shared mappings need Linux 6.6"
    exit 0
fi
python3 - "$file" <<'END'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
view = mmap.mmap(fd, 65536)
assert view[:] == os.pread(fd, 65536, 0)
view[5000:5011] = b'hello there'
view.flush()
assert os.pread(fd, 11, 5000) == b'hello there'
view.close()
END
ok "shared writable mappings work"
expect "legs agree after it" cmp -n 524288 "$a" "$b" 0 51200
expect_eq "an own mapping reaches the image" \
    "$(dd if="$a" bs=1 skip=5000 count=11 status=none)" "hello there"
