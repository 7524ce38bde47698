#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# counters.sh [KILLS [QUEUES]]: counters of a daemon that is killed while fio works are what fio has done;
# they go on over a restart, over the loss of the memory that they are kept in (as by a reboot), and
# over damage of that or of the file they are saved in, which is said and keeps nobody from starting.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/supervised.sh"
require_root
require_fuse
require_cmd socat jq fio

kills=${1:-8} queues=${2:-2}
a=$(make_image 16M a.img) b=$(make_image 16M b.img)

dmioctl() {
    "$DMIOCTL" --control="$CONTROL" "$@"
}
# What of the counters outlasts a daemon.
counters() {
    dmioctl statistics --json | jq -S 'del(.uptime_us, .pool)'
}
# figure OPERATION: count, errors and bytes of the export's file.
figure() {
    dmioctl statistics --json | jq -r --arg operation "$1" \
        '.exports[0].operations[] | select(.operation == $operation) | "\(.count) \(.errors) \(.bytes)"'
}
is_up() {
    dmioctl status
}
has_written() {
    [ "$(figure write | cut -d' ' -f1)" -gt "$1" ]
}
restart() {
    local pid
    pid=$(dmiod_pid)
    kill -USR1 "$DMIOD_PID"
    wait_for 30 pid_is_another "$pid"
    wait_for 20 is_up
}
kill_now() {
    kill_dmiod
    wait_for 20 is_up
}
log_says() {
    tail -c "+$((log + 1))" "$WORK/dmiod.log" | grep -q "$1"
}
mark_log() {
    log=$(stat -c %s "$WORK/dmiod.log")
}

start_supervised --queues="$queues"
dmioctl client open alice --linger --pages 256 >"$WORK/log"
path=$(dmioctl export create alice/vol "$a:0+16MiB" "$b:0+16MiB")

# --- fio and kill -9
fio --name=load --filename="$path" --rw=randrw --bs=4k-64k --direct=1 --ioengine=libaio --iodepth=32 \
    --size=16M --time_based --runtime=600 --fdatasync=100 --allow_file_create=0 --invalidate=0 \
    --output="$WORK/fio.json" --output-format=json &
fio=$!
defer end_process "$fio"
last=0
for ((i = 0; i < kills; i++)); do
    wait_for 20 has_written "$last"
    sleep "0.$((RANDOM % 20 + 10))"
    last=$(figure write | cut -d' ' -f1)
    kill_now
    now=$(figure write | cut -d' ' -f1)
    [ "$now" -ge "$last" ] || fail "after kill $i there are $now writes, before it there were $last"
done
ok "$kills kills"
kill -INT "$fio"
wait "$fio" || true # 128: by a signal
# It may say so in front of its report.
sed -i '/^{/,$!d' "$WORK/fio.json"
expect_eq "fio has seen no error" "$(jq '.jobs[0].error' "$WORK/fio.json")" 0
expect_eq "reads are what fio has done" "$(figure read)" \
    "$(jq -r '.jobs[0].read | "\(.total_ios) 0 \(.io_bytes)"' "$WORK/fio.json")"
expect_eq "writes as well" "$(figure write)" \
    "$(jq -r '.jobs[0].write | "\(.total_ios) 0 \(.io_bytes)"' "$WORK/fio.json")"

# --- and what else there is to be counted
c=$(make_image 1M c.img)
dmioctl io write alice "$c:0+8" --fill 1 >"$WORK/log"
dmioctl copy alice "$c:0+8" "$c:64+8" >"$WORK/log"
fallocate --punch-hole --offset 0 --length 1M "$path"
counters >"$WORK/before"
expect_eq "all kinds are there" "$(jq -r '[.. | .operation? // empty] | unique | join(" ")' "$WORK/before")" \
    "copy flush read write write_zeroes"

# --- restarts
kill_now
counters >"$WORK/after"
expect "after a kill they are what they were" diff "$WORK/before" "$WORK/after"
restart
counters >"$WORK/after"
expect "after a restart, too" diff "$WORK/before" "$WORK/after"

# --- rates: the daemon that answers is older than the other one was then, but was not there
kill_now
"$DMIOCTL" --control="$CONTROL" top --batch --interval=4 >"$WORK/top" &
top=$!
defer end_process "$top"
wait_for 10 grep -q '^dmiod: up' "$WORK/top"
kill_now
two_frames() {
    [ "$(grep -c '^dmiod: up' "$WORK/top")" -ge "$1" ]
}
wait_for 20 two_frames 2
expect_not "of a time in which the daemon was another one there are no rates" grep -q 'READ/s' "$WORK/top"
wait_for 20 two_frames 3
expect "after that there are" grep -q 'READ/s' "$WORK/top"
expect_not "none of which is negative" grep -q ' -[0-9]' "$WORK/top"
kill "$top"
wait "$top" || true

# --- other numbers of queue threads
expect "stops" stop_supervised
for other in 4 1; do
    start_supervised --queues="$other"
    counters >"$WORK/after"
    expect "a machine that starts again, with $other threads" diff "$WORK/before" "$WORK/after"
    kill_now
    counters >"$WORK/after"
    expect "and a kill after that" diff "$WORK/before" "$WORK/after"
    expect "stops" stop_supervised
done

# --- damage
# damage_memory OFFSET: of what the supervisor keeps.
damage_memory() {
    python3 - "$DMIOD_PID" "$1" <<'END'
import os, sys
folder = f'/proc/{sys.argv[1]}/fd'
found = [fd for fd in os.listdir(folder)
         if os.readlink(os.path.join(folder, fd)).startswith('/memfd:dmiod-counters')]
assert len(found) == 1, found
fd = os.open(os.path.join(folder, found[0]), os.O_RDWR)
os.pwrite(fd, b'\xff' * 4, int(sys.argv[2]))
END
}
blocks=$(python3 -c 'print(4096 + -(-65 * 64 // 4096) * 4096 + 3 * 8 * 64 * 16384)')
start_supervised --queues="$queues"
for at in 0 12 4096 $((blocks + 32)); do
    mark_log
    damage_memory "$at"
    kill_now
    expect "damage at $at is said" log_says "counters that were kept are"
    counters >"$WORK/after"
    expect "and they are the last ones in the state folder" diff "$WORK/before" "$WORK/after"
    kill_now
    counters >"$WORK/after"
    expect "which go on from there" diff "$WORK/before" "$WORK/after"
done
expect "stops" stop_supervised

# shellcheck disable=SC2016 # lines of sed
for damage in 's/"clients"/"cleints"/' '1,$d'; do
    cp "$STATE/counters.json" "$WORK/counters.json"
    sed -i "$damage" "$STATE/counters.json"
    mark_log
    start_supervised --queues="$queues"
    expect "a damaged file ($damage) is said" log_says "Cannot use .*counters.json"
    expect_eq "and counting begins anew" "$(figure write)" ""
    expect "stops" stop_supervised
    cp "$WORK/counters.json" "$STATE/counters.json"
done

# --- what was saved last, before the power went
DMIO_TEST_COUNTERS_USEC=100000 start_supervised --queues="$queues"
counters >"$WORK/after"
expect "the saved ones are still good" diff "$WORK/before" "$WORK/after"
dd if=/dev/zero of="$path" bs=4k count=5 oflag=direct conv=notrunc status=none
counters >"$WORK/before"
is_saved() {
    [ "$(jq '.content.clients[0].exports[0].operations[] | select(.operation == "write").count' \
        "$STATE/counters.json")" = "$(figure write | cut -d' ' -f1)" ]
}
wait_for 20 is_saved
kill -KILL "$DMIOD_PID"
kill -KILL "$(dmiod_pid)"
wait "$DMIOD_PID" || true
umount -l "$MOUNT"
start_supervised --queues="$queues"
counters >"$WORK/after"
expect "what was saved is there" diff "$WORK/before" "$WORK/after"

# --- the end of an export and of a client
dmioctl export remove alice/vol >"$WORK/log"
jq -S '[.clients[] | {exports, calls, jobs}]' "$WORK/before" >"$WORK/client-before"
kill_now
counters | jq -S '[.clients[] | {exports, calls, jobs}]' >"$WORK/after"
expect "the counters of an export that is gone are its client's" diff "$WORK/client-before" "$WORK/after"
dmioctl client close alice >"$WORK/log"
dmioctl client open alice --linger --pages 256 >"$WORK/log"
kill_now
expect_eq "another client of the name begins anew" "$(counters | jq -c '[.clients[] | .exports + .calls + .jobs | length]')" "[0]"
expect "stops" stop_supervised
