#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The state folder when things go wrong: killed at each step of a write, no room, no folder, another
# daemon that has it, a file that is damaged. One of two states is there, and the caller knows which
# if he has been answered.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
STATE=$WORK/state
require_cmd socat jq

a=$(make_image 1M a.img)
steps=(create write-half write sync rename sync-folder done)
clients() {
    ctl_ok ListClients | jq -c '[.clients[] | [.name, .pages, .exports[]]]'
}
# may_fail METHOD [PARAMETERS]: the daemon may die before it answers.
may_fail() {
    ctl "$@" >"$WORK/reply" 2>/dev/null || true
}

start_dmiod
open_client alice 8
create_export alice vol "$a:0+8" >/dev/null
expect "stop" stop_dmiod

# The first write is that of the start, which the daemon must survive to be asked anything.
# case_of WHAT METHOD PARAMETERS AFTER: the change from the clients as they are to AFTER, killed at each step.
case_of() {
    local what=$1 method=$2 parameters=$3 after=$4 before step wanted
    restart_dmiod
    before=$(clients)
    expect "stop" stop_dmiod
    for step in "${steps[@]}"; do
        cp -r "$STATE" "$WORK/state.kept"
        DMIO_TEST_STATE_KILL=$step:2 restart_dmiod
        may_fail "$method" "$parameters"
        dmiod_dies
        expect_not "$what, killed at $step: there is no answer" test -s "$WORK/reply"
        case $step in
        sync-folder | done) wanted=$after ;;
        *) wanted=$before ;;
        esac
        restart_dmiod
        expect_eq "$what, killed at $step: one of two states is there" "$(clients)" "$wanted"
        stop_dmiod
        rm -rf "$STATE"
        mv "$WORK/state.kept" "$STATE"
    done
    restart_dmiod
    ctl_ok "$method" "$parameters" >/dev/null
    kill_dmiod
    restart_dmiod
    expect_eq "$what, answered: is there" "$(clients)" "$after"
    expect "stop" stop_dmiod
}
case_of OpenClient OpenClient '{"name":"bob","pages":4,"linger":true}' '[["alice",8,"vol"],["bob",4]]'
case_of Get Get '{"client":"bob","pages":3}' '[["alice",8,"vol"],["bob",7]]'
case_of Put Put '{"client":"bob","pages":5}' '[["alice",8,"vol"],["bob",2]]'
case_of CreateExport CreateExport "{\"client\":\"bob\",\"name\":\"new\",\"regions\":$(regions "$a:8+8")}" \
    '[["alice",8,"vol"],["bob",2,"new"]]'
case_of RemoveExport RemoveExport '{"client":"bob","name":"new"}' '[["alice",8,"vol"],["bob",2]]'
case_of CloseClient CloseClient '{"name":"bob"}' '[["alice",8,"vol"]]'
for step in "${steps[@]}"; do
    cp "$STATE/state.json" "$WORK/before.json"
    DMIO_TEST_STATE_KILL=$step "$DMIOD" --config="$WORK/dmiod.conf" --mount="$MOUNT" --control="$CONTROL" \
        --state="$STATE" >>"$WORK/dmiod.log" 2>&1 && fail "it was not killed at $step"
    restart_dmiod
    expect_eq "the start, killed at $step: all is there" "$(clients)" '[["alice",8,"vol"]]'
    stop_dmiod
done

# --- what cannot be written is not done, and says so
DMIO_TEST_STATE_FAIL=sync:2:28 restart_dmiod
reserved=$(ctl_ok Status | jq .pool.reserved)
expect_refused "no room: OpenClient" StateError OpenClient '{"name":"bob","pages":4,"linger":true}'
expect_match "the reason is told" "$(jq -r .parameters.reason <<<"$REPLY_JSON")" "*ENOSPC*"
expect_refused "no room: Get" StateError Get '{"client":"alice","pages":4}'
expect_refused "no room: Put" StateError Put '{"client":"alice","pages":4}'
expect_refused "no room: CreateExport" StateError CreateExport \
    "{\"client\":\"alice\",\"name\":\"new\",\"regions\":$(regions "$a:8+8")}"
expect_refused "no room: RemoveExport" StateError RemoveExport '{"client":"alice","name":"vol"}'
expect_refused "no room: by force" StateError RemoveExport '{"client":"alice","name":"vol","force":true}'
expect_refused "no room: CloseClient" StateError CloseClient '{"name":"alice"}'
expect_eq "nothing has changed" "$(clients) $(ctl_ok Status | jq .pool.reserved)" "[[\"alice\",8,\"vol\"]] $reserved"
expect_eq "the export can be opened" "$(head -c 4096 "$MOUNT/alice/vol" | wc -c)" 4096
expect_eq "the sectors are free" "$(ctl OpenClient '{"name":"brief","pages":1}' | jq -r .parameters.client.name)" brief
expect_refused "a name that is not" NoSuchClient CloseClient '{"name":"bob"}'
expect "no descriptor of the image is left over" test "$(find "/proc/$DMIOD_PID/fd" -lname "$a" | wc -l)" -le 2
status=0
stop_dmiod || status=$?
expect_eq "a stop that could not write ends with 1" "$status" 1
restart_dmiod
expect_eq "and nothing is lost" "$(clients)" '[["alice",8,"vol"]]'
expect "stop" stop_dmiod

# --- a real folder without room, and room again
mkdir "$WORK/small"
mount -t tmpfs -o size=64k dmio-test "$WORK/small"
STATE=$WORK/small/state
mkdir "$STATE"
restart_dmiod
open_client alice 8
dd if=/dev/zero of="$WORK/small/filler" bs=4k status=none 2>/dev/null || true
expect_refused "a full disk" StateError OpenClient '{"name":"bob","pages":4,"linger":true}'
rm "$WORK/small/filler"
open_client bob 4
ok "room again"
kill_dmiod
dd if=/dev/zero of="$WORK/small/filler" bs=4k status=none 2>/dev/null || true
restart_dmiod
expect "without room at the start it says so" grep -q "Cannot write to the state folder" "$WORK/dmiod.log"
expect_eq "and the clients are back" "$(clients)" '[["alice",8],["bob",4]]'
expect_refused "nobody can linger" StateError OpenClient '{"name":"carl","pages":4,"linger":true}'
expect_refused "nor end what lasts" StateError CloseClient '{"name":"bob"}'
expect_eq "others can" "$(ctl OpenClient '{"name":"brief","pages":1}' | jq -r .parameters.client.name)" brief
first=$(stat -c %i "$MOUNT/alice")
kill_dmiod
sleep 0.1 # it is the time that tells starts apart which nothing is written of
restart_dmiod
expect_eq "nor are they lost by another start" "$(clients) $(stat -c %i "$MOUNT/alice")" "[[\"alice\",8],[\"bob\",4]] $first"
: >"$WORK/before"
rm "$WORK/small/filler"
written_again() {
    [ "$STATE/state.json" -nt "$WORK/before" ]
}
wait_for 20 written_again
ok "room again: it is found without anybody asking"
open_client dora 4
kill_dmiod
restart_dmiod
expect_eq "and all lasts" "$(clients)" '[["alice",8],["bob",4],["dora",4]]'
expect "one goes" ctl_ok CloseClient '{"name":"dora"}'
expect "stop" stop_dmiod

# --- one that is read-only
mount -o remount,ro "$WORK/small"
restart_dmiod
expect_eq "a read-only folder: the clients are back" "$(clients)" '[["alice",8],["bob",4]]'
expect_refused "a read-only folder: nobody can linger" StateError OpenClient '{"name":"carl","pages":4,"linger":true}'
: >"$WORK/before"
mount -o remount,rw "$WORK/small"
wait_for 20 written_again
ok "a read-only folder: until it can be written"
kill_dmiod
restart_dmiod

# --- two daemons
"$DMIOD" --config="$WORK/dmiod.conf" --mount="$WORK/mnt2" --control="$WORK/control2" --state="$STATE" \
    >"$WORK/second.log" 2>&1 </dev/null &
second=$!
defer end_process $second
second_answers() {
    CONTROL=$WORK/control2 dmiod_answers
}
wait_for 10 second_answers
expect "a second one goes on without the folder" grep -q "Another dmiod has the state folder" "$WORK/second.log"
expect_eq "and has none of its clients" "$(CONTROL=$WORK/control2 clients)" '[]'
(
    CONTROL=$WORK/control2
    expect_refused "nobody can linger there" StateError OpenClient '{"name":"carl","pages":4,"linger":true}'
)
kill -TERM $second
wait_for 10 process_is_gone $second
kill_dmiod
restart_dmiod
expect_eq "its end has taken nothing away" "$(clients)" '[["alice",8],["bob",4]]'
expect "stop" stop_dmiod

# --- folders that cannot be
STATE=$a
restart_dmiod
expect "a file in place of the folder: without" grep -q "Cannot use the state folder $a" "$WORK/dmiod.log"
expect "stop" stop_dmiod
STATE=$a/below
restart_dmiod
expect "a file above it: without" grep -q "Cannot use the state folder $a/below" "$WORK/dmiod.log"
expect "stop" stop_dmiod
STATE=$WORK/some/where
restart_dmiod
open_client alice 8
kill_dmiod
restart_dmiod
expect_eq "folders above it are made" "$(clients)" '[["alice",8]]'
expect "stop" stop_dmiod

# --- damage
STATE=$WORK/small/state
cp "$STATE/state.json" "$WORK/whole.json"
refuses() {
    timeout 10 "$DMIOD" --config="$WORK/dmiod.conf" --mount="$MOUNT" --control="$CONTROL" --state="$STATE"
}
# damaged WHAT REASON [IS]
damaged() {
    local what=$1 reason=$2 is=${3:-is damaged}
    cp "$WORK/damaged.json" "$STATE/state.json"
    expect_not "$what: it does not start" refuses
    expect "$what: it says why" grep -q "$STATE/state.json $is: .*$reason" "$WORK/expect-not.log"
    expect "$what: the file is left as it is" cmp "$WORK/damaged.json" "$STATE/state.json"
    expect_not "$what: nothing is mounted" is_mounted "$MOUNT"
}
head -c 100 "$WORK/whole.json" >"$WORK/damaged.json"
damaged "half a file" "line"
: >"$WORK/damaged.json"
damaged "an empty file" "line"
sed 's/"pages": 8/"pages": 9/' "$WORK/whole.json" >"$WORK/damaged.json"
damaged "a number that has changed" "checksum"
sed 's/"format": 1/"format": 2/' "$WORK/whole.json" >"$WORK/damaged.json"
damaged "a later format" "format 2, and this version of dmiod knows only format 1" "is another version's"
sed 's/"format": 1/"format": 0/' "$WORK/whole.json" >"$WORK/damaged.json"
damaged "one that has never been" "format 0" "is another version's"
cp "$WORK/whole.json" "$STATE/state.json"
restart_dmiod
expect_eq "whole again" "$(clients)" '[["alice",8],["bob",4]]'
expect "stop" stop_dmiod

# --- what a newer version has added within the format
python3 - "$STATE/state.json" <<'END'
import json, sys
def checksum(content):
    total = 0xcbf29ce484222325
    for byte in json.dumps(content, sort_keys=True, separators=(',', ':'), ensure_ascii=False).encode():
        total = (total ^ byte) * 0x100000001b3 % 2 ** 64
    return '%016x' % total
with open(sys.argv[1]) as file:
    document = json.load(file)
assert document['checksum'] == checksum(document['content'])
document['content']['later'] = {'more': [1, 2]}
document['content']['clients'][0]['colour'] = 'red'
document['checksum'] = checksum(document['content'])
with open(sys.argv[1], 'w') as file:
    json.dump(document, file)
END
cp "$STATE/state.json" "$WORK/newer.json"
restart_dmiod
expect_eq "it is taken up as far as it is known" "$(clients)" '[["alice",8],["bob",4]]'
expect "which is said" grep -q "is a newer version's; 2 things that this one does not know are left out" "$WORK/dmiod.log"
expect_not "and is not written any more" grep -E "later|colour" "$STATE/state.json"
expect "stop" stop_dmiod

# --- a start that fails is told to stop: somebody else's mount is there, which is asked for a while
: >"$WORK/dmiod.log"
mkdir -p "$MOUNT"
python3 -c 'import ctypes, os, sys, time
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % os.open("/dev/fuse", os.O_RDWR)
if ctypes.CDLL(None).mount(b"other", sys.argv[1].encode(), b"fuse.dmiod", 0, options) == 0:
    time.sleep(60)' "$MOUNT" &
defer end_process $!
wait_for 10 is_mounted "$MOUNT"
"$DMIOD" --config="$WORK/dmiod.conf" --mount="$MOUNT" --control="$CONTROL" --state="$STATE" >>"$WORK/dmiod.log" 2>&1 &
starting=$!
wait_for 10 grep -q "are back" "$WORK/dmiod.log"
kill -TERM $starting || true
status=0
wait $starting || status=$?
expect_eq "it ends as a start that failed" "$status" 1
umount -l "$MOUNT"
restart_dmiod
expect_eq "nothing is lost" "$(clients)" '[["alice",8],["bob",4]]'
expect "stop" stop_dmiod
