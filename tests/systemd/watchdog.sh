#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The watchdog: a thread of the mount that is stuck, and a main loop that is, get the daemon killed
# and started again; a device that hangs does not. And a stop that cannot finish ends within its limit.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/systemd.sh"
require_cmd nbdfuse nbdkit
boot_systemd

install "$DMIO_BUILD/tests/stop-thread" "$SHARED/stop-thread"
# shellcheck disable=SC2016 # for the shell of the unit
drop_in watchdog 'WatchdogSec=1s\nLimitCORE=0\nExecStopPost=/bin/sh -c "echo ended by $$SERVICE_RESULT"\n'
inside systemctl start dmiod.service
expect_eq "the watchdog is on" "$(property WatchdogUSec)" 1s
first=$(property MainPID)

# Since the boot, in microseconds.
last_ping() {
    property WatchdogTimestampMonotonic
}
# pinged_for SECONDS: since the call before.
mark_time() {
    mark=$(last_ping)
}
pinged_for() {
    [ $(($(last_ping) - mark)) -ge $(($1 * 1000000)) ]
}
mark_time
pinged_later() {
    pinged_for 0 && [ "$(last_ping)" != "$mark" ]
}
wait_for 10 pinged_later
ok "it is pinged while there is nothing to do"

# --- a leg that hangs
truncate -s 1M "$SHARED/a.img" "$SHARED/slow.img"
inside mkdir /run/slow
inside sh -c 'nbdfuse -o allow_other /run/slow/leg [ nbdkit --exit-with-parent -f file /srv/t/slow.img ] >/srv/t/nbdfuse.log 2>&1 </dev/null &
    echo $! >/srv/t/nbdfuse.pid'
wait_for 10 inside test -f /run/slow/leg
slow=$(cat "$SHARED/nbdfuse.pid")
expect "a client" inside dmioctl client open alice --pages 16 --linger
expect "an export with a slow leg" inside dmioctl export create alice/slow /run/slow/leg:0+1024
expect "and a fast one" inside dmioctl export create alice/fast /srv/t/a.img:0+1024
inside kill -STOP "$slow"
INSIDE_LIMIT=100 inside dd if=/dev/zero of=$MOUNT_INSIDE/alice/slow bs=4k count=1 conv=notrunc status=none &
writer=$!
is_under_way() {
    call ListClients | jq -e '.parameters.clients[0].in_flight_pages > 0'
}
wait_for 10 is_under_way
mark_time
three_seconds() {
    pinged_for 3
}
wait_for 30 three_seconds
expect_eq "a device that hangs gets nobody killed" "$(property MainPID):$(property NRestarts)" "$first:0"
expect "and others are served" inside dd if=/dev/zero of=$MOUNT_INSIDE/alice/fast bs=4k count=1 conv=notrunc status=none
expect_not "the write to it still waits" process_is_gone $writer
inside kill -CONT "$slow"
expect "and succeeds when it goes on" wait $writer

# --- threads that are stuck
thread_named() {
    inside sh -c "for task in /proc/$1/task/*; do [ \"\$(cat \$task/comm)\" != \"$2\" ] || echo \${task##*/}; done"
}
is_started_again() {
    is_active && [ "$(property NRestarts)" -gt "$restarts" ]
}
stuck() {
    local what=$1 thread=$2
    restarts=$(property NRestarts)
    INSIDE_LIMIT=60 inside /srv/t/stop-thread "$thread" >"$WORK/stopped" &
    wait_for 10 grep -q stopped "$WORK/stopped"
    wait_for 30 is_started_again
    ok "$what: the daemon is started again"
    wait $! || true
}
pid=$(property MainPID)
stuck "a thread of the mount is stuck" "$(thread_named "$pid" dmiod-queue-0)"
count_timeouts() {
    journal | grep -cx 'ended by watchdog' || true
}
expect_eq "it was the watchdog" "$(count_timeouts)" 1
expect_match "and the log knows what had happened" "$(journal)" "*does not get round*"
expect "the new one serves" inside test -f $MOUNT_INSIDE/.status

pid=$(property MainPID)
stuck "the main loop is stuck" "$pid"
expect_eq "it was the watchdog again" "$(count_timeouts)" 2
expect "the new one serves, too" inside test -f $MOUNT_INSIDE/.status

# --- a stop that cannot finish
expect "the export with the slow leg is back" inside test -f $MOUNT_INSIDE/alice/slow
inside kill -STOP "$slow"
INSIDE_LIMIT=100 inside dd if=/dev/zero of=$MOUNT_INSIDE/alice/slow bs=4k count=1 conv=notrunc status=none 2>"$WORK/dd.log" || true &
writer=$!
wait_for 10 is_under_way
expect "a stop with a request that does not end" inside systemctl stop dmiod.service
expect_not "is no success" [ "$(property Result)" = success ]
expect_match "the log says what it has not waited for" "$(journal dmiod.service -n 20)" "*without waiting longer for*"
expect_eq "and nothing is mounted" "$(mounts_inside)" 0
inside kill -CONT "$slow"
wait $writer || true
inside kill "$slow"
expect_clean_journal
