#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The manuals and the README are right: the pages are made without a warning, name all verbs and
# options, and what they show to be typed works as it stands, with the outputs that stand beside it.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd python3 socat jq mkfs.ext4
MAN=$DMIO_SOURCE/docs/man
TYPED=$DMIO_SOURCE/tests/check/typed.py
typed() {
    python3 "$TYPED" "$@"
}

# --- the pages
if command -v scdoc >/dev/null && command -v man >/dev/null; then
    for page in "$MAN"/*.scd; do
        page=$(basename "$page" .scd)
        MANWIDTH=90 man --warnings -l "$DMIO_BUILD/docs/$page" >"$WORK/$page.txt" 2>"$WORK/warnings"
        expect_eq "$page is made without a warning" "$(cat "$WORK/warnings")" ""
        expect_not "$page has no place left to be filled" grep -E '^ *@[a-z]+.*@$' "$WORK/$page.txt"
    done
    # Words as in the log of a terminal: what is bold there has no marks here.
    for key in $("$DMIOD" --help | sed -n '/^\[/,$s/^  \([a-z-]*\) .*/\1/p'); do
        expect "dmiod.conf(5) has $key" grep -q "^ *$key = " "$WORK/dmiod.conf.5.txt"
    done
    for method in $(sed -n 's/^method \([A-Za-z]*\)(.*/\1/p' \
        "$DMIO_SOURCE/daemon/control/io.dmiod.varlink"); do
        expect "dmiod-control(7) has $method" grep -qx "   $method" "$WORK/dmiod-control.7.txt"
        expect "with an example" grep -q "{\"method\":\"io.dmiod.$method\"" "$WORK/dmiod-control.7.txt"
    done
    for error in $(sed -n 's/^error \([A-Za-z]*\) .*/\1/p' \
        "$DMIO_SOURCE/daemon/control/io.dmiod.varlink"); do
        expect "dmiod-control(7) has $error" grep -q "^ *$error (" "$WORK/dmiod-control.7.txt"
    done
else
    skip_case "to make the pages: needs scdoc and man"
fi

# --- dmiod(8): a try; its first block is the daemon, in a terminal of its own
try=$WORK/try
export PATH=$DMIO_BUILD/daemon:$PATH
start_try() {
    (cd "$WORK" && exec bash -ec "${1/$'\n'dmiod/$'\n'exec dmiod}") >>"$WORK/dmiod.log" 2>&1 </dev/null &
    DMIOD_PID=$!
    CONTROL=$try/control MOUNT=$try/mnt
    wait_for 20 dmiod_is_up_or_gone
    ! process_is_gone "$DMIOD_PID" || fail "dmiod has not started"
}
mapfile -d '' -t blocks < <(typed blocks "$MAN/dmiod.8.scd" EXAMPLES)
expect_eq "dmiod(8) has two examples" "${#blocks[@]}" 2
start_try "${blocks[0]//\/tmp\/dmio/$try}"
bash -e -c "${blocks[1]//\/tmp\/dmio/$try}" >"$WORK/said" 2>&1 || { cat "$WORK/said" && fail "dmiod(8)"; }
expect_eq "dmiod(8): the example" "$(tail -n 2 "$WORK/said")" "equal
alice: closed"

# --- dmiod-control(7): without the daemon's own socket that path is another one
mapfile -d '' -t blocks < <(typed blocks "$MAN/dmiod-control.7.scd" DESCRIPTION)
expect_eq "dmiod-control(7) has two examples" "${#blocks[@]}" 2
bash -o pipefail -c "${blocks[0]//\/run\/dmiod\/control/$CONTROL}" >"$WORK/said"
expect_eq "dmiod-control(7): Status" "$(jq -r .parameters.mount "$WORK/said")" "$MOUNT"
bash -o pipefail -c "$(sed '/^varlinkctl/d' <<<"${blocks[1]//\/run\/dmiod\/control/$CONTROL}")" \
    >"$WORK/said"
expect "dmiod-control(7): the description" grep -qx "interface io.dmiod" "$WORK/said"
if command -v varlinkctl >/dev/null; then
    expect "varlinkctl reads it" varlinkctl introspect "$CONTROL" io.dmiod
else
    skip_case "varlinkctl introspect: there is no varlinkctl"
fi

group=
end_group() {
    [ -z "$group" ] || kill -KILL -- "-$group" 2>/dev/null || true
    group=
}
defer end_group

# --- dmioctl(1): a daemon that allows drills, in a folder with what the examples take for granted. (That
# the page has all that dmioctl has is checked by manual-dmioctl.sh.)
stop_dmiod
CONTROL=$WORK/control MOUNT=$WORK/mnt
printf '[daemon]\ndrills = yes\n' >"$WORK/dmiod.conf"
start_dmiod
mkdir "$WORK/ctl"
cd "$WORK/ctl"
truncate -s 16M a.img b.img
head -c 64K /dev/urandom >data
head -c 4096 /dev/urandom >sector-data
mapfile -d '' -t blocks < <(typed blocks "$MAN/dmioctl.1.scd" EXAMPLES)
expect "dmioctl(1) has examples" test "${#blocks[@]}" -ge 5
for block in "${blocks[@]}"; do
    block=${block//\/run\/dmio/$MOUNT}
    status=0
    # One that monitors goes on for ever: it must have understood, and be there until it is ended.
    [[ $block == *monitor* ]] && patience=1 || patience=20
    # timeout(1) is the leader of a process group, and waits for the shell only: what that began, and what
    # does not end when it is told to, goes with the group.
    timeout -k 5 "$patience" bash -e -o pipefail -c \
        "dmioctl() { command dmioctl --control='$CONTROL' \"\$@\"; }; $block" >"$WORK/said" 2>&1 &
    group=$!
    wait "$group" || status=$?
    end_group
    [ "$patience" = 20 ] || [ $status != 124 ] || status=0
    [ $status = 0 ] || { cat "$WORK/said" && fail "dmioctl(1): $block"; }
    ok "dmioctl(1): ${block%%$'\n'*}"
done
cd "$WORK"
expect "dmioctl(1): the data are on the image" cmp -i 4096 -n 61440 ctl/data ctl/a.img

# --- the example of each verb in dmioctl --help: there is a client alice with an export, but for those
# that make them.
cd "$WORK/ctl"
cp sector-data data
dmioctl() {
    timeout 20 "$DMIOCTL" --control="$CONTROL" "$@"
}
"$DMIOCTL" --help | sed -n 's/^        \(dmioctl .*\)/\1/p' >"$WORK/typed"
expect "verbs have examples" test "$(wc -l <"$WORK/typed")" -gt 20
while read -r line; do
    case $line in
    *monitor* | *top* | *promtool*) continue ;; # go on for ever (see above), or have a test of their own
    "dmioctl client open"*) dmioctl client close alice ;;
    *) dmioctl client open alice --linger || true ;;
    esac >/dev/null 2>&1
    case $line in
    *"export create"*) dmioctl export remove alice/vol ;;
    *) dmioctl export create alice/vol a.img:0+8MiB b.img:100+8MiB || true ;;
    esac >/dev/null 2>&1 || true
    status=0
    eval "$line" >"$WORK/said" 2>&1 </dev/null || status=$?
    # A number at the end is that of something that need not be there.
    [ $status = 0 ] || [[ $status = 1 && $line == *' '[0-9] ]] ||
        { cat "$WORK/said" && fail "$line: status $status"; }
    ok "$line"
done <"$WORK/typed"
cd "$WORK"
dmioctl client open alice --linger >/dev/null 2>&1 || true
dmioctl client close alice >/dev/null
unset -f dmioctl
expect "it stops" stop_dmiod

# --- dmiod.conf(5)
# Should it not end, it is at least in nobody's way.
check_configuration() {
    timeout 10 "$DMIOD" --check --mount="$MOUNT" --control="$CONTROL" --state="$STATE" "$@"
}
mapfile -d '' -t blocks < <(typed blocks "$MAN/dmiod.conf.5.scd" EXAMPLES)
expect_eq "dmiod.conf(5) has three examples" "${#blocks[@]}" 3
printf '%s' "${blocks[0]}" >"$WORK/example.conf"
expect "dmiod.conf(5): the example is right" check_configuration --config="$WORK/example.conf"
expect_eq "dmiod.conf(5): --check" "${blocks[1]}" "dmiod --check
"
expect_eq "dmiod.conf(5): reload, which the unit knows" "${blocks[2]}" "systemctl reload dmiod
"
expect "it does" grep -q '^ExecReload=' "$DMIO_SOURCE/systemd/dmiod.service.in"
expect "and so is what is installed" check_configuration --config="$DMIO_BUILD/systemd/dmiod.conf"
# The defaults that it shows can be said as they stand.
sed 's/^#\([a-z-]* = \)/\1/; s/^#\[/[/; s/alice, 1001/root, 1001/; s/^groups = .*/groups = root/' \
    "$DMIO_BUILD/systemd/dmiod.conf" >"$WORK/all.conf"
expect "with all that is commented out, too" check_configuration --config="$WORK/all.conf"
expect_eq "which is every key once" "$(grep -c ' = ' "$WORK/all.conf")" \
    "$("$DMIOD" --help | sed -n '/^\[/,$s/^  [a-z]/x/p' | wc -l)"
echo 'colour = red' >>"$WORK/all.conf"
expect_not "--check says no" check_configuration --config="$WORK/all.conf"
expect "and why" grep -q "all.conf:[0-9]*: unknown key 'colour'" "$WORK/expect-not.log"
expect_not "it has started nothing" test -e "$CONTROL"

# --- the README
python3 - "$DMIO_SOURCE/README.md" >"$WORK/start" <<'END'
import re, sys
block = re.search(r'^    mkdir /tmp/dmio.*?(?=^\S)', open(sys.argv[1]).read(), re.M | re.S)[0]
print(re.sub('^    ', '', block, flags=re.M))
END
start=$(<"$WORK/start")
rm -rf "$try"
start=${start//\/tmp\/dmio/$try}
start_try "${start//\/path\/to\/dmio\/build/$DMIO_BUILD}"
cd "$try"
typed session "$DMIO_SOURCE/README.md" "/tmp/dmio=$try"
cd "$WORK"
expect "the daemon of the README stops" stop_dmiod
