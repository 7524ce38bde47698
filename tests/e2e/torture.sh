#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Random operations of several processes against what must come of them (tests/torture), on exports
# of one, two and three legs over image files of several file systems and loop devices of both sector
# sizes, with one queue thread and two, and with each back-end. Afterwards all legs are equal.
#
#   torture.sh [OPERATIONS [SEED]]     of each of eight processes
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq cmp

operations=${1:-160}
seed=${2:-$((RANDOM * 32768 + RANDOM))}
TORTURE=$DMIO_BUILD/tests/torture/torture
SIZE=2097152
SECTORS=$((SIZE / 512))
LIMIT=$((20 + operations / 10))

# A file system whose files the daemon cannot open with O_DIRECT, or that it serves without asking.
mkdir "$WORK/ram"
mount -t tmpfs tmpfs "$WORK/ram"
for name in a b c d; do make_image 4M "$name.img" >/dev/null; done
truncate -s 4M "$WORK/ram/e.img" "$WORK/ram/f.img"

# What each kind is made of, DEVICE:SECTOR; where the bytes lie is image[DEVICE].
declare -A legs image
for name in a b; do image[$WORK/$name.img]=$WORK/$name.img; done
for name in e f; do image[$WORK/ram/$name.img]=$WORK/ram/$name.img; done
legs=(
    [image]="$WORK/a.img:3"
    [ram]="$WORK/ram/e.img:8 $WORK/ram/f.img:1001"
    [mixed]="$WORK/a.img:1 $WORK/ram/e.img:9 $WORK/b.img:77"
)
kinds=(image ram mixed)
if losetup -f >/dev/null 2>&1; then
    small=$(make_loop "$WORK/c.img")
    large=$(make_loop "$WORK/d.img" 4096)
    image[$small]=$WORK/c.img
    image[$large]=$WORK/d.img
    legs[loops]="$small:16 $large:8"
    legs[three]="$WORK/a.img:8 $large:16 $small:24"
    kinds+=(loops three)
else
    skip_case "on loop devices: there is none for us"
fi

# run WHAT FILE MODE OPTION...
run() {
    local what=$1 file=$2 mode=$3
    shift 3
    expect "$what: $mode $*" timeout $LIMIT "$TORTURE" --seed="$seed" --operations="$operations" \
        "$@" "$mode" "$file"
}

# same FILE LEG...: each leg has what the file has
same() {
    local file=$1 leg device
    shift
    for leg; do
        device=${leg%:*}
        cmp -n $SIZE "$file" "${image[$device]}" 0 $((${leg##*:} * 512)) || return 1
    done
}

# try WHAT KIND [WAYS]
try() {
    local what=$1 kind=$2 ways=${3:-bds} file leg list=()
    for leg in ${legs[$kind]}; do list+=("$leg+$SECTORS"); done
    file=$(create_export alice "$kind" "${list[@]}")
    # shellcheck disable=SC2086 # a list
    {
        run "$what, $kind" "$file" lanes --processes=8 --ways="$ways"
        expect "$what, $kind: the legs are equal" same "$file" ${legs[$kind]}
        run "$what, $kind" "$file" overlap --processes=6 --ways=bd
        expect "$what, $kind: the legs are equal" same "$file" ${legs[$kind]}
        run "$what, $kind" "$file" torn --operations=$((operations * 4)) --processes=4 --ways=b
        expect "$what, $kind: the legs are equal" same "$file" ${legs[$kind]}
    }
    ctl_ok RemoveExport "{\"client\":\"alice\",\"name\":\"$kind\"}" >/dev/null
}

printf 'the seed is %s\n' "$seed"
start_dmiod --queues=1
open_client alice 256
for kind in "${kinds[@]}"; do try "one queue" "$kind"; done
expect "stop" stop_dmiod

start_dmiod --queues=2
open_client alice 256
for kind in ram "${kinds[-1]}"; do try "two queues" "$kind"; done

# --- a leg fails under fire, in its writes only: who reads it afterwards reads stale bytes
if command -v nbdfuse >/dev/null && command -v nbdkit >/dev/null; then
    for failing in 0 1; do
        bad=$(make_fallible_leg 4194304)
        list=("$bad:8+$SECTORS" "$WORK/b.img:8+$SECTORS")
        [ $failing = 0 ] || list=("${list[1]}" "${list[0]}")
        file=$(create_export alice failing "${list[@]}")
        "$TORTURE" --seed="$seed" --operations="$operations" --processes=8 --ways=bd lanes "$file" \
            >"$WORK/lanes.log" 2>&1 &
        torture=$!
        defer end_process $torture
        has_begun() {
            [ "$(count_others "$WORK/b.img" 2000000 97152 '\0')" != 0 ]
        }
        wait_for 20 has_begun
        fail_leg "$bad"
        wait $torture || { cat "$WORK/lanes.log" && fail "leg $failing fails under fire"; }
        expect_eq "leg $failing has failed" \
            "$(ctl_ok ListExports | jq -r ".exports[0].legs[$failing] | .state + \" \" + .last_error")" "failed EIO"
        ok "under fire, and nobody has read a stale byte"
        expect "leg $failing: the other one has what the file has" cmp -n $SIZE "$file" "$WORK/b.img" 0 4096
        ctl_ok RemoveExport '{"client":"alice","name":"failing"}' >/dev/null
        truncate -s 0 "$WORK/b.img"
        truncate -s 4M "$WORK/b.img"
    done
else
    skip_case "a leg that fails under fire: needs nbdfuse and nbdkit"
fi
expect "stop" stop_dmiod

start_dmiod --queues=2 --backend=threads
open_client alice 256
for kind in ram "${kinds[-1]}"; do try "threads" "$kind"; done
file=$(create_export alice hot "$WORK/ram/e.img:0+1024")
run "threads, hot" "$file" torn --operations=$((operations * 12)) --processes=8 --ways=b
expect "stop" stop_dmiod
