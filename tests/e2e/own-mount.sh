#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Files of the daemon's own mount are not devices, and not the data of a request: it would wait for
# itself. They are refused however they are named, and the daemon goes on. It never looks into the mount
# itself: while nobody serves that, all that is not a client's I/O goes on.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq

for key in control state; do
    expect_not "--$key below the mount" timeout 10 "$DMIOD" --config=/dev/null --mount="$MOUNT" \
        --control="$CONTROL" --state="$STATE" --$key="$MOUNT/a/$key"
    expect "the log names it" grep -q "$key cannot be below the mount" "$WORK/expect-not.log"
done

cat >"$WORK/dmiod.conf" <<END
[device own]
path = $MOUNT/alice/vol
[device link]
path = $WORK/link
END
start_dmiod
open_client alice 16
create_export alice vol "$(make_image 1M a.img):0+8" >/dev/null
ln -s "$MOUNT/alice/vol" "$WORK/link"
mkdir "$WORK/bound"
mount --bind "$MOUNT" "$WORK/bound"
b=$(make_image 1M b.img)

for device in "$MOUNT/alice/vol" "$MOUNT/../${MOUNT##*/}/alice/vol" "//$MOUNT/./alice/vol" "$WORK/link" \
    "$WORK/bound/alice/vol" own link; do
    shown=${device//"$WORK"/}
    expect_refused "an export of $shown" InvalidRegion CreateExport \
        "{\"client\":\"alice\",\"name\":\"self\",\"regions\":$(regions "$b:0+8" "$device:0+8")}"
    expect_match "says which region, and why" "$(jq -r '"\(.parameters.region) \(.parameters.reason)"' <<<"$REPLY_JSON")" \
        "1 *own mount*"
done
expect_refused "Io" InvalidRegion Io "{\"client\":\"alice\",\"op\":\"read\",\"regions\":$(regions "$WORK/link:0+8")}"
source=$(regions "$b:0+8" | jq -c '.[0]')
expect_refused "Copy" InvalidRegion Copy \
    "{\"client\":\"alice\",\"source\":$source,\"destinations\":$(regions "$WORK/link:0+8")}"

# dmioctl opens and passes what it is named.
dmioctl() {
    timeout 20 "$DMIOCTL" --control="$CONTROL" "$@"
}
for device in "$MOUNT/alice/vol" "$WORK/link" "$WORK/bound/alice/vol"; do
    expect_not "a descriptor of ${device//"$WORK"/}" dmioctl export create alice/self "$device:0+8"
    expect "is refused for that" grep -q 'own mount' "$WORK/expect-not.log"
done
head -c 4096 /dev/urandom >"$WORK/data"
dd if="$WORK/data" of="$MOUNT/alice/vol" conv=notrunc status=none
status=0
dmioctl io write alice "$b:0+8" <"$MOUNT/alice/vol" >"$WORK/io.log" 2>&1 || status=$?
expect "as the data of a write it is refused, or read by dmioctl" \
    sh -c "[ $status = 0 ] && cmp -n 4096 '$WORK/data' '$b' || grep -q 'own mount' '$WORK/io.log'"

expect "the daemon answers" dmiod_answers
expect_eq "there is one export" "$(ctl_ok ListExports | jq '.exports | length')" 1
expect "and its file is served" cmp -n 4096 "$WORK/data" "$MOUNT/alice/vol"

# --- nobody serves the mount: who touches it waits
stoppers=()
[ -x "$DMIO_BUILD/tests/stop-thread" ] || fail "there is no $DMIO_BUILD/tests/stop-thread"
for comm in "/proc/$DMIOD_PID"/task/*/comm; do
    grep -q '^dmiod-queue' "$comm" || continue
    "$DMIO_BUILD/tests/stop-thread" "$(basename "$(dirname "$comm")")" >"$WORK/stopped.${comm//\//_}" &
    stoppers+=($!)
    defer end_process $!
    wait_for 10 grep -q stopped "$WORK/stopped.${comm//\//_}"
done
expect_not "nobody serves the mount" sh -c "timeout -s KILL 1 stat -f '$MOUNT' || exit 1"

# What the kernel has not seen before.
ln -s "$MOUNT/cold/vol" "$WORK/cold"
# Within 5 seconds; a call that waits for the mount would wait for ever.
quick() {
    timeout 5 "$DMIOCTL" --control="$CONTROL" "$@"
}
for call in 'status' 'client list' 'export list' 'statistics' 'job list' 'client open bob --pages 4 --linger' \
    "io read bob $b:0+8" "copy bob $b:0+8 $b:16+8" "zero bob $b:24+8" "export create bob/vol $b:64+8" 'get bob 4' 'put bob 4' \
    "call CreateExport {\"client\":\"bob\",\"name\":\"path\",\"regions\":$(regions "$b:128+8")}"; do
    # shellcheck disable=SC2086 # words
    expect "dmioctl $call" quick $call
done
for device in "$MOUNT/alice/vol" "$MOUNT/alice/never-seen" "//$MOUNT/./alice/../alice/vol" "$WORK/link" "$WORK/cold" \
    "$WORK/bound/alice/vol" "$WORK/bound/cold" own link; do
    expect_refused "an export of ${device//"$WORK"/}, which is not touched" InvalidRegion CreateExport \
        "{\"client\":\"alice\",\"name\":\"self\",\"regions\":$(regions "$b:32+8" "$device:0+8")}"
done
: >"$WORK/dmiod.log"
kill -HUP "$DMIOD_PID"
wait_for 5 grep -q 'configuration has been read again' "$WORK/dmiod.log"
ok "a reload"
quick doctor --config="$WORK/dmiod.conf" --json >"$WORK/doctor" || true
for device in own link; do
    expect_match "dmioctl doctor sees where the device $device lies" \
        "$(jq -r --arg name "device $device" '.checks[] | select(.check == $name).found' "$WORK/doctor")" "*own mount*"
done
expect_not "still nobody serves the mount" sh -c "timeout -s KILL 1 stat -f '$MOUNT' || exit 1"

for stopper in "${stoppers[@]}"; do end_process "$stopper"; done
wait_for 10 stat -f "$MOUNT"
ok "it is served again"
umount "$WORK/bound"
expect "it stops" stop_dmiod
