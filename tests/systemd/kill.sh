#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The service is killed and restarted under a real systemd while fio writes and verifies: it hears of
# nothing, and files stay open. Devices came as descriptors, which the service manager keeps as well.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/systemd.sh"
require_cmd fio jq python3
boot_systemd

inside systemctl start dmiod.socket dmiod.service
truncate -s 32M "$SHARED/a.img" "$SHARED/b.img"
chmod 600 "$SHARED"/*.img
expect "a client" inside dmioctl client open alice --pages 512 --linger
expect "an export" inside dmioctl export create alice/vol /srv/t/a.img:0+65536 /srv/t/b.img:0+65536
cp "$TEST_LIB/pauses.py" "$SHARED/"
INSIDE_LIMIT=120 inside fio --name=vol --filename=$MOUNT_INSIDE/alice/vol --size=32M --ioengine=psync --numjobs=1 \
    --direct=1 --rw=randrw --bsrange=4k-128k --verify=crc32c --verify_state_save=0 \
    --verify_fatal=1 --time_based --runtime=12 >"$WORK/fio.log" 2>&1 &
fio=$!
INSIDE_LIMIT=120 inside timeout --preserve-status -s TERM 10 \
    python3 /srv/t/pauses.py $MOUNT_INSIDE/alice/vol 6 >"$WORK/pauses.log" 2>&1 &
pauses=$!

is_another() {
    local pid
    pid=$(property MainPID)
    [ "$pid" != 0 ] && [ "$pid" != "$1" ] && is_active
}
for ((i = 0; i < 6; i++)); do
    sleep 0.8
    process_is_gone $fio && break
    pid=$(property MainPID)
    if [ $i = 3 ]; then
        inside systemctl restart dmiod.service
    else
        inside kill -9 "$pid"
    fi
    wait_for 20 is_another "$pid"
done
expect_eq "so many times it was killed or restarted" "$i" 6
wait $fio || { cat "$WORK/fio.log" && fail "fio heard of it"; }
ok "fio has read what it wrote"
wait $pauses || true
ok "pauses: $(cat "$WORK/pauses.log")"
expect "the legs are equal" cmp "$SHARED/a.img" "$SHARED/b.img"
expect_eq "there is one mount" "$(mounts_inside)" 1
expect_match "it says that it took it up" "$(inside journalctl -u dmiod.service -o cat --no-pager)" \
    "*Taking up the mount*"
# One descriptor, passed for two exports: the service manager keeps no open file twice.
truncate -s 1M "$SHARED/one.img"
chmod 600 "$SHARED/one.img"
cp "$DMIO_SOURCE/docs/examples/control.py" "$SHARED/"
inside env PYTHONPATH=/srv/t python3 - <<END
import os
from control import Control
control = Control('$CONTROL_INSIDE')
image = os.open('/srv/t/one.img', os.O_RDWR)
for name, sector in ('one', 0), ('other', 1024):
    control.call('CreateExport', [image], client='alice', name=name,
                 regions=[{'device': 'fd:0', 'sector': sector, 'count': 1024}])
END
pid=$(property MainPID)
inside kill -9 "$pid"
wait_for 20 is_another "$pid"
for name in one other; do
    expect "the export '$name' of one descriptor for two is back" inside \
        dd if=$MOUNT_INSIDE/alice/$name of=/dev/null bs=64k status=none
done
expect "one of them goes" inside dmioctl export remove alice/one
pid=$(property MainPID)
inside kill -9 "$pid"
wait_for 20 is_another "$pid"
expect "the other is still there" inside dd if=$MOUNT_INSIDE/alice/other of=/dev/null bs=64k status=none

# However often, and without a moment between.
for ((i = 0; i < 12; i++)); do
    pid=$(property MainPID)
    inside kill -9 "$pid"
    wait_for 20 is_another "$pid"
done
ok "kill -9 is no crash"
for ((i = 0; i < 12; i++)); do
    expect "nor is a restart" inside systemctl restart dmiod.service
done
expect_eq "there is one mount still" "$(mounts_inside)" 1


counted() {
    inside dmioctl statistics alice --json | jq -S '.clients[].exports, .exports[].operations, .exports[].legs[].operations'
}
counted >"$WORK/before"
expect "something has been counted" jq -se '.[0] | map(.count) | add > 100' "$WORK/before"
pid=$(property MainPID)
inside kill -9 "$pid"
wait_for 20 is_another "$pid"
counted >"$WORK/after"
expect "a kill changes no counter" diff "$WORK/before" "$WORK/after"
inside systemctl restart dmiod.service
counted >"$WORK/after"
expect "nor does a restart" diff "$WORK/before" "$WORK/after"
inside systemctl stop dmiod.service
inside systemctl start dmiod.service
counted >"$WORK/after"
expect "nor a stop, with which the service manager lets go what it kept" diff "$WORK/before" "$WORK/after"
expect "it stops" inside systemctl stop dmiod.socket dmiod.service
expect_eq "and nothing is mounted" "$(mounts_inside)" 0
