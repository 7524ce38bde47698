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
set -eu -o pipefail
build=$(readlink -f "${DMIO_BUILD:-build}")
reps=${1:-3} seconds=${2:-2}
[ "$(id -u)" = 0 ] || { echo "must be root" >&2 && exit 1; }
[ -x "$build/tests/bench-control" ] || { echo "no $build/tests/bench-control: build first" >&2 && exit 1; }

mib=$((1 << 20)) length=$((512 << 20))
dir=$(mktemp -d /tmp/dmio-bench.XXXXXX) shm=$(mktemp -d /dev/shm/dmio-bench.XXXXXX)
pids=() loops=()
cleanup() {
    local pid i
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
    echo "control.sh: $*" >&2
    cat "$dir"/*.log >&2 || true
    exit 1
}

for name in a b; do
    dd if=/dev/zero of="$shm/$name" bs=$mib count=$((length / mib)) status=none
    loops+=("$(losetup -f --show --direct-io=on "$shm/$name")")
done
a=${loops[0]} b=${loops[1]} sectors=$((length / 512))

# start NAME BUILD: a daemon with a client and an export of the first device.
start() {
    local i
    mkdir "$dir/$1"
    "$2/daemon/dmiod" --config=/dev/null --mount="$dir/$1/mnt" --control="$dir/$1/control" --state="$dir/$1/state" \
        ${DMIO_OPTIONS:-} >"$dir/$1.log" 2>&1 </dev/null &
    pids+=($!) pid_of[$1]=$!
    for ((i = 0; i < 100; i++)); do
        ! [ -S "$dir/$1/control" ] || break
        sleep 0.1
    done
    control=("$build/daemon/dmioctl" --control="$dir/$1/control")
    "${control[@]}" client open bench --pages 16384 --linger >/dev/null || fail "no daemon"
    "${control[@]}" export create bench/disk "$a:0+$sectors" >/dev/null
}
declare -A pid_of
daemons=(now)
[ -z "${DMIO_BUILD_BEFORE:-}" ] || daemons=(before now)
for daemon in "${daemons[@]}"; do
    build_of=$build
    [ "$daemon" = now ] || build_of=$(readlink -f "$DMIO_BUILD_BEFORE")
    start "$daemon" "$build_of"
done

# Processor time of a process, in ticks.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
# The calls of a second, and what one costs the daemon in microseconds of processor time: beside other work
# that says more.
calls() { # DAEMON CONNECTIONS KIND
    local arguments=(status) before rate
    [ "$3" = status ] || arguments=(io bench "$a" "$sectors")
    before=$(ticks "${pid_of[$1]}")
    rate=$("$build/tests/bench-control" "$dir/$1/control" "$2" "$seconds" "${arguments[@]}")
    echo "$rate" >>"$dir/$1.$3.$2"
    echo $((($(ticks "${pid_of[$1]}") - before) * 100000000 / $(getconf CLK_TCK) / (rate * seconds))) \
        >>"$dir/$1.$3.$2.cost"
}
mount_reads() { # DEPTH
    timeout 60 fio --name=j --filename="$dir/now/mnt/bench/disk" --size=$length --rw=randread --bs=4k --iodepth="$1" \
        --ioengine=io_uring --direct=1 --time_based --runtime="$seconds" --norandommap --randrepeat=1 --thread \
        --output-format=json 2>/dev/null | jq '.jobs[0].read.iops'
}
# Bytes a second of a command that moves all of the device, four times.
timed() {
    local begin=${EPOCHREALTIME/./} i
    for i in 1 2 3 4; do "$@" >/dev/null 2>&1 || fail "$*"; done
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
    for n in 1 64; do mount_reads $n >>"$dir/mount.$n"; done
    timed dd if="$a" of="$b" bs=1M iflag=direct oflag=direct >>"$dir/dd"
    for daemon in "${daemons[@]}"; do
        timed "$build/daemon/dmioctl" --control="$dir/$daemon/control" copy bench "$a:0+$sectors" "$b:0+$sectors" \
            >>"$dir/copy.$daemon"
    done
    devices >>"$dir/devices"
done

median() {
    sort -n "$1" | awk '{ v[NR] = $1 } END { printf "%.0f", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

echo "$(uname -r), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg), $reps repetitions of $seconds s, medians"
echo
echo "| calls a second | 1 connection | 64 connections |"
echo "|---|---|---|"
for daemon in "${daemons[@]}"; do
    for kind in status io; do
        echo "| $kind, $daemon | $(median "$dir/$daemon.$kind.1") | $(median "$dir/$daemon.$kind.64") |"
    done
done
echo "| the mount, depth 1 and 64 | $(median "$dir/mount.1") | $(median "$dir/mount.64") |"
echo "| io / the mount | $(ratio "$(median "$dir/now.io.1")" "$(median "$dir/mount.1")") |" \
    "$(ratio "$(median "$dir/now.io.64")" "$(median "$dir/mount.64")") |"
for daemon in "${daemons[@]}"; do
    for kind in status io; do
        echo "| µs of a call of $kind, $daemon | $(ratio "$(median "$dir/$daemon.$kind.1.cost")" 100) |" \
            "$(ratio "$(median "$dir/$daemon.$kind.64.cost")" 100) |"
    done
done
if [ ${#daemons[@]} = 2 ]; then
    for kind in status io; do
        echo "| $kind, now / before | $(ratio "$(median "$dir/now.$kind.1")" "$(median "$dir/before.$kind.1")") |" \
            "$(ratio "$(median "$dir/now.$kind.64")" "$(median "$dir/before.$kind.64")") |"
    done
fi
echo
echo "| copy | MiB a second | of the devices |"
echo "|---|---|---|"
limit=$(median "$dir/devices")
for what in devices dd "${daemons[@]/#/copy.}"; do
    echo "| $what | $(($(median "$dir/$what") / mib)) | $(ratio "$(median "$dir/$what")" "$limit") |"
done
