#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Every error has its name and says which field it is about; nothing has changed after it. Names,
# regions, limits, exports that are open, and what forced removal does to who has them open.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq python3

start_dmiod
a=$(make_image 1M a.img)
b=$(make_image 1M b.img)
open_client alice 64
open_client bob 0
file=$(create_export alice vol "$a:0+256")

parameter() {
    jq -r ".parameters.$1" <<<"$REPLY_JSON"
}

# --- names
long=$(printf 'n%.0s' {1..64})
for name in x "$long" 0.1 A-b_c.D -x _ ---; do
    expect "the name \"$name\" is good" open_client "$name" 0
    ctl_ok CloseClient "{\"name\":\"$name\"}" >/dev/null
    expect "for an export, too" test -f "$(create_export bob "$name" "$a:300+8")"
    ctl_ok RemoveExport "{\"client\":\"bob\",\"name\":\"$name\"}" >/dev/null
done
for name in "" "${long}n" .hidden . .. a/b "a b" 'a\nb' "ä" "a:b" "a+b" '*'; do
    expect_refused "the name \"$name\" is not good" org.varlink.service.InvalidParameter \
        OpenClient "{\"name\":\"$name\",\"pages\":0}"
    expect_eq "the error names the parameter" "$(parameter parameter)" name
    expect_refused "nor for an export" org.varlink.service.InvalidParameter \
        CreateExport "{\"client\":\"bob\",\"name\":\"$name\",\"regions\":$(regions "$a:300+8")}"
    expect_eq "here neither" "$(parameter parameter)" name
done
expect_refused "a client is there once" ClientExists OpenClient '{"name":"alice","pages":1}'
expect_eq "it says which" "$(parameter name)" alice
expect_refused "an export, too" ExportExists \
    CreateExport "{\"client\":\"alice\",\"name\":\"vol\",\"regions\":$(regions "$a:300+8")}"
expect_refused "no such client" NoSuchClient Get '{"client":"carol","pages":1}'
expect_eq "it says which one" "$(parameter name)" carol
expect_refused "no such client to close" NoSuchClient CloseClient '{"name":"carol"}'
expect_refused "no such export" NoSuchExport RemoveExport '{"client":"alice","name":"nothing"}'

# --- regions of an export
create() {
    printf '{"client":"bob","name":"try","regions":%s}' "$1"
}
refuse_region() {
    expect_refused "$1" InvalidRegion CreateExport "$(create "$(regions "${@:3}")")"
    expect_eq "the error names region $2" "$(parameter region)" "$2"
    [ -n "$(parameter reason)" ] || fail "no reason"
}
refuse_region "a region past the end" 0 "$a:2048+1"
refuse_region "a region across the end" 1 "$a:300+16" "$b:2040+16"
refuse_region "an empty region" 0 "$a:300+0"
refuse_region "legs of different lengths" 1 "$a:300+8" "$b:0+16"
refuse_region "legs that overlap each other" 1 "$a:300+8" "$a:304+8"
refuse_region "a sector that no device has" 0 "$a:9007199254740000+8"
expect_refused "no leg at all" org.varlink.service.InvalidParameter CreateExport "$(create '[]')"
legs=()
for ((i = 0; i < 65; i++)); do legs+=("$a:$((300 + i))+1"); done
expect_refused "65 legs" org.varlink.service.InvalidParameter \
    CreateExport "$(create "$(regions "${legs[@]}")")"
expect "64 legs" test -f "$(create_export bob many "${legs[@]:0:64}")"
expect_refused "sectors of another export" RegionBusy CreateExport "$(create "$(regions "$b:0+8" "$a:250+8")")"
expect_eq "it says which region" "$(parameter region)" 1
expect_eq "and whose" "$(parameter client)/$(parameter name)" alice/vol
expect_refused "a device that is not there" NoSuchDevice CreateExport "$(create "$(regions "$WORK/none:0+8")")"
expect_refused "a folder is no device" DeviceError CreateExport "$(create "$(regions "$WORK:0+8")")"
expect_refused "a character device neither" DeviceError CreateExport "$(create "$(regions "/dev/null:0+8")")"
mkfifo "$WORK/fifo"
expect_refused "nor a pipe, and it does not hang" DeviceError CreateExport "$(create "$(regions "$WORK/fifo:0+8")")"
expect_refused "an unknown kind of cache" org.varlink.service.InvalidParameter \
    CreateExport "{\"client\":\"bob\",\"name\":\"try\",\"regions\":$(regions "$b:0+8"),\"cache\":\"some\"}"
expect_eq "the parameter is named" "$(parameter parameter)" cache
expect_not "nothing has been made" test -e "$MOUNT/bob/try"

# --- Io
io() {
    printf '{"client":"bob","op":"%s","regions":%s%s}' "$1" "$2" "${3:+,$3}"
}
expect_refused "another's sectors" RegionBusy Io "$(io write "$(regions "$a:0+8")" '"memory":{"fill":1}')"
expect_refused "to read, too" RegionBusy Io "$(io read "$(regions "$a:0+8")")"
expect_refused "a read of two regions" org.varlink.service.InvalidParameter \
    Io "$(io read "$(regions "$b:0+8" "$b:8+8")")"
expect_refused "65 regions" org.varlink.service.InvalidParameter \
    Io "$(io write "$(regions "${legs[@]}")" '"memory":{"fill":1}')"
expect_refused "no such operation" org.varlink.service.InvalidParameter \
    Io "$(io scribble "$(regions "$b:0+8")" '"memory":{"fill":1}')"
expect_eq "the parameter is named" "$(parameter parameter)" op
expect_refused "a write without memory" InvalidMemory Io "$(io write "$(regions "$b:0+8")")"
expect_refused "two kinds of memory" InvalidMemory \
    Io "$(io write "$(regions "$b:0+8")" '"memory":{"fill":1,"data":"AAAA"}')"
expect_refused "data that is too short" InvalidMemory \
    Io "$(io write "$(regions "$b:0+8")" '"memory":{"data":"AAAA"}')"
expect_refused "what is not base64" InvalidMemory \
    Io "$(io write "$(regions "$b:0+1")" '"memory":{"data":"*"}')"
for fill in 256 -1 1.5 '"x"'; do
    REPLY_JSON=$(ctl Io "$(io write "$(regions "$b:0+8")" "\"memory\":{\"fill\":$fill}")")
    expect "fill $fill is refused" jq -e 'has("error")' <<<"$REPLY_JSON"
done >/dev/null
ok "a fill that is no byte is refused"
expect_eq "nothing has been written" "$(tr -d '\0' <"$b" | wc -c)" 0

# --- pages
expect_refused "more than was got" NotReserved Put '{"client":"alice","pages":65}'
expect_eq "it says whose, and how many" "$(parameter client) $(parameter pages)" "alice 65"
expect_refused "more than the machine has" PoolExhausted Get '{"client":"alice","pages":2000000000}'
expect "and how many there would be" test "$(parameter available)" -gt 0
expect_eq "the reservation is what it was" "$(ctl_ok Get '{"client":"alice","pages":0}' | jq .pages)" 64

# --- exports that are open
exec 7<>"$file"
expect_refused "it is open" ExportBusy RemoveExport '{"client":"alice","name":"vol"}'
expect_eq "once" "$(parameter open_count)" 1
expect_eq "the listing says so, too" \
    "$(ctl_ok ListExports '{"client":"alice"}' | jq -c '.exports | map([.name, .open_count])')" '[["vol",1]]'
printf still >&7
ctl_ok RemoveExport '{"client":"alice","name":"vol","force":true}' >/dev/null
ok "force removes it"
expect_not "the name is gone" test -e "$file"
python3 - <<'END'
import errno, os
for call in (lambda: os.pread(7, 10, 0), lambda: os.pwrite(7, b'x', 0), lambda: os.fsync(7),
             lambda: os.preadv(7, [bytearray(4096)], 4096)):
    try:
        call()
    except OSError as e:
        assert e.errno == errno.ENODEV, e
    else:
        raise AssertionError('it still works')
END
ok "who has it open gets ENODEV"
file=$(create_export alice vol "$b:0+256")
printf fresh >"$file"
expect_eq "a new one of that name is another one" "$(head -c 5 "$b")" fresh
exec 7>&-
expect "the daemon answers" dmiod_answers
expect_eq "what was written before is there" "$(head -c 5 "$a")" still
