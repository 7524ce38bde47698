#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The mount of the service, which is dmiod-mount's and the service manager's: it stays, with the files
# that are open on it, over a restart, a crash and a start that does not succeed; it goes with a stop,
# however that ends, and when the service has failed for good. A stand-in serves it, which needs
# nothing to be saved; but for its ExecStart= the units are as they are installed.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/systemd.sh"
require_cmd python3
boot_systemd

install -m 644 "$TEST_LIB/stand-in.py" "$SHARED/stand-in.py"
install -m 666 /dev/null "$SHARED/names"
drop_in stand-in "ExecStart=\nExecStart=/usr/bin/env python3 /srv/t/stand-in.py /srv/t\nReadWritePaths=/srv/t\nTimeoutStopSec=2s\nWatchdogSec=0\n"

service() {
    inside systemctl --quiet "$1" dmiod.service
}
mount_id() {
    inside awk -v where="$MOUNT_INSIDE" '$5 == where { print $1 }' /proc/1/mountinfo
}
# It waits for whoever serves, so not without a limit.
read_file() {
    INSIDE_LIMIT=10 inside cat "$MOUNT_INSIDE/file"
}
record() {
    inside sh -c "[ ! -e /run/dmiod/dmiod.service.mount-point ] ||
        tr '\\0' '\\n' </run/dmiod/dmiod.service.mount-point | head -n 1"
}

# --- a file that is open from the beginning to the end
service start
expect_eq "it is mounted" "$(mounts_inside)" 1
expect_eq "and served" "$(read_file)" served
expect_eq "where is written down" "$(record)" "$MOUNT_INSIDE"
first=$(mount_id)
# Reads it once for every line that it is sent.
cat >"$SHARED/hold.py" <<'END'
import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
for _ in sys.stdin:
    try:
        print(os.pread(file, 100, 0).decode().strip(), flush=True)
    except OSError as e:
        print(e.strerror, flush=True)
END
mkfifo "$SHARED/ask" "$SHARED/told"
INSIDE_LIMIT=170 inside python3 /srv/t/hold.py "$MOUNT_INSIDE/file" <"$SHARED/ask" >"$SHARED/told" &
asked=$!
exec 8>"$SHARED/ask" 9<"$SHARED/told" # it ends with the first
ask() {
    local line
    echo >&8
    read -r -t 10 line <&9 || line=nothing
    echo "$line"
}
expect_eq "an open file can be read" "$(ask)" served

is_served_by_another() {
    is_active && [ "$(property MainPID)" != "$pid" ] && [ "$(property MainPID)" != 0 ]
}
stays() {
    expect_eq "$1: the mount is the same" "$(mount_id)" "$first"
    expect_eq "$1: the file is still open" "$(ask)" served
    expect_eq "$1: the descriptor is kept once" "$(property NFileDescriptorStore)" 1
}

# --- it stays
pid=$(property MainPID)
service restart
expect_not "a restart is a restart" [ "$(property MainPID)" = "$pid" ]
stays "a restart"

pid=$(property MainPID)
inside kill -9 "$pid"
wait_for 20 is_served_by_another
stays "SIGKILL"

pid=$(property MainPID)
inside systemctl daemon-reexec
inside kill -9 "$pid"
wait_for 20 is_served_by_another
stays "SIGKILL after daemon-reexec"

pid=$(property MainPID)
inside rm -r /run/dmiod
inside kill -9 "$pid"
wait_for 20 is_served_by_another
stays "what was written down is removed"
expect_eq "and is written down again, in a folder that everybody passes" "$(record) $(inside stat -c %a /run/dmiod)" \
    "$MOUNT_INSIDE 755"
inside systemctl restart dmiod.socket

: >"$SHARED/fail"
expect_not "a daemon that cannot start" service restart
rm "$SHARED/fail"
wait_for 20 is_active
stays "restarts that fail"

: >"$SHARED/stubborn"
service restart # in vain for this one, which began without
pid=$(property MainPID)
rm "$SHARED/stubborn"
service restart
expect_not "one that does not end is killed" [ "$(property MainPID)" = "$pid" ]
stays "a restart that had to kill"

drop_in always "Restart=always\n"
pid=$(property MainPID)
inside kill "$pid"
wait_for 20 is_served_by_another
stays "an end without error of a service that is always started again"
inside rm /etc/systemd/system/dmiod.service.d/always.conf
inside systemctl daemon-reload

# --- it goes
is_over() {
    [ "$(property ActiveState)" = "$1" ]
}
goes() {
    expect_eq "$1: nothing is mounted" "$(mounts_inside)" 0
    expect_eq "$1: nothing is written down" "$(record)" ""
    expect_eq "$1: nothing is kept" "$(property NFileDescriptorStore)" 0
}
service stop
goes "a stop"
expect_match "what was open is gone" "$(ask)" "*not connected*"

service start
pid=$(property MainPID)
inside kill "$pid"
wait_for 20 is_over inactive
goes "an end without error"

: >"$SHARED/stubborn"
service start
rm "$SHARED/stubborn"
service stop
expect_eq "a stop has to kill" "$(property Result)" timeout
goes "a stop that had to kill"
service reset-failed

service start
: >"$SHARED/fail"
inside kill -9 "$(property MainPID)"
wait_for 30 is_over failed
expect_eq "it has crashed ten times" "$(journal | grep -c 'crashed 10 times')" 1
expect_eq "who calls is told that nobody answers" "$(property ActiveState dmiod.socket)" inactive
goes "a service that does nothing but crash"
rm "$SHARED/fail"

drop_in z-limit "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n"
service start
pid=$(property MainPID)
: >"$SHARED/fail"
inside kill -9 "$pid"
wait_for 20 is_over failed
is_unmounted() {
    [ "$(mounts_inside)" = 0 ]
}
wait_for 20 is_unmounted
ok "failed for good: nothing is mounted"
is_clean() {
    [ "$(property ActiveState dmiod-unmount.service)" = inactive ]
}
wait_for 20 is_clean
goes "failed for good"
expect_eq "the unit for that has done its work" "$(property Result dmiod-unmount.service)" success
# Of a process that has ended by the time at which the journal reads it, the unit is not known.
has_said_so() {
    inside journalctl -o cat --no-pager -q | grep -q "^dmiod.service has failed, .*ENOTCONN"
}
wait_for 20 has_said_so
ok "and says what that means"
rm "$SHARED/fail"
inside rm /etc/systemd/system/dmiod.service.d/z-limit.conf
inside systemctl daemon-reload
service reset-failed

# It is started for nothing: what is kept, or served, stays.
service start
first=$(mount_id)
expect "the unit for failures, without a failure" inside systemctl start dmiod-unmount.service
expect_eq "does nothing" "$(mount_id):$(read_file)" "$first:served"

# --- another mount point; a file that is open on the old one keeps that alive
inside sh -c "exec 3<$MOUNT_INSIDE/file; touch /srv/t/is-open; until [ -e /srv/t/let-go ]; do sleep 0.02; done" \
    8>&- 9<&- &
holder=$!
wait_for 10 test -e "$SHARED/is-open"
: >"$SHARED/keep"
service restart
rm "$SHARED/keep"
service restart
expect_eq "what else is kept is passed" "$(cat "$SHARED/names")" "dmio-dev-1 dmiod.socket fuse fuse-1 state state-2"
inside sh -c 'mkdir -p /etc/dmiod/dmiod.conf.d; printf "[daemon]\nmount = /run/elsewhere\n" >/etc/dmiod/dmiod.conf.d/mount.conf'
service restart
expect_eq "another mount point: mounted there" "$(mounts_inside /run/elsewhere)" 1
expect_eq "and not where it was" "$(mounts_inside)" 0
expect_eq "what belonged to the old one is forgotten, devices are not" "$(cat "$SHARED/names")" \
    "dmio-dev-1 dmiod.socket fuse"
expect_eq "there is one descriptor of each" "$(property NFileDescriptorStore)" 2
expect_eq "and served" "$(INSIDE_LIMIT=10 inside cat /run/elsewhere/file)" served
touch "$SHARED/let-go"
wait $holder
inside sh -c 'printf "[daemon]\nmount = /run/third\n" >/etc/dmiod/dmiod.conf.d/mount.conf'
service stop
expect_eq "unmounted where it was, whatever the configuration says now" "$(mounts_inside /run/elsewhere)" 0
inside rm /etc/dmiod/dmiod.conf.d/mount.conf

# --- what others have mounted there
inside sh -c 'dmiod --mount=/run/dmio --control=/run/other --state=/run/other-state >/srv/t/other.log 2>&1 &
    echo $! >/srv/t/other.pid' 8>&- 9<&-
is_mounted_inside() {
    [ "$(mounts_inside)" = 1 ]
}
wait_for 20 is_mounted_inside
other=$(cat "$SHARED/other.pid")
other_answers() {
    inside test -f "$MOUNT_INSIDE/.status"
}
wait_for 20 other_answers
expect_not "where another daemon serves, there is no start" service start
expect_match "the log says why" "$(journal dmiod.service -n 20)" "*Another daemon serves $MOUNT_INSIDE*"
service stop
expect "and the other one serves on" other_answers
inside kill -9 "$other"
service reset-failed
expect "the mount that a killed one left is replaced" service start
expect_eq "there is one" "$(mounts_inside):$(read_file)" 1:served
service stop
goes "at last"
exec 8>&- 9<&-
wait $asked

# --- dmiod-mount by hand
helper=$(find "$WORK/stage" -name dmiod-mount)
helper=${helper#"$WORK/stage"}
expect_not "nobody would keep the mount" inside "$helper" attach by-hand.service --mount=/run/by-hand
expect "it says so" grep -q 'Cannot give the mount to the service manager' "$WORK/expect-not.log"
expect_eq "and takes it away again" "$(mounts_inside /run/by-hand)" 0
expect_not "nor is the folder left" inside test -e /run/by-hand
for arguments in "" attach "nothing x.service" "detach ../x" "attach x.service --nonsense"; do
    status=0
    # shellcheck disable=SC2086 # words
    inside "$helper" $arguments >"$WORK/usage.log" 2>&1 || status=$?
    expect_eq "\"dmiod-mount $arguments\" is wrong usage" $status 2
    expect "and something is said" test -s "$WORK/usage.log"
done
expect "a unit that has no mount can be detached" inside "$helper" detach none.service
expect "and cleaned" inside "$helper" clean none.service
expect_clean_journal
