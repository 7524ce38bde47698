#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a leg's error means: which errors fail it and which never do, what the writer and the reader
# hear, where it is shown, that a failed leg takes part in nothing, and whom a failed flush is told.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq python3 nbdfuse nbdkit cmp getfattr

start_dmiod
"$DMIOCTL" --control="$CONTROL" monitor --json >"$WORK/events" &
MONITOR=$!
defer end_process $MONITOR
wait_for 10 grep -q watching "$WORK/events"
open_client alice 64
size=65536
sectors=$((size / 512))

# legs EXPORT: of each its state, whether there were errors, the last one
legs() {
    ctl_ok ListExports '{"client":"alice"}' |
        jq -c ".exports[] | select(.name == \"$1\").legs | map([.state, .errors > 0, .last_error])"
}
# told EVENT EXPORT LEG OPERATION ERRNO: there is such an event.
told() {
    jq -se "any(.[]; .event == \"$1\" and (.details | .client == \"alice\" and .export == \"$2\" and
        .leg == $3 and .operation == \"$4\" and .errno == \"$5\"))" "$WORK/events"
}
# failures EXPORT: how many legs of it have failed, by the events.
failures() {
    jq -s "map(select(.event == \"leg-failed\" and .details.export == \"$1\")) | length" "$WORK/events"
}
attribute() {
    getfattr --absolute-names --only-values -n "user.dmio.$1" "$2"
}
# attempt FILE OFFSET LENGTH BYTE [FLAG]: writes; says ok or the errno
attempt() {
    python3 - "$@" <<'PY'
import errno, os, sys
path, offset, length, byte = sys.argv[1], *map(int, sys.argv[2:5])
fd = os.open(path, os.O_RDWR | (getattr(os, sys.argv[5]) if len(sys.argv) > 5 else 0))
try:
    n = os.pwrite(fd, bytes([byte]) * length, offset)
    print('ok' if n == length else n)
except OSError as e:
    print(errno.errorcode[e.errno])
PY
}

# --- errors of every kind, by qemu's blkdebug: those that fail a leg
if command -v qemu-storage-daemon >/dev/null; then
    rules='' number=0
    names=(EIO ENODATA EREMOTEIO EILSEQ ETIMEDOUT ENOLINK ENOSPC)
    for errno in 5 61 121 84 110 67 28 95; do
        sector=$((number * sectors + 8))
        for type in write read; do
            [ $type = write ] || sector=$((sector + 8))
            rules+="${rules:+,}{\"event\":\"none\",\"iotype\":\"$type\",\"errno\":$errno,\"sector\":$sector}"
        done
        number=$((number + 1))
    done
    make_image 4M debug.img >/dev/null
    : >"$WORK/debug"
    qemu-storage-daemon --blockdev driver=file,node-name=f,filename="$WORK/debug.img" \
        --blockdev "{\"driver\":\"blkdebug\",\"node-name\":\"d\",\"image\":\"f\",\"inject-error\":[$rules]}" \
        --export type=fuse,id=e,node-name=d,mountpoint="$WORK/debug",writable=on >"$WORK/qsd.log" 2>&1 </dev/null &
    defer end_process $!
    wait_for 10 is_mounted "$WORK/debug"

    make_image 4M good.img >/dev/null
    number=0
    for name in "${names[@]}"; do
        at=$((number * sectors))
        fill "$WORK/good.img" $number
        dd if="$WORK/good.img" of="$WORK/debug.img" bs=512 skip=$at seek=$at count=$sectors conv=notrunc status=none
        file=$(create_export alice "$name" "$WORK/debug:$at+$sectors" "$WORK/good.img:$at+$sectors")
        expect "$name: a read that fails is served by the other leg" \
            cmp -n $size "$file" "$WORK/good.img" 0 $((at * 512))
        expect_eq "$name: it is counted, and fails no leg" "$(legs "$name")" \
            "[[\"active\",true,\"$name\"],[\"active\",false,null]]"
        expect_eq "$name: a write to good sectors" "$(attempt "$file" 0 4096 65)" ok
        expect_eq "$name: a write that one leg cannot take" "$(attempt "$file" 4096 4096 66)" ok
        expect_eq "$name: the leg has failed" "$(legs "$name")" \
            "[[\"failed\",true,\"$name\"],[\"active\",false,null]]"
        wait_for 10 told leg-error "$name" 0 read "$name"
        wait_for 10 told leg-failed "$name" 0 write "$name"
        ok "$name: events tell of both"
        expect_eq "$name: of the failure once" "$(failures "$name")" 1
        expect_eq "$name: the file says so, too" "$(attribute failed "$file") $(attribute state "$file")" \
            "0 degraded"
        expect_eq "$name: and .status" \
            "$(jq -r ".exports[] | select(.name == \"$name\").legs[0] | .state + \" \" + .last_error" \
                "$MOUNT/alice/.status")" "failed $name"
        expect_eq "$name: a write to its good sectors" "$(attempt "$file" 0 4096 67)" ok
        expect_eq "$name: does not reach it" "$(count_others "$WORK/debug.img" $((at * 512)) 4096 A)" 0
        expect_eq "$name: nor is it read" "$(count_others "$file" 0 4096 C)" 0
        expect_eq "$name: nor where it failed" "$(count_others "$file" 4096 4096 B)" 0
        number=$((number + 1))
    done


    ctl_ok RemoveExport '{"client":"alice","name":"EILSEQ"}' >/dev/null
    file=$(create_export alice alone "$WORK/debug:$((3 * sectors))+$sectors")
    expect_eq "the only leg: the writer hears EIO" "$(attempt "$file" 4096 4096 66)" EIO
    expect_errno "and the reader" "Input/output error" dd if="$file" of=/dev/null bs=4096 skip=2 count=1 status=none
    expect_eq "it does not fail" "$(legs alone)" '[["active",true,"EILSEQ"]]'
    expect_eq "its other sectors are written" "$(attempt "$file" 0 4096 68)" ok
else
    skip_case "errors of every kind: needs qemu-storage-daemon"
fi

# --- each leg is tried once
one=$(make_bad_leg $size 0 4096 read)
two=$(make_bad_leg $size 0 4096 read)
three=$(make_image $size)
counts() {
    ctl_ok ListExports '{"client":"alice"}' |
        jq -c '.exports[] | select(.name == "once").legs | map(.errors)'
}
file=$(create_export alice once "$one:0+$sectors" "$two:0+$sectors" "$three:0+$sectors")
expect "two legs cannot, the third can" dd if="$file" of=/dev/null bs=4096 count=1 status=none
expect_eq "each was tried once" "$(counts)" '[1,1,0]'
ctl_ok RemoveExport '{"client":"alice","name":"once"}' >/dev/null
file=$(create_export alice once "$one:0+$sectors" "$two:0+$sectors")
expect_errno "no leg can" "Input/output error" dd if="$file" of=/dev/null bs=4096 count=1 status=none
expect_eq "each was tried once, again" "$(counts)" '[1,1]'
expect "and the rest can be read" dd if="$file" of=/dev/null bs=4096 skip=1 status=none
ctl_ok RemoveExport '{"client":"alice","name":"once"}' >/dev/null

# --- no leg takes a write
one=$(make_bad_leg $size 0 4096 write)
two=$(make_bad_leg $size 0 4096 write)
file=$(create_export alice once "$one:0+$sectors" "$two:0+$sectors")
expect_eq "no leg takes it: EIO" "$(attempt "$file" 512 512 66)" EIO
expect_eq "none has failed: none is behind" "$(legs once)" '[["active",true,"EIO"],["active",true,"EIO"]]'
expect_eq "the rest is written" "$(attempt "$file" 4096 512 66)" ok
ctl_ok RemoveExport '{"client":"alice","name":"once"}' >/dev/null

# --- errors that speak of the request
bad=$(make_bad_leg $size 16384 32768 write EINVAL)
image=$(make_image $size)
second=$(make_image $size)
for order in "$image $bad $second" "$bad $image $second"; do
    fill "$image" 5
    cp "$image" "$second"
    cp "$image" "$(image_of "$bad")"
    list=()
    for leg in $order; do list+=("$leg:0+$sectors"); done
    file=$(create_export alice refused "${list[@]}")
    same() {
        cmp "$image" "$(image_of "$bad")" && cmp "$image" "$second" && cmp "$image" "$file"
    }
    expect_eq "EINVAL: a write that no leg refuses" "$(attempt "$file" 1000 5000 65)" ok
    cp "$image" "$WORK/before"
    expect_eq "EINVAL: one that a leg refuses, whole blocks" "$(attempt "$file" 16384 4096 66)" EINVAL
    expect_eq "EINVAL: large" "$(attempt "$file" 8192 40960 66)" EINVAL
    expect_eq "EINVAL: odd bytes" "$(attempt "$file" 16383 3 66)" EINVAL
    exec 8<>"$file"
    expect_eq "EINVAL: O_DSYNC" "$(attempt "$file" 20480 4096 66 O_DSYNC)" EINVAL
    expect "EINVAL: is no failed flush" python3 -c 'import os; os.fsync(8)'
    exec 8>&-
    expect "EINVAL: nothing of it is done" cmp "$image" "$WORK/before"
    expect "EINVAL: anywhere" same
    expect_eq "EINVAL: no leg has failed" "$(legs refused)" \
        '[["active",false,null],["active",false,null],["active",false,null]]'
    ctl_ok RemoveExport '{"client":"alice","name":"refused"}' >/dev/null
done

# --- zeroes and holes, on legs that cannot make any
bad=$(make_bad_leg $size 0 0)
image=$(make_image $size)
fill "$image" 8
cp "$image" "$(image_of "$bad")"
file=$(create_export alice zeroes "$bad:0+$sectors" "$image:0+$sectors")
expect "a hole" fallocate -p -o 1001 -l 30000 "$file"
expect "a range of zeroes" fallocate -z -n -o 50001 -l 4000 "$file"
expect_eq "are zeroes" "$(count_others "$file" 1001 30000 '\0') $(count_others "$file" 50001 4000 '\0')" "0 0"
expect "on each leg" cmp "$image" "$(image_of "$bad")"
expect_eq "no leg has failed" "$(legs zeroes)" '[["active",false,null],["active",false,null]]'
ctl_ok RemoveExport '{"client":"alice","name":"zeroes"}' >/dev/null

# --- flushes that fail, once: while $WORK/fail is there, which the failure removes
flush_leg=$WORK/flush
mkdir "$flush_leg"
truncate -s $size "$WORK/flush.img"
nbdfuse "$flush_leg/disk" [ nbdkit --exit-with-parent -f eval "get_size=echo $size" can_write='exit 0' \
    can_flush='exit 0' flush="if rm $WORK/fail 2>/dev/null; then echo 'EIO flush' >&2; exit 1; fi" \
    pread="dd if=$WORK/flush.img bs=65536 skip=\$4 count=\$3 status=none iflag=skip_bytes,count_bytes,fullblock" \
    pwrite="dd of=$WORK/flush.img bs=65536 seek=\$4 oflag=seek_bytes conv=notrunc status=none" ] \
    >"$WORK/flush.log" 2>&1 </dev/null &
defer end_process $!
wait_for 10 test -f "$flush_leg/disk"
file=$(create_export alice flush "$flush_leg/disk:0+$sectors")
python3 - "$file" "$WORK/fail" <<'END'
import errno, os, sys
path, fail = sys.argv[1:]

def sync(call, fd):
    try:
        call(fd)
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]

def expect(what, got, wanted):
    assert got == wanted, '%s: %s, not %s' % (what, got, wanted)

first, second, idle = (os.open(path, os.O_RDWR) for _ in range(3))
os.pwrite(first, b'a' * 512, 0)
os.pwrite(second, b'b' * 512, 512)
expect('a flush', sync(os.fsync, first), 'ok')
open(fail, 'w').close()
expect('the first to flush', sync(os.fsync, first), 'EIO')
expect('is told once', sync(os.fsync, first), 'ok')
expect('the others are told, too', sync(os.fdatasync, second), 'EIO')
expect('once', sync(os.fsync, second), 'ok')
late = os.open(path, os.O_RDWR)
expect('not who has come since', sync(os.fsync, late), 'ok')
expect('but who was there', sync(os.fsync, idle), 'EIO')
END
ok "a failed flush is told to every file that is open, once"
expect_eq "the only leg does not fail" "$(legs flush)" '[["active",true,"EIO"]]'
ctl_ok RemoveExport '{"client":"alice","name":"flush"}' >/dev/null
image=$(make_image $size)

# --- the device's failure may have been anybody's who has a part of it
quarter=$((sectors / 4))
open_client bob 16
first=$(create_export alice first "$flush_leg/disk:0+$quarter")
second=$(create_export bob second "$flush_leg/disk:$quarter+$quarter")
create_export alice mirror "$image:0+$quarter" "$flush_leg/disk:$((2 * quarter))+$quarter" >/dev/null
python3 - "$first" "$second" "${first%/*}/mirror" "$WORK/fail" <<'END'
import errno, os, sys
first, second, mirror = (os.open(path, os.O_RDWR) for path in sys.argv[1:4])
fail = sys.argv[4]

def sync(fd):
    try:
        return os.fsync(fd) or 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]

def expect(what, got, wanted):
    assert got == wanted, '%s: %s, not %s' % (what, got, wanted)

for fd in first, second, mirror:
    os.pwrite(fd, b'x' * 512, 0)
    expect('a flush', sync(fd), 'ok')
open(fail, 'w').close()
expect('who flushes', sync(first), 'EIO')
expect('who has another part', sync(second), 'EIO')
expect('with another leg', sync(mirror), 'ok')
for fd in first, second, mirror:
    expect('once', sync(fd), 'ok')
END
ok "a flush that failed is told to every export with a leg on the device, once"
expect_eq "or the leg fails, if there is another one" "$(legs mirror)" '[["active",false,null],["failed",true,"EIO"]]'
: >"$WORK/fail"
call='{"client":"alice","op":"flush","regions":'$(regions "$flush_leg/disk:0+0")'}'
expect_eq "on the control channel, too" "$(ctl_ok Io "$call" | jq -r '.errors[0].errno')" EIO
expect_not "is told" dd if=/dev/zero of="$first" bs=512 count=1 conv=notrunc,fsync status=none
for export in alice/first bob/second alice/mirror; do
    ctl_ok RemoveExport "{\"client\":\"${export%/*}\",\"name\":\"${export#*/}\"}" >/dev/null
done
file=$(create_export alice flush "$flush_leg/disk:0+$sectors" "$image:0+$sectors")
: >"$WORK/fail"
expect "a flush that one leg of two cannot do" dd if=/dev/zero of="$file" bs=4096 count=1 conv=notrunc,fsync status=none
expect_eq "fails the leg" "$(legs flush)" '[["failed",true,"EIO"],["active",false,null]]'
wait_for 10 told leg-failed flush 0 flush EIO
ok "which is told"
ctl_ok RemoveExport '{"client":"alice","name":"flush"}' >/dev/null
wait_for 10 jq -se 'any(.[-2:][]; .event == "export-removed")' "$WORK/events"
for export in once refused zeroes; do
    expect_eq "$export: no event of a failure" "$(failures $export)" 0
done

# --- a limit on the size of files, which the daemon inherits
expect "stop" stop_dmiod
ulimit -S -f 512
start_dmiod
ulimit -S -f "$(ulimit -H -f)"
open_client alice 64
image=$(make_image 4M)
file=$(create_export alice vol "$image:4096+1024")
expect_eq "a limit of whoever starts the daemon is not its own" "$(attempt "$file" 0 4096 66)" ok

# --- a write that a leg does not support; by threads, because Linux 6.18 lets io_uring try it again,
# for up to a minute, before it tells us
if [ -e "$WORK/debug" ]; then
    expect "stop" stop_dmiod
    start_dmiod --backend=threads
    open_client alice 64
    at=$((7 * sectors))
    dd if="$WORK/good.img" of="$WORK/debug.img" bs=512 skip=$at seek=$at count=$sectors conv=notrunc status=none
    cp "$WORK/good.img" "$WORK/before"
    file=$(create_export alice EOPNOTSUPP "$WORK/good.img:$at+$sectors" "$WORK/debug:$at+$sectors")
    expect_eq "EOPNOTSUPP: the writer hears it" "$(attempt "$file" 4096 4096 66)" ENOTSUP
    expect_eq "EOPNOTSUPP: no leg has failed" "$(legs EOPNOTSUPP)" '[["active",false,null],["active",false,null]]'
    expect "EOPNOTSUPP: nothing is done" cmp "$WORK/good.img" "$WORK/before"
fi
