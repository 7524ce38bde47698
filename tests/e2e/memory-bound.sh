#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The daemon's memory is bounded by what has been reserved: 64 writers at depth 64 of 512 KiB, far more
# than their client has pages for, and it grows by the reservations, and the floor, at most. Others go
# on meanwhile, and who stays within his reservation does not wait.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq fio

PAGES=1024
FLOOR=512
start_dmiod
base=$(dmiod_rss_kib)
open_client greedy $PAGES
open_client modest 64
create_export greedy vol "$(make_image 64M greedy.img):0+131072" >/dev/null
create_export modest vol "$(make_image 16M modest.img):0+32768" >/dev/null

# As many requests as it takes to be beyond the reservation all the time, until they are told to end.
fio --name=greedy --filename="$MOUNT/greedy/vol" --size=64M --rw=randwrite --bs=512k --iodepth=64 \
    --numjobs=64 --ioengine=libaio --direct=1 --time_based --runtime=600 --norandommap --thread --group_reporting \
    --allow_file_create=0 --output="$WORK/greedy.log" &
greedy=$!
defer end_process "$greedy"

# waits CLIENT: how often it had to wait.
waits() {
    ctl_ok ListClients | jq --arg name "$1" '.clients[] | select(.name == $name).waits'
}
is_beyond() { [ "$(waits greedy)" -gt 100 ]; }
wait_for 60 is_beyond
expect "another client's I/O goes on" dd if=/dev/urandom of="$MOUNT/modest/vol" bs=64k count=32 oflag=direct \
    conv=notrunc status=none
expect_not "and that was while the writers wrote" process_is_gone "$greedy"
# That status is how fio says that it was interrupted.
status=0
kill -INT "$greedy"
wait "$greedy" || status=$?
[ "$status" = 128 ] || { cat "$WORK/greedy.log" && fail "the writers ended with $status"; }
expect "which had no error" grep -q 'err= 0' "$WORK/greedy.log"

peak=$(awk '$1 == "VmHWM:" { print $2 }' "/proc/$DMIOD_PID/status")
allowed=$((base + 4 * (PAGES + 64 + FLOOR)))
echo "base $base KiB, peak $peak KiB, allowed $allowed KiB"
expect_eq "the modest one has not waited" "$(waits modest)" 0
if has_shadow_memory "$DMIO_BUILD/daemon/dmiod"; then
    skip_case "how large the daemon is (the sanitizer's memory is in it)"
else
    expect "the daemon has not grown beyond what is reserved" test "$peak" -le "$allowed"
fi
