#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The control channel: calls a second, beside the same I/O through the mount; and a copy job beside dd
# and beside what the two devices can do. One interleaved run, medians, ratios. The numbers go into
# docs/performance.md by hand; this is not a test.
#
#   tests/bench/control.sh [REPETITIONS] [SECONDS]
#
# DMIO_OPTIONS: more options for dmiod. DMIO_BUILD: another build; DMIO_BUILD_BEFORE: one whose daemon is
# measured in the same run, as "before".
. "$(dirname "$0")/bench.sh"
reps=${1:-3} seconds=${2:-2}
require_built tests/bench-control

mib=$((1 << 20)) length=$((512 << 20)) sectors=$((1 << 20))
a=$(make_ram_loop 512) b=$(make_ram_loop 512)
daemons=(now)
[ -z "${DMIO_BUILD_BEFORE:-}" ] || daemons=(before now)
for daemon in "${daemons[@]}"; do
    build=$DMIO_BUILD
    [ "$daemon" = now ] || build=$(readlink -f "$DMIO_BUILD_BEFORE")
    start_bench_daemon "$daemon" "$build"
    "${control[@]}" export create bench/disk "$a:0+$sectors" >/dev/null
done

# The calls of a second, and what one costs the daemon in microseconds of processor time: beside other work
# that says more.
calls() { # DAEMON CONNECTIONS KIND
    local arguments=(status) before rate
    [ "$3" = status ] || arguments=(io bench "$a" "$sectors")
    before=$(ticks "${pid_of[$1]}")
    rate=$("$DMIO_BUILD/tests/bench-control" "$WORK/$1/control" "$2" "$seconds" "${arguments[@]}")
    echo "$rate" >>"$WORK/$1.$3.$2"
    echo $((($(ticks "${pid_of[$1]}") - before) * 100000000 / $(getconf CLK_TCK) / (rate * seconds))) \
        >>"$WORK/$1.$3.$2.cost"
}
mount_reads() { # DEPTH
    timeout 60 fio --name=j --filename="$WORK/now/mnt/bench/disk" --size=$length --rw=randread --bs=4k --iodepth="$1" \
        --ioengine=io_uring --direct=1 --time_based --runtime="$seconds" --norandommap --randrepeat=1 --thread \
        --output-format=json 2>/dev/null | jq '.jobs[0].read.iops'
}
# Bytes a second of a command that moves all of the device, four times.
timed() {
    local begin=${EPOCHREALTIME/./}
    for _ in 1 2 3 4; do "$@" >/dev/null 2>&1 || fail "$*"; done
    echo $((4 * length * 1000000 / (${EPOCHREALTIME/./} - begin)))
}
# The slower of reading the one and writing the other at the same time.
devices() {
    timeout 60 fio --size=$length --bs=1M --iodepth=4 --ioengine=io_uring --direct=1 --time_based --runtime="$seconds" \
        --thread --output-format=json --name=r --rw=read --filename="$a" --name=w --rw=write --filename="$b" \
        2>/dev/null | jq '[.jobs[0].read.bw_bytes, .jobs[1].write.bw_bytes] | min'
}

for ((rep = 0; rep < reps; rep++)); do
    for daemon in "${daemons[@]}"; do
        for n in 1 64; do
            calls "$daemon" $n status
            calls "$daemon" $n io
        done
    done
    for n in 1 64; do mount_reads $n >>"$WORK/mount.$n"; done
    timed dd if="$a" of="$b" bs=1M iflag=direct oflag=direct >>"$WORK/dd"
    for daemon in "${daemons[@]}"; do
        timed "$DMIOCTL" --control="$WORK/$daemon/control" copy bench "$a:0+$sectors" "$b:0+$sectors" \
            >>"$WORK/copy.$daemon"
    done
    devices >>"$WORK/devices"
done

# whole FILE: the median, without a fraction.
whole() { printf '%.0f' "$(median "$1")"; }

echo "$(uname -r), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg), $reps repetitions of $seconds s, medians"
echo
echo "| calls a second | 1 connection | 64 connections |"
echo "|---|---|---|"
for daemon in "${daemons[@]}"; do
    for kind in status io; do
        echo "| $kind, $daemon | $(whole "$WORK/$daemon.$kind.1") | $(whole "$WORK/$daemon.$kind.64") |"
    done
done
echo "| the mount, depth 1 and 64 | $(whole "$WORK/mount.1") | $(whole "$WORK/mount.64") |"
echo "| io / the mount | $(ratio "$(median "$WORK/now.io.1")" "$(median "$WORK/mount.1")") |" \
    "$(ratio "$(median "$WORK/now.io.64")" "$(median "$WORK/mount.64")") |"
for daemon in "${daemons[@]}"; do
    for kind in status io; do
        echo "| µs of a call of $kind, $daemon | $(ratio "$(median "$WORK/$daemon.$kind.1.cost")" 100) |" \
            "$(ratio "$(median "$WORK/$daemon.$kind.64.cost")" 100) |"
    done
done
if [ ${#daemons[@]} = 2 ]; then
    for kind in status io; do
        echo "| $kind, now / before | $(ratio "$(median "$WORK/now.$kind.1")" "$(median "$WORK/before.$kind.1")") |" \
            "$(ratio "$(median "$WORK/now.$kind.64")" "$(median "$WORK/before.$kind.64")") |"
    done
fi
echo
echo "| copy | MiB a second | of the devices |"
echo "|---|---|---|"
limit=$(whole "$WORK/devices")
for what in devices dd "${daemons[@]/#/copy.}"; do
    echo "| $what | $(($(whole "$WORK/$what") / mib)) | $(ratio "$(whole "$WORK/$what")" "$limit") |"
done
