#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Io with region lists, as a script sends it: a failing leg between two good ones, 64 legs of which
# every third fails, data and fill, reads, flush, discard and zeroes, and an export whose leg fails.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq nbdfuse nbdkit base64

a=$(make_image 1M a.img)
b=$(make_image 1M b.img)
small=$(make_image 4K small.img)
bad=$(make_bad_leg 1048576 65536 131072 both)
start_dmiod
open_client alice 64

io() {
    ctl_ok Io "{\"client\":\"alice\",\"op\":\"$1\",\"regions\":$2${3:+,$3}}"
}
sectors_at() {
    bytes_at "$1" $(($2 * 512)) $(($3 * 512))
}

# --- one bad leg between two good ones
reply=$(io write "$(regions "$a:8+16" "$bad:128+16" "$b:40+16")" '"memory":{"fill":90}')
expect_eq "the bad leg's bit" "$(jq -r .error_bits <<<"$reply")" 0x2
expect_eq "its index" "$(jq -c .failed <<<"$reply")" '[1]'
expect_eq "its errno and sector" "$(jq -c '.errors | map([.region, .errno, .sector])' <<<"$reply")" \
    '[[1,"EIO",128]]'
expect_eq "leg 0 is written" "$(sectors_at "$a" 8 16 | tr -d Z | wc -c)" 0
expect_eq "leg 2 is written" "$(sectors_at "$b" 40 16 | tr -d Z | wc -c)" 0
expect_eq "and no more than that" "$(cat "$a" "$b" | tr -d '\0' | wc -c)" 16384

reply=$(io write "$(regions "$a:8+16" "$bad:0+16" "$b:40+16")" '"memory":{"fill":89}')
expect_eq "its good sectors are good" "$(jq -c '[.error_bits, .failed, .errors]' <<<"$reply")" \
    '["0x0",[],[]]'
expect_eq "and written" "$(sectors_at "$(image_of "$bad")" 0 16 | tr -d Y | wc -c)" 0
reply=$(io write "$(regions "$bad:120+16")" '"memory":{"fill":1}')
expect_eq "across the edge: failed" "$(jq -r .error_bits <<<"$reply")" 0x1
reply=$(io read "$(regions "$bad:128+8")")
expect_eq "a read that fails" "$(jq -c '[.error_bits, .failed]' <<<"$reply")" '["0x1",[0]]'

# --- every third of 64
legs=() wanted=0 failed=()
for ((i = 0; i < 64; i++)); do
    if ((i % 3 == 0)); then
        legs+=("$small:$((4 + i))+8") # past its end, or across it
        wanted=$((wanted | 1 << i))
        failed+=("$i")
    else
        legs+=("$a:$((200 + i * 16))+8")
    fi
done
reply=$(io write "$(regions "${legs[@]}")" '"memory":{"fill":66}')
expect_eq "every third: the bits" "$(jq -r .error_bits <<<"$reply")" "$(printf '0x%x' $wanted)"
expect_eq "every third: the indexes" "$(jq -r '.failed | join(" ")' <<<"$reply")" "${failed[*]}"
expect_eq "every third: the errno" "$(jq -r '[.errors[].errno] | unique | join(" ")' <<<"$reply")" ENOSPC
for ((i = 0; i < 64; i++)); do
    ((i % 3 == 0)) || [ "$(sectors_at "$a" $((200 + i * 16)) 8 | tr -d B | wc -c)" = 0 ] || fail "leg $i"
done
ok "every third: the others are written"
expect_eq "every third: the small image is untouched" "$(tr -d '\0' <"$small" | wc -c) $(stat -c %s "$small")" \
    "0 4096"

# --- data
head -c 5120 /dev/urandom >"$WORK/data"
io write "$(regions "$b:100+10" "$a:9+3")" "\"memory\":{\"data\":\"$(base64 -w0 "$WORK/data")\"}" >/dev/null
expect "data is written" cmp <(sectors_at "$b" 100 10) "$WORK/data"
expect "a shorter leg has its beginning" cmp <(sectors_at "$a" 9 3) <(head -c 1536 "$WORK/data")
reply=$(io read "$(regions "$b:100+10")")
expect "and read back" cmp <(jq -r .data <<<"$reply" | base64 -d) "$WORK/data"

# --- without memory
expect_eq "flush" "$(io flush "$(regions "$a:0+0")" | jq -r .error_bits)" 0x0
expect_eq "flush of several" "$(io flush "$(regions "$a:0+0" "$b:0+0")" | jq -r .error_bits)" 0x0
expect_eq "zeroes" "$(io write_zeroes "$(regions "$b:102+2" "$a:8+2")" | jq -r .error_bits)" 0x0
expect "exactly there" cmp <(sectors_at "$b" 100 10) \
    <(head -c 1024 "$WORK/data"; head -c 1024 /dev/zero; tail -c +2049 "$WORK/data")
expect_eq "discard" "$(io discard "$(regions "$b:400+64")" | jq -r .error_bits)" 0x0
expect_eq "preflush and fua" \
    "$(io write "$(regions "$b:500+8")" '"memory":{"fill":1},"preflush":true,"fua":true' | jq -r .error_bits)" 0x0

# --- an export with a leg that fails
file=$(create_export alice vol "$a:1200+256" "$bad:100+256" "$b:1200+256")
expect "a write to good sectors" dd if=/dev/zero of="$file" bs=4096 count=1 conv=notrunc,fsync status=none
expect "a write that one leg cannot take is done by the others" \
    dd if=/dev/urandom of="$file" bs=128K count=1 conv=notrunc,fsync status=none
expect "they are equal" cmp -n 131072 "$a" "$b" 614400 614400
expect "and reads go on" cmp -n 131072 "$file" "$a" 0 614400
leg=$(ctl_ok ListExports '{"client":"alice"}' | jq -c '.exports[0].legs | map([.state, .last_error])')
expect_eq "the leg is named" "$leg" '[["active",null],["failed","EIO"],["active",null]]'
expect_eq "by the file, too" "$(getfattr --absolute-names --only-values -n user.dmio.failed "$file")" 1
expect_eq "and its state" "$(getfattr --absolute-names --only-values -n user.dmio.state "$file")" degraded
dd if=/dev/urandom of="$file" bs=4096 count=1 conv=notrunc,fsync status=none
expect_not "a leg that missed a write gets no more" cmp -s -n 4096 "$(image_of "$bad")" "$a" 51200 614400

# A read error of one leg is not the reader's.
other=$(make_bad_leg 1048576 0 4096 read)
fill "$(image_of "$other")" 3
dd if="$(image_of "$other")" of="$b" bs=512 seek=0 count=256 conv=notrunc status=none
file=$(create_export alice reads "$other:0+256" "$b:0+256")
expect "a read error is made good by another leg" cmp -n 131072 "$file" "$b"
