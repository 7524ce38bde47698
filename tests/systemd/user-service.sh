#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A daemon of one's own: everything as an ordinary user, under a service manager of that user's and
# without one; and what is said when fusermount3 is not there, or refuses.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/systemd.sh"
require_cmd fusermount3 useradd
boot_systemd

inside useradd --create-home --uid 4242 --user-group dmio-tester
RUNTIME=/run/user/4242
inside install -d -m 700 -o 4242 -g 4242 $RUNTIME
# What user@.service does, without a login.
inside sh -c 'cat >/etc/systemd/system/tester.service' <<END
[Service]
Type=notify
User=dmio-tester
Environment=XDG_RUNTIME_DIR=$RUNTIME
ExecStart=/lib/systemd/systemd --user --unit=basic.target
Delegate=yes
KillMode=mixed
END
as_tester() {
    inside setpriv --reuid=4242 --regid=4242 --init-groups -- \
        env HOME=/home/dmio-tester XDG_RUNTIME_DIR=$RUNTIME "$@"
}
expect "a service manager of the user's" inside systemctl start tester.service
userctl() {
    as_tester systemctl --user --quiet "$@"
}
user_property() {
    userctl show -P "$1" "${2:-dmiod.service}"
}
MOUNTED=$RUNTIME/dmio

# --- socket activation
expect "the socket starts" userctl start dmiod.socket
expect_eq "for the user alone" "$(inside stat -c %a:%U $RUNTIME/dmiod/control)" 600:dmio-tester
expect_eq "the service is not running yet" "$(user_property ActiveState)" inactive
expect_match "dmioctl --user starts it" "$(as_tester dmioctl --user status --json | jq -r .version)" "[0-9]*"
expect_eq "it is active" "$(user_property ActiveState)" active
expect_match "it tells its state" "$(user_property StatusText)" "?*"
pid=$(user_property MainPID)
expect_eq "nothing of it is root's" "$(inside sh -c "grep -E '^[UG]id:' /proc/$pid/status | tr -s '\t' ' ' | sort")" \
    $'Gid: 4242 4242 4242 4242\nUid: 4242 4242 4242 4242'
expect_eq "it is mounted" "$(mounts_inside $MOUNTED)" 1

# --- work
as_tester truncate -s 1M /home/dmio-tester/a.img /home/dmio-tester/b.img
expect "a client" as_tester dmioctl --user client open alice --pages 16 --linger
expect "an export" as_tester dmioctl --user export create alice/vol /home/dmio-tester/a.img:0+1024 /home/dmio-tester/b.img:8+1024
as_tester dd if=/dev/urandom of=$MOUNTED/alice/vol bs=64k count=8 conv=notrunc,fsync status=none
expect "a write is on both legs" inside cmp -n 524288 /home/dmio-tester/a.img /home/dmio-tester/b.img 0 4096
expect_not "what the user may not open is no device" as_tester dmioctl --user export create alice/shadow /etc/shadow:0+1
expect "and dmioctl says so" grep -q 'Permission denied' "$WORK/expect-not.log"
expect_not "the mount is the user's alone" inside setpriv --reuid=65534 --regid=65534 --clear-groups -- ls $MOUNTED
expect "reload" userctl reload dmiod.service
expect_eq "is done by the same process" "$(user_property MainPID)" "$pid"

# --- SIGKILL and restarts: what is open stays so
install -m 644 "$TEST_LIB/pauses.py" "$SHARED/pauses.py"
as_tester timeout --preserve-status -s TERM 100 \
    python3 /srv/t/pauses.py $MOUNTED/alice/vol 3 >"$WORK/pauses.log" 2>&1 &
reader=$!
is_open() {
    as_tester dmioctl --user export list --json | jq -e '.exports[0].open_count == 1'
}
wait_for 10 is_open
is_back() {
    [ "$(user_property ActiveState)" = active ] && [ "$(user_property MainPID)" != "$pid" ] &&
        [ "$(user_property MainPID)" != 0 ]
}
for ((i = 0; i < 6; i++)); do
    pid=$(user_property MainPID)
    inside kill -9 "$pid"
    wait_for 30 is_back
    pid=$(user_property MainPID)
    expect "restart" userctl restart dmiod.service
    expect "another process" is_back
done
expect "the file is still open" is_open
expect_not "its reader has heard of nothing" process_is_gone $reader
# It alone: of timeout, which has its name in its arguments, the status would be that of a signal.
inside pkill -TERM -U 4242 -f '^python3 .*pauses.py'
wait $reader || { cat "$WORK/pauses.log" && fail "the reader heard of it"; }
ok "pauses: $(cat "$WORK/pauses.log")"
expect_match "it serves" "$(as_tester dmioctl --user status --json | jq -r .mount)" $MOUNTED
expect_eq "mounted once" "$(mounts_inside $MOUNTED)" 1

# --- a stop; a daemon that does nothing but crash
expect "stop" userctl stop dmiod.service
expect_eq "it ended well" "$(user_property Result)" success
expect_eq "nothing is mounted" "$(mounts_inside $MOUNTED)" 0
expect_eq "nothing is kept" "$(user_property NFileDescriptorStore)" 0
has_failed() {
    [ "$(user_property ActiveState)" = failed ]
}
expect "another start" userctl start dmiod.service
as_tester sh -c 'mkdir -p ~/.config/dmiod && echo "[nonsense]" >~/.config/dmiod/dmiod.conf'
inside kill -SEGV "$(user_property MainPID)"
wait_for 30 has_failed
expect_eq "it is given up, and nothing is mounted" "$(mounts_inside $MOUNTED)" 0
expect_eq "who calls is told that nobody answers" "$(user_property ActiveState dmiod.socket)" inactive
as_tester rm /home/dmio-tester/.config/dmiod/dmiod.conf
expect "a start begins anew" userctl start dmiod.service
expect "with what was there" as_tester test -f $MOUNTED/alice/vol
expect "stop" userctl stop dmiod.service dmiod.socket
expect_eq "nothing is mounted" "$(mounts_inside $MOUNTED)" 0

# --- by hand
expect_not "dmioctl without a daemon" as_tester dmioctl --user status
expect "says where it has looked" grep -q "$RUNTIME/dmiod/control" "$WORK/expect-not.log"
expect_not "without XDG_RUNTIME_DIR there is no place" as_tester env -u XDG_RUNTIME_DIR timeout 10 dmiod --user
expect "and it is said so" grep -q XDG_RUNTIME_DIR "$WORK/expect-not.log"

# refused WHAT PATTERN [OPTION...]: it does not start, and names why in a line of its own.
refused() {
    local what=$1 pattern=$2
    shift 2
    expect_not "$what: no start" as_tester timeout 20 dmiod --user "$@"
    cat "$WORK/expect-not.log"
    expect "$what: the log says why" grep -qE "^error: .*$pattern" "$WORK/expect-not.log"
    expect_eq "$what: nothing is mounted" "$(mounts_inside $MOUNTED)" 0
    expect_not "$what: no socket is left" inside test -e $RUNTIME/dmiod/control
}
helper=$(inside sh -c 'command -v fusermount3')
inside install -d -m 755 /srv/roots
refused "a mount point of somebody else" "/srv/roots through fusermount3: see what" --mount=/srv/roots
refused "a mount point that cannot be made" "/srv/roots/new" --mount=/srv/roots/new
inside chmod u-s "$helper"
refused "fusermount3 is not setuid" "fusermount3 is not setuid root"
inside chmod u+s "$helper"
inside chmod 600 /dev/fuse
refused "/dev/fuse is root's" "/dev/fuse"
inside chmod 666 /dev/fuse
inside mv "$helper" "$helper.away"
refused "there is no fusermount3" "fusermount3 is not installed"
inside mv "$helper.away" "$helper"

inside sh -c "setpriv --reuid=4242 --regid=4242 --init-groups -- env HOME=/home/dmio-tester XDG_RUNTIME_DIR=$RUNTIME \
    dmiod --user >/srv/t/user.log 2>&1 & echo \$! >/srv/t/user.pid"
answers() {
    as_tester dmioctl --user status
}
wait_for 20 answers
ok "with all of that in order it starts by hand"
pid=$(cat "$SHARED/user.pid")
inside kill "$pid"
is_gone() {
    ! inside test -d "/proc/$pid"
}
wait_for 20 is_gone
expect_eq "and takes its mount along" "$(mounts_inside $MOUNTED)" 0
expect "stopped" grep -q Stopped "$SHARED/user.log"
expect_clean_journal
