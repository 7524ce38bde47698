#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Jobs that meet errors, and jobs of dmioctl: which destination fails, what the others have then, a
# source that cannot be read, exit statuses, an interrupt, and a daemon that is stopped meanwhile.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq python3 nbdfuse nbdkit cmp

size=$((4 << 20))
sectors=$((size / 512))
start_dmiod
open_client alice 64
cd "$WORK"
make_image $size source.img >/dev/null
make_image $size good.img >/dev/null
fill source.img 7

dmioctl() {
    "$DMIOCTL" --control="$CONTROL" "$@"
}
# expect_status STATUS WHAT ARGUMENT...: of dmioctl; its outputs are left in out and err.
expect_status() {
    local wanted=$1 what=$2 status=0
    shift 2
    dmioctl "$@" >out 2>err </dev/null || status=$?
    [ "$status" = "$wanted" ] || { cat out err; fail "$what: status $status, not $wanted"; }
    ok "$what"
}
# copy SOURCE DESTINATION... [-- MEMBER:VALUE,...]: all of each; prints the reply.
copy() {
    local from=$1 to=() more=
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        to+=("$1:0+$sectors")
        shift
    done
    [ $# -lt 2 ] || more=,$2
    ctl_ok Copy "{\"client\":\"alice\",\"source\":$(regions "$from:0+$sectors" | jq -c '.[0]'),\"destinations\":$(regions "${to[@]}")$more}"
}
summary() {
    jq -c '[.state, .error_bits, .failed, .read_failed]' <<<"$1"
}

# --- a destination that fails in the middle
bad=$(make_bad_leg $size $((size / 2)) $((size / 2 + 4096)) write)
reply=$(copy "$WORK/source.img" "$WORK/good.img" "$bad" -- '"ignore_errors":true')
expect_eq "its bit is set" "$(summary "$reply")" '["failed","0x2",[1],false]'
expect_eq "with ignore_errors all is tried" "$(jq .done_sectors <<<"$reply")" $sectors
expect "the other destination is complete" cmp source.img good.img
expect "the failed one before the error" cmp -n $((size / 2 - 131072)) source.img "$(image_of "$bad")"
expect "and behind it" cmp -n $((size / 2 - 1048576)) source.img "$(image_of "$bad")" \
    $((size / 2 + 1048576)) $((size / 2 + 1048576))

truncate -s 0 good.img
truncate -s $size good.img
reply=$(copy "$WORK/source.img" "$bad" "$WORK/good.img" -- '"sequential":true')
expect_eq "without it" "$(summary "$reply")" '["failed","0x1",[0],false]'
done_sectors=$(jq .done_sectors <<<"$reply")
expect "it is given up" test "$done_sectors" -lt $sectors
expect "what is told to be done is" cmp -n $((done_sectors * 512)) source.img good.img
expect_eq "sequentially nothing comes behind it" \
    "$(count_others good.img $((size - 1048576)) 1048576 '\0')" 0
expect_eq "it is listed as failed" "$(ctl_ok ListJobs | jq -c '.jobs[-1] | [.kind, .state, .error_bits, .failed]')" \
    '["copy","failed","0x1",[0]]'
expect_eq "zeroes on it" "$(ctl_ok Zero "{\"client\":\"alice\",\"destinations\":$(regions "$bad:0+$sectors")}" |
    jq -c '[.state, .error_bits, .failed, has("read_failed")]')" '["failed","0x1",[0],false]'

# --- a source that fails in the middle
unreadable=$(make_bad_leg $size $((size / 2)) $((size / 2 + 4096)) read)
cp source.img "$(image_of "$unreadable")"
expect_eq "a source that cannot be read" "$(summary "$(copy "$unreadable" "$WORK/good.img")")" \
    '["failed","0x0",[],true]'
fill good.img 8
reply=$(copy "$unreadable" "$WORK/good.img" -- '"ignore_errors":true')
expect_eq "with ignore_errors it is told" "$(summary "$reply")" '["failed","0x0",[],true]'
expect "what can be read is copied" cmp -n $((size / 2 - 524288)) source.img good.img
expect_eq "what cannot is zeroes" "$(count_others good.img $((size / 2)) 4096 '\0')" 0

# --- the same by dmioctl
whole=0+$sectors
expect_status 0 "dmioctl copy" copy alice source.img:$whole good.img:$whole
expect "it says how much" grep -q "4 MiB copied, 1 destination" out
expect "it has copied" cmp source.img good.img
expect_status 4 "some destinations failed" copy alice source.img:$whole good.img:$whole "$bad:$whole" --ignore-errors
expect "it says which" grep -q "destination 1 ($bad:$whole) failed" err
expect_status 1 "all failed" copy alice source.img:$whole "$bad:$whole"
expect_status 1 "the source failed" copy alice "$unreadable:$whole" good.img:$whole --ignore-errors
expect "it says so" grep -q "source ($unreadable:$whole) cannot be read" err
expect_status 1 "sectors of the source" copy alice source.img:0+8 good.img:0+8 source.img:4+8
expect "it says whose" grep -q "destination 1 (source.img:4+8)" err
expect_status 1 "a source that does not fit" copy alice source.img:$sectors+8 good.img:0+8
expect "it says so" grep -q "the source (source.img:$sectors+8)" err
expect_status 0 "copy --json" copy alice source.img:$whole good.img:$whole --json --sequential --throttle=50
expect_eq "a line for each reply" "$(head -n 1 out | jq -r .state) $(tail -n 1 out | jq -r .state)" "running done"
expect_status 0 "dmioctl zero" zero alice good.img:8+8 --throttle 100
expect_eq "zeroes" "$(count_others good.img 4096 4096 '\0')" 0
expect "and nothing else" cmp -n 4096 source.img good.img
expect_status 0 "job list" job list
expect "it has them all" test "$(wc -l <out)" -ge 10
expect_status 0 "job list --json" job list --json
expect_eq "as JSON" "$(jq '.jobs | map(select(.kind == "zero")) | length' <out)" 2
expect_status 1 "job cancel of none" job cancel 999
expect "it says so" grep -q "no job 999" err
for usage in "copy alice source.img:0+8" "copy alice source.img:0+8 good.img:0+8 --throttle=0" \
    "copy alice source.img:0+8 good.img:0+8 --throttle=101" "zero alice" "job cancel x" \
    "zero alice good.img:0+8 --sequential" "zero alice $(printf 'good.img:%d+1 ' 0 1 2 3 4 5 6 7 8)"; do
    # shellcheck disable=SC2086 # words
    expect_status 2 "usage: \"$usage\"" $usage
done

# --- an interrupt cancels the job, a second client is told so by the list
truncate -s 512M long.img
truncate -s 512M long2.img
runs() {
    [ "$(ctl_ok ListJobs | jq '.jobs | map(select(.state == "running" and .done_sectors > 0)) | length')" = "$1" ]
}
# start_long: a copy by dmioctl that does not end by itself, its process in $LONG
start_long() {
    # By another shell that resets what bash ignores for its background children.
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' "$DMIOCTL" --control="$CONTROL" copy alice \
        long.img:0+512MiB long2.img:0+512MiB --throttle 1 >out 2>err </dev/null &
    LONG=$!
    wait_for 20 runs 1
}
ends_with() {
    local wanted=$1 status=0
    wait_for 10 process_is_gone "$LONG"
    wait "$LONG" || status=$?
    [ "$status" = "$wanted" ]
}
start_long
expect_status 0 "another client" client open bob --linger --pages 8
expect_status 1 "an export of its sectors" export create bob/vol long2.img:0+8
expect "it says who is busy" grep -q "job of 'alice' is busy with region 0 (long2.img:0+8)" err
kill -INT "$LONG"
expect "an interrupt: refused" ends_with 1
expect "it says that it was cancelled" grep -q "was cancelled" err
expect_eq "it was" "$(ctl_ok ListJobs | jq -r '.jobs[-1].state')" cancelled

start_long
expect_status 0 "job cancel" job cancel "$(ctl_ok ListJobs | jq '.jobs[-1].job')"
expect "whoever waits for it hears that" ends_with 1

start_long
kill -KILL "$LONG"
wait "$LONG" 2>/dev/null || true
expect "one whose dmioctl is killed goes on, since its client lingers" runs 1

# --- a stop cancels what runs, and does not wait for it to be done
ctl_ok CancelJob "{\"job\":$(ctl_ok ListJobs | jq '.jobs[-1].job')}" >/dev/null
wait_for 20 runs 0
start_long
began=$EPOCHSECONDS
expect "the daemon stops" stop_dmiod
expect "without waiting for the job" test $((EPOCHSECONDS - began)) -lt 8
expect "which is cancelled" ends_with 1
expect "as its dmioctl is told" grep -q "was cancelled" err
