#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The daemon's own life: command line, configuration, a second one beside it, stale sockets and
# mounts, SIGHUP, and a stop that flushes, unmounts and leaves nothing behind.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq

# --- the command line
expect_match "--version" "$("$DMIOD" --version)" "dmiod [0-9]*.[0-9]*"
expect_match "--help" "$("$DMIOD" --help)" "*--mount*--control*--state*--max-pages*"
for arguments in --nothing "extra" "--queues=x" "--queues=99999" "--backend=punchcards" "--log-level=loud" \
    "--max-pages=-1" "--m=$MOUNT" "--config=" "--user=x" "-u"; do
    # shellcheck disable=SC2086 # words
    expect_not "\"$arguments\" is refused" timeout 10 "$DMIOD" $arguments --config=/dev/null \
        --mount="$MOUNT" --control="$CONTROL" --state="$STATE"
done
expect_not "an option without its value is refused" timeout 10 "$DMIOD" --config=/dev/null --mount
expect_eq "an abbreviation that is unique" "$("$DMIOD" --vers)" "$("$DMIOD" --version)"
full() {
    "$DMIOD" "$1" >/dev/full
}
expect_not "--help that cannot be written" full --help
expect "is an error with a word" grep -q "No space left" "$WORK/expect-not.log"
expect_not "a configuration that is not there" timeout 10 "$DMIOD" --config="$WORK/none" --mount="$MOUNT" \
    --control="$CONTROL" --state="$STATE"
expect_not "a socket below the mount" timeout 10 "$DMIOD" --config=/dev/null --mount="$MOUNT" \
    --control="$MOUNT/control" --state="$STATE"
expect "is named" grep -q "control cannot be below the mount" "$WORK/expect-not.log"
for text in '[nonsense]' 'mount' $'[daemon]\ncolour = red' $'[limits]\nclients-per-uid = many' \
    $'[device x]\nusers = 1'; do
    printf '%s\n' "$text" >"$WORK/wrong.conf"
    expect_not "\"${text//$'\n'/ }\" is refused" timeout 10 "$DMIOD" --config="$WORK/wrong.conf" \
        --mount="$MOUNT" --control="$CONTROL" --state="$STATE"
    expect "the message names the file and the line" grep -q "wrong.conf:[0-9]" "$WORK/expect-not.log"
done
expect_not "nothing was mounted" is_mounted "$MOUNT"

# --- one daemon, and only one
start_dmiod
expect "it is mounted" is_mounted "$MOUNT"
expect_eq "Status says where" "$(ctl_ok Status | jq -r .mount)" "$MOUNT"
expect_match "and which version" "dmiod $(ctl_ok Status | jq -r .version)" "$("$DMIOD" --version)"
expect_not "a second one on the same socket" timeout 10 "$DMIOD" --config=/dev/null \
    --mount="$WORK/mnt2" --control="$CONTROL" --state="$WORK/state2"
expect_not "has not mounted" is_mounted "$WORK/mnt2"
expect_not "a second one on the same mount" timeout 10 "$DMIOD" --config=/dev/null \
    --mount="$MOUNT" --control="$WORK/control2" --state="$WORK/state2"
expect_eq "there is one mount" "$(grep -c " $MOUNT " /proc/self/mountinfo)" 1
expect "the first one is as it was" dmiod_answers
expect "and so is its mount" test -f "$MOUNT/.status"

# --- the folder of the socket is made, and everybody can connect
"$DMIOD" --config=/dev/null --mount="$WORK/mnt-new" --control="$WORK/new/control" \
    --state="$WORK/state-new" >"$WORK/new.log" 2>&1 &
pid=$!
defer end_process $pid
answers_nobody() {
    as_nobody socat -t20 - "UNIX-CONNECT:$WORK/new/control" <<<'{"method":"io.dmiod.Status"}' |
        jq -e .parameters
}
wait_for 10 answers_nobody
ok "another user can connect to a socket in a new folder"
kill $pid
wait_for 10 process_is_gone $pid

# --- a back-end that is named is the one that is used, or the daemon says that it has none of that name
for backend in uring threads memory; do
    "$DMIOD" --config=/dev/null --backend=$backend --mount="$WORK/mnt-$backend" \
        --control="$WORK/control-$backend" --state="$WORK/state-$backend" >"$WORK/backend.log" 2>&1 &
    pid=$!
    defer end_process $pid
    up_or_gone() {
        process_is_gone $pid || [ -S "$WORK/control-$backend" ]
    }
    wait_for 10 up_or_gone
    if process_is_gone $pid; then
        expect "--backend=$backend is refused with its name" grep -q "$backend" "$WORK/backend.log"
    else
        expect_eq "--backend=$backend is what Status says" \
            "$(CONTROL=$WORK/control-$backend ctl_ok Status | jq -r .backend)" $backend
        kill $pid
        wait_for 10 process_is_gone $pid
    fi
done

# --- where io_uring is denied there are threads
denied=("$DMIO_BUILD/tests/without-uring" "$DMIOD" --config=/dev/null --mount="$WORK/mnt-denied"
    --control="$WORK/control-denied" --state="$WORK/state-denied")
expect_not "--backend=uring is refused where it is denied" timeout 10 "${denied[@]}" --backend=uring
"${denied[@]}" >"$WORK/denied.log" 2>&1 &
pid=$!
defer end_process $pid
denied_answers() {
    process_is_gone $pid || [ -S "$WORK/control-denied" ]
}
wait_for 10 denied_answers
expect_eq "without io_uring there are threads" \
    "$(CONTROL=$WORK/control-denied ctl_ok Status | jq -r .backend)" threads
expect "and the log says so" grep -q "back-end threads" "$WORK/denied.log"
kill $pid
wait_for 10 process_is_gone $pid

# --- SIGHUP
a=$(make_image 1M a.img)
cat >"$WORK/dmiod.conf" <<END
[device disk]
path = $a
users = 65534
END
reloaded() {
    grep -qi "$1" "$WORK/dmiod.log"
}
kill -HUP "$DMIOD_PID"
works() {
    jq -e 'has("error") | not' <<<"$(ctl CreateExport \
        "{\"client\":\"alice\",\"name\":\"vol\",\"regions\":$(regions disk:0+1024)}")"
}
open_client alice 16
wait_for 10 works
ok "SIGHUP takes up a new device"
echo '[device disk' >"$WORK/dmiod.conf"
kill -HUP "$DMIOD_PID"
wait_for 10 reloaded 'dmiod.conf:1'
expect "a wrong file changes nothing" dmiod_answers
expect "not even in part" \
    test "$(ctl Io "{\"client\":\"alice\",\"op\":\"read\",\"regions\":$(regions disk:1024+8)}" | jq -r .parameters.error_bits)" = 0x0
: >"$WORK/dmiod.conf"

# --- stop
head -c 524288 /dev/urandom >"$WORK/data"
dd if="$WORK/data" of="$MOUNT/alice/vol" bs=64k conv=notrunc status=none
exec 7<>"$MOUNT/alice/vol"
children=$(pgrep -P "$DMIOD_PID" || true)
expect "SIGTERM stops it, though a file is open" stop_dmiod
exec 7>&-
expect "with the data on the image" cmp -n 524288 "$WORK/data" "$a"
expect_not "unmounted" is_mounted "$MOUNT"
expect_not "the socket is gone" test -e "$CONTROL"
for child in $children; do expect "no process is left" process_is_gone "$child"; done

# --- nobody holds up the stop by reading his answer slowly
start_dmiod
cat >"$WORK/slow-reader.py" <<'END'
import sys
import time
from client import Connection, region
with Connection() as c:
    c.call('OpenClient', {'name': 'slow', 'pages': 0})
    c.send('Io', {'client': 'slow', 'op': 'read', 'regions': [region(sys.argv[1], 0, 1200)]})
    c.socket.recv(4096)
    print('reading', flush=True)
    while c.socket.recv(4096):
        time.sleep(0.2)
END
DMIO_CONTROL=$CONTROL PYTHONPATH=$(dirname "$0")/../lib python3 "$WORK/slow-reader.py" "$a" \
    >"$WORK/slow-reader.log" 2>&1 &
reader=$!
defer end_process $reader
wait_for 10 grep -q reading "$WORK/slow-reader.log"
kill "$DMIOD_PID"
wait_for 8 process_is_gone "$DMIOD_PID"
expect "a slow reader does not keep it from ending with 0" wait "$DMIOD_PID"

# --- and again, over what a killed one leaves
start_dmiod
ok "it starts again"
kill -9 "$DMIOD_PID"
wait_for 10 process_is_gone "$DMIOD_PID"
expect "a killed one leaves its socket" test -S "$CONTROL"
expect "and its mount" is_mounted "$MOUNT"
start_dmiod
expect "which the next one replaces" test -f "$MOUNT/.status"
expect_eq "there is one mount" "$(grep -c " $MOUNT " /proc/self/mountinfo)" 1
# As timeout(1) asks, which signals the process and its group.
kill -STOP "$DMIOD_PID"
kill -INT "$DMIOD_PID"
kill -TERM "$DMIOD_PID"
kill -CONT "$DMIOD_PID"
wait_for 10 process_is_gone "$DMIOD_PID"
expect_not "SIGINT is a stop, too" is_mounted "$MOUNT"
expect "with a second signal at once it is the same stop" wait "$DMIOD_PID"

# --- what a killed one had is not let go at once: the kernel takes its rings apart when it has gone
start_dmiod
cat >"$WORK/holder.py" <<'END'
import ctypes
import os
import sys
import time
pid = int(sys.argv[1])
pidfd = os.pidfd_open(pid)
fds = [int(fd) for fd in os.listdir('/proc/%d/fd' % pid) if os.readlink('/proc/%d/fd/%s' % (pid, fd)) == '/dev/fuse']
held = [ctypes.CDLL(None).syscall(438, pidfd, fd, 0) for fd in fds]  # pidfd_getfd
print('held' if held and min(held) >= 0 else 'cannot', flush=True)
sys.stdin.readline()
time.sleep(0.5)
END
mkfifo "$WORK/let-go"
python3 "$WORK/holder.py" "$DMIOD_PID" <"$WORK/let-go" >"$WORK/holder.log" 2>&1 &
defer end_process $!
exec 8>"$WORK/let-go"
wait_for 10 grep -q held "$WORK/holder.log"
kill_dmiod
expect_errno "the next one does not take a mount that somebody keeps" "somebody who does not answer keeps it" \
    timeout 20 "$DMIOD" --config=/dev/null --mount="$MOUNT" --control="$WORK/control2" --state="$WORK/state2"
echo >&8
start_dmiod
expect "it has waited until nobody does" test -f "$MOUNT/.status"
exec 8>&-
stop_dmiod

# --- its mount taken away
start_dmiod
umount -l "$MOUNT"
gone_or_alone() {
    process_is_gone "$DMIOD_PID" || dmiod_answers
}
wait_for 10 gone_or_alone
ok "without its mount it does not hang"
