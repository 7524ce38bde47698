#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What others have left of a leg in the page cache is thrown out when writing begins, whole and safe.
. "$(dirname "$0")/../lib/common.sh"

require_root
require_fuse
require_loop
require_cmd python3 cmp

# Bytes of a file in the page cache; its status is 77 where the kernel does not tell.
cached_of() {
    python3 - "$1" <<'END'
import ctypes, errno, os, sys
SYS_CACHESTAT = 451
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(sys.argv[1], os.O_RDONLY)
extent, counts = (ctypes.c_uint64 * 2)(0, 0), (ctypes.c_uint64 * 5)()
if libc.syscall(SYS_CACHESTAT, fd, extent, counts, 0) < 0:
    sys.exit(77 if ctypes.get_errno() == errno.ENOSYS else 1)
print(counts[0] * os.sysconf('SC_PAGESIZE'))
END
}
has_at_most() {
    [ "$(cached_of "$1")" -le "$2" ]
}
write_block() {
    dd if="$WORK/block" of="$MOUNT/alice/image" bs=4k count=1 seek="$1" conv=notrunc oflag=direct status=none
}

truncate -s 32M "$WORK/a" "$WORK/b"
a=$(make_loop "$WORK/a")
b=$(make_loop "$WORK/b")
cached_of "$a" >"$WORK/out" || { [ $? = 77 ] && skip "needs cachestat(2), of Linux 6.5"; }
dd if=/dev/urandom of="$WORK/data" bs=1M count=32 status=none
dd if=/dev/urandom of="$WORK/block" bs=4k count=1 status=none
mib=$((1 << 20))

start_dmiod
"$DMIOCTL" --control="$CONTROL" client open alice --pages 256 --linger >/dev/null
# The first half of both devices.
"$DMIOCTL" --control="$CONTROL" export create alice/image "$a:0+32768" "$b:0+32768" >/dev/null

for device in "$a" "$b"; do dd if="$WORK/data" of="$device" bs=1M status=none; done
expect_eq "all of the device is in the page cache" "$(cached_of "$a")" $((32 * mib))
write_block 7
wait_for 20 has_at_most "$a" $((16 * mib))
wait_for 20 has_at_most "$b" $((16 * mib))
ok "its region is out of it after a write, of both legs"
expect_eq "and nothing but its region" "$(cached_of "$a")" $((16 * mib))

dd if="$WORK/block" of="$WORK/data" bs=4k seek=7 conv=notrunc status=none
for device in "$a" "$b"; do
    expect "no byte has changed" cmp -n $((32 * mib)) "$device" "$WORK/data"
done

# Who opens the file to write is about to; but only after half a second without a write is that a beginning.
dd if="$a" of=/dev/null bs=1M status=none
sleep 0.7
exec 7<>"$MOUNT/alice/image"
exec 7>&-
wait_for 20 has_at_most "$a" $((16 * mib))
ok "an open for writing is enough"

# A few pages are not worth anybody's while; and who only reads takes nothing away.
"$DMIOCTL" --control="$CONTROL" export remove alice/image >/dev/null
"$DMIOCTL" --control="$CONTROL" export create alice/image "$a:0+32768" --read-only >/dev/null
dd if="$a" of=/dev/null bs=1M status=none
before=$(cached_of "$a")
dd if="$MOUNT/alice/image" of=/dev/null bs=1M iflag=direct status=none
expect_eq "reads leave it" "$(cached_of "$a")" "$before"
# What cannot be written back is lost, and the next flush says so, as if it had met it itself.
mkdir "$WORK/full"
mount -t tmpfs -o size=2m tmpfs "$WORK/full"
truncate -s 16M "$WORK/full/c"
c=$(make_loop "$WORK/full/c")
"$DMIOCTL" --control="$CONTROL" export create alice/full "$c:0+32768" >/dev/null
dd if="$WORK/data" of="$c" bs=1M count=8 status=none
exec 7<>"$MOUNT/alice/full"
wait_for 20 has_at_most "$c" $((7 * mib))
expect_errno "a flush tells of what could not be written back" "Input/output error" python3 -c 'import os
os.fsync(7)'
exec 7>&-
stop_dmiod
