#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Whatever is written to an export is on all of its legs, byte for byte: images and loop devices of
# both sector sizes, dd of odd blocks, fio with several writers that overlap and verify.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq fio cmp

start_dmiod
open_client alice 256

# both KIND FILE IMAGE-A SECTOR-A IMAGE-B SECTOR-B: exercise one export of 16 MiB
exercise() {
    local kind=$1 file=$2 a=$3 a_at=$(($4 * 512)) b=$5 b_at=$(($6 * 512)) size=16777216 reference
    same() {
        cmp -n $size "$a" "$b" $a_at $b_at && cmp -n $size "$file" "$a" 0 $a_at
    }
    expect_eq "$kind: the size" "$(stat -c %s "$file")" $size
    reference=$(make_image 16M)
    fill "$reference" 7
    dd if="$reference" of="$file" bs=1M conv=fsync,notrunc status=none
    expect "$kind: dd, whole" same
    dd if="$reference" of="$file" bs=1M iflag=fullblock oflag=direct conv=notrunc status=none
    expect "$kind: dd, direct" same
    expect "$kind: it is what was written" cmp "$reference" "$file"
    dd if=/dev/urandom of="$file" bs=777 count=300 seek=11 conv=notrunc,fsync status=none
    expect "$kind: dd, odd blocks" same
    expect "$kind: and nothing beside them" cmp <(tail -c +$((777 * 311 + 1)) "$reference") \
        <(tail -c +$((777 * 311 + 1)) "$file")
    expect "$kind: nor before" cmp -n $((777 * 11)) "$reference" "$file"
    fio --name=verify --filename="$file" --size=16M --rw=randwrite --bsrange=512-64k --bs_unaligned=0 \
        --blockalign=512 --ioengine=libaio --direct=1 --iodepth=32 --io_size=24M --verify=crc32c \
        --verify_state_save=0 --verify_fatal=1 --do_verify=1 --allow_file_create=0 --output="$WORK/fio.log" ||
        { cat "$WORK/fio.log" && fail "$kind: fio verify"; }
    expect "$kind: fio, direct and deep" same
    fio --name=overlap --filename="$file" --size=1M --rw=randwrite --bsrange=1-20000 --bs_unaligned=1 \
        --ioengine=psync --numjobs=4 --thread --io_size=2M --allow_file_create=0 --norandommap \
        --end_fsync=1 --output="$WORK/fio.log" || { cat "$WORK/fio.log" && fail "$kind: fio overlap"; }
    expect "$kind: four writers that overlap" same
}

a=$(make_image 32M a.img)
b=$(make_image 32M b.img)
file=$(create_export alice images "$a:8+32768" "$b:1001+32768")
exercise images "$file" "$a" 8 "$b" 1001
expect_eq "images: nothing outside the legs" \
    "$( (head -c 4096 "$a"; tail -c +16781313 "$a"; head -c 512512 "$b"; tail -c +17289729 "$b") |
        tr -d '\0' | wc -c)" 0
ctl_ok RemoveExport '{"client":"alice","name":"images"}' >/dev/null

if losetup -f >/dev/null 2>&1; then
    c=$(make_image 32M c.img)
    d=$(make_image 32M d.img)
    loop_c=$(make_loop "$c")
    loop_d=$(make_loop "$d")
    file=$(create_export alice loops "$loop_c:0+32768" "$loop_d:2048+32768")
    exercise loops "$file" "$c" 0 "$d" 2048
    ctl_ok RemoveExport '{"client":"alice","name":"loops"}' >/dev/null

    # Devices of 4096-byte blocks beside an image: what is smaller is read, changed and written.
    e=$(make_image 32M e.img)
    loop_e=$(make_loop "$e" 4096)
    f=$(make_image 32M f.img)
    file=$(create_export alice mixed "$loop_e:8+32768" "$f:0+32768")
    python3 - "$file" <<'END'
import os, random, sys
rng = random.Random(5)
fd = os.open(sys.argv[1], os.O_RDWR)
size = 16777216
model = bytearray(os.pread(fd, size, 0))
while len(model) < size:
    model += os.pread(fd, size, len(model))
for _ in range(300):
    at, n = rng.randrange(size - 9000), rng.randrange(1, 9000)
    data = rng.randbytes(n)
    assert os.pwrite(fd, data, at) == n
    model[at:at + n] = data
os.fsync(fd)
assert open(sys.argv[1], 'rb').read() == model
END
    ok "blocks of 4096 bytes: odd writes are exact"
    expect "blocks of 4096 bytes: legs are equal" cmp -n 16777216 "$e" "$f" 4096 0
else
    skip_case "on loop devices: there is none for us"
fi
