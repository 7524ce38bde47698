#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A client that does not linger ends with its connection, its exports and its pages with it; one that
# lingers stays until it is closed. Files that are open meanwhile get ENODEV.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq

start_dmiod
reserved() {
    ctl_ok Status | jq .pool.reserved
}
own=$(reserved) # the daemon's
a=$(make_image 1M a.img)

# A connection of its own, held open by this script.
mkfifo "$WORK/in"
socat -t1 - "UNIX-CONNECT:$CONTROL" <"$WORK/in" >"$WORK/out" &
defer end_process $!
connection=$!
exec 8>"$WORK/in"
answered() {
    [ "$(wc -l <"$WORK/out")" -ge "$1" ]
}

printf '{"method":"io.dmiod.OpenClient","parameters":{"name":"brief","pages":300}}\n' >&8
wait_for 10 answered 1
printf '{"method":"io.dmiod.CreateExport","parameters":{"client":"brief","name":"vol","regions":%s}}\n' \
    "$(regions "$a:0+1024")" >&8
wait_for 10 answered 2
expect "its export is there" test -f "$MOUNT/brief/vol"
expect_eq "other connections of the owner may use it" \
    "$(ctl_ok Get '{"client":"brief","pages":1}' | jq .pages)" 301
expect_eq "it does not linger" "$(ctl_ok ListClients | jq -c '.clients | map([.name, .linger])')" '[["brief",false]]'
printf 'kept' >"$MOUNT/brief/vol"
exec 7<>"$MOUNT/brief/vol"

open_client stays 10
create_export stays vol "$a:1024+8" >/dev/null

exec 8>&-
wait_for 10 process_is_gone "$connection"
brief_is_gone() {
    [ "$(ctl_ok ListClients | jq -c '.clients | map(.name)')" = '["stays"]' ]
}
wait_for 10 brief_is_gone
ok "it ends with its connection"
expect_not "its folder is gone" test -e "$MOUNT/brief"
expect_eq "its pages are put" "$(reserved)" $((own + 10))
python3 - <<'END'
import errno, os
try:
    os.pread(7, 4, 0)
except OSError as e:
    assert e.errno == errno.ENODEV, e
else:
    raise AssertionError('an open file still works')
END
ok "an open file gets ENODEV"
exec 7>&-
expect_eq "what was written is there" "$(head -c 4 "$a")" kept
expect "the lingering one stays" test -f "$MOUNT/stays/vol"
open_client brief 1
expect "its sectors are free again" test -f "$(create_export brief vol "$a:0+8")"

expect_eq "closing ends the others, too" "$(ctl_ok CloseClient '{"name":"stays"}')" '{}'
expect_not "and their exports" test -e "$MOUNT/stays"
expect_refused "once" NoSuchClient CloseClient '{"name":"stays"}'

# --- a client that goes while it is written to
big=$(make_image 64M)
in_use() {
    ctl_ok Status | jq .pool.in_use
}
idle=$(in_use)
# write_for_ever FILE: until it cannot.
write_for_ever() {
    python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
while True:
    os.pwrite(fd, bytes(65536), 0)' "$1"
}
for round in 1 2 3; do
    open_client "busy$round" 64
    file=$(create_export "busy$round" vol "$big:0+131072")
    write_for_ever "$file" 2>"$WORK/writer.log" &
    writer=$!
    moving() {
        [ "$(ctl_ok ListExports "{\"client\":\"busy$round\"}" | jq '.exports[0].open_count')" = 1 ]
    }
    wait_for 10 moving
    ctl_ok CloseClient "{\"name\":\"busy$round\"}" >/dev/null
    wait_for 10 process_is_gone $writer
    wait $writer && fail "the writer has not noticed"
    grep -q 'No such device' "$WORK/writer.log" || { cat "$WORK/writer.log" && fail "another error"; }
done
ok "a client that goes under a writer takes the file away, and nothing hangs"
is_idle() {
    [ "$(in_use)" = "$idle" ]
}
wait_for 10 is_idle
ok "nothing is in use"
