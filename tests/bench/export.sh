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
set -eu -o pipefail
build=$(readlink -f "${DMIO_BUILD:-build}")
reps=${1:-3} seconds=${2:-1}
shift $(($# < 2 ? $# : 2))
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(raw loop qsd dmio mirror memory nbdfuse)
[ "$(id -u)" = 0 ] || { echo "must be root" >&2 && exit 1; }
[ -x "$build/daemon/dmiod" ] || { echo "no $build/daemon/dmiod: build first" >&2 && exit 1; }

mib=$((1 << 20)) offset=$((64 << 20)) length=$((512 << 20))
dir=$(mktemp -d /tmp/dmio-bench.XXXXXX) shm=$(mktemp -d /dev/shm/dmio-bench.XXXXXX)
pids=() loops=()
cleanup() {
    local pid mount i
    trap - EXIT INT TERM
    set +e
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${pids[@]}"; do
        for ((i = 0; i < 50; i++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null
    done
    awk -v below="$dir/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r mount; do umount -l "$mount"; done
    for ((i = ${#loops[@]} - 1; i >= 0; i--)); do losetup -d "${loops[i]}"; done
    rm -rf --one-file-system "$dir" "$shm"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() {
    echo "export.sh: $*" >&2
    cat "$dir"/*.log >&2 || true
    exit 1
}
wait_for() {
    local i
    for ((i = 0; i < 100; i++)); do
        if "$@" 2>/dev/null; then return; fi
        sleep 0.1
    done
    fail "waited in vain: $*"
}
has_size() { [ "$(stat -Lc %s "$1")" -ge "$length" ]; }
start() {
    local name=$1
    shift
    "$@" >"$dir/$name.log" 2>&1 </dev/null &
    pids+=($!)
}

for name in a b; do
    dd if=/dev/zero of="$shm/$name" bs=$mib count=640 status=none
    loops+=("$(losetup -f --show --direct-io=on "$shm/$name")")
done
a=${loops[0]} b=${loops[1]}

# dmiod TARGET LEG...: a daemon of its own for each target, so that none has another's memory.
dmiod() {
    local name=$1 options=()
    shift
    [ "$name" != memory ] || options=(--backend=memory)
    mkdir "$dir/$name"
    start "$name" "$build/daemon/dmiod" --config=/dev/null --mount="$dir/$name/mnt" \
        --control="$dir/$name/control" --state="$dir/$name/state" "${options[@]}" ${DMIO_OPTIONS:-}
    wait_for test -S "$dir/$name/control"
    control=("$build/daemon/dmioctl" --control="$dir/$name/control")
    "${control[@]}" client open bench --pages 16384 --linger >/dev/null
    "${control[@]}" export create bench/disk "$@" >/dev/null
    path=$dir/$name/mnt/bench/disk
}
slice() { echo "$1:$((offset / 512))+$((length / 512))"; }

declare -A paths starts
for target in "${targets[@]}"; do
    path=$dir/$target.img starts[$target]=0
    case $target in
    raw) path=$a starts[$target]=$offset ;;
    loop)
        path=$(losetup -f --show --direct-io=on --offset $offset --sizelimit $length "$a")
        loops+=("$path")
        ;;
    qsd)
        : >"$path"
        start qsd qemu-storage-daemon --blockdev "{\"driver\":\"raw\",\"node-name\":\"n\",\"offset\":$offset,
            \"size\":$length,\"file\":{\"driver\":\"host_device\",\"filename\":\"$a\",\"aio\":\"io_uring\",
            \"cache\":{\"direct\":true},\"locking\":\"off\"}}" \
            --export "{\"type\":\"fuse\",\"id\":\"e\",\"node-name\":\"n\",\"mountpoint\":\"$path\",\"writable\":true}"
        wait_for has_size "$path"
        ;;
    nbdfuse)
        start nbdkit nbdkit -f -U "$dir/nbd" --filter=offset file "$a" offset=$offset range=$length
        wait_for test -S "$dir/nbd"
        mkdir "$dir/nbdfuse"
        start nbdfuse nbdfuse -C 4 "$dir/nbdfuse/disk" "nbd+unix:///?socket=$dir/nbd"
        path=$dir/nbdfuse/disk
        wait_for has_size "$path"
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
        for target in "${targets[@]}"; do run "$target" "$job" >>"$dir/$target.$job"; done
    done
done
median() {
    sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# idle TARGET: milliseconds of processor time in a second without a client.
idle() {
    local pid=$1 before after
    before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
    sleep 2
    after=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
    echo $(((after - before) * 1000 / $(getconf CLK_TCK) / 2))
}

echo "$(uname -r), $(nproc) CPUs, $reps repetitions of $seconds s, medians; 4 KiB: thousands a second, 1 MiB:"
echo "MiB a second; in brackets the ratio to ${targets[0]}"
printf '| job |%s\n' "$(printf ' %s |' "${targets[@]}")"
printf '|---|%s\n' "$(printf -- '---|%.0s' "${targets[@]}")"
for job in "${jobs[@]}"; do
    base=$(median "$dir/${targets[0]}.$job")
    printf '| %s |' "$job"
    for target in "${targets[@]}"; do
        median "$dir/$target.$job" | awk -v base="$base" '{ printf " %.1f (%.2f) |", $1, $1 / base }'
    done
    echo
done
for target in "${targets[@]}"; do
    case $target in
    dmio | mirror | memory)
        pid=$(pgrep -f -- "--mount=$dir/$target/mnt")
        echo "$target, idle: $(idle "$pid") ms of processor time a second"
        ;;
    esac
done
