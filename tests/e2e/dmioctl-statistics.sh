#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dmioctl statistics, metrics and fault: known operations, and what is said of them; metrics as
# promtool takes them; the drills of the manual; and that a stop does not wait for what a drill holds.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/dmioctl.sh"
require_root
require_fuse
require_cmd socat jq

# row NAME PART OPERATION: count, errors and bytes, as the table has them.
row() {
    awk -v name="$1" -v part="$2" -v operation="$3" '
        $1 == name && ($2 == part || $2 " " $3 == part) {
            shift = part ~ / /
            if ($(3 + shift) == operation) print $(4 + shift), $(5 + shift), $(6 + shift), $(7 + shift)
        }' "$WORK/out"
}
# metric LINE: its value, with the labels as they stand there.
metric() {
    NAME=$1 awk 'index($0, ENVIRON["NAME"] " ") == 1 { print $NF }' "$WORK/metrics"
}

for verb in statistics metrics top "fault add" "fault list" "fault release" "fault remove"; do
    # shellcheck disable=SC2086 # one or two words
    expect "$verb --help has an example" grep -qF "dmioctl ${verb% add}" <<<"$(dmioctl $verb --help)"
    expect "--help names $verb" grep -q "^  $verb" <<<"$(dmioctl --help)"
done
for verb in statistics metrics "top --once" top "fault list"; do
    # shellcheck disable=SC2086 # words
    expect_status 3 "no daemon: $verb" $verb
    expect "it says what to do" grep -q "start it with" "$WORK/err"
done

echo "[daemon]
drills = yes" >"$WORK/dmiod.conf"
start_dmiod
expect_status 0 "nothing has been done" statistics
expect_eq "it says so" "$(cat "$WORK/out")" "nothing has been done yet"

# A name that a label has to escape; JSON and the table have it as it is.
a=$(make_image 4M a.img) odd=$WORK/'o"d\d'
truncate -s 4M "$odd"
expect_status 0 "client open" client open alice --linger
expect_status 0 "export create" export create alice/vol "$a:0+2MiB" "$odd:0+2MiB"
path=$(cat "$WORK/out")
dd if=/dev/zero of="$path" bs=4k count=16 conv=notrunc oflag=direct status=none
dd if="$path" of=/dev/null bs=64k count=3 iflag=direct status=none
dmioctl io write alice "$a:2MiB+8" --fill 1 >"$WORK/log"
dmioctl copy alice "$a:0+8" "$a:2MiB+8" >"$WORK/log"

# --- statistics
expect_status 0 "statistics" statistics
expect_eq "writes of the file" "$(row alice/vol file write)" "16 0 64 KiB"
expect_eq "reads of the file" "$(row alice/vol file read)" "3 0 192 KiB"
expect_eq "writes of leg 1" "$(row alice/vol "leg 1" write)" "16 0 64 KiB"
expect_eq "no reads of leg 1" "$(row alice/vol "leg 1" read)" ""
expect_eq "all of the client" "$(row alice exports write)" "16 0 64 KiB"
expect_eq "its calls" "$(row alice calls write)" "1 0 4 KiB"
expect_eq "its jobs" "$(row alice jobs copy)" "1 0 4 KiB"
expect_status 0 "statistics CLIENT --json" statistics alice --json
expect_eq "the same numbers" \
    "$(jq -c '.exports[0].legs[1].operations[] | [.operation, .count, .bytes]' "$WORK/out")" '["write",16,65536]'
expect_eq "the device as it is" "$(jq -r '.exports[0].legs[1].leg.region.device' "$WORK/out")" "$odd"
expect_status 1 "no such client" statistics bob
expect "it says what to do" grep -q "dmioctl client list" "$WORK/err"

# --- metrics
expect_status 0 "metrics" metrics
cp "$WORK/out" "$WORK/metrics"
if command -v promtool >/dev/null; then
    expect "promtool has nothing to say" promtool check metrics <"$WORK/metrics"
    expect_eq "not even a warning" "$(promtool check metrics <"$WORK/metrics" 2>&1)" ""
else
    skip_case "promtool: it is not there"
fi
expect_eq "a counter" "$(metric 'dmiod_export_operation_bytes_total{client="alice",export="vol",operation="write"}')" 65536
# shellcheck disable=SC1003 # no attempt to escape a quote
escaped=$(sed 's/["\\]/\\&/g' <<<"$odd")
leg="client=\"alice\",export=\"vol\",leg=\"1\",device=\"$escaped\""
expect_eq "a label that is escaped" "$(metric "dmiod_leg_active{$leg}")" 1
expect_eq "a histogram's count" "$(metric "dmiod_leg_operation_duration_seconds_count{$leg,operation=\"write\"}")" 16
expect_eq "is its last bucket" \
    "$(metric "dmiod_leg_operation_duration_seconds_bucket{$leg,operation=\"write\",le=\"+Inf\"}")" 16
expect_eq "pages are bytes" "$(metric dmiod_pool_reserved_bytes)" 1048576
expect_eq "no bucket is below the one before" "$(awk -F'[ ]' '/_bucket/ {
        series = $0; sub(/,?le="[^"]*"} .*/, "", series)
        if (series == last && $NF < value) print; last = series; value = $NF }' "$WORK/metrics")" ""
expect_eq "seconds fit the microseconds" "$(dmioctl statistics --json | jq '.exports[0].operations[] |
        select(.operation == "write").total_us')" \
    "$(metric 'dmiod_export_operation_duration_seconds_sum{client="alice",export="vol",operation="write"}' |
        awk '{ printf "%d", $1 * 1000000 + 0.5 }')"

# --- faults
for usage in "add alice/vol 0" "add alice/vol x error --errno EIO" "add alice 0 error --errno EIO" \
    "add alice/vol 0 explode" "add alice/vol 0 error" "add alice/vol 0 delay --delay 20min" \
    "add alice/vol 0 hold --errno EIO" "add alice/vol 0 hold --range 8" "add alice/vol 0 hold --times x" \
    "add alice/vol 0 short --bytes 1XB" "remove" "remove x" "release 1 2" "list a b"; do
    # shellcheck disable=SC2086 # words
    expect_status 2 "usage: fault $usage" fault $usage
    expect "it points at the help" grep -q -- "--help" "$WORK/err"
done
expect_status 1 "a leg that there is not" fault add alice/vol 2 hold
expect_status 1 "a fault that there is not" fault remove 4711
expect "it says what to do" grep -q "dmioctl fault list" "$WORK/err"
expect_status 0 "none yet" fault list
expect_eq "it says so" "$(cat "$WORK/out")" "no faults"

expect_status 0 "fault add delay" fault add alice/vol 1 delay --delay 20ms --op write --range 4KiB+8 --skip 1 --times 2
slow=$(cat "$WORK/out")
dd if=/dev/zero of="$path" bs=4k count=4 conv=notrunc oflag=direct status=none
dd if=/dev/zero of="$path" bs=4k count=4 conv=notrunc oflag=direct status=none
dd if=/dev/zero of="$path" bs=4k count=4 conv=notrunc oflag=direct status=none
expect_status 0 "fault list" fault list alice
expect_match "all that there is to know" "$(tail -n 1 "$WORK/out" | tr -s ' ')" \
    "* $slow alice/vol 1 delay write 20.0 ms, sectors 8+8, skip 1, times 2 3 2 0"
slow_ones='.exports[0].legs[1].operations[] | select(.operation == "write").latency |
    map(select((.upto_us // 1e9) >= 20000).count) | add // 0'
expect "two writes of 20 ms in the histogram" test "$(dmioctl statistics --json | jq "$slow_ones")" -ge 2
expect_status 0 "fault remove" fault remove "$slow"

expect_status 0 "fault add error" fault add alice/vol 0 error --errno EIO --op read
dd if="$path" of=/dev/null bs=4k count=5 iflag=direct status=none
expect_status 0 "reads are served by the other leg" statistics
expect_eq "the errors of the one" "$(row alice/vol "leg 0" read)" "8 5 192 KiB"
expect_eq "the bytes of the other" "$(row alice/vol "leg 1" read)" "5 0 20 KiB"
expect_status 0 "fault add error on writes" fault add alice/vol 1 error --errno EIO --op write-zeroes
expect "zeroes" fallocate --punch-hole --offset 0 --length 4096 "$path"
dmioctl metrics >"$WORK/metrics"
expect_eq "the leg has failed" "$(metric "dmiod_leg_active{$leg}")" 0
expect_eq "an error" "$(metric "dmiod_leg_operation_errors_total{$leg,operation=\"write_zeroes\"}")" 1

# --- a stop lets go what is held
expect_status 0 "fault add hold" fault add alice/vol 0 hold --op write
dd if=/dev/zero of="$path" bs=4k count=1 conv=notrunc oflag=direct status=none &
writer=$!
is_held() {
    [ "$(dmioctl fault list --json | jq '[.faults[].held] | add')" = 1 ]
}
wait_for 10 is_held
expect_status 0 "fault release" fault release "$(dmioctl fault list --json | jq '.faults[-1].fault')"
expect_match "it tells how many" "$(cat "$WORK/out")" "fault *: 1 let go"
expect "the writer goes on" wait $writer
dd if=/dev/zero of="$path" bs=4k count=1 conv=notrunc oflag=direct status=none &
writer=$!
wait_for 10 is_held
expect "the daemon stops" stop_dmiod
expect "the writer has gone on" wait $writer

# --- and without drills
: >"$WORK/dmiod.conf"
start_dmiod
expect_status 0 "client open" client open alice --linger
expect_status 0 "export create" export create alice/vol "$a:0+2MiB"
expect_status 1 "by default there are no drills" fault add alice/vol 0 hold
expect "it says what to do" grep -q "drills = yes" "$WORK/err"
expect "and stops" stop_dmiod
