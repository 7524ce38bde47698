#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Holes and zeroed ranges of an export read back as zeroes on every leg, whatever its device can do:
# beside an image a loop device that can neither discard nor write zeroes, and one whose writing of
# zeroes the kernel has switched off. A region list says what the device cannot do instead.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_loop
require_cmd socat jq fallocate blkdiscard cmp

limit() {
    cat "/sys/block/${1#/dev/}/queue/${2}_max_bytes"
}

# ramfs has no holes at all. tmpfs has, but no zeroes that keep their place, and the first ones of
# those that a loop device wants are the last ones.
mkdir "$WORK/ramfs" "$WORK/tmpfs"
mount -t ramfs none "$WORK/ramfs"
mount -t tmpfs none "$WORK/tmpfs"
a=$(make_image 8M a.img)
b=$(make_image 8M ramfs/b.img)
c=$(make_image 8M tmpfs/c.img)
loop_b=$(make_loop "$b")
loop_c=$(make_loop "$c")
blkdiscard -z -l 4096 "$loop_c"
if [ "$(limit "$loop_b" discard)" != 0 ] || [ "$(limit "$loop_c" write_zeroes)" != 0 ]; then
    skip "needs loop devices that cannot do everything"
fi

start_dmiod
open_client alice 64
file=$(create_export alice vol "$a:8+8192" "$loop_b:8+8192" "$loop_c:8+8192")

same() {
    blockdev --flushbufs "$loop_b"
    cmp -n 4194304 "$a" "$b" 4096 4096 && cmp -n 4194304 "$a" "$c" 4096 4096 &&
        cmp -n 4194304 "$file" "$a" 0 4096
}
# zeroes WHAT OFFSET LENGTH OPTION...
zeroes() {
    local what=$1 offset=$2 length=$3
    shift 3
    fill "$file" "$offset"
    expect "$what" fallocate "$@" -n -o "$offset" -l "$length" "$file"
    expect_eq "$what: zeroes" "$(count_others "$file" "$offset" "$length" '\0')" 0
    expect "$what: nothing else changed" test \
        "$(count_others "$file" "$((offset + length))" 4096 '\0')" -gt 3000
    expect "$what: on every leg" same
}
zeroes "a hole" 4096 8192 -p
zeroes "an odd hole" 12345 1000001 -p
zeroes "a large one" 512 4100000 -p
zeroes "a zeroed range" 8192 8192 -z
zeroes "an odd one" 777 3000000 -z
expect_eq "no leg has failed" \
    "$(ctl_ok ListExports '{"client":"alice"}' | jq -r '[.exports[0].legs[].state] | unique[]')" active
expect_eq "none has an error, either" \
    "$(ctl_ok ListExports '{"client":"alice"}' | jq '[.exports[0].legs[].errors] | add')" 0
ctl_ok RemoveExport '{"client":"alice","name":"vol"}' >/dev/null

# --- a region list
list=$(regions "$a:8+64" "$loop_b:8+64" "$loop_c:8+64")
io() {
    ctl_ok Io "{\"client\":\"alice\",\"op\":\"$1\",\"regions\":$list${2:-}}" |
        jq -c '[.error_bits, (.errors | map([.region, .errno]))]'
}
expect_eq "a write" "$(io write ',"memory":{"fill":7}')" '["0x0",[]]'
expect_eq "zeroes: who cannot says so" "$(io write_zeroes)" '["0x6",[[1,"EOPNOTSUPP"],[2,"EOPNOTSUPP"]]]'
expect_eq "the others have them" "$(count_others "$a" 4096 32768 '\0')" 0
expect_eq "and nothing is written instead" \
    "$(count_others "$loop_b" 4096 32768 '\7') $(count_others "$loop_c" 4096 32768 '\7')" "0 0"
expect "the daemon answers" dmiod_answers
