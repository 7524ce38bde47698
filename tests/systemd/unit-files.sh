#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The unit files: systemd-analyze finds nothing to complain about, and the service does not use a
# setting that would hide its mount from everybody else.
. "$(dirname "$0")/../lib/common.sh"
require_cmd meson systemd-analyze

stage=$WORK/stage
meson install -C "$DMIO_BUILD" --no-rebuild --destdir "$stage" >"$WORK/install.log" 2>&1 ||
    { cat "$WORK/install.log" && fail "meson install"; }
service=$(find "$stage" -name dmiod.service)
socket=$(find "$stage" -name dmiod.socket)
expect "dmiod.service is installed" test -f "$service"
expect "dmiod.socket is installed" test -f "$socket"

# verify wants the program at its path: the staged one stands in for it.
units=$WORK/units
mkdir "$units"
binary=$(sed -n 's/^ExecStart=[-+!:@]*\([^ ]*\).*/\1/p' "$service")
expect "ExecStart is what is installed" test -x "$stage$binary"
sed "s|=\([-+!:@]*\)$binary|=\1$stage$binary|" "$service" >"$units/dmiod.service"
cp "$socket" "$units/"
status=0
SYSTEMD_UNIT_PATH=$units: systemd-analyze verify --man=no "$units/dmiod.service" "$units/dmiod.socket" \
    >"$WORK/verify.log" 2>&1 || status=$?
# What it says about other units of this machine is not ours.
if [ $status != 0 ] || grep -E 'dmiod\.(service|socket)' "$WORK/verify.log"; then
    cat "$WORK/verify.log"
    fail "systemd-analyze verify"
fi
ok "systemd-analyze verify"

# A service that mounts by itself must stay in the host's mount namespace.
hidden='ProtectSystem|ProtectHome|PrivateTmp|PrivateIPC|PrivateMounts|ProtectKernelTunables|ProtectKernelModules'
hidden+='|ProtectKernelLogs|ProtectControlGroups|ProtectProc|ProcSubset|ReadOnlyPaths|InaccessiblePaths'
hidden+='|NoExecPaths|TemporaryFileSystem|BindPaths|BindReadOnlyPaths|LogNamespace|DynamicUser|PrivateUsers'
hidden+='|RootDirectory|RootImage|PrivateDevices'
expect_eq "no setting hides the mount" "$(grep -E "^($hidden)=" "$service" | grep -vE '=(no|false|0)?$' || true)" ""
expect "the watchdog is on" grep -qE '^WatchdogSec=[1-9]' "$service"
expect "it may tell its state" grep -qE '^Type=notify' "$service"
score=$(systemd-analyze security --offline=yes --no-pager "$units/dmiod.service" 2>/dev/null |
    sed -n 's/.*Overall exposure level.*: \([0-9.]*\).*/\1/p')
expect_match "the exposure is known ($score)" "$score" "[0-9]*.[0-9]"
expect "and below 6" systemd-analyze security --offline=yes --threshold=60 --no-pager "$units/dmiod.service" \
    >/dev/null
