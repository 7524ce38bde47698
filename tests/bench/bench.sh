# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash disable=SC2034 # what is set here is used by who begins with it
#
# What every benchmark begins with:   . "$(dirname "$0")/bench.sh"
#
# The tests' common.sh, so that what is made goes when it ends; and what benchmarks share. They are no
# tests: they print tables for docs/performance.md.
. "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
require_root
require_loop
require_cmd fio jq

# Memory, so that no disk takes part.
RAM=$(mktemp -d /dev/shm/dmio-bench.XXXXXX)
defer rm -rf --one-file-system "$RAM"

on_failure() {
    tail -n 20 "$WORK"/*.log
}

# require_built FILE: below the build.
require_built() {
    [ -x "$DMIO_BUILD/$1" ] || fail "there is no $DMIO_BUILD/$1: build first, or set DMIO_BUILD"
}

# make_ram_loop MIB: a loop device whose bytes are there, for O_DIRECT; prints its path.
make_ram_loop() {
    local file
    file=$(mktemp "$RAM/device.XXXXXX")
    dd if=/dev/zero of="$file" bs=1M count="$1" status=none
    make_loop "$file" 512 --direct-io=on
}

# start NAME COMMAND...: in the background; its process is ${pid_of[NAME]}, and $WORK/NAME.log its log.
declare -A pid_of
start() {
    local name=$1
    shift
    "$@" >"$WORK/$name.log" 2>&1 </dev/null &
    pid_of[$name]=$!
    defer end_process $!
}

# start_bench_daemon NAME BUILD [OPTION...]: one of its own, everything below $WORK/NAME, with a client
# "bench"; control is dmioctl for it.
start_bench_daemon() {
    local name=$1 build=$2
    shift 2
    mkdir "$WORK/$name"
    # shellcheck disable=SC2086 # several options
    start "$name" "$build/daemon/dmiod" --config=/dev/null --mount="$WORK/$name/mnt" \
        --control="$WORK/$name/control" --state="$WORK/$name/state" "$@" ${DMIO_OPTIONS:-}
    control=("$DMIOCTL" --control="$WORK/$name/control")
    wait_for 20 "${control[@]}" status
    "${control[@]}" client open bench --pages 16384 --linger >/dev/null
}

# ticks PID: processor time, in clock ticks.
ticks() {
    awk '{ print $14 + $15 }' "/proc/$1/stat"
}

# median FILE: of the numbers in it.
median() {
    sort -n "$1" | awk '{ v[NR] = $1 }
        END { printf "%.10g\n", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

ratio() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'
}
