#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dmioctl top: on a terminal, which it leaves as it was; in a pipe; with a daemon that goes away and
# comes back, and with one that does not answer.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq python3

ENTER=$'\e[?1049h\e[?25l' LEAVE=$'\e[?25h\e[?1049l'
dmioctl() {
    "$DMIOCTL" --control="$CONTROL" "$@"
}

# start_top COLUMNS ARGUMENT...: on a terminal of 12 rows; what it draws goes to $WORK/screen.
start_top() {
    local columns=$1
    shift
    rm -f "$WORK/screen" "$WORK/top.pid"
    python3 "$TEST_LIB/on-terminal.py" 12 "$columns" "$WORK/screen" "$WORK/top.pid" \
        "$DMIOCTL" --control="$CONTROL" top "$@" &
    TERMINAL=$!
    defer end_process $TERMINAL
    wait_for 10 test -s "$WORK/top.pid"
    TOP=$(cat "$WORK/top.pid")
    defer end_process "$TOP"
}
shows() {
    grep -qaF -- "$1" "$WORK/screen"
}
count() {
    { grep -aoF -- "$1" "$WORK/screen" || true; } | wc -l
}
more_than() {
    [ "$(count "$1")" -gt "$2" ]
}
is_stopped() {
    grep -q '^State:[[:space:]]*T' "/proc/$TOP/status"
}
end_top() {
    local status=0
    kill "-$1" "$TOP"
    wait $TERMINAL || status=$?
    expect_eq "it ends in good order by $1" $status 0
}

start_dmiod
open_client alice 64
path=$(create_export alice vol "$(make_image 1M):0+2048")

# --- one table
dmioctl top --once --interval=100ms >"$WORK/once"
expect "--once tells of the client" grep -q '^alice ' "$WORK/once"
expect "of its export" grep -q '^  vol ' "$WORK/once"
expect "of the leg and its state" grep -q '^    0: /.* active ' "$WORK/once"
expect "of the pool" grep -q '^pool: 256 KiB reserved of ' "$WORK/once"
expect_not "and has no escapes" grep -q $'\e' "$WORK/once"
expect "--json is the last sample" jq -e '.clients[0].client.name == "alice"' \
    <<<"$(dmioctl top --once --interval=100ms --json | tail -n 1)"
for usage in --interval=5ms --interval=2h --json extra; do
    status=0
    dmioctl top $usage >"$WORK/out" 2>"$WORK/err" || status=$?
    expect_eq "usage: $usage" $status 2
    expect "it points at the help" grep -q -- --help "$WORK/err"
done

# Writes that go on between the samples.
dmioctl top --once --interval=1 >"$WORK/once" &
once=$!
while ! process_is_gone $once; do
    dd if=/dev/zero of="$path" bs=4k count=32 conv=notrunc oflag=direct status=none
done
wait $once
expect "a rate" awk '$1 == "vol" { found = $6 > 0 && $7 >= 0 } END { exit !found }' "$WORK/once"

# --- in a pipe
"$DMIOCTL" --control="$CONTROL" top --interval=100ms >"$WORK/screen" 2>"$WORK/err" &
TOP=$!
wait_for 10 more_than "dmiod: up" 2
expect_not "no escapes" grep -q $'\e' "$WORK/screen"
kill -INT $TOP
expect "it ends in good order" wait $TOP
(dmioctl top --interval=100ms || true) | head -n 3 >"$WORK/out"
expect_eq "it ends with who reads" "$(wc -l <"$WORK/out")" 3

# --- on a terminal
start_top 60 --interval=100ms
wait_for 10 more_than "dmiod: up" 2
expect "it takes the screen" shows "$ENTER"
expect_eq "once" "$(count "$ENTER")" 1
expect_eq "no line is longer than there is room" \
    "$(sed 's/\x1b\[[?0-9]*[A-Za-z]//g' "$WORK/screen" | tr -d '\r' |
        awk 'length > 60 { n++ } END { print n + 0 }')" 0
kill -TSTP "$TOP"
wait_for 10 is_stopped
wait_for 10 shows "$LEAVE"
ok "a stop gives it back"
kill -CONT "$TOP"
wait_for 10 more_than "$ENTER" 1
drawn=$(count "dmiod: up")
wait_for 10 more_than "dmiod: up" "$drawn"
ok "and it goes on afterwards"
expect "the daemon goes" stop_dmiod
wait_for 10 shows "no daemon at"
expect "top does not" test -d "/proc/$TOP"
start_dmiod
drawn=$(count "clients 0, exports 0")
wait_for 10 more_than "clients 0, exports 0" "$drawn"
ok "it is there again, and so is the table"
end_top INT
expect_eq "the screen is given back" "$(count "$LEAVE")" 2

# --- a daemon that does not answer
start_top 80 --interval=100ms
wait_for 10 shows "ERR/s"
ok "80 columns have room for errors"
expect_not "and not for all" shows "REST/s"
wait_for 10 more_than "dmiod: up" 1
kill -STOP "$DMIOD_PID"
drawn=$(count "dmiod: up")
end_top TERM
kill -CONT "$DMIOD_PID"
expect_eq "the screen is given back" "$(count "$LEAVE")" 1

# --- in a pipe a daemon that goes is told of once
"$DMIOCTL" --control="$CONTROL" top --batch --interval=100ms >"$WORK/screen" 2>"$WORK/err" &
TOP=$!
wait_for 10 more_than "dmiod: up" 0
expect "the daemon stops" stop_dmiod
wait_for 10 test -s "$WORK/err"
start_dmiod
drawn=$(count "dmiod: up")
wait_for 10 more_than "dmiod: up" "$drawn"
kill -TERM $TOP
expect "it ends in good order" wait $TOP
expect_eq "it was said once" "$(grep -c "no daemon at" "$WORK/err")" 1
expect "the daemon stops" stop_dmiod
