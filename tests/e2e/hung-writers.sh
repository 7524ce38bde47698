#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Large writes, as many as the kernel lets through, to a leg that hangs: they wait, nobody else does, and
# the daemon is as small as before when they are done.
. "$(dirname "$0")/../lib/common.sh"

require_root
require_fuse
require_cmd fio jq nbdfuse nbdkit

WRITES=192 # of 512 KiB: more than a queue thread has room for at first
SIZE=$((WRITES * 512 * 1024))

mkdir "$WORK/slow"
nbdfuse "$WORK/slow/leg" [ nbdkit --exit-with-parent -f memory $SIZE ] >"$WORK/nbdfuse.log" 2>&1 </dev/null &
server=$!
defer end_process $server
defer kill -CONT $server
wait_for 10 test -f "$WORK/slow/leg"

start_dmiod
on_dmiod() {
    "$DMIOCTL" --control="$CONTROL" "$@"
}
on_dmiod client open alice --pages 512 --linger >/dev/null
on_dmiod client open bob --pages 64 --linger >/dev/null
on_dmiod export create alice/slow "$WORK/slow/leg:0+$((SIZE / 512))" >/dev/null
on_dmiod export create bob/fast "$(make_image 1M fast.img):0+2048" >/dev/null
reserved() {
    ctl_ok Status | jq .pool.reserved
}
in_flight() {
    ctl_ok ListClients | jq '.clients[] | select(.name == "alice").in_flight_pages'
}
before=$(reserved)

kill -STOP $server
fio --name=hung --filename="$MOUNT/alice/slow" --size=$SIZE --rw=write --bs=512k --iodepth=$WRITES \
    --ioengine=io_uring --direct=1 --output="$WORK/fio.log" 2>&1 &
writer=$!
all_pages_are_used() {
    [ "$(in_flight)" -ge 256 ]
}
wait_for 20 all_pages_are_used

dd if=/dev/urandom of="$WORK/bytes" bs=64k count=1 status=none
expect "another client writes" timeout 20 dd if="$WORK/bytes" of="$MOUNT/bob/fast" bs=64k conv=notrunc,fsync status=none
expect "and reads" timeout 20 cmp -n 65536 "$WORK/bytes" "$MOUNT/bob/fast"
expect "folders are listed" timeout 20 ls -l "$MOUNT/alice" "$MOUNT/bob"
expect "the writes still wait" kill -0 $writer

kill -CONT $server
expect "they are done when the leg goes on" wait $writer
expect "without an error" grep -q 'err= 0' "$WORK/fio.log"
room_is_given_back() {
    [ "$(reserved)" = "$before" ]
}
wait_for 20 room_is_given_back
ok "what was reserved for them is given back"
stop_dmiod
