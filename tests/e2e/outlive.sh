#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Clients that linger, and their exports, are there again after the daemon was stopped or killed: with
# their pages, their numbers, what they were made with, and counted against their owners' limits.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
STATE=$WORK/state
require_cmd socat jq setpriv

a=$(make_image 1M a.img)
b=$(make_image 1M b.img)
fill "$a"
fill "$b"
cat >"$WORK/dmiod.conf" <<END
[limits]
clients-per-uid = 2
exports-per-uid = 3
pages-per-uid = 100
[device disk]
path = $WORK/disk.img
users = 65534
END
make_image 1M disk.img >/dev/null

# All that there is to see of clients and exports, but not what happens to them.
seen() {
    ctl_ok ListClients | jq -c '[.clients[] | {name, uid, pages, linger, exports}]'
    ctl_ok ListExports | jq -c '[.exports[] | del(.open_count)]'
    find "$MOUNT" -mindepth 1 -printf '%p %i %m %u\n' | sort
    find "$MOUNT" -type f ! -name .status -printf '%p %s %T@\n' | sort
}
nobody_ctl() {
    as_nobody env CONTROL="$CONTROL" bash -c 'printf "%s\n" "$1" | socat -t20 - "UNIX-CONNECT:$CONTROL"' - "$1"
}

start_dmiod
chmod 711 "$WORK"
open_client alice 64
open_client idle 0
ctl_ok OpenClient '{"name":"brief","pages":5}' >/dev/null
vol=$(create_export alice vol "$a:0+512" "$b:8+512")
create_export alice read-only "$a:512+8" -- '"read_only":true' >/dev/null
create_export alice shared "$b:1024+8" -- '"shared":true' >/dev/null
create_export alice gone "$a:1024+8" >/dev/null
ctl_ok RemoveExport '{"client":"alice","name":"gone"}' >/dev/null
open_client closed 3
ctl_ok CloseClient '{"name":"closed"}' >/dev/null
ctl_ok Get '{"client":"alice","pages":10}' >/dev/null
ctl_ok Put '{"client":"alice","pages":3}' >/dev/null
nobody_ctl '{"method":"io.dmiod.OpenClient","parameters":{"name":"nina","pages":80,"linger":true}}' >/dev/null
nobody_ctl '{"method":"io.dmiod.CreateExport","parameters":{"client":"nina","name":"disk","regions":[{"device":"disk","sector":0,"count":8}]}}' \
    >/dev/null
printf 'kept over the end' | dd of="$vol" conv=notrunc status=none
gone=$(ctl_ok ListClients | jq -r '[.clients[].name] | contains(["brief"])')
expect_eq "a client of a connection is gone with it" "$gone" false
seen >"$WORK/before"
expect_eq "there is something to come back" "$(grep -c /nina/disk "$WORK/before")" 3
last=$(find "$MOUNT" -printf '%i\n' | sort -n | tail -n 1)

same() {
    seen >"$WORK/after"
    diff "$WORK/before" "$WORK/after"
}
expect "stop" stop_dmiod
restart_dmiod
expect "after a stop all is as it was" same
expect_eq "with its data" "$(head -c 17 "$vol")" "kept over the end"
kill_dmiod
restart_dmiod
expect "after a kill all is as it was" same
kill_dmiod
restart_dmiod
expect "after another one, too" same
expect_eq "what lingers is not that of a connection" "$(ctl_ok ListClients | jq -c '[.clients[].linger] | unique')" '[true]'

# --- numbers are not used twice
open_client later 1
create_export later vol "$a:1024+8" >/dev/null
for file in later later/vol later/.status; do
    number=$(stat -c %i "$MOUNT/$file")
    [ "$number" -gt "$last" ] || fail "$file has the number $number, and $last was there before"
done
ok "new files have new numbers"
number=$(stat -c %i "$MOUNT/later/vol")
ctl_ok CloseClient '{"name":"later"}' >/dev/null
kill_dmiod
restart_dmiod
open_client later 1
create_export later vol "$a:1024+8" >/dev/null
expect "also when those before are gone" test "$(stat -c %i "$MOUNT/later")" -gt "$number"
ctl_ok CloseClient '{"name":"later"}' >/dev/null

# --- limits, for those who were there before
reply=$(nobody_ctl '{"method":"io.dmiod.Get","parameters":{"client":"nina","pages":21}}')
expect_eq "pages are counted" "$(jq -c .parameters <<<"$reply")" '{"limit":"pages","value":100}'
nobody_ctl '{"method":"io.dmiod.OpenClient","parameters":{"name":"nils","pages":1,"linger":true}}' >/dev/null
reply=$(nobody_ctl '{"method":"io.dmiod.OpenClient","parameters":{"name":"nemo","pages":1,"linger":true}}')
expect_eq "clients are counted" "$(jq -c .parameters <<<"$reply")" '{"limit":"clients","value":2}'
seen >"$WORK/before"
sed -i 's/per-uid = .*/per-uid = 1/' "$WORK/dmiod.conf"
expect "stop" stop_dmiod
restart_dmiod
expect "who has more than the limit is now keeps it" same
reply=$(nobody_ctl '{"method":"io.dmiod.CreateExport","parameters":{"client":"nina","name":"more","regions":[{"device":"disk","sector":8,"count":8}]}}')
expect_eq "and gets no more" "$(jq -c .parameters <<<"$reply")" '{"limit":"exports","value":1}'
reserved=$(ctl_ok Status | jq .pool.reserved)
nobody_ctl '{"method":"io.dmiod.CloseClient","parameters":{"name":"nils"}}' >/dev/null
expect_eq "what it gives back is given back" "$(ctl_ok Status | jq .pool.reserved)" $((reserved - 1))

# --- a device of the configuration is there for those it is granted to
legs_of() {
    ctl_ok ListExports | jq -c ".exports[] | select(.name == \"$1\").legs | map(.state)"
}
sed -i 's/users = .*/users = 1/' "$WORK/dmiod.conf"
kill_dmiod
restart_dmiod
expect_eq "a device that is not granted any more does not come back" "$(legs_of disk)" '["failed"]'
expect "the log says why" grep -q "'nina/disk' (disk) is not there: the configuration" "$WORK/dmiod.log"
sed -i 's/users = .*/users = 65534/' "$WORK/dmiod.conf"
kill_dmiod
restart_dmiod
expect_eq "it does when it is granted again" "$(legs_of disk)" '["active"]'

# --- descriptors
make_image 1M own.img >/dev/null
chown 65534 "$WORK/own.img"
expect "root's descriptors" "$DMIOCTL" --control="$CONTROL" export create alice/fd "$WORK/own.img:0+8"
python3 - "$CONTROL" "$WORK/own.img" <<'END'
import os, sys
from client import Connection, region
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with Connection(sys.argv[1]) as c:
    fd = os.open(sys.argv[2], os.O_RDWR)
    c.call('RemoveExport', {'client': 'nina', 'name': 'disk'})
    c.call('CreateExport', {'client': 'nina', 'name': 'fd', 'regions': [region('fd:0', 8, 8)]}, [fd])
END
states() {
    ctl_ok ListExports | jq -c '[.exports[] | select(.name == "fd") | [.client, .legs[].state]]'
}
expect_eq "and somebody else's" "$(states)" '[["alice","active"],["nina","active"]]'
kill_dmiod
restart_dmiod
expect_eq "come back by their path if root may name it" "$(states)" '[["alice","active"],["nina","failed"]]'
expect_errno "without its device an export is there and gives EIO" "Input/output error" \
    dd if="$MOUNT/nina/fd" of=/dev/null status=none
ctl_ok RemoveExport '{"client":"nina","name":"fd"}' >/dev/null
expect_not "it can be removed" test -e "$MOUNT/nina/fd"

# --- a reservation that the pool has no room for
kill_dmiod
expect_not "less pages than are reserved: it does not start" timeout 10 "$DMIOD" --config="$WORK/dmiod.conf" \
    --mount="$MOUNT" --control="$CONTROL" --state="$STATE" --max-pages=16
expect "and says so" grep -q "Client 'alice' has 71 pages reserved, and there are only 16" "$WORK/expect-not.log"
restart_dmiod
expect_eq "nothing is lost by that" "$(ctl_ok ListClients | jq -c '[.clients[].name]')" '["alice","idle","nina"]'
expect "stop" stop_dmiod
