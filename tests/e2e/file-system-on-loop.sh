#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A file system on a loop device on an export with two legs: made, mounted, filled, unmounted,
# checked; with and without direct I/O of the loop device. What then lies on each leg is a file
# system of its own with the same files.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_loop
require_cmd socat jq mkfs.ext4 fsck.ext4 fio

start_dmiod
open_client alice 256
mkdir "$WORK/files"
for ((i = 0; i < 40; i++)); do head -c $((RANDOM * 7 + i)) /dev/urandom >"$WORK/files/$i"; done
(cd "$WORK/files" && sha256sum -- *) >"$WORK/sums"

for direct in on off; do
    a=$(make_image 64M "a-$direct.img")
    b=$(make_image 70M "b-$direct.img")
    file=$(create_export alice "$direct" "$a:0+131072" "$b:8192+131072")
    loop=$(make_loop "$file" 512 --direct-io=$direct)
    expect_eq "direct-io=$direct is on the loop device" \
        "$(losetup -n -O DIO "$loop" | tr -d ' ')" "$([ $direct = on ] && echo 1 || echo 0)"
    expect "mkfs, direct-io=$direct" mkfs.ext4 -q "$loop"
    mkdir "$WORK/fs"
    expect "mount" mount "$loop" "$WORK/fs"
    cp -r "$WORK/files" "$WORK/fs/"
    fio --name=fs --directory="$WORK/fs" --size=8M --rw=randwrite --bs=4k --ioengine=libaio --direct=1 \
        --iodepth=16 --fsync=64 --verify=crc32c --verify_state_save=0 --verify_fatal=1 --do_verify=1 --output="$WORK/fio.log" ||
        { cat "$WORK/fio.log" && fail "fio on the file system"; }
    ok "fio verifies on it"
    fstrim "$WORK/fs" || true # where the loop device offers it
    expect "umount" umount "$WORK/fs"
    wait_for 20 loop_is_idle "$loop"
    expect "fsck" fsck.ext4 -f -n "$loop"
    expect "mount again" mount "$loop" "$WORK/fs"
    expect "the files are what they were" sh -c "cd '$WORK/fs/files' && sha256sum --quiet -c '$WORK/sums'"
    umount "$WORK/fs"
    number=$(loop_number "$loop")
    end_loop "$loop" "$number"
    wait_for 10 loop_is_gone "$loop" "$number"
    ctl_ok RemoveExport "{\"client\":\"alice\",\"name\":\"$direct\"}" >/dev/null
    ok "the export is free afterwards"
    expect "the legs are equal" cmp -n 67108864 "$a" "$b" 0 4194304
    mount -o loop,ro,offset=4194304,sizelimit=67108864 "$b" "$WORK/fs"
    expect "the second leg is a file system by itself" \
        sh -c "cd '$WORK/fs/files' && sha256sum --quiet -c '$WORK/sums'"
    umount "$WORK/fs"
    rmdir "$WORK/fs"
done
