#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# ext4, xfs and btrfs on a loop device with direct I/O on an export with two legs, one of which fails
# while files are written: nobody notices but the daemon, and the leg that is left carries the whole
# file system, checked on the loop device and on the bare image.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_loop
require_cmd socat jq fio nbdfuse nbdkit sha256sum

start_dmiod
open_client alice 512
SIZE=335544320 # xfs wants 300 MiB
mkdir "$WORK/files" "$WORK/fs"
for ((i = 0; i < 60; i++)); do
    head -c $((RANDOM * 5 + i)) /dev/urandom >"$WORK/files/$i"
done
(cd "$WORK/files" && sha256sum -- *) >"$WORK/sums"

check_ext4() {
    e2fsck -f -n "$1"
}
check_xfs() {
    local image=()
    [ -b "$1" ] || image=(-f)
    xfs_repair -n "${image[@]}" "$1" 2>&1
}
check_btrfs() {
    btrfs check --readonly "$1" 2>&1
}
declare -A make=([ext4]="mkfs.ext4 -q" [xfs]="mkfs.xfs -q" [btrfs]="mkfs.btrfs -q") \
    needs=([ext4]=e2fsck [xfs]=xfs_repair [btrfs]=btrfs)

files_are_right() {
    (cd "$WORK/fs" && for copy in before after; do (cd $copy && sha256sum --quiet -c "$WORK/sums") || exit 1; done)
}

# try FS FAILING-LEG
try() {
    local fs=$1 failing=$2 a b loop number file legs fio
    if ! command -v "mkfs.$fs" >/dev/null || ! command -v "${needs[$fs]}" >/dev/null ||
        ! grep -qw "$fs" /proc/filesystems; then
        skip_case "$fs: is not there"
        return
    fi
    a=$(make_image $SIZE "good-$fs.img")
    b=$(make_fallible_leg $SIZE)
    legs=("$a:0+$((SIZE / 512))" "$b:0+$((SIZE / 512))")
    [ "$failing" = 1 ] || legs=("${legs[1]}" "${legs[0]}")
    file=$(create_export alice "$fs" "${legs[@]}")
    loop=$(make_loop "$file" 512 --direct-io=on)
    # shellcheck disable=SC2086 # a command and its options
    expect "$fs: made" ${make[$fs]} "$loop"
    expect "$fs: mounted" mount "$loop" "$WORK/fs"
    cp -r "$WORK/files" "$WORK/fs/before"
    sync -f "$WORK/fs"

    fio --name=fs --directory="$WORK/fs" --size=12M --rw=randwrite --bsrange=512-32k --blockalign=512 \
        --ioengine=psync --fsync=100 --verify=crc32c --verify_state_save=0 --verify_fatal=1 --do_verify=1 \
        --output="$WORK/fio.log" &
    fio=$!
    defer end_process $fio
    written() {
        [ "$(find "$WORK/fs" -name 'fs.*' -size +0 | wc -l)" -gt 0 ]
    }
    wait_for 10 written
    fail_leg "$b"
    cp -r "$WORK/files" "$WORK/fs/after"
    wait $fio || { cat "$WORK/fio.log" && fail "$fs: fio on the file system"; }
    ok "$fs: fio verifies on it"
    sync -f "$WORK/fs"
    expect_eq "$fs: the leg has failed meanwhile" \
        "$(ctl_ok ListExports | jq -r ".exports[] | select(.name == \"$fs\").legs[$failing].state")" failed
    expect "$fs: the files are what they were" files_are_right
    expect "$fs: unmounted" umount "$WORK/fs"
    wait_for 20 loop_is_idle "$loop"
    expect "$fs: checked on the loop device" "check_$fs" "$loop"
    number=$(loop_number "$loop")
    end_loop "$loop" "$number"
    wait_for 10 loop_is_gone "$loop" "$number"
    ctl_ok RemoveExport "{\"client\":\"alice\",\"name\":\"$fs\"}" >/dev/null
    expect "$fs: checked on the bare leg" "check_$fs" "$a"
    expect "$fs: mounted from the bare leg" mount -o loop,ro "$a" "$WORK/fs"
    expect "$fs: with all files" files_are_right
    umount "$WORK/fs"
    rm "$a"
}

try ext4 1
try xfs 0
try btrfs 1
