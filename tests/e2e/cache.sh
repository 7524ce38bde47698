#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Mappings and the page cache. By default shared mappings work, and nothing but what is mapped is
# kept; with cache=page everything goes together: mappings, buffered calls and O_DIRECT, of several
# processes in the same pages. With cache=none there is at least nothing kept that was not mapped.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq cmp python3

operations=${1:-400}
seed=${2:-$((RANDOM * 32768 + RANDOM))}
TORTURE=$DMIO_BUILD/tests/torture/torture
SIZE=2097152
start_dmiod
open_client alice 256
a=$(make_image 4M a.img)
b=$(make_image 4M b.img)
printf 'the seed is %s\n' "$seed"

# run WHAT FILE MODE OPTION...
run() {
    local what=$1 file=$2
    shift 2
    expect "$what: $*" timeout 120 "$TORTURE" --seed="$seed" --operations="$operations" "$@" "$file"
    expect "$what: the legs are equal" cmp -n $SIZE "$a" "$b" 4096 8192
    expect "$what: and are what the file has" cmp -n $SIZE "$a" "$file" 4096 0
}

file=$(create_export alice vol "$a:8+4096" "$b:16+4096" -- '"cache":"page"')
run page "$file" lanes --processes=8 --ways=bm
run page "$file" lanes --processes=8 --ways=bdms
run page "$file" overlap --processes=6 --ways=bd
ctl_ok RemoveExport '{"client":"alice","name":"vol"}' >/dev/null

file=$(create_export alice vol "$a:8+4096" "$b:16+4096")
if kernel_has 6.6; then
    run mapped "$file" lanes --processes=1 --ways=bdms
    run mapped "$file" lanes --processes=8 --ways=m
else
    skip_case "files that are not cached cannot be mapped before Linux 6.6"
fi

# --- what is kept: behind the daemon's back the image gets other bytes
cat >"$WORK/kept.py" <<'END'
import os, sys
path, image, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
fd = os.open(path, os.O_RDWR)
assert os.pwrite(fd, b'a' * 4096, 0) == 4096
assert os.pread(fd, 4096, 0) == b'a' * 4096
with open(image, 'r+b') as file:
    file.seek(at)
    file.write(b'b' * 4096)
    file.flush()
    os.fsync(file.fileno())
got = os.pread(fd, 1, 0)
direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
import mmap
buffer = mmap.mmap(-1, 4096)
assert os.preadv(direct, [buffer], 0) == 4096
assert buffer[:1] == b'b', 'a read with O_DIRECT is not of the device'
again = os.open(path, os.O_RDONLY)
assert os.pread(again, 1, 0) == b'b', 'an open does not look again'
print(got.decode())
END
expect_eq "mapped: what is read is not kept" "$(python3 "$WORK/kept.py" "$file" "$a" 4096)" b
ctl_ok RemoveExport '{"client":"alice","name":"vol"}' >/dev/null
file=$(create_export alice vol "$a:8+4096" -- '"cache":"none"')
expect_eq "none: nor here" "$(python3 "$WORK/kept.py" "$file" "$a" 4096)" b
ctl_ok RemoveExport '{"client":"alice","name":"vol"}' >/dev/null
file=$(create_export alice vol "$a:8+4096" -- '"cache":"page"')
expect_eq "page: here it is, until the next open" "$(python3 "$WORK/kept.py" "$file" "$a" 4096)" a
expect_refused "a shared export has no page cache" org.varlink.service.InvalidParameter \
    CreateExport "{\"client\":\"alice\",\"name\":\"two\",\"shared\":true,\"cache\":\"page\",\"regions\":$(regions "$b:0+8")}"

# --- a mapping of what has been removed
kernel_has 6.6 || exit 0
ctl_ok RemoveExport '{"client":"alice","name":"vol"}' >/dev/null
file=$(create_export alice vol "$a:8+4096")
cat >"$WORK/removed.py" <<'END'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
view = mmap.mmap(fd, 1 << 20)
view[0] = 1
print('mapped', flush=True)
sys.stdin.readline()
print(view[512 * 1024])         # a page that is not here yet
END
mkfifo "$WORK/go"
python3 "$WORK/removed.py" "$file" <"$WORK/go" >"$WORK/removed.log" 2>&1 &
mapper=$!
defer end_process $mapper
exec 7>"$WORK/go"
wait_for 10 grep -q mapped "$WORK/removed.log"
ctl_ok RemoveExport '{"client":"alice","name":"vol","force":true}' >/dev/null
echo >&7
exec 7>&-
status=0
wait $mapper || status=$?
expect_eq "who touches what is gone gets SIGBUS" "$status" $((128 + 7))
expect "the daemon answers" dmiod_answers
