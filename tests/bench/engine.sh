#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The engine beside fio (io_uring, direct) on the same loop devices over tmpfs, in one interleaved
# run; medians and ratios. Then the memory back-end's rate, and the instructions of a request, which
# do not depend on the load of the machine. The numbers go into docs/performance.md by hand; this is
# not a test.
#
#   tests/bench/engine.sh [REPETITIONS] [SECONDS]
. "$(dirname "$0")/bench.sh"
bench=$DMIO_BUILD/tests/bench-engine
reps=${1:-3} seconds=${2:-1}
require_built tests/bench-engine
devices=("$(make_ram_loop 512)" "$(make_ram_loop 512)")

# run_fio OP SIZE DEPTH DEVICE...: a job for each device, all at once; requests a second together.
run_fio() {
    local op=$1 size=$2 depth=$3 i=0 jobs=()
    shift 3
    for device; do jobs+=("--name=j$((i++))" "--filename=$device"); done
    fio --rw="$op" --bs="$size" --iodepth="$depth" --ioengine=io_uring --direct=1 --time_based \
        --runtime="$seconds" --ramp_time=0.1 --size=512M --norandommap --thread --group_reporting \
        --output-format=json "${jobs[@]}" 2>/dev/null | jq '.jobs[0] | .read.iops + .write.iops | floor'
}
# run_engine SPIN OP SIZE DEPTH DEVICE...: with memory of the pool, as the daemon has it.
run_engine() {
    local spin=$1 op=$2 size=$3 depth=$4
    shift 4
    "$bench" --pool --spin="$spin" "$op" "$size" "$depth" "$seconds" 0 $((512 << 20)) "$@"
}
# instructions LEGS: of one request, as the difference of two numbers of requests.
instructions() {
    local n total=() images=()
    for ((n = 0; n < $1; n++)); do
        truncate -s 16M "$RAM/image$n"
        images+=("$RAM/image$n")
    done
    for n in 2000 12000; do
        total+=("$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" \
            --backend=memory --requests="$n" randwrite 512 32 1 0 $((16 << 20)) "${images[@]}" 2>&1 |
            awk '/Collected/ { print $NF }')")
    done
    echo $(((total[1] - total[0]) / 10000))
}
jobs=("randread 4096 32 1" "randwrite 4096 32 1" "randread 4096 1 1" "randwrite 4096 1 1"
    "read 1048576 4 1" "write 1048576 4 1" "randwrite 4096 32 2")
for ((rep = 0; rep < reps; rep++)); do
    for i in "${!jobs[@]}"; do
        read -r op size depth legs <<<"${jobs[i]}"
        run_fio "$op" "$size" "$depth" "${devices[@]:0:legs}" >>"$WORK/$i.fio"
        run_engine 0 "$op" "$size" "$depth" "${devices[@]:0:legs}" >>"$WORK/$i.engine"
        run_engine 50 "$op" "$size" "$depth" "${devices[@]:0:legs}" >>"$WORK/$i.polling"
    done
    truncate -s 64M "$RAM/image"
    "$bench" --backend=memory randread 4096 32 "$seconds" 0 $((64 << 20)) "$RAM/image" >>"$WORK/memory"
done

echo "$(uname -r), $(nproc) CPUs, $reps repetitions of $seconds s, medians, requests a second"
echo "(two legs: fio's is what two jobs on the two devices reach together, in writes; ours counts"
echo "each request once for each leg)"
echo "The engine sleeps as soon as there is nothing to do, as fio does; or polls for 50 us before."
printf '| job | fio | engine | ratio | polling | ratio |\n|---|---|---|---|---|---|\n'
for i in "${!jobs[@]}"; do
    read -r op size depth legs <<<"${jobs[i]}"
    awk -v name="$op $size, depth $depth, $legs leg(s)" -v legs="$legs" \
        -v fio="$(median "$WORK/$i.fio")" -v engine="$(median "$WORK/$i.engine")" \
        -v polling="$(median "$WORK/$i.polling")" \
        'BEGIN { printf "| %s | %d | %d | %.2f | %d | %.2f |\n", name, fio, engine * legs,
            engine * legs / fio, polling * legs, polling * legs / fio }'
done
echo "memory back-end, randread 4096, depth 32, one thread: $(median "$WORK/memory") requests a second"
if command -v valgrind >/dev/null; then
    echo "instructions of a 512-byte write, memory back-end, 1, 2 and 8 legs:" \
        "$(instructions 1) $(instructions 2) $(instructions 8)"
fi
