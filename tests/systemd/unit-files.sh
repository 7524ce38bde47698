#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The unit files: systemd-analyze finds nothing to complain about, and the daemon's sandbox is as
# tight as it was meant to be.
. "$(dirname "$0")/../lib/common.sh"
require_cmd meson systemd-analyze

stage=$WORK/stage
meson install -C "$DMIO_BUILD" --no-rebuild --destdir "$stage" >"$WORK/install.log" 2>&1 ||
    { cat "$WORK/install.log" && fail "meson install"; }
system=$(dirname "$(find "$stage" -path '*/system/dmiod.service')")
user=$(dirname "$(find "$stage" -path '*/user/dmiod.service')")
for file in "$system"/dmiod{.service,.socket,-unmount.service} "$user"/dmiod.{service,socket}; do
    expect "${file#"$stage"} is installed" test -f "$file"
done

# verify wants the programs at their paths: the staged ones stand in for them.
verify() {
    local kind=$1 units=$WORK/units-$1 unit program status=0
    shift
    mkdir "$units"
    for unit; do
        while read -r program; do
            [ -x "$stage$program" ] || [[ $program == /bin/* ]] || fail "${unit##*/} runs $program, which is not installed"
        done < <(sed -n 's/^Exec[A-Za-z]*=[-+!:@]*\([^ ]*\).*/\1/p' "$unit")
        sed -E "s,^(Exec[A-Za-z]*=[-+!:@]*)([^ ]*dmio),\1$stage\2," "$unit" >"$units/${unit##*/}"
    done
    XDG_RUNTIME_DIR=$WORK SYSTEMD_UNIT_PATH=$units: systemd-analyze verify "--$kind" --man=no "$units"/dmiod* >"$WORK/verify.log" 2>&1 ||
        status=$?
    # What it says about other units of this machine is not ours.
    if [ $status != 0 ] || grep -E 'dmiod[-a-z]*\.(service|socket)' "$WORK/verify.log"; then
        cat "$WORK/verify.log"
        fail "systemd-analyze verify --$kind"
    fi
    ok "systemd-analyze verify --$kind"
}
verify system "$system"/dmiod*
verify user "$user"/dmiod*

# --- the sandbox
exposure() {
    systemd-analyze security --offline=yes --no-pager "$1" 2>/dev/null |
        sed -n 's/.*Overall exposure level.*: \([0-9.]*\).*/\1/p'
}
service=$system/dmiod.service
score=$(exposure "$service")
expect_match "the exposure of dmiod.service is known ($score)" "$score" "[0-9]*.[0-9]"
expect "and at most 1.0" systemd-analyze security --offline=yes --threshold=10 --no-pager "$service"
expect "that of dmiod-unmount.service is at most 6.0" \
    systemd-analyze security --offline=yes --threshold=60 --no-pager "$system/dmiod-unmount.service"
# With the right to be an IO flusher, as the unit and dmiod(8) describe it.
drop_in=$(sed -n 's/^#   \(\(Capability\|Ambient\|SystemCallFilter\).*\)/\1/p' "$service")
expect_eq "the drop-in for an IO flusher is the manual's" "$drop_in" \
    "$(grep -E '^(Capability|Ambient|SystemCallFilter).*=.' "$DMIO_SOURCE/docs/man/dmiod.8.scd")"
mkdir "$WORK/flusher"
{ cat "$service" && printf '[Service]\n%s\n' "$drop_in"; } >"$WORK/flusher/dmiod.service"
expect "with it the exposure is at most 1.0, too ($(exposure "$WORK/flusher/dmiod.service"))" \
    systemd-analyze security --offline=yes --threshold=10 --no-pager "$WORK/flusher/dmiod.service"

# What the other settings would be for nothing without.
expect_eq "no capability" "$(grep -E '^(Capability|Ambient)' "$service" | sort)" \
    $'AmbientCapabilities=\nCapabilityBoundingSet='
expect "not as root" grep -q '^User=[a-z]' "$service"
# The service manager would look at them before anybody serves them.
expect_not "no setting names the mount" grep -E '^[A-Za-z]+=.*/run/dmio( |/|:|$)' "$service"
# Who connects is told apart by uid.
expect_not "and none makes one user of all" grep -E '^PrivateUsers=(yes|true|1|self)' "$service"
expect "the watchdog is on" grep -qE '^WatchdogSec=[1-9]' "$service"
expect "it may tell its state" grep -qE '^Type=notify' "$service"
# fusermount3 could not do its work, or nobody would see it.
expect_not "nothing keeps a user's daemon from mounting" \
    grep -E '^(NoNewPrivileges|Protect|Private|Restrict|SystemCall|Lock|MemoryDeny|Dynamic)' "$user/dmiod.service"
