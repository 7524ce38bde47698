#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Another build of dmiod and of the library is put in the place of those that run, under a real systemd,
# while fio writes and verifies: systemctl restart goes to the new one and back, and so does a kill of a
# daemon whose program has been replaced. Of a build that does not start nobody hears more than a pause,
# if it is mended in time.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/systemd.sh"
require_cmd fio python3
boot_systemd

cp "$DMIO_BUILD/tests/dmiod-other" "$SHARED/other"
program=$(inside sh -c 'command -v dmiod')
library=$(find "$WORK/stage" -name 'libdmio.so.1.*' -type f)
library=${library#"$WORK/stage"}
inside cp "$program" /srv/t/this
inside cp "$library" /srv/t/library
printf '#!/bin/sh\nexit 1\n' >"$SHARED/broken"
chmod 755 "$SHARED"/{this,other,broken}
# As dpkg does it.
replace() {
    inside sh -c 'cp "$1" "$2.new" && mv "$2.new" "$2"' - "$1" "$2"
}
version_of() {
    inside "$1" --version | sed 's/^dmiod //'
}
this=$(version_of /srv/t/this)
other=$(version_of /srv/t/other)
expect_not "they are two builds" [ "$this" = "$other" ]

drop_in upgrade "RestartSec=200ms\n[Unit]\nStartLimitIntervalSec=0\n"
inside systemctl start dmiod.socket dmiod.service
truncate -s 32M "$SHARED/a.img" "$SHARED/b.img"
chmod 600 "$SHARED"/*.img
expect "a client" inside dmioctl client open alice --pages 512 --linger
expect "an export" inside dmioctl export create alice/vol /srv/t/a.img:0+65536 /srv/t/b.img:0+65536
cat >"$SHARED/fio.sh" <<'END'
until [ -e /srv/t/stop ]; do
    fio --name=vol --filename="$1" --size=32M --ioengine=psync --numjobs=1 --direct=1 --rw=randrw \
        --bsrange=4k-128k --verify=crc32c --verify_state_save=0 --verify_fatal=1 --time_based --runtime=3 || exit 1
done
END
INSIDE_LIMIT=240 inside sh /srv/t/fio.sh $MOUNT_INSIDE/alice/vol >"$WORK/fio.log" 2>&1 &
fio=$!
# Somebody who has it open from the beginning to the end, and reads it then.
INSIDE_LIMIT=240 inside sh -c 'exec 7<"$1"; : >/srv/t/holds; until [ -e /srv/t/read ]; do sleep 0.1; done; exec head -c 4096 <&7' - \
    $MOUNT_INSIDE/alice/vol >"$WORK/held" 2>"$WORK/hold.log" &
holder=$!
wait_for 20 test -e "$SHARED/holds"

is_another() {
    local pid
    pid=$(property MainPID)
    [ "$pid" != 0 ] && [ "$pid" != "$1" ] && is_active
}
# serves WHAT VERSION
serves() {
    expect_eq "$1: the build that serves" "$(call Status | jq -r .parameters.version)" "$2"
    ! process_is_gone $fio || { cat "$WORK/fio.log" && fail "fio has heard of it"; }
    expect_eq "$1: there is one mount" "$(mounts_inside)" 1
}
kill_it() {
    local pid
    pid=$(property MainPID)
    inside kill -9 "$pid"
    wait_for 30 is_another "$pid"
}

serves "before" "$this"
# Replaced, the program and the library; whoever is killed before the restart comes back as the new one.
replace /srv/t/other "$program"
replace /srv/t/library "$library"
serves "replaced on the disk" "$this"
inside systemctl restart dmiod.service
serves "restarted" "$other"
kill_it
serves "killed" "$other"
inside systemctl daemon-reexec
replace /srv/t/this "$program"
kill_it
serves "killed, and replaced before" "$this"
inside systemctl restart dmiod.service
serves "restarted as the same" "$this"
replace /srv/t/other "$program"
kill_it
serves "killed, and replaced again" "$other"

# One that cannot be started.
replace /srv/t/broken "$program"
pid=$(property MainPID)
expect_not "a build that does not start" inside systemctl restart dmiod.service
expect_eq "the mount stays" "$(mounts_inside)" 1
replace /srv/t/this "$program"
wait_for 30 is_another "$pid"
serves "mended" "$this"

: >"$SHARED/stop"
wait $fio || { cat "$WORK/fio.log" && fail "fio has heard of it"; }
ok "fio has read what it wrote"
: >"$SHARED/read"
wait $holder || { cat "$WORK/hold.log" && fail "a file that was open cannot be read"; }
expect "what was open all the time is what is there" cmp -n 4096 "$WORK/held" "$SHARED/a.img"
expect "the legs are equal" cmp "$SHARED/a.img" "$SHARED/b.img"
expect_eq "so often another build has taken over" "$(journal | grep -c 'was another build')" 4
expect_not "nothing was lost" sh -c 'echo "$1" | grep -E "are lost|damaged|cannot take up|promised"' - "$(journal)"
expect "it stops" inside systemctl stop dmiod.socket dmiod.service
expect_eq "and nothing is mounted" "$(mounts_inside)" 0
expect_eq "nor kept" "$(property NFileDescriptorStore)" 0
expect_clean_journal
