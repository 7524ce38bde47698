#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dmioctl doctor: each check, right and wrong, with what it has found and what to do. It works without
# a daemon, starts none, and never waits for a mount that nobody serves.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq unshare setarch

WITHOUT_URING=$DMIO_BUILD/tests/without-uring
config=$WORK/dmiod.conf
printf '[daemon]\nmount = %s\nstate = %s\n' "$MOUNT" "$STATE" >"$config"

# The service manager is ours: it says what stands in $WORK/unit and $WORK/socket.
mkdir "$WORK/bin"
cat >"$WORK/bin/systemctl" <<END
#!/bin/sh
case \$* in
*dmiod.socket*) cat $WORK/socket ;;
*dmiod.service*) cat $WORK/unit ;;
*) exit 1 ;;
esac
END
chmod +x "$WORK/bin/systemctl"
PATH=$WORK/bin:$PATH

# doctor STATUS [COMMAND...]: run it, perhaps by a command; the reply is left in $WORK/report.
doctor() {
    local wanted=$1 status=0
    shift
    timeout 20 "$@" "$DMIOCTL" --control="$CONTROL" doctor --config="$config" --json \
        >"$WORK/report" 2>"$WORK/err" || status=$?
    [ "$status" = "$wanted" ] || fail "doctor: status $status, not $wanted: $(cat "$WORK/report" "$WORK/err")"
}
# expect_check WHAT CHECK STATE FOUND [REMEDY]: patterns
expect_check() {
    local what=$1 row
    row=$(jq -r --arg name "$2" '.checks[] | select(.check == $name) | [.state, .found, .remedy // ""] | join("|")' \
        <"$WORK/report")
    [ $# = 5 ] || set -- "$@" ""
    expect_match "$what" "$row" "$3|$4|$5"
}
no_unit() {
    rm -f "$WORK/unit" "$WORK/socket"
}

# --- without a daemon
no_unit
doctor 1
expect_check "no daemon" daemon fail "nobody listens at $CONTROL (*" "systemctl start dmiod, or*"
expect "one line at the end" grep -qx "dmioctl: 1 check failed; do what .*" "$WORK/err"
expect_check "no service manager" "descriptor store" warn "no service manager*" "*systemd*"
expect_check "nothing mounted" mount ok "nothing on $MOUNT*"
expect_check "no state" state ok "*not there yet*"
expect_check "io_uring" io_uring ok "a ring can be made"
expect_check "the configuration" configuration ok "nothing is wrong with it, 0 devices"
expect_match "kernel" "$(jq -r '.checks[0] | [.check, .found] | join(" ")' <"$WORK/report")" "kernel Linux $(uname -r)*"
expect_not "a table, too" "$DMIOCTL" --control="$CONTROL" doctor --config="$config"
expect_eq "with a line for each" "$( ("$DMIOCTL" --control="$CONTROL" doctor --no-header 2>/dev/null || true) | wc -l)" \
    "$(jq '.checks | length' <"$WORK/report")"

# --- the system
doctor 1 setarch --uname-2.6
expect_check "an old kernel" kernel warn "Linux 2.6*no FUSE_NOTIFY_RESEND*" "use Linux 6.9 or later"
if "$WITHOUT_URING" true; then
    doctor 1 "$WITHOUT_URING"
    expect_check "io_uring is denied" io_uring warn "*threads*" "*seccomp*"
fi
doctor 1 sh -c 'ulimit -n 1000; exec "$@"' sh
expect_check "few open files" "open files" warn "your own is 1000:*" "LimitNOFILE=*4096"
doctor 1 unshare --mount sh -c 'mount -t tmpfs tmpfs /dev && exec "$@"' sh
expect_check "no /dev/fuse" fuse fail "/dev/fuse: No such file*" "modprobe fuse*"
doctor 1 unshare --mount sh -c 'mount --bind /dev/null /dev/fuse && exec "$@"' sh
expect_check "another device in its place" fuse fail "*something else" "mknod*"
if command -v setpriv >/dev/null; then
    cp "$DMIOCTL" "$WORK/dmioctl"
    chmod 755 "$WORK/dmioctl"
    chmod 644 "$config"
    other() {
        as_nobody env PATH="$PATH" XDG_RUNTIME_DIR="$WORK/none" "$WORK/dmioctl" doctor --json "$@" \
            >"$WORK/report" 2>"$WORK/err" || true
    }
    if ! as_nobody test -r /dev/fuse; then
        other --config="$config"
        expect_check "not ours to open: the daemon's is another user" fuse warn "*Permission denied" "chmod 666*"
        other --config="$config" --user
        expect_check "with --user it is ours" fuse fail "*Permission denied" "chmod 666*"
    fi
    if [ "$(ulimit -Hl)" != unlimited ] && [ "$(ulimit -Hl)" -lt 65536 ]; then
        other --config="$config"
        expect_check "little locked memory" "locked memory" warn "your own is *slower" "LimitMEMLOCK=*at least 64 MiB"
    fi
else
    skip_case "as another user: needs setpriv"
fi
mkdir "$WORK/empty"
"$DMIOCTL" doctor --user --config="$config" --json >"$WORK/report" 2>/dev/null || true
expect_check "fusermount3 for --user" fusermount ok "*/fusermount3"
PATH=$WORK/empty "$DMIOCTL" doctor --user --config="$config" --json >"$WORK/report" 2>/dev/null || true
expect_check "no fusermount3" fusermount fail "*not in PATH" "install fuse3"

# --- the configuration and its devices
small=$(make_image 4K small.img)
cp "$config" "$WORK/good.conf"
cat >>"$config" <<END
[device good]
path = $small
[device reading]
path = $small
read-only = yes
[device gone]
path = $WORK/gone.img
[device folder]
path = $WORK
[device inside]
path = $MOUNT/alice/vol
END
doctor 1
expect_check "a device" "device good" ok "$small can be opened for reading and writing"
expect_check "one that is read" "device reading" ok "$small can be opened for reading"
expect_check "one that is gone" "device gone" fail "$WORK/gone.img: No such file*" "plug it in*"
expect_check "a folder" "device folder" fail "*neither*" "correct its path*"
expect_check "one in the mount" "device inside" fail "*own mount" "name the device itself"
expect "all are counted" grep -qx "dmioctl: 4 checks failed; .*them.*" "$WORK/err"
if command -v setpriv >/dev/null; then
    chmod 600 "$small"
    other --config="$config"
    expect_check "one that is not for us" "device good" warn "*not for you to open" "run this as root*"
fi
echo 'nonsense = 1' >>"$WORK/good.conf"
config=$WORK/good.conf doctor 1
expect_check "a wrong configuration" configuration fail "*good.conf*4*nonsense*" "correct it*"
expect_check "the rest goes on" state warn "*cannot be told" "see 'configuration'"
printf '[daemon]\nmount = %s\nstate = %s\n' "$MOUNT" "$STATE" >"$config"

# --- state
mkdir "$STATE"
chmod 777 "$STATE"
doctor 1
expect_check "a folder that all may write to" state warn "others may write*0777)" "chmod 700*"
rm -r "$STATE"
: >"$STATE"
doctor 1
expect_check "no folder" state fail "*is not a folder" "move it away*"
rm "$STATE"
mkdir "$STATE"
doctor 1 unshare --mount sh -c "mount -t tmpfs -o size=1M,mode=700 tmpfs $STATE && exec \"\$@\"" sh
expect_check "little room" state warn "*iB left" "make room*"
doctor 1 unshare --mount sh -c "mount -t tmpfs -o ro,mode=700 tmpfs $STATE && exec \"\$@\"" sh
expect_check "read-only" state fail "*read-only" "mount it for writing*"
rmdir "$STATE"

# --- with a daemon
start_dmiod
doctor 0
expect_check "it answers" daemon ok "dmiod [0-9]* answers at $CONTROL"
expect_check "its mount" mount ok "fuse* on $MOUNT"
expect_check "its limits" "open files" ok "the daemon's is *"
expect_check "its state" state ok "$STATE*"
expect_eq "nothing to complain of" "$(cat "$WORK/err")" ""
doctor 1 unshare --mount sh -c "umount -l $MOUNT && exec \"\$@\"" sh
expect_check "a mount that is not seen from here" mount fail "*nothing is mounted there from here" "*restart it"
doctor 1 unshare --mount sh -c "umount -l $MOUNT && mount -t tmpfs tmpfs $MOUNT && exec \"\$@\"" sh
expect_check "another in its place" mount fail "tmpfs on $MOUNT is in the way" "umount $MOUNT"

unit() {
    printf '%s\n' LoadState=loaded ActiveState=active "$@" >"$WORK/unit"
}
unit MainPID="$DMIOD_PID" FileDescriptorStoreMax=64 NFileDescriptorStore=3
doctor 0
expect_check "its store" "descriptor store" ok "3 of 64 descriptors are kept"
unit MainPID="$DMIOD_PID" FileDescriptorStoreMax=0 NFileDescriptorStore=0
doctor 0
expect_check "none" "descriptor store" warn "*keeps no descriptors*" "FileDescriptorStoreMax=*"
unit MainPID="$DMIOD_PID" FileDescriptorStoreMax=64 NFileDescriptorStore=64
doctor 0
expect_check "full" "descriptor store" warn "64 of 64: it is full" "a larger*"
unit MainPID="$DMIOD_PID" FileDescriptorStoreMax=64 NFileDescriptorStore=0
doctor 0
expect_check "empty" "descriptor store" warn "*put none there" "*journalctl*"
unit MainPID=1 FileDescriptorStoreMax=64 NFileDescriptorStore=3
doctor 0
expect_check "another daemon than the service's" "descriptor store" warn "*not dmiod.service's*" "run it*"
echo LoadState=not-found >"$WORK/unit"
doctor 0
expect_check "no service" "descriptor store" warn "there is no dmiod.service*" "meson install*"
no_unit

# --- one that does not answer
kill -STOP "$DMIOD_PID"
doctor 1
kill -CONT "$DMIOD_PID"
expect_check "one that does not answer" daemon fail "*does not answer*nothing came in time?" "*journalctl*"
mount=$MOUNT
kill -STOP "$DMIOD_PID"
CONTROL=$WORK/none doctor 1
kill -CONT "$DMIOD_PID"
expect_check "a mount that nobody serves" mount warn "fuse* on $mount is there, but no daemon*" "*umount -l $mount"

# --- one that systemd would start
mkdir -p "$WORK/run/dmiod"
echo SubState=listening >"$WORK/socket"
unit MainPID=0 FileDescriptorStoreMax=64 NFileDescriptorStore=0 LimitNOFILE=100 LimitMEMLOCK=infinity
XDG_RUNTIME_DIR=$WORK/run "$DMIOCTL" --user doctor --config="$config" --json >"$WORK/report" || true
expect_check "is not started" daemon ok "systemd listens at $WORK/run/dmiod/control*"
expect_check "what it would have" "open files" warn "dmiod.service's is 100:*" "LimitNOFILE=*"
expect_check "without a limit" "locked memory" ok "dmiod.service's is unlimited"
expect_check "nothing is kept yet" "descriptor store" ok "0 of 64*"
