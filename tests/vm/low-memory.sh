#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Inside a machine with little memory: file systems on loop devices on exports, with and without
# direct I/O, are written to by many while there is hardly any memory that is not dirty, by a daemon
# whose legs need memory for writing themselves. It comes to an end, everything is there, and the
# daemon has neither waited for its own memory nor for that of others.
#
# VM_MEMORY=384M
# VM_DISK=640M
# VM_TIMEOUT=1800
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_loop

PRESSURE=$DMIO_SOURCE/tests/vm/pressure.py
LEGS=$WORK/legs
export NOTES=$WORK/notes
SECTORS=196608 # 96 MiB
# What the hog leaves to the others, in KiB, and for how long, in seconds; and how long nobody may get on:
# an emulated machine is slow.
KEEP=8192
PRESS=150
STUCK=240
# PF_LOCAL_THROTTLE and PF_MEMALLOC_NOIO: an IO flusher.
FLUSHER=$((0x180000))

on_failure() {
    tail -n 15 "$WORK/dmiod.log"
    free -m
    dmesg | tail -n 150
}

mkdir "$LEGS" "$NOTES"
mke2fs -q -t ext4 /dev/vda
mount /dev/vda "$LEGS"

start_dmiod
open_client alice 512
expect_match "dmioctl doctor has no complaint" \
    "$("$DMIOCTL" --control="$CONTROL" doctor | grep 'memory pressure')" "ok *IO flusher*locked*"
loops=()
for direct in off on; do
    # One leg is a file, which the daemon writes past the page cache, and one a loop device, which
    # writes through it.
    truncate -s $((SECTORS * 512)) "$LEGS/a-$direct" "$LEGS/b-$direct"
    b=$(make_loop "$LEGS/b-$direct")
    loop=$(make_loop "$(create_export alice $direct "$LEGS/a-$direct:0+$SECTORS" "$b:0+$SECTORS")" 512 --direct-io=$direct)
    mkfs.ext4 -q "$loop"
    mkdir "$WORK/fs-$direct"
    mount "$loop" "$WORK/fs-$direct"
    loops+=("$loop" "$b")
done

# All that is not taken may be dirty. What the hog is killed for need not be told at length.
sysctl -q -w vm.oom_dump_tasks=0
sysctl -q -w vm.dirty_bytes=$((512 << 20)) vm.dirty_background_bytes=$((256 << 20))
timeout -k 5 1000 python3 "$PRESSURE" press "$DMIOD_PID" $KEEP $PRESS $STUCK "$WORK/fs-off" "$WORK/fs-on" >"$WORK/seen" 2>&1 || {
    cat "$WORK/seen"
    fail "the writers"
}
seen() {
    tail -n 1 "$WORK/seen" | jq -r "$@"
}
echo "# $(seen -c .)"
ok "the writers are done within $(seen .seconds) s"

# --- memory was short
expect "those who wanted memory had to look for it" [ "$(seen .stalls)" -gt 100 ]
expect "there was less than the hog would have left" [ "$(seen .least_kib)" -lt $KEEP ]
expect "and much of it dirty" [ "$(seen .most_dirty_kib)" -gt 16384 ]
killed=$(dmesg | grep -i 'Out of memory: Killed' | grep -v 'oom_score_adj:1000' || true)
expect_eq "nobody was killed for that but the hog" "$killed" ""

# --- the daemon
process_is_gone "$DMIOD_PID" && fail "the daemon has died"
expect "it answers" dmiod_answers
for kind in dmiod dmiod-queue-0 iou-wrk; do
    # shellcheck disable=SC2016 # of jq
    flags=$(seen --arg kind $kind '.tasks[$kind].flags // 0')
    expect "$kind was an IO flusher all the time" [ $((flags & FLUSHER)) = $FLUSHER ]
done
others=$(seen --argjson bits $FLUSHER '.tasks | to_entries[] | select((.value.flags / 524288 | floor) % 4 != 3) | .key')
expect_eq "and so was every other thread" "$others" ""
expect_eq "nothing of it had to be read in" "$(seen '[.tasks[].major] | add')" 0
n=$(seen '.tasks["dmiod-queue-0"].minor')
expect "the thread of the mount has touched hardly a page for the first time ($n)" [ "$n" -le 64 ]

# --- what was written
expect "sync" timeout -k 5 100 sync
for direct in off on; do
    expect "umount, direct-io=$direct" timeout -k 5 100 umount "$WORK/fs-$direct"
done
echo 3 >/proc/sys/vm/drop_caches
for i in 0 2; do
    loop=${loops[i]}
    expect "fsck of $loop" sh -c "timeout -k 5 200 fsck.ext4 -f -n $loop 2>&1"
    mount -o ro "$loop" "$WORK/fs-$([ $i = 0 ] && echo off || echo on)"
done
expect "all files have what was written" timeout -k 5 300 python3 "$PRESSURE" check "$NOTES"
expect_eq "so many files" "$(cat "$WORK/expect.log")" 184
umount "$WORK/fs-off" "$WORK/fs-on"
detach() {
    local number
    number=$(loop_number "$1")
    losetup -d "$1"
    wait_for 20 loop_is_gone "$1" "$number"
}
detach "${loops[0]}"
detach "${loops[2]}"
expect_eq "no leg has failed" "$(ctl_ok ListExports | jq -c '[.exports[].legs[].state] | unique')" '["active"]'
expect "it stops" stop_dmiod
detach "${loops[1]}"
detach "${loops[3]}"
for direct in off on; do
    expect "the legs are equal, direct-io=$direct" cmp "$LEGS/a-$direct" "$LEGS/b-$direct"
done
umount "$LEGS"
