#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The service under a real systemd, in namespaces of its own: socket activation, readiness and status,
# a daemon without rights whose mount everybody sees, devices by descriptor and by name, reload, stop.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/systemd.sh"
boot_systemd

# --- socket activation
expect "the socket starts" inside systemctl start dmiod.socket
expect_eq "everybody may connect" "$(inside stat -c %a $CONTROL_INSIDE)" 666
expect_eq "the service is not running yet" "$(property ActiveState)" inactive
expect_match "the first call starts it" "$(inside dmioctl status --json | jq -r .version)" "[0-9]*"
wait_for 20 is_active
ok "it is active"
expect_match "it tells its state" "$(property StatusText)" "?*"
expect_eq "systemd has no complaint" "$(property Result)" success

# --- what it is
pid=$(property MainPID)
status_of() {
    inside awk -v key="$1:" '$1 == key { print $2 }' "/proc/$pid/status"
}
expect_eq "it runs as dmiod" "$(status_of Uid)" "$(inside id -u dmiod)"
for set in CapInh CapPrm CapEff CapBnd CapAmb; do
    expect_eq "$set is empty" "$(status_of $set)" 0000000000000000
done
expect_eq "it gets no new privileges" "$(status_of NoNewPrivs)" 1
expect_eq "its system calls are filtered" "$(status_of Seccomp)" 2
if has_shadow_memory "$DMIOD" || ! inside grep -q 'Max locked memory *unlimited' "/proc/$pid/limits"; then
    skip_case "its memory is locked: not a sanitizer's, and not where LimitMEMLOCK= is denied"
else
    expect "its memory is locked" [ "$(status_of VmLck)" -gt 0 ]
fi
expect_match "that it is no IO flusher is in the journal" "$(journal)" "*Not an IO flusher*CAP_SYS_RESOURCE*"
expect_not "its view of the file system is not ours" inside \
    sh -c "[ \"\$(readlink /proc/$pid/ns/mnt)\" = \"\$(readlink /proc/1/ns/mnt)\" ]"
expect_eq "the state directory is its own" "$(inside stat -c %U:%a /var/lib/dmiod)" dmiod:700

# --- the mount
expect_eq "Status says where the mount is" "$(call Status | jq -r .parameters.mount)" $MOUNT_INSIDE
expect_eq "it is mounted once, for everybody" "$(mounts_inside)" 1
truncate -s 1M "$SHARED/a.img" "$SHARED/b.img"
chmod 600 "$SHARED"/*.img
expect "a client of root" inside dmioctl client open alice --pages 16 --linger
expect "dmioctl opens what the daemon could not" inside \
    dmioctl export create alice/vol /srv/t/a.img:0+1024 /srv/t/b.img:8+1024
inside dd if=/dev/urandom of=$MOUNT_INSIDE/alice/vol bs=64k count=8 conv=notrunc,fsync status=none
expect "a write through the mount is on both legs" cmp -n 524288 "$SHARED/a.img" "$SHARED/b.img" 0 4096
status_counts() {
    [[ $(property StatusText) == "1 clients"* ]]
}
wait_for 5 status_counts
ok "the state counts"

as_user() {
    inside setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
}
expect "a user has a client" as_user dmioctl client open bob --pages 4 --linger
expect_eq "which is that user's" "$(call ListClients | jq -r '.parameters.clients[] | select(.name == "bob").uid')" 65534
install -m 600 -o 65534 /dev/null "$SHARED/bob.img"
truncate -s 1M "$SHARED/bob.img"
expect "and an export of what the user may open" as_user dmioctl export create bob/vol /srv/t/bob.img:0+8
expect "and the file" as_user dd if=/dev/zero of=$MOUNT_INSIDE/bob/vol bs=4k count=1 conv=notrunc status=none
expect_not "not that of root" as_user dd if=$MOUNT_INSIDE/alice/vol of=/dev/null count=1 status=none

# --- what the daemon may not do, it says
create() {
    call CreateExport "{\"client\":\"alice\",\"name\":\"$1\",\"regions\":$(regions "$2")}"
}
reply=$(create raw /srv/t/a.img:0+8)
expect_eq "a path that the daemon may not open is a DeviceError" "$(jq -r .error <<<"$reply")" io.dmiod.DeviceError
expect_eq "that names the device" "$(jq -r .parameters.device <<<"$reply")" /srv/t/a.img
expect_eq "and the reason" "$(jq -r .parameters.errno <<<"$reply")" EACCES

# The policy for devices is about opening: what somebody else has opened can be used.
loop=$(make_loop "$(make_image 1M loop.img)")
other=$(make_loop "$(make_image 1M other.img)")
for device in "$loop" "$other"; do
    inside sh -c "[ -b $device ] || mknod $device b $((16#$(stat -c %t "$device"))) $((16#$(stat -c %T "$device")))
chgrp disk $device; chmod 660 $device"
done
expect "a block device that dmioctl opens" inside dmioctl export create alice/block $loop:0+1024
inside dd if=/dev/urandom of=$MOUNT_INSIDE/alice/block bs=64k count=8 conv=notrunc,fsync status=none
expect "has what is written" inside cmp -n 524288 $loop $MOUNT_INSIDE/alice/block
expect_eq "a path to it is refused" "$(create raw $loop:1024+8 | jq -r '"\(.error) \(.parameters.errno)"')" \
    "io.dmiod.DeviceError EACCES"

expect_not "a file of the mount is no device" inside \
    dmioctl export create alice/self $MOUNT_INSIDE/alice/vol:0+8
expect "and dmioctl says why" grep -q 'own mount' "$WORK/expect-not.log"

# --- reload
configure() {
    # shellcheck disable=SC2016 # its own parameters
    inside sh -c 'mkdir -p /etc/dmiod/dmiod.conf.d; printf "%b" "$1" >/etc/dmiod/dmiod.conf.d/disk.conf' - "$1"
}
configure '[device disk]\npath = /srv/t/named.img\nusers = 65534\n'
truncate -s 1M "$SHARED/named.img"
expect "systemctl reload" inside systemctl reload dmiod.service
io() { # OPERATION DEVICE
    as_user dmioctl io "$1" bob "$2:0+8" ${3:+"$3"}
}
reads_disk() {
    io read disk
}
wait_for 20 reads_disk
ok "the device is known"
expect_eq "it is the same process" "$(property MainPID)" "$pid"
expect_not "everything is read-only to the daemon" io write disk --fill=1
expect "and dmioctl says so" grep -qE 'disk.*(Read-only|Permission denied)' "$WORK/expect-not.log"
configure '[device disk]\npath = /srv/t/a.img\nusers = 65534\n[nonsense]\n'
expect_not "systemctl reload fails if the configuration is wrong" inside systemctl reload dmiod.service
inside kill -HUP "$pid"
complained() {
    journal | grep -q "disk.conf:4"
}
wait_for 20 complained
expect "a wrong configuration changes nothing" reads_disk
is_ready_again() {
    [ "$(property SubState)" = running ]
}
wait_for 20 is_ready_again
ok "and the service is ready all the same"

# They would be back after each restart, with the sectors that others want.
expect "the clients go" inside dmioctl client close alice
expect "of both users" as_user dmioctl client close bob

# --- the drop-in that the unit describes: a file, and a block device
inside chown dmiod /srv/t/named.img
configure "[daemon]\nqueues = 2\n[device disk]\npath = /srv/t/named.img\nusers = 65534\n[device loop]\npath = $loop\nusers = 65534\n\
[device other]\npath = $other\nusers = 65534\n"
drop_in devices "DeviceAllow=$loop rw\nSupplementaryGroups=disk\nReadWritePaths=/srv/t\n"
inside systemctl restart dmiod.service
expect_eq "restarted" "$(property ActiveState)" active
expect_match "with a second thread on the mount" "$(inside sh -c "cat /proc/$(property MainPID)/task/*/comm")" "*dmiod-queue-1*"
expect "the user has a client" as_user dmioctl client open bob2 --pages 4 --linger
for device in disk loop; do
    expect "$device can be written" as_user dmioctl io write bob2 $device:1024+8 --fill=0x42
done
expect_eq "the file has the bytes" "$(count_others "$SHARED/named.img" 524288 4096 B)" 0
expect_eq "so has the block device" "$(count_others "$loop" 524288 4096 B)" 0
expect_not "another block device is out of reach" as_user dmioctl io read bob2 other:0+8
expect "by the policy for devices" grep -q 'Operation not permitted' "$WORK/expect-not.log"

# --- a mount that the sandbox hides from the daemon itself
inside sh -c 'printf "[daemon]\nmount = /home/dmio\n" >/etc/dmiod/dmiod.conf.d/mount.conf'
inside systemctl restart dmiod.service
expect_eq "mounted where the daemon does not see it" "$(mounts_inside /home/dmio)" 1
expect "a client there" inside dmioctl client open carol --pages 16 --linger
expect "an export there" inside dmioctl export create carol/vol /srv/t/a.img:0+1024
expect "which is served" inside cmp -n 524288 /srv/t/a.img /home/dmio/carol/vol
if inside sh -c "grep -qs fuse_connection /proc/$(property MainPID)/fdinfo/*"; then
    expect_not "its file is no device" inside dmioctl export create carol/self /home/dmio/carol/vol:0+8
    expect "for the same reason" grep -q 'own mount' "$WORK/expect-not.log"
else
    skip_case "a hidden mount is known by /dev/fuse: not with this kernel"
fi
inside rm /etc/dmiod/dmiod.conf.d/mount.conf

# --- the drop-in for when memory is short, as far as this machine has the rights
if has_shadow_memory "$DMIOD" || ! grep -q ipc_lock <(setpriv --dump); then
    skip_case "locked memory: needs CAP_IPC_LOCK, and no sanitizer"
else
    drop_in memory "CapabilityBoundingSet=CAP_IPC_LOCK\nAmbientCapabilities=CAP_IPC_LOCK\n"
    inside systemctl restart dmiod.service
    pid=$(property MainPID)
    expect "with the capability its memory is locked" [ "$(status_of VmLck)" -gt 0 ]
fi

# --- stop
expect "systemctl stop" inside systemctl stop dmiod.service dmiod.socket
expect_eq "it ended well" "$(property Result)" success
expect_eq "nothing is mounted" "$(mounts_inside) $(mounts_inside /home/dmio)" "0 0"
expect_eq "no error in the journal" "$(journal dmiod.service -p err | grep -v 'disk.conf:4' || true)" ""
expect_clean_journal
