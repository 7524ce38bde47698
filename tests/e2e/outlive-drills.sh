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
