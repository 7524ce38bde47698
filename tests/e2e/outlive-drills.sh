#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Drills on what outlives the daemon: faults on legs that are not there, and what happens while the
# failure of a leg is being written down, which takes as long as the state folder's disk does.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq

sectors=2048
printf '[daemon]\ndrills = yes\n' >"$WORK/dmiod.conf"
legs_of() {
    ctl_ok ListExports | jq -c ".exports[] | select(.name == \"$1\").legs | map(.state)"
}
# add_fault EXPORT LEG ACTION [MEMBER:VALUE,...]
add_fault() {
    ctl_ok AddFault "{\"client\":\"alice\",\"export\":\"$1\",\"leg\":$2,\"action\":\"$3\"${4:+,$4}}" | jq .fault
}

# --- a leg without a device
for name in lost kept; do
    make_image 1M $name.a >/dev/null
    make_image 1M $name.b >/dev/null
done
start_dmiod
open_client alice 64
for name in lost kept; do
    create_export alice $name "$WORK/$name.a:0+$sectors" "$WORK/$name.b:0+$sectors" >/dev/null
done
kill_dmiod
mv "$WORK/lost.a" "$WORK/lost.away"
restart_dmiod
expect_eq "a leg is not there" "$(legs_of lost)" '["failed","active"]'
expect_refused "a fault on it is refused" org.varlink.service.InvalidParameter AddFault \
    '{"client":"alice","export":"lost","leg":0,"action":"error","errno":"EIO"}'
expect "the other exports have no errors" dd if=/dev/zero of="$MOUNT/alice/kept" bs=4k count=1 \
    conv=notrunc,fsync status=none
expect_eq "and all legs" "$(legs_of kept)" '["active","active"]'
expect "a fault on the other leg is not" add_fault lost 1 error '"errno":"EIO","times":1'
expect "stop" stop_dmiod

# --- while a failure is being written down, for as long as we want
require_loop
require_cmd mkfs.ext4 fsfreeze
disk=$(make_loop "$(make_image 32M disk)")
mkfs.ext4 -q "$disk"
mkdir "$WORK/slow"
mount "$disk" "$WORK/slow"
thaw() {
    fsfreeze -u "$WORK/slow" 2>/dev/null || true
}
# Before anything is unmounted: the daemon could not end.
on_failure() {
    thaw
    tail -n 15 "$WORK/dmiod.log"
}
# shellcheck disable=SC2034 # for start_dmiod
STATE=$WORK/slow/state
leg_0_has_failed() {
    [ "$(legs_of "$1")" = '["failed","active"]' ]
}
# fail_slowly EXPORT: leg 0 fails a write, $writer, which waits until the state folder is thawed.
fail_slowly() {
    add_fault "$1" 0 error '"errno":"EIO","operation":"write","times":1' >/dev/null
    fsfreeze -f "$WORK/slow"
    printf new | dd of="$MOUNT/alice/$1" conv=notrunc status=none 2>/dev/null &
    writer=$!
    wait_for 10 leg_0_has_failed "$1"
}
# total_us EXPORT QUERY: how long writes have taken.
total_us() {
    ctl_ok Statistics '{"client":"alice"}' | jq "[.exports[] | select(.name == \"$1\") | $2 |
        .operations[] | select(.operation == \"write\") | .total_us] | add"
}
start_dmiod
open_client alice 64
for name in timed forced closed; do
    make_image 1M $name.a >/dev/null
    make_image 1M $name.b >/dev/null
    create_export alice $name "$WORK/$name.a:0+$sectors" "$WORK/$name.b:0+$sectors" >/dev/null
done

fail_slowly timed
printf more | dd of="$MOUNT/alice/timed" bs=4 seek=4096 conv=notrunc status=none &
second=$!
sleep 1
expect_not "the writer has no answer yet" process_is_gone "$writer"
expect_not "nor has who writes to a part of a block, which is read first" process_is_gone "$second"
thaw
expect "then it is told of success" wait "$writer"
expect "and so is the other one" wait "$second"
expect "the time of a write is that of its answer" test "$(total_us timed .)" -ge 1000000
expect "the time of a leg is that of the leg" test "$(total_us timed '.legs[]')" -lt 1000000

# What a drill holds, on top of it.
fail_slowly forced
add_fault forced 1 hold '"operation":"write"' >/dev/null
dd if=/dev/zero of="$MOUNT/alice/forced" bs=4k count=1 seek=1 conv=notrunc status=none &
second=$!
ctl RemoveExport '{"client":"alice","name":"forced","force":true}' >"$WORK/reply" &
removal=$!
thaw
wait "$writer" "$second" || true
expect "a removal by force ends" wait "$removal"
expect_eq "well" "$(cat "$WORK/reply")" '{"parameters":{}}'
fail_slowly closed
add_fault closed 1 hold '"operation":"write"' >/dev/null
dd if=/dev/zero of="$MOUNT/alice/closed" bs=4k count=1 seek=1 conv=notrunc status=none &
second=$!
ctl CloseClient '{"name":"alice"}' >"$WORK/reply" &
removal=$!
thaw
wait "$writer" "$second" || true
expect "a client's end ends" wait "$removal"
expect_eq "well" "$(cat "$WORK/reply")" '{"parameters":{}}'
expect "stop" stop_dmiod
