#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The engine beside fio (io_uring, direct) on the same loop devices over tmpfs, in one interleaved
# run; medians and ratios. The numbers go into docs/performance.md by hand; this is not a test.
#
#   tests/bench/engine.sh [REPETITIONS] [SECONDS]
set -eu -o pipefail
bench=${DMIO_BUILD:-build}/tests/bench-engine
reps=${1:-3} seconds=${2:-1}
[ "$(id -u)" = 0 ] || { echo "must be root" >&2 && exit 1; }
[ -x "$bench" ] || { echo "no $bench: build first, or set DMIO_BUILD" >&2 && exit 1; }

dir=$(mktemp -d /dev/shm/dmio-bench.XXXXXX)
devices=()
cleanup() {
    local device
    for device in "${devices[@]}"; do losetup -d "$device"; done
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
for name in a b; do
    dd if=/dev/zero of="$dir/$name" bs=1M count=512 status=none
    devices+=("$(losetup -f --show --direct-io=on "$dir/$name")")
done

# run_fio OP SIZE DEPTH DEVICE...: a job for each device, all at once; requests a second together.
run_fio() {
    local op=$1 size=$2 depth=$3 i=0 jobs=()
    shift 3
    for device; do jobs+=("--name=j$((i++))" "--filename=$device"); done
    fio --rw="$op" --bs="$size" --iodepth="$depth" --ioengine=io_uring --direct=1 --time_based \
        --runtime="$seconds" --ramp_time=0.1 --size=512M --norandommap --thread --group_reporting \
        --output-format=json "${jobs[@]}" 2>/dev/null | jq '.jobs[0] | .read.iops + .write.iops | floor'
}
run_engine() {
    local op=$1 size=$2 depth=$3
    shift 3
    "$bench" "$op" "$size" "$depth" "$seconds" 0 $((512 << 20)) "$@"
}
median() {
    sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

jobs=("randread 4096 32 1" "randwrite 4096 32 1" "randread 4096 1 1" "randwrite 4096 1 1"
    "read 1048576 4 1" "write 1048576 4 1" "randwrite 4096 32 2")
for ((rep = 0; rep < reps; rep++)); do
    for i in "${!jobs[@]}"; do
        read -r op size depth legs <<<"${jobs[i]}"
        run_fio "$op" "$size" "$depth" "${devices[@]:0:legs}" >>"$dir/$i.fio"
        run_engine "$op" "$size" "$depth" "${devices[@]:0:legs}" >>"$dir/$i.engine"
    done
done

echo "$(uname -r), $(nproc) CPUs, $reps repetitions of $seconds s, medians, requests a second"
echo "(two legs: fio's is what two jobs on the two devices reach together, in writes; ours counts"
echo "each request once for each leg)"
printf '| job | fio | engine | ratio |\n|---|---|---|---|\n'
for i in "${!jobs[@]}"; do
    read -r op size depth legs <<<"${jobs[i]}"
    awk -v name="$op $size, depth $depth, $legs leg(s)" -v legs="$legs" \
        -v fio="$(median <"$dir/$i.fio")" -v engine="$(median <"$dir/$i.engine")" \
        'BEGIN { printf "| %s | %d | %d | %.2f |\n", name, fio, engine * legs, engine * legs / fio }'
done
