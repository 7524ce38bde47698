#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dmioctl doctor and completion under a real systemd: neither starts a daemon that only its socket
# stands for, and what they say of the service is what systemctl says.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd meson tar unshare nsenter pivot_root socat jq
[ -x /lib/systemd/systemd ] || skip "needs systemd"

stage=$WORK/stage
meson install -C "$DMIO_BUILD" --no-rebuild --destdir "$stage" >"$WORK/install.log" 2>&1 ||
    { cat "$WORK/install.log" && fail "meson install"; }
library=$(find "$stage" -name 'libdmio.so.1')
mkdir -p "$stage/etc/ld.so.conf.d" "$stage/etc/systemd/system/dmiod.service.d"
[ -z "$library" ] || dirname "${library#"$stage"}" >"$stage/etc/ld.so.conf.d/dmio-test.conf"
# The leak checker attaches to its own process, which the service's sandbox rightly forbids.
if is_sanitized "$DMIOD"; then
    printf '[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\n' \
        >"$stage/etc/systemd/system/dmiod.service.d/sanitizer.conf"
fi

namespace=$WORK/sd
mkdir -p "$namespace/shared"
inside() {
    timeout -k 5 60 "$TEST_LIB/systemd-namespace.sh" "$namespace" exec "$@"
}
on_failure() {
    echo "--- console and report:"
    tail -n 20 "$namespace/console.log" || return 0
    cat "$WORK/report"
}
state=0
timeout -k 5 60 "$TEST_LIB/systemd-namespace.sh" "$namespace" start "$stage" >"$WORK/state" 2>"$WORK/start.log" \
    </dev/null || state=$?
defer "$TEST_LIB/systemd-namespace.sh" "$namespace" stop
[ $state != 77 ] || skip "$(cat "$WORK/start.log")"
[ $state = 0 ] || { cat "$WORK/start.log" && fail "systemd has not started"; }
inside ldconfig
inside systemctl daemon-reload

property() {
    inside systemctl show -P "$1" "${2:-dmiod.service}"
}
# doctor STATUS
doctor() {
    local status=0
    inside dmioctl doctor --json >"$WORK/report" 2>"$WORK/err" || status=$?
    [ $status = "$1" ] || fail "doctor: status $status, not $1: $(cat "$WORK/err")"
}
# found CHECK: its state and what was found
found() {
    jq -r --arg name "$1" '.checks[] | select(.check == $name) | [.state, .found] | join(" ")' <"$WORK/report"
}
completion=$(find "$stage" -path '*/bash-completion/completions/dmioctl')
names() {
    inside bash -c ". '${completion#"$stage"}'
        COMP_WORDS=(dmioctl client close '') COMP_CWORD=3
        _dmioctl 2>/dev/null; echo \"\${COMPREPLY[*]}\""
}

doctor 1
expect_match "no socket, no daemon" "$(found daemon)" "fail nobody listens at /run/dmiod/control *"
expect "the socket starts" inside systemctl start dmiod.socket
doctor 0
expect_match "systemd listens" "$(found daemon)" "ok systemd listens at /run/dmiod/control *"
expect_match "the limits are the unit's" "$(found "open files")" "ok dmiod.service's is *"
expect_eq "no names without a daemon" "$(names)" ""
expect_eq "none of that has started it" "$(property ActiveState)" inactive

expect "a client" inside dmioctl client open alice --linger
expect_eq "starts it" "$(property ActiveState)" active
doctor 0
expect_match "it answers" "$(found daemon)" "ok dmiod [0-9]* answers at *"
expect_match "the limits are its own" "$(found "open files")" "ok the daemon's is *"
expect_match "its mount" "$(found mount)" "ok fuse* on *"
expect_eq "names" "$(names)" alice
most=$(property FileDescriptorStoreMax) kept=$(property NFileDescriptorStore)
case $most:$kept in
0:*) wanted="warn dmiod.service keeps no descriptors*" ;;
*:0) wanted="warn *put none there" ;;
*) wanted="ok $kept of $most *" ;;
esac
expect_match "the store is what systemctl says" "$(found "descriptor store")" "$wanted"
inside sh -c 'echo nonsense >>/etc/dmiod/dmiod.conf'
doctor 1
expect_match "a configuration that is wrong" "$(found configuration)" "fail /etc/dmiod/dmiod.conf*"
