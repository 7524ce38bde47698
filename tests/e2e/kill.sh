#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dmiod is killed again and again while everything goes on: fio that verifies what it wrote, random
# operations against what must come of them, a file system. Nobody hears of an error, files stay
# open, and in the end the legs are equal. Neither the daemon nor what is kept for it grows.
#
#   kill.sh [KILLS [QUEUES]]
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/supervised.sh"
require_root
require_fuse
require_loop
require_cmd socat jq cmp fio mkfs.ext4 fsck.ext4

kills=${1:-10}
queues=${2:-1}
TORTURE=$DMIO_BUILD/tests/torture/torture
seed=$((RANDOM * 32768 + RANDOM))

on_failure() {
    tail -n 20 "$WORK"/*.log
}

start_supervised --queues="$queues"
open_client alice 1024
for name in a b c d e f; do make_image 32M "$name.img" >/dev/null; done
pair=$(create_export alice pair "$WORK/a.img:0+65536" "$WORK/b.img:0+65536")
disk=$(create_export alice disk "$WORK/c.img:0+65536" "$WORK/d.img:0+65536")
# Their blocks begin anywhere, so that edges are read and merged.
odd=$(create_export alice odd "$WORK/e.img:3+16384" "$WORK/f.img:5+16384")
loop=$(make_loop "$disk" 512 --direct-io=on)
mkfs.ext4 -q "$loop"
mkdir "$WORK/fs"
mount "$loop" "$WORK/fs"
# What stays open all the time, and is no business of who works.
exec 7<"$pair" 8<"$MOUNT/alice/.status" 9<"$MOUNT/.status"
read -r first <"$MOUNT/alice/.status" || true
expect_match "a status is text" "$first" "*{*"

open_counts_are() {
    [ "$(ctl_ok ListExports '{"client":"alice"}' |
        jq -r '.exports[] | "\(.name) \(.open_count) \([.legs[].state] | join(" "))"')" = "$1" ]
}

# Who works: each until the folder says stop, as often as it takes.
cat >"$WORK/fs.sh" <<'END'
set -eu
mkdir -p "$1/fs/files"
n=0
until [ -e "$1/stop" ]; do
    n=$((n + 1))
    head -c $((RANDOM * 9)) /dev/urandom >"$1/plain"
    cp "$1/plain" "$1/fs/files/$((n % 8))"
    sync -f "$1/fs/files/$((n % 8))"
    cmp "$1/plain" "$1/fs/files/$((n % 8))"
done
END
cat >"$WORK/torture.sh" <<'END'
set -eu
until [ -e "$1/stop" ]; do
    "$2" --seed="$3" --operations=40 --processes=3 --ways=bds lanes "$4"
    "$2" --seed="$3" --operations=40 --processes=3 --ways=bd overlap "$4"
done
END
cat >"$WORK/fio.sh" <<'END'
set -eu
until [ -e "$1/stop" ]; do
    fio --name=pair --filename="$2" --size=32M --ioengine=io_uring --direct=1 --iodepth=32 \
        --rw=randrw --bsrange=4k-128k --verify=crc32c --verify_state_save=0 --verify_fatal=1 \
        --time_based --runtime=3
done
END
bash "$WORK/fio.sh" "$WORK" "$pair" >"$WORK/fio.log" 2>&1 &
fio=$!
bash "$WORK/fs.sh" "$WORK" >"$WORK/fs.log" 2>&1 &
files=$!
bash "$WORK/torture.sh" "$WORK" "$TORTURE" "$seed" "$odd" >"$WORK/torture.log" 2>&1 &
torture=$!
python3 "$TEST_LIB/pauses.py" "$pair" "$kills" >"$WORK/pauses.log" 2>&1 &
pauses=$!
for pid in $fio $files $torture $pauses; do defer end_process "$pid"; done

works() {
    local pid
    for pid in $fio $files $torture $pauses; do
        [ -d "/proc/$pid" ] || fail "one of those who work has ended"
    done
}

# Of the daemon, with what it has mapped of the files that are kept for it; in KiB.
memory_of() {
    sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$1/status"
}
mounts_here() {
    grep -c " $WORK/" /proc/self/mountinfo
}

# A while of work, of different lengths: killed in the middle of whatever is going on.
sleep 0.5
for ((i = 0; i < kills; i++)); do
    sleep "0.$((RANDOM % 4 + 2))"
    works
    case $((i % 5)) in
    1) # requests pile up before it dies
        kill -STOP "$(dmiod_pid)"
        sleep 0.1
        kill_dmiod
        ;;
    2) kill_dmiod ABRT ;; # as a watchdog does
    3) # in good order, as for an upgrade
        pid=$(dmiod_pid)
        kill -USR1 "$DMIOD_PID"
        wait_for 40 pid_is_another "$pid"
        ;;
    *) kill_dmiod ;;
    esac
    wait_for 20 dmiod_answers
    if [ "$i" = 2 ]; then
        DMIOD=$(dmiod_pid)
        fds=$(find "/proc/$DMIOD/fd" -mindepth 1 -maxdepth 1 | wc -l)
        kept=$(find "/proc/$DMIOD_PID/fd" -mindepth 1 -maxdepth 1 | wc -l)
        memory=$(memory_of "$DMIOD")
        mounts=$(mounts_here)
    fi
done
kill -TERM $pauses
wait $pauses || fail "who read had an error"
: >"$WORK/stop"
wait $fio || fail "fio had an error"
ok "fio has read what it wrote"
wait $files || fail "the file system had an error"
ok "the files on the file system are right"
wait $torture || fail "the torture found something (seed $seed)"
ok "the torture found nothing"
ok "after $kills kills; pauses: $(cat "$WORK/pauses.log")"

wait_for 10 open_counts_are "pair 1 active active
disk 1 active active
odd 0 active active"
ok "as many files are open as there are, and no leg has failed"
expect "a file that was open all the time is read" cat <&7
expect "and a status" jq -e '.name == "alice" or .client.name == "alice"' <&8
expect "and that of the daemon" jq -e . <&9
exec 7<&- 8<&- 9<&-

# A kill more, so that what is counted is counted after the same.
kill_dmiod
wait_for 20 dmiod_answers
now=$(dmiod_pid)
no_more_than() { [ "$1" -le "$2" ]; }
expect "the daemon has no more descriptors than before" no_more_than \
    "$(find "/proc/$now/fd" -mindepth 1 -maxdepth 1 | wc -l)" "$((fds + 2))"
expect "and no more are kept for it" no_more_than \
    "$(find "/proc/$DMIOD_PID/fd" -mindepth 1 -maxdepth 1 | wc -l)" "$((kept + 2))"

if has_shadow_memory "$DMIO_BUILD/daemon/dmiod"; then
    skip_case "memory: with a sanitizer it says nothing"
else
    expect "nor does it take more memory ($memory KiB then, $(memory_of "$now") now)" no_more_than \
        "$(memory_of "$now")" $((memory + 8192))
fi
expect_eq "there are as many mounts" "$(mounts_here)" "$mounts"

expect "umount" umount "$WORK/fs"
wait_for 20 loop_is_idle "$loop"
expect "fsck" fsck.ext4 -f -n "$loop"
number=$(loop_number "$loop")
end_loop "$loop" "$number"
wait_for 10 loop_is_gone "$loop" "$number"
wait_for 10 open_counts_are "pair 0 active active
disk 0 active active
odd 0 active active"
ok "nothing is open in the end"
expect "the legs of one export are equal" cmp "$WORK/a.img" "$WORK/b.img"
expect "and of the file system" cmp "$WORK/c.img" "$WORK/d.img"
expect "and of the torture" cmp -n 8388608 "$WORK/e.img" "$WORK/f.img" 1536 2560
expect "it stops" stop_supervised
expect_not "and the mount is gone" is_mounted "$MOUNT"
