# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What tests of the units share, after common.sh:   . "$(dirname "$0")/../lib/systemd.sh"
#
# boot_systemd [NAME]  a real systemd in namespaces of its own, with what the build installs
# inside COMMAND...    runs something in there, as root; $SHARED is /srv/t there
# call METHOD [PARAMETERS]   a call of io.dmiod from there: not out of the unit's namespaces
# property NAME [UNIT]
CONTROL_INSIDE=/run/dmiod/control
MOUNT_INSIDE=/run/dmio
NAMESPACE=$WORK/sd
SHARED=$NAMESPACE/shared

# The staged installation, with what a package would have done on top.
stage_installation() {
    local stage=$1 library
    meson install -C "$DMIO_BUILD" --no-rebuild --destdir "$stage" >"$WORK/install.log" 2>&1 ||
        { cat "$WORK/install.log" && fail "meson install"; }
    # The library is found as if ldconfig had run, whatever the prefix is.
    library=$(find "$stage" -name 'libdmio.so.1')
    mkdir -p "$stage/etc/ld.so.conf.d"
    [ -z "$library" ] || dirname "${library#"$stage"}" >"$stage/etc/ld.so.conf.d/dmio-test.conf"
    # Sanitizers want memory to execute and /proc to look at; the leak checker attaches to its own process.
    if has_shadow_memory "$DMIOD"; then
        mkdir -p "$stage/etc/systemd/system/dmiod.service.d"
        printf '[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\n' \
            >"$stage/etc/systemd/system/dmiod.service.d/sanitizer.conf"
    fi
}

sd() {
    timeout -k 5 "${INSIDE_LIMIT:-60}" "$TEST_LIB/systemd-namespace.sh" "$NAMESPACE" "$@"
}
inside() {
    sd exec "$@"
}

on_failure() {
    echo "--- console and journal:"
    tail -n 20 "$NAMESPACE/console.log" || return 0
    inside journalctl -u 'dmiod*' -u 'user@*' -o short-precise --no-pager 2>/dev/null | tail -n 60
}

boot_systemd() {
    local status=0
    require_root
    require_fuse
    require_cmd meson tar unshare nsenter pivot_root socat jq
    [ -x /lib/systemd/systemd ] || skip "needs systemd"
    mkdir -p "$SHARED"
    stage_installation "$WORK/stage"
    sd start "$WORK/stage" >"$WORK/state" 2>"$WORK/start.log" </dev/null || status=$?
    defer "$TEST_LIB/systemd-namespace.sh" "$NAMESPACE" stop
    [ $status != 77 ] || skip "$(cat "$WORK/start.log")"
    [ $status = 0 ] || { cat "$WORK/start.log" && fail "systemd has not started"; }
    ok "systemd is $(cat "$WORK/state")"
    inside ldconfig
    inside systemd-sysusers
    inside systemctl daemon-reload
}

call() {
    local parameters=${2:-}
    printf '{"method":"io.dmiod.%s","parameters":%s}\n' "$1" "${parameters:-"{}"}" >"$SHARED/call"
    inside sh -c "socat -t10 - UNIX-CONNECT:$CONTROL_INSIDE </srv/t/call"
}

property() {
    inside systemctl show -P "$1" "${2:-dmiod.service}"
}

is_active() {
    [ "$(property ActiveState)" = active ]
}

# Never by stat(2) or the like: it would wait where nobody serves.
mounts_inside() {
    inside awk -v where="${1:-$MOUNT_INSIDE}" '$5 == where { n++ } END { print n + 0 }' /proc/1/mountinfo
}

# drop_in NAME TEXT: for dmiod.service
drop_in() {
    # shellcheck disable=SC2016 # its own parameters
    inside sh -c 'mkdir -p /etc/systemd/system/dmiod.service.d
printf "[Service]\n%b" "$2" >"/etc/systemd/system/dmiod.service.d/$1.conf"
systemctl daemon-reload' - "$1" "$2"
}

journal() {
    inside journalctl -u "${1:-dmiod.service}" -o cat --no-pager -q "${@:2}"
}

# Nothing from a sanitizer, in a build that has one.
expect_clean_journal() {
    expect_eq "no sanitizer complains" \
        "$(inside journalctl -o cat --no-pager -q | grep -E "$SANITIZER_LINE" || true)" ""
}
