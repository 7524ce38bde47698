#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Holes: what a file does not keep need not be read, copied or counted; what somebody may be writing to
# is data.
. "$(dirname "$0")/../lib/common.sh"

require_root
require_fuse
require_cmd python3 jq

# Where there is data, as "offset+length offset+length ..." in KiB.
data_of() {
    python3 - "$@" <<'END'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR if len(sys.argv) > 2 else os.O_RDONLY)
size, at, found = os.fstat(fd).st_size, 0, []
while at < size:
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as e:
        assert e.errno == errno.ENXIO
        break
    at = os.lseek(fd, start, os.SEEK_HOLE)
    found.append('%d+%d' % (start // 1024, (at - start) // 1024))
print(*found)
END
}

create() {
    "$DMIOCTL" --control="$CONTROL" export create alice/image "$@" >/dev/null
}

remove() {
    "$DMIOCTL" --control="$CONTROL" export remove alice/image >/dev/null
}

is_closed() {
    [ "$("$DMIOCTL" --control="$CONTROL" export list --json | jq '.exports[0].open_count')" = 0 ]
}

blocks_of() {
    stat -c %b "$1"
}

# 64 MiB, of which 1 MiB at 8 MiB and 1 MiB at 40 MiB are data.
make_sparse() {
    truncate -s 64M "$1"
    dd if=/dev/urandom of="$1" bs=1M seek=8 count=1 conv=notrunc,fsync status=none
    dd if=/dev/urandom of="$1" bs=1M seek=40 count=1 conv=notrunc,fsync status=none
}

a=$WORK/a.img
make_sparse "$a"
cp --sparse=always "$a" "$WORK/b.img"
start_dmiod
"$DMIOCTL" --control="$CONTROL" client open alice --pages 256 --linger >/dev/null
create "$a:0+131072" "$WORK/b.img:0+131072"
file=$MOUNT/alice/image

# --- whole files
expect_eq "the data is where the file has it" "$(data_of "$file")" "8192+1024 40960+1024"
expect_eq "the file counts what is allocated" "$(blocks_of "$file")" "$(blocks_of "$a")"
expect "cp makes a copy" cp "$file" "$WORK/copy"
expect "of the same bytes" cmp "$a" "$WORK/copy"
expect "that is as sparse" [ "$(blocks_of "$WORK/copy")" -lt 10000 ]
expect_eq "for who may write it is all data" "$(data_of "$file" writing)" "0+65536"

exec 7<>"$file"
expect_eq "and for others while he has it open" "$(data_of "$file")" "0+65536"
exec 7>&-
wait_for 10 is_closed
expect_eq "but not longer" "$(data_of "$file")" "8192+1024 40960+1024"

before=$(blocks_of "$file")
expect "a hole is punched" fallocate -p -o 40M -l 1M "$file"
expect_eq "it is one" "$(data_of "$file")" "8192+1024"
expect "and is not counted any more" [ "$(blocks_of "$file")" -lt "$before" ]
expect "nor on the other leg" [ "$(blocks_of "$WORK/b.img")" -lt "$before" ]
printf 'x' | dd of="$file" bs=1 seek=20M conv=notrunc status=none
expect_match "a byte is data" "$(data_of "$file")" "8192+1024 20480+*"

# --- parts of files, and what has no holes
remove
create "$a:16384+65536"
expect_match "holes of a part begin at its beginning" "$(data_of "$file")" "0+1024 12288+*"
expect_eq "a part counts as allocated" "$(blocks_of "$file")" 65536
remove

if [ -c /dev/loop-control ]; then
    loop=$(make_loop "$a")
    create "$loop:0+131072"
    expect_eq "a block device has no holes" "$(data_of "$file")" "0+65536"
    expect_eq "and is allocated" "$(blocks_of "$file")" 131072
else
    skip_case "no loop devices"
fi
