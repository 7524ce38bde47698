#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Files of the daemon's own mount are not devices, and not the data of a request: it would wait for
# itself. They are refused however they are named, and the daemon goes on.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq

for key in control state; do
    expect_not "--$key below the mount" timeout 10 "$DMIOD" --config=/dev/null --mount="$MOUNT" \
        --control="$CONTROL" --state="$STATE" --$key="$MOUNT/a/$key"
    expect "the log names it" grep -q "$key = $MOUNT/a/$key lies in our own mount" "$WORK/expect-not.log"
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
umount "$WORK/bound"
expect "it stops" stop_dmiod
