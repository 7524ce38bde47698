#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# One build of dmiod takes over from another, by a restart in good order and after a kill, forwards and
# backwards, while fio writes and verifies: it hears of nothing, and what is open stays open.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/supervised.sh"
require_root
require_fuse
require_cmd socat jq cmp fio python3

on_failure() {
    tail -n 20 "$WORK"/*.log
}

# The program that is started, as if a package put another one in its place.
install_build() {
    ln -s "$1" "$WORK/program.new"
    mv "$WORK/program.new" "$WORK/program"
}
this=$DMIO_BUILD/daemon/dmiod
other=$DMIO_BUILD/tests/dmiod-other
version_of() {
    "$1" --version | sed 's/^dmiod //'
}
expect_not "they are two builds" [ "$(version_of "$this")" = "$(version_of "$other")" ]
install_build "$this"
DMIOD=$WORK/program
start_supervised
open_client alice 512
for name in a b c; do make_image 16M "$name.img" >/dev/null; done
pair=$(create_export alice pair "$WORK/a.img:0+32768" "$WORK/b.img:0+32768")
quiet=$(create_export alice quiet "$WORK/c.img:0+32768")

# Files that are open, with free numbers among theirs.
python3 - "$quiet" "$WORK" <<'END' >"$WORK/files.log" 2>&1 &
import os, sys, time
path, work = sys.argv[1:]
fds = [os.open(path, os.O_RDWR if i % 2 else os.O_RDONLY) for i in range(500)]
for fd in fds[100:200]:
    os.close(fd)  # numbers of theirs are free
fds = fds[:100] + fds[200:]
for i, fd in enumerate(fds):
    if i % 2:
        os.pwrite(fd, b'%08d' % i, 4096 * i)
open(work + '/files-open', 'w').close()
while not os.path.exists(work + '/stop'):
    for i, fd in enumerate(fds):
        wanted = b'%08d' % i if i % 2 else bytes(8)
        if os.pread(fd, 8, 4096 * i) != wanted:
            sys.exit('file %d has not got what was written' % i)
    time.sleep(0.01)
for i, fd in enumerate(fds):
    if i % 2:
        os.pwrite(fd, b'last%04d' % i, 4096 * i)
        os.fsync(fd)
    os.close(fd)
END
files=$!
cat >"$WORK/fio.sh" <<'END'
set -eu
until [ -e "$1/stop" ]; do
    fio --name=pair --filename="$2" --size=16M --ioengine=io_uring --direct=1 --iodepth=32 \
        --rw=randrw --bsrange=4k-64k --verify=crc32c --verify_state_save=0 --verify_fatal=1 \
        --time_based --runtime=2
done
END
bash "$WORK/fio.sh" "$WORK" "$pair" >"$WORK/fio.log" 2>&1 &
fio=$!
for pid in $files $fio; do defer end_process "$pid"; done
wait_for 20 test -e "$WORK/files-open"
exec 7<"$MOUNT/alice/.status"

step() {
    local how=$1 build=$2 pid
    sleep "0.$((RANDOM % 3 + 1))"
    install_build "$build"
    pid=$(dmiod_pid)
    case $how in
    restart) kill -USR1 "$DMIOD_PID" ;;
    kill) kill -KILL "$pid" ;;
    # With as much as there can be under way.
    full)
        kill -STOP "$pid"
        sleep 0.1
        kill -KILL "$pid"
        ;;
    esac
    wait_for 40 pid_is_another "$pid"
    wait_for 20 dmiod_answers
    expect_eq "$how: the build that serves" "$(ctl_ok Status | jq -r .version)" "$(version_of "$build")"
    for pid in $files $fio; do
        ! process_is_gone "$pid" || fail "one of those who work has ended"
    done
}

step restart "$other" # as an upgrade
step restart "$other" # it takes up its own
step kill "$other"
step kill "$this" # replaced on the disk meanwhile
step full "$other"
step restart "$this" # and back
step full "$this"
step full "$other"
step kill "$this"
step kill "$other"
step restart "$other"

expect "one build has taken over from the other" grep -q "was another build, whose open files" "$WORK/dmiod.log"
expect_eq "as often as that was so" "$(grep -c 'was another build' "$WORK/dmiod.log")" 7
expect_not "nothing has been lost" grep -E "lost|damaged|cannot take up|promised" "$WORK/dmiod.log"
expect_eq "each has taken up the mount" "$(grep -c 'Taking up the mount' "$WORK/dmiod.log")" 11
: >"$WORK/stop"
wait $fio || fail "fio had an error"
ok "fio has read what it wrote"
wait $files || fail "an open file had an error"
ok "open files could be read and written"
expect "a status that was open all the time" jq -e . <&7
exec 7<&-
files_are_closed() {
    [ "$(ctl_ok ListExports '{"client":"alice"}' | jq -c '[.exports[].open_count]')" = "[0,0]" ]
}
wait_for 10 files_are_closed
ok "every close has been heard"
expect_eq "what was written last" "$(dd if="$WORK/c.img" bs=4096 skip=399 count=1 status=none | head -c 8)" last0399
expect "the legs are equal" cmp "$WORK/a.img" "$WORK/b.img"
kept=$(find "/proc/$DMIOD_PID/fd" -mindepth 1 -maxdepth 1 -lname '/memfd:dmiod-state*' | wc -l)
expect_eq "one piece of memory is kept" "$kept" 1
expect "it stops" stop_supervised
