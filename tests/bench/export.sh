#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Exports beside what they compete with: the raw device (a loop device over tmpfs), the kernel's
# loop device on a slice of it, qemu-storage-daemon's and nbdkit+nbdfuse's FUSE exports of the same
# slice. One interleaved run, medians, ratios to raw. The numbers go into docs/performance.md by
# hand; this is not a test.
#
#   tests/bench/export.sh [REPETITIONS] [SECONDS] [TARGET...]
#
# TARGETs: raw loop qsd dmio mirror memory nbdfuse (default: all). "mirror" is two legs, "memory"
# the back-end of that name. DMIO_OPTIONS: more options for dmiod.
. "$(dirname "$0")/bench.sh"
reps=${1:-3} seconds=${2:-1}
shift $(($# < 2 ? $# : 2))
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(raw loop qsd dmio mirror memory nbdfuse)
require_built daemon/dmiod

offset=$((64 << 20)) length=$((512 << 20))
a=$(make_ram_loop 640) b=$(make_ram_loop 640)

has_size() { [ "$(stat -Lc %s "$1")" -ge "$length" ]; }
# dmiod TARGET LEG...: a daemon of its own for each target, so that none has another's memory.
dmiod() {
    local name=$1 options=()
    shift
    [ "$name" != memory ] || options=(--backend=memory)
    start_bench_daemon "$name" "$DMIO_BUILD" "${options[@]}"
    "${control[@]}" export create bench/disk "$@" >/dev/null
    path=$WORK/$name/mnt/bench/disk
}
slice() { echo "$1:$((offset / 512))+$((length / 512))"; }

declare -A paths starts
for target in "${targets[@]}"; do
    path=$WORK/$target.img starts[$target]=0
    case $target in
    raw) path=$a starts[$target]=$offset ;;
    loop)
        path=$(make_loop "$a" 512 --direct-io=on --offset $offset --sizelimit $length)
        ;;
    qsd)
        : >"$path"
        start qsd qemu-storage-daemon --blockdev "{\"driver\":\"raw\",\"node-name\":\"n\",\"offset\":$offset,
            \"size\":$length,\"file\":{\"driver\":\"host_device\",\"filename\":\"$a\",\"aio\":\"io_uring\",
            \"cache\":{\"direct\":true},\"locking\":\"off\"}}" \
            --export "{\"type\":\"fuse\",\"id\":\"e\",\"node-name\":\"n\",\"mountpoint\":\"$path\",\"writable\":true}"
        wait_for 10 has_size "$path"
        ;;
    nbdfuse)
        start nbdkit nbdkit -f -U "$WORK/nbd" --filter=offset file "$a" offset=$offset range=$length
        wait_for 10 test -S "$WORK/nbd"
        mkdir "$WORK/nbdfuse"
        start nbdfuse nbdfuse -C 4 "$WORK/nbdfuse/disk" "nbd+unix:///?socket=$WORK/nbd"
        path=$WORK/nbdfuse/disk
        wait_for 10 has_size "$path"
        ;;
    dmio | memory) dmiod "$target" "$(slice "$a")" ;;
    mirror) dmiod "$target" "$(slice "$a")" "$(slice "$b")" ;;
    *) fail "no target $target" ;;
    esac
    paths[$target]=$path
done

# rw bs depth jobs engine: 4 KiB jobs are told in thousands a second, larger ones in MiB a second.
jobs=(${DMIO_JOBS:-randread:4k:1:1:io_uring randread:4k:8:1:io_uring randread:4k:32:1:io_uring
    randwrite:4k:1:1:io_uring randwrite:4k:8:1:io_uring randwrite:4k:32:1:io_uring
    randread:4k:1:4:psync randwrite:4k:1:4:psync read:1M:4:1:io_uring write:1M:4:1:io_uring})
#
# nbdkit goes through the page cache of the device. What it leaves there, dirty or not, would have to be
# written back and thrown out by whoever uses O_DIRECT next, page by page, so it goes before each run.
run() {
    local rw bs depth n engine
    blockdev --flushbufs "$a"
    IFS=: read -r rw bs depth n engine <<<"$2"
    timeout 60 fio --name=j --filename="${paths[$1]}" --offset="${starts[$1]}" --size=$length --rw="$rw" \
        --bs="$bs" --iodepth="$depth" --numjobs="$n" --ioengine="$engine" --direct=1 --time_based \
        --runtime="$seconds" --ramp_time=0.2 --group_reporting --norandommap --randrepeat=1 --thread \
        --output-format=json 2>/dev/null |
        jq -r --arg bs "$bs" '.jobs[0] | if .error != 0 then 0 elif $bs == "4k" then
            (.read.iops + .write.iops) / 1000 else (.read.bw + .write.bw) / 1024 end'
}
for ((rep = 0; rep < reps; rep++)); do
    for job in "${jobs[@]}"; do
        for target in "${targets[@]}"; do run "$target" "$job" >>"$WORK/$target.$job"; done
    done
done
# idle PID: milliseconds of processor time in a second without a client.
idle() {
    local before
    before=$(ticks "$1")
    sleep 2
    echo $((($(ticks "$1") - before) * 1000 / $(getconf CLK_TCK) / 2))
}

echo "$(uname -r), $(nproc) CPUs, $reps repetitions of $seconds s, medians; 4 KiB: thousands a second, 1 MiB:"
echo "MiB a second; in brackets the ratio to ${targets[0]}"
printf '| job |%s\n' "$(printf ' %s |' "${targets[@]}")"
printf '|---|%s\n' "$(printf -- '---|%.0s' "${targets[@]}")"
for job in "${jobs[@]}"; do
    base=$(median "$WORK/${targets[0]}.$job")
    printf '| %s |' "$job"
    for target in "${targets[@]}"; do
        median "$WORK/$target.$job" | awk -v base="$base" '{ printf " %.1f (%.2f) |", $1, $1 / base }'
    done
    echo
done
for target in "${targets[@]}"; do
    case $target in
    dmio | mirror | memory)
        echo "$target, idle: $(idle "${pid_of[$target]}") ms of processor time a second"
        ;;
    esac
done
