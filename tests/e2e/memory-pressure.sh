#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A daemon that others write through when memory is short: it is an IO flusher and its memory is
# locked, where it may; where it may not, it says so and goes on.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq setpriv prlimit

# What the kernel makes of PR_SET_IO_FLUSHER: bits of the ninth field of stat, or nothing.
mask=$(python3 -c '
import ctypes
def flags():
    return int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[6])
before = flags()
ctypes.CDLL(None).prctl(57, 1, 0, 0, 0)
print(flags() & ~before)')
locked_kib() {
    awk '$1 == "VmLck:" { print $2 }' "/proc/$DMIOD_PID/status"
}

start_dmiod --log-level=debug
if [ "$mask" != 0 ]; then
    for task in "/proc/$DMIOD_PID"/task/*; do
        flags=$(sed 's/.*) //' "$task/stat" | cut -d' ' -f7)
        expect "$(cat "$task/comm") is an IO flusher" [ $((flags & mask)) = "$mask" ]
    done
else
    skip_case "an IO flusher: needs CAP_SYS_RESOURCE"
    expect "and that is logged" grep -q '^debug: Not an IO flusher' "$WORK/dmiod.log"
fi
if has_shadow_memory "$DMIOD"; then
    skip_case "memory is locked: not that of a sanitizer"
elif grep -q 'Memory is not locked' "$WORK/dmiod.log"; then
    skip_case "memory is locked: needs CAP_IPC_LOCK"
else
    expect "memory is locked" [ "$(locked_kib)" -gt 0 ]
    # What is given back is not kept for being locked.
    for i in 1 2 3; do
        before=$(dmiod_rss_kib)
        open_client alice 16384
        expect "a reservation of 64 MiB is there" [ $(($(dmiod_rss_kib) - before)) -gt 60000 ]
        ctl_ok CloseClient '{"name":"alice"}' >/dev/null
        is_small() {
            [ $(($(dmiod_rss_kib) - before)) -lt 8192 ]
        }
        wait_for 10 is_small
        ok "and gone with its client"
    done
    expect "memory is still locked" [ "$(locked_kib)" -gt 0 ]
fi
expect "it stops" stop_dmiod

# --- without the rights
DMIOD_REAL=$DMIOD
cat >"$WORK/dmiod-without" <<END
#!/bin/sh
exec prlimit --memlock=4194304:4194304 setpriv --bounding-set=-sys_resource,-ipc_lock \
    --inh-caps=-sys_resource,-ipc_lock -- "$DMIOD_REAL" "\$@"
END
chmod +x "$WORK/dmiod-without"
: >"$WORK/dmiod.log"
DMIOD=$WORK/dmiod-without start_dmiod --log-level=debug
for text in 'Not an IO flusher' 'Memory is not locked'; do
    expect "without the right: $text" grep -q "^debug: $text.*not permitted" "$WORK/dmiod.log"
done
expect_eq "nothing is locked" "$(locked_kib)" 0
open_client alice 4096
create_export alice vol "$(make_image 1M a.img):0+1024" >/dev/null
expect "it works all the same" dd if=/dev/zero of="$MOUNT/alice/vol" bs=64k count=8 conv=notrunc status=none
expect "it stops, too" stop_dmiod
