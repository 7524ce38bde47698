#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A device that hangs when the daemon starts: everybody else is served within the limit, and goes on
# being served whatever becomes of the device. Its leg has failed, or waits for the next start if no
# other is good; nobody ever reads what it missed.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq nbdfuse nbdkit python3

LIMIT=4
printf '[daemon]\nrestore-timeout = %d\n' $LIMIT >"$WORK/dmiod.conf"

# A file whose server can be stopped: $LEG, $SERVER, and the bytes in $LEG_IMAGE.
make_server() {
    LEG_IMAGE=$(make_image 4M "$1.img")
    mkdir "$WORK/$1"
    LEG=$WORK/$1/leg
    nbdfuse "$LEG" [ nbdkit --exit-with-parent -f file "$LEG_IMAGE" ] >"$WORK/$1.log" 2>&1 </dev/null &
    SERVER=$!
    defer end_process $SERVER
    defer kill -CONT $SERVER
    wait_for 10 test -f "$LEG"
    # The first close asks whether closing is anything to be asked for; it is not.
    head -c 1 "$LEG" >/dev/null
}
stop_server() {
    kill -STOP "$SERVER"
    wait_for 10 grep -q '^State:[[:space:]]*T' "/proc/$SERVER/status"
}
legs_of() {
    ctl_ok ListExports | jq -c ".exports[] | select(.name == \"$1\").legs | map(.state) | unique"
}
put() {
    printf '%s' "$2" | dd of="$1" conv=notrunc,fsync status=none
}
# threads PID; files PID: those of devices.
threads() {
    find "/proc/$1/task" -mindepth 1 -maxdepth 1 | wc -l
}
files() {
    find "/proc/$1/fd" -mindepth 1 -maxdepth 1 -lname "$WORK/$2" | wc -l
}
has_threads() {
    [ "$(threads "$1")" -le "$2" ]
}
has_files() {
    [ "$(files "$1" "$2")" = "$3" ]
}
# In milliseconds.
now() {
    echo $((${EPOCHREALTIME/./} / 1000))
}
on_failure() {
    tail -n 25 "$WORK/dmiod.log"
}

make_server slow
start_dmiod
open_client alice 256
open_client bob 64
good=$(make_image 4M good.img)
fast=$(make_image 4M fast.img)
create_export alice one "$LEG:0+64" "$good:0+64" >/dev/null
create_export alice none "$LEG:64+64" "$LEG:128+64" >/dev/null
many=()
for ((i = 0; i < 64; i++)); do many+=("$LEG:$((1024 + i * 8))+8"); done
create_export alice many "${many[@]}" >/dev/null
create_export bob fast "$fast:0+64" >/dev/null
for name in alice/one alice/none alice/many bob/fast; do put "$MOUNT/$name" "old $name"; done
kill_dmiod
restart_dmiod
threads_before=$(threads "$DMIOD_PID")
expect_eq "all is back" "$(legs_of one)$(legs_of none)$(legs_of many)$(legs_of fast)" \
    '["active"]["active"]["active"]["active"]'
kill_dmiod
stop_server
begun=$(now)
restart_dmiod
took=$(($(now) - begun))
expect "it serves within the limit, and some ($took ms)" test $took -lt $((LIMIT * 1000 + 3000))
expect "and not before it" test $took -ge $((LIMIT * 1000))
expect_eq "an export on other devices is there" "$(legs_of fast)" '["active"]'
expect_eq "and read" "$(head -c 12 "$MOUNT/bob/fast")" "old bob/fast"
put "$MOUNT/bob/fast" "new bob/fast"
expect_eq "and written" "$(head -c 12 "$fast")" "new bob/fast"
expect_eq "one with another leg goes on with that" \
    "$(ctl_ok ListExports | jq -c '.exports[] | select(.name == "one").legs | map([.state, .last_error])')" \
    '[["failed","ETIMEDOUT"],["active",null]]'
expect "the log tells why" grep -q "Leg 0 of 'alice/one' ($LEG) is not there: it does not answer" "$WORK/dmiod.log"
expect "and that it was waited for" grep -q "Waiting for 67 of 69 devices, for $LIMIT seconds" "$WORK/dmiod.log"
expect_eq "it is read" "$(head -c 13 "$MOUNT/alice/one")" "old alice/one"
put "$MOUNT/alice/one" "new alice/one"
expect_eq "and written" "$(head -c 13 "$good")" "new alice/one"
expect_errno "one without gives EIO" "Input/output error" dd if="$MOUNT/alice/none" of=/dev/null status=none
expect_errno "whatever the number of legs" "Input/output error" dd if="$MOUNT/alice/many" of=/dev/null status=none
expect "each that hangs has a thread" test "$(threads "$DMIOD_PID")" -ge $((threads_before + 67))

# --- the stop does not wait for them
begun=$(now)
expect "it stops in good order" stop_dmiod
took=$(($(now) - begun))
expect "and at once ($took ms)" test $took -lt 5000

# --- and neither does a kill
restart_dmiod
expect_eq "what failed stays so" "$(legs_of one)" '["active","failed"]'
kill_dmiod
restart_dmiod
pid=$DMIOD_PID

# --- the device answers when nobody asks any more
kill -CONT "$SERVER"
wait_for 10 has_threads "$pid" "$threads_before"
ok "the threads end when it answers"
wait_for 10 has_files "$pid" slow/leg 0
ok "and what they have opened is closed"
expect_eq "nothing else happens: the failed leg stays failed" "$(legs_of one)" '["active","failed"]'
expect_eq "those that wait for the next start are as they were" "$(legs_of none) $(legs_of many)" '["failed"] ["failed"]'
expect_eq "the good one is read" "$(head -c 13 "$MOUNT/alice/one")" "new alice/one"
expect_eq "and the stale one is what it was" "$(head -c 13 "$LEG_IMAGE")" "old alice/one"
expect "stop" stop_dmiod
restart_dmiod
expect_eq "the next start has all but the one that missed something" \
    "$(legs_of one)$(legs_of none)$(legs_of many)" '["active","failed"]["active"]["active"]'
expect_eq "with what they have" "$(head -c 14 "$MOUNT/alice/none")$(head -c 14 "$MOUNT/alice/many")" \
    "old alice/noneold alice/many"
expect_eq "which is not read" "$(head -c 13 "$MOUNT/alice/one")" "new alice/one"
expect "stop" stop_dmiod

# --- a signal while it waits is obeyed
printf '[daemon]\nrestore-timeout = 3600\n' >"$WORK/dmiod.conf"
stop_server
"$DMIOD" --config="$WORK/dmiod.conf" --mount="$MOUNT" --control="$CONTROL" --state="$STATE" \
    >>"$WORK/dmiod.log" 2>&1 </dev/null &
DMIOD_PID=$!
# The notice is the second one of these words.
waits() {
    grep -q "Waiting for 66 of 68 devices, for 3600 seconds" "$WORK/dmiod.log"
}
wait_for 20 waits
begun=$(now)
expect "SIGTERM while it waits is no failure" stop_dmiod
took=$(($(now) - begun))
expect "and needs no time ($took ms)" test $took -lt 5000
kill -CONT "$SERVER"
printf '[daemon]\nrestore-timeout = %d\n' $LIMIT >"$WORK/dmiod.conf"
restart_dmiod
expect_eq "nothing was changed by it" "$(legs_of none)$(legs_of many)" '["active"]["active"]'
expect "stop" stop_dmiod

# --- under a supervisor: what is open stays open, and goes on
# shellcheck source=tests/lib/supervised.sh
. "$TEST_LIB/supervised.sh"
start_supervised
create_export alice again "$LEG:256+64" "$good:256+64" >/dev/null
put "$MOUNT/alice/again" "old again"
# By a descriptor, which the supervisor keeps.
"$DMIOCTL" --control="$CONTROL" export create alice/kept "$LEG:320+64" "$good:320+64" >/dev/null
exec 7<>"$MOUNT/alice/again" 8<>"$MOUNT/bob/fast" 9<"$MOUNT/alice/none"
stop_server
kill_dmiod
wait_for $((LIMIT + 15)) dmiod_answers
printf 'by bob' >&8
ok "an open file on other devices goes on"
printf 'by the good leg' | timeout 20 dd bs=512 conv=notrunc oflag=seek_bytes seek=512 status=none >&7
ok "one on a hung leg and a good one goes on as well"
expect_eq "with its good leg" "$(bytes_at "$good" $((256 * 512 + 512)) 15)" "by the good leg"
expect_errno "one without gives EIO" "Input/output error" timeout 20 dd bs=512 count=1 status=none <&9
expect_eq "and so does one whose descriptor was kept" "$(legs_of kept)" '["active","failed"]'
kill_dmiod
wait_for $((LIMIT + 15)) dmiod_answers
ok "the next daemon gives up a descriptor that hangs"
kill -CONT "$SERVER"
pid=$(dmiod_pid)
wait_for 10 has_files "$pid" slow/leg 0
expect_eq "the leg stays failed" "$(legs_of again)$(legs_of kept)" '["active","failed"]["active","failed"]'
kill_dmiod
wait_for 20 dmiod_answers
expect_eq "and after another kill" "$(legs_of again)" '["active","failed"]'
expect_eq "what it missed is not read" "$(bytes_at "$MOUNT/alice/again" 512 15)" "by the good leg"
expect_eq "what waited is back, and is open still" "$(timeout 20 head -c 14 <&9)" "old alice/none"
exec 7>&- 8>&- 9<&-

# --- a write that was on its way to the leg when it began to hang, and the daemon is killed
create_export alice write "$LEG:512+64" "$good:512+64" >/dev/null
put "$MOUNT/alice/write" "old write"
stop_server
dd if=/dev/zero of="$MOUNT/alice/write" bs=4096 count=1 conv=notrunc oflag=direct status=none &
writer=$!
in_flight() {
    ctl_ok ListClients | jq -e '.clients[] | select(.name == "alice").in_flight_pages > 0'
}
wait_for 10 in_flight
kill_dmiod
wait_for $((LIMIT + 15)) dmiod_answers
expect_eq "others are served" "$(timeout 20 head -c 6 "$MOUNT/bob/fast")" "by bob"
expect_eq "the leg has failed" "$(legs_of write)" '["active","failed"]'
kill -CONT "$SERVER"
wait_for 20 process_is_gone $writer
expect "the write is done when the device has let go of it" wait $writer
expect_eq "on the good leg" "$(count_others "$good" $((512 * 512)) 4096 '\0')" 0

# --- a call that was on its way: its bytes are in nobody's memory, so everybody waits for them; who
# is told to stop meanwhile leaves the mount to the next one, who does the same
held=$(make_image 1M held.img)
mkdir "$WORK/held"
"$DMIO_BUILD/tests/holding-file" "$held" "$WORK/hold" "$WORK/held" 2>/dev/null &
defer end_process $!
wait_for 10 test -f "$WORK/held/leg"
exec 7<"$MOUNT/bob/fast"
echo 0 >"$WORK/hold.new"
mv "$WORK/hold.new" "$WORK/hold"
ctl Io "{\"client\":\"alice\",\"op\":\"write\",\"regions\":$(regions "$WORK/held/leg:8+8"),\"memory\":{\"fill\":7}}" \
    >/dev/null &
wait_for 10 test -e "$WORK/hold.4096"
waits_for_calls() {
    [ "$(grep -c 'Waiting for what the daemon before' "$WORK/dmiod.log")" = "$1" ]
}
kill_dmiod
wait_for $((LIMIT + 15)) waits_for_calls 1
pid=$(dmiod_pid)
begun=$(now)
kill -USR1 "$DMIOD_PID"
wait_for 20 pid_is_another "$pid"
took=$(($(now) - begun))
expect "one that waits for a call can be stopped ($took ms)" test $took -lt 5000
wait_for $((LIMIT + 15)) waits_for_calls 2
ok "the next one waits for it as well"
: >"$WORK/hold.free"
rm "$WORK/hold"
wait_for 10 dmiod_answers
expect_eq "and goes on when the device has done it" "$(count_others "$held" 4096 4096 '\7')" 0
expect_eq "with what was open" "$(timeout 20 head -c 6 <&7)" "by bob"
exec 7<&-
expect "stop" stop_supervised
