#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A start for which there are not enough descriptors: it fails, no leg does, and the next one that has
# them has everything. But a file server that has none is its device's trouble, not ours.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq python3 prlimit

N=40
printf '[daemon]\nrestore-timeout = 1\n' >"$WORK/dmiod.conf"
states() {
    ctl_ok ListExports | jq -c '[.exports[].legs[].state] | group_by(.) | map([.[0], length])'
}
on_failure() {
    tail -n 25 "$WORK/dmiod.log"
}

start_dmiod
open_client alice 64
legs=()
for ((i = 0; i < N; i++)); do legs+=("$(make_image 64K "$i.img"):0+64"); done
fds=$(dmiod_fds)
create_export alice vol "${legs[@]}" >/dev/null
printf 'some data' | dd of="$MOUNT/alice/vol" conv=notrunc,fsync status=none
kill_dmiod

# --- fewer than the legs need
expect_not "a start without enough descriptors fails" timeout 20 \
    prlimit --nofile=$((fds + N / 2)):$((fds + N / 2)) "$DMIOD" --config="$WORK/dmiod.conf" \
    --mount="$MOUNT" --control="$CONTROL" --state="$STATE"
expect "says of what there was not enough, and for what" grep -q \
    "Cannot start, because $WORK/[0-9]*.img cannot be opened for want of .* (Too many open files)" \
    "$WORK/expect-not.log"
expect_not "and fails no leg" grep -q 'has failed' "$WORK/expect-not.log"
restart_dmiod
expect_eq "the next one has them all" "$(states)" "[[\"active\",$N]]"

# --- the server of a device has no descriptors
image=$(make_image 64K served.img)
mkdir "$WORK/served"
"$DMIO_BUILD/tests/holding-file" "$image" "$WORK/hold" "$WORK/served" &
defer end_process $!
wait_for 10 test -f "$WORK/served/leg"
create_export alice served "$WORK/served/leg:0+64" "$WORK/0.img:64+64" >/dev/null
kill_dmiod
: >"$WORK/hold.emfile"
restart_dmiod
expect_eq "it is that device which is not there" "$(states)" "[[\"active\",$((N + 1))],[\"failed\",1]]"
# Where the limit comes while it is tried once more, that has no answer.
expect "and the log tells why" grep -qE "\($WORK/served/leg\) is not there: (EMFILE|it does not answer)" "$WORK/dmiod.log"
expect "stop" stop_dmiod

# --- under a supervisor, which tries again until there are enough
# shellcheck source=tests/lib/supervised.sh
. "$TEST_LIB/supervised.sh"
cat >"$WORK/scarce-dmiod" <<END
#!/bin/sh
[ ! -e "$WORK/scarce" ] || ulimit -n $((fds + N / 2))
exec "$DMIOD" "\$@"
END
chmod +x "$WORK/scarce-dmiod"
DMIOD=$WORK/scarce-dmiod start_supervised
exec 7<"$MOUNT/alice/vol"
before=$(wc -l <"$WORK/dmiod.log")
: >"$WORK/scarce"
kill_dmiod
fails_again() {
    [ "$(tail -n +$((before + 1)) "$WORK/dmiod.log" | grep -c 'Cannot start, because')" -ge 2 ]
}
wait_for 30 fails_again
ok "the supervisor tries again"
rm "$WORK/scarce"
wait_for 30 dmiod_answers
expect_eq "and then all legs are there that were" "$(states)" "[[\"active\",$((N + 1))],[\"failed\",1]]"
expect_eq "and the open file is open" "$(timeout 20 head -c 9 <&7)" "some data"
exec 7<&-
expect "stop" stop_supervised
