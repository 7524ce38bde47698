#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The service under a real systemd, in namespaces of its own: readiness and status, a mount that
# everybody sees, work through it, reload, socket activation, restart, stop.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd meson tar unshare nsenter pivot_root socat jq
[ -x /lib/systemd/systemd ] || skip "needs systemd"

stage=$WORK/stage
meson install -C "$DMIO_BUILD" --no-rebuild --destdir "$stage" >"$WORK/install.log" 2>&1 ||
    { cat "$WORK/install.log" && fail "meson install"; }
# The library is found as if ldconfig had run, whatever the prefix is.
library=$(find "$stage" -name 'libdmio.so.1')
mkdir -p "$stage/etc/ld.so.conf.d"
[ -z "$library" ] || dirname "${library#"$stage"}" >"$stage/etc/ld.so.conf.d/dmio-test.conf"

# The leak checker attaches to its own process, which the service's sandbox rightly forbids.
mkdir -p "$stage/etc/systemd/system/dmiod.service.d"
if is_sanitized "$DMIOD"; then
    printf '[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\n' \
        >"$stage/etc/systemd/system/dmiod.service.d/sanitizer.conf"
fi

namespace=$WORK/sd
mkdir -p "$namespace/shared"
sd() {
    timeout -k 5 60 "$TEST_LIB/systemd-namespace.sh" "$namespace" "$@"
}
inside() {
    sd exec "$@"
}
on_failure() {
    echo "--- console and journal:"
    tail -n 20 "$namespace/console.log" || return 0
    inside journalctl -u dmiod.service -u dmiod.socket -o cat --no-pager 2>/dev/null | tail -n 40
}
state=0
sd start "$stage" >"$WORK/state" 2>"$WORK/start.log" </dev/null || state=$?
defer "$TEST_LIB/systemd-namespace.sh" "$namespace" stop
[ $state != 77 ] || skip "$(cat "$WORK/start.log")"
[ $state = 0 ] || { cat "$WORK/start.log" && fail "systemd has not started"; }
ok "systemd is $(cat "$WORK/state")"
inside ldconfig
inside systemctl daemon-reload

CONTROL_INSIDE=/run/dmiod/control
# Not from within the unit's namespaces: any process of the machine.
call() {
    local parameters=${2:-}
    printf '{"method":"io.dmiod.%s","parameters":%s}\n' "$1" "${parameters:-"{}"}" >"$namespace/shared/call"
    inside sh -c "socat -t10 - UNIX-CONNECT:$CONTROL_INSIDE </srv/t/call"
}
property() {
    inside systemctl show -P "$1" "${2:-dmiod.service}"
}
is_active() {
    [ "$(property ActiveState)" = active ]
}

# --- socket activation
expect "the socket starts" inside systemctl start dmiod.socket
expect_eq "everybody may connect" "$(inside stat -c %a $CONTROL_INSIDE)" 666
expect_eq "the service is not running yet" "$(property ActiveState)" inactive
expect_match "the first call starts it" "$(call Status | jq -r .parameters.version)" "[0-9]*"
wait_for 20 is_active
ok "it is active"
expect_match "it tells its state" "$(property StatusText)" "?*"
expect_eq "systemd has no complaint" "$(property Result)" success

# --- the mount
mount=$(call Status | jq -r .parameters.mount)
expect "the mount is seen by everybody" inside grep -q " $mount " /proc/1/mountinfo
truncate -s 1M "$namespace/shared/a.img" "$namespace/shared/b.img"
expect "a client" jq -e .parameters.client <<<"$(call OpenClient '{"name":"alice","pages":16,"linger":true}')"
legs=$(regions /srv/t/a.img:0+1024 /srv/t/b.img:8+1024)
expect "an export" jq -e .parameters.export \
    <<<"$(call CreateExport "{\"client\":\"alice\",\"name\":\"vol\",\"regions\":$legs}")"
inside dd if=/dev/urandom "of=$mount/alice/vol" bs=64k count=8 conv=notrunc,fsync status=none
expect "a write through it is on both legs" cmp -n 524288 "$namespace/shared/a.img" \
    "$namespace/shared/b.img" 0 4096
expect "dmioctl finds the socket" inside sh -c 'dmioctl client list | grep -q alice'
expect_match "the state counts" "$(property StatusText)" "*1*"

# --- reload
mkdir -p "$namespace/shared/conf"
inside sh -c 'mkdir -p /etc/dmiod/dmiod.conf.d && printf "[device disk]\npath = /srv/t/a.img\n" >/etc/dmiod/dmiod.conf.d/disk.conf'
pid=$(property MainPID)
expect "systemctl reload" inside systemctl reload dmiod.service
device_is_known() {
    call Io "{\"client\":\"alice\",\"op\":\"read\",\"regions\":$(regions disk:0+8)}" | jq -e .parameters.data
}
wait_for 20 device_is_known
expect_eq "it is the same process" "$(property MainPID)" "$pid"
inside sh -c 'echo colour = red >/etc/dmiod/dmiod.conf.d/wrong.conf'
expect_not "systemctl reload fails if the configuration is wrong" inside systemctl reload dmiod.service
expect "the service goes on" is_active
journal_names_it() {
    inside journalctl -u dmiod.service -o cat --no-pager -q | grep -q "wrong.conf:1: "
}
wait_for 20 journal_names_it
ok "the journal says where"
inside rm /etc/dmiod/dmiod.conf.d/wrong.conf
expect "it is reloaded when it is right again" inside systemctl reload dmiod.service

# --- restart by the watchdog or a crash
inside kill -9 "$pid"
restarted() {
    is_active && [ "$(property MainPID)" != "$pid" ] && [ -n "$(call Status)" ]
}
wait_for 30 restarted
expect "after a crash it is back, and so is its mount" inside test -f "$mount/.status"
expect_eq "mounted once" "$(inside grep -c " $mount " /proc/1/mountinfo)" 1

# --- stop
expect "systemctl stop" inside systemctl stop dmiod.service dmiod.socket
expect_eq "it ended well" "$(property Result)" success
expect_not "nothing is mounted" inside grep -q " $mount " /proc/1/mountinfo
expect_eq "no error in the journal" "$(inside journalctl -u dmiod.service -p err -o cat --no-pager -q |
    grep -vE 'Failed with result|killed|Main process exited|wrong.conf:1: ' || true)" ""
