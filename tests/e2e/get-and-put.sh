#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The pool of the daemon is what its clients have reserved: counted exactly, bounded, and given back
# to the system when they put it or go.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq

start_dmiod --max-pages=200000

pool() {
    ctl_ok Status | jq ".pool.$1"
}
pages() {
    ctl_ok "$1" "{\"client\":\"$2\",\"pages\":$3}" | jq .pages
}

# What the daemon itself needs to receive requests is reserved and in use all the time.
floor=$(pool total)
own=$(pool reserved)
idle=$(pool in_use)
expect "the daemon's own share is small ($own pages)" test "$own" -le 2048
expect_eq "the limit" "$(pool limit)" 200000
expect_eq "a reservation" "$(ctl_ok OpenClient '{"name":"a","pages":100,"linger":true}' | jq .client.pages)" 100
expect_eq "is counted" "$(pool reserved)" $((own + 100))
expect_eq "get answers the sum" "$(pages Get a 28)" 128
open_client b 0
expect_eq "another client" "$(pages Get b 1000)" 1000
expect_eq "both are counted" "$(pool reserved)" $((own + 1128))
expect "the pool has them" test "$(pool total)" -ge 1128
expect_eq "put answers the rest" "$(pages Put b 999)" 1
expect_refused "more than was got" NotReserved Put '{"client":"b","pages":2}'
expect_refused "more than the limit" PoolExhausted Get '{"client":"b","pages":200000}'
expect_eq "it says what there is" "$(jq -c .parameters <<<"$REPLY_JSON")" \
    "{\"requested\":200000,\"available\":$((200000 - 129 - own))}"
expect_eq "nothing has changed" "$(pool reserved)" $((own + 129))
expect_eq "clients say the same" \
    "$(ctl_ok ListClients | jq -c '.clients | map([.name, .pages, .waits]) | sort')" '[["a",128,0],["b",1,0]]'

# --- memory goes back
image=$(make_image 64M)
file=$(create_export a vol "$image:0+131072")
round() {
    pages Get b 65536 >/dev/null # 256 MiB
    dd if=/dev/zero of="$file" bs=1M count=64 conv=notrunc status=none
    pages Put b 65536 >/dev/null
}
for _ in 1 2; do round; done
before=$(dmiod_rss_kib)
for _ in 1 2 3 4 5; do round; done
after=$(dmiod_rss_kib)
if is_sanitized "$DMIOD"; then
    skip_case "memory figures: the sanitizer keeps memory"
else
    expect "five more rounds do not make it grow ($before, $after KiB)" test "$after" -lt $((before + 8192))
fi
expect_eq "reserved as before" "$(pool reserved)" $((own + 129))
expect_eq "nothing is in use" "$(pool in_use)" "$idle"

# --- clients that go give back what they have
ctl_ok CloseClient '{"name":"a"}' >/dev/null
expect_eq "a is gone" "$(pool reserved)" $((own + 1))
ctl_ok CloseClient '{"name":"b"}' >/dev/null
expect_eq "b is gone" "$(pool reserved)" "$own"
expect_eq "the pool is as small as it was" "$(pool total)" "$floor"
for ((i = 0; i < 50; i++)); do
    printf '{"method":"io.dmiod.OpenClient","parameters":{"name":"c%d","pages":64}}\n' $i
done | socat -t20 - "UNIX-CONNECT:$CONTROL" | grep -c '"parameters":{"client"' >"$WORK/opened"
expect_eq "fifty clients of one connection" "$(cat "$WORK/opened")" 50
nothing_reserved() {
    [ "$(pool reserved)" = "$own" ]
}
wait_for 10 nothing_reserved
expect_eq "have put their pages when it is closed" "$(ctl_ok ListClients | jq '.clients | length')" 0
