#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Legs when the daemon starts again: one that is not there, or is another one, has failed; one that
# had failed stays so, and nobody ever reads what it missed.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
STATE=$WORK/state
require_cmd socat jq

sectors=2048
legs_of() {
    ctl_ok ListExports | jq -c ".exports[] | select(.name == \"$1\").legs | map(.state)"
}
put() {
    printf '%s' "$2" | dd of="$1" conv=notrunc,fsync status=none
}
again() {
    kill_dmiod
    restart_dmiod
}

start_dmiod
open_client alice 64
for name in one two whole; do
    make_image 1M $name.a >/dev/null
    make_image 1M $name.b >/dev/null
    create_export alice $name "$WORK/$name.a:0+$sectors" "$WORK/$name.b:0+$sectors" >/dev/null
    put "$MOUNT/alice/$name" "old $name"
done

# --- a leg that is not there
mv "$WORK/one.a" "$WORK/one.away"
again
expect_eq "a leg that is not there has failed" "$(legs_of one)" '["failed","active"]'
expect "the log says why" grep -q "Leg 0 of 'alice/one' ($WORK/one.a) is not there: " "$WORK/dmiod.log"
put "$MOUNT/alice/one" "new one"
mv "$WORK/one.away" "$WORK/one.a"
again
expect_eq "it stays failed when it is there again" "$(legs_of one)" '["failed","active"]'
expect_eq "and is not read" "$(head -c 7 "$MOUNT/alice/one")" "new one"
expect_eq "nor written" "$(head -c 7 "$WORK/one.a")" "old one"
expect_eq "the others are as they were" "$(legs_of two) $(legs_of whole)" '["active","active"] ["active","active"]'

# --- no leg is there
mv "$WORK/two.a" "$WORK/two.away"
mv "$WORK/two.b" "$WORK/two.gone"
again
expect_eq "no leg is there" "$(legs_of two)" '["failed","failed"]'
expect_errno "reading gives EIO" "Input/output error" dd if="$MOUNT/alice/two" of=/dev/null status=none
expect_errno "and writing" "Input/output error" dd if=/dev/zero of="$MOUNT/alice/two" bs=512 count=1 conv=notrunc status=none
again
mv "$WORK/two.away" "$WORK/two.a"
mv "$WORK/two.gone" "$WORK/two.b"
again
expect_eq "nothing was missed, so they are back" "$(legs_of two)" '["active","active"]'
expect_eq "with their data" "$(head -c 7 "$MOUNT/alice/two")" "old two"
mv "$WORK/one.b" "$WORK/one.gone"
again
expect_eq "only the failed one is there" "$(legs_of one)" '["failed","failed"]'
expect_errno "which is not read even then" "Input/output error" dd if="$MOUNT/alice/one" of=/dev/null status=none
mv "$WORK/one.gone" "$WORK/one.b"
again
expect_eq "the good one is back" "$(legs_of one)" '["failed","active"]'
expect_eq "and read" "$(head -c 7 "$MOUNT/alice/one")" "new one"

# --- a leg that is another one
cp "$WORK/two.b" "$WORK/copy"
mv "$WORK/copy" "$WORK/two.b"
truncate -s 2M "$WORK/whole.a"
again
expect_eq "another file in its place" "$(legs_of two)" '["active","failed"]'
expect_eq "another size" "$(legs_of whole)" '["failed","active"]'
expect "is told" grep -q "'alice/two' ($WORK/two.b) is not there: it is another file" "$WORK/dmiod.log"
expect "is told" grep -q "'alice/whole' ($WORK/whole.a) is not there: its size has changed" "$WORK/dmiod.log"
rm "$WORK/two.a"
make_image 1M two.a >/dev/null
again
expect_eq "a file that was made anew, perhaps with the number of the old one" "$(legs_of two)" '["failed","failed"]'

# --- block devices
if losetup -f >/dev/null 2>&1; then
    image=$(make_image 1M loop.img)
    loop=$(make_loop "$image")
    image2=$(make_image 1M loop2.img)
    create_export alice loop "$loop:0+$sectors" "$image2:0+$sectors" >/dev/null
    again
    expect_eq "a block device comes back" "$(legs_of loop)" '["active","active"]'
    # By its backing file's name a loop device is told from another one with its number.
    kill_dmiod
    mv "$image" "$image.renamed"
    restart_dmiod
    expect_eq "one of another medium does not" "$(legs_of loop)" '["failed","active"]'
    ctl_ok RemoveExport '{"client":"alice","name":"loop"}' >/dev/null
    create_export alice loop "$loop:0+$sectors" "$image2:0+$sectors" >/dev/null
    number=$(loop_number "$loop")
    kill_dmiod
    end_loop "$loop" "$number"
    wait_for 10 loop_is_gone "$loop" "$number"
    restart_dmiod
    expect_eq "one without a medium does not" "$(legs_of loop)" '["failed","active"]'
else
    skip_case "block devices: needs a free loop device"
fi

# --- sectors that somebody else has got meanwhile are not taken from him
make_image 1M free.a >/dev/null
make_image 1M free.b >/dev/null
create_export alice free "$WORK/free.a:0+8" "$WORK/free.b:0+8" >/dev/null
again
expect_refused "sectors that came back are held" RegionBusy CreateExport \
    "{\"client\":\"alice\",\"name\":\"more\",\"regions\":$(regions "$WORK/free.a:4+8")}"
mv "$WORK/free.a" "$WORK/free.away"
mv "$WORK/free.b" "$WORK/free.gone"
again
mv "$WORK/free.away" "$WORK/free.a"
mv "$WORK/free.gone" "$WORK/free.b"
create_export alice more "$WORK/free.a:4+8" >/dev/null
again
expect_eq "the one that is made first when the daemon starts has them" "$(legs_of free) $(legs_of more)" \
    '["active","active"] ["failed"]'
ctl_ok RemoveExport '{"client":"alice","name":"more"}' >/dev/null

# --- a leg that fails is known to the next daemon before anybody hears of the write
if command -v nbdfuse >/dev/null && command -v nbdkit >/dev/null; then
    for round in 1 2 3; do
        bad=$(make_fallible_leg 1M)
        good=$(make_image 1M "good$round")
        file=$(create_export alice "fails$round" "$bad:0+$sectors" "$good:0+$sectors")
        put "$file" "old data"
        fail_leg "$bad"
        printf 'new data' | dd of="$file" conv=notrunc oflag=direct,sync bs=512 iflag=fullblock status=none 2>/dev/null ||
            printf 'new data' | dd of="$file" conv=notrunc status=none
        kill_dmiod
        restart_dmiod
        expect_eq "$round: a failed leg stays failed after a kill" "$(legs_of "fails$round")" '["failed","active"]'
        expect_eq "$round: nobody reads what it missed" "$(head -c 8 "$file")" "new data"
        expect_eq "$round: which is what it has" "$(head -c 8 "$(image_of "$bad")")" "old data"
        ctl_ok RemoveExport "{\"client\":\"alice\",\"name\":\"fails$round\"}" >/dev/null
    done

    # The first write of the state file is the start's own, the second is this export, the third the failure.
    for step in create write-half write sync rename sync-folder done; do
        bad=$(make_fallible_leg 1M)
        good=$(make_image 1M "good-$step")
        kill_dmiod
        DMIO_TEST_STATE_KILL=$step:3 restart_dmiod
        file=$(create_export alice "at-$step" "$bad:0+$sectors" "$good:0+$sectors")
        put "$file" "old data"
        fail_leg "$bad"
        expect_not "$step: killed while it writes the failure down, the writer hears of no success" \
            dd if=/dev/zero of="$file" bs=512 count=1 conv=notrunc status=none
        dmiod_dies
        restart_dmiod
        case $step in
        sync-folder | done) wanted='["failed","active"] 0' ;;
        *) wanted='["active","active"] 8' ;;
        esac
        expect_eq "$step: the leg is as the file says" \
            "$(legs_of "at-$step") $(head -c 8 "$file" | tr -d '\0' | wc -c)" "$wanted"
        ctl_ok RemoveExport "{\"client\":\"alice\",\"name\":\"at-$step\"}" >/dev/null
    done

    bad=$(make_fallible_leg 1M)
    good=$(make_image 1M "good-full")
    kill_dmiod
    DMIO_TEST_STATE_FAIL=sync:3:28 restart_dmiod
    file=$(create_export alice full "$bad:0+$sectors" "$good:0+$sectors")
    put "$file" "old data"
    fail_leg "$bad"
    expect_errno "a failure that cannot be written down is an error of the write" "Input/output error" \
        dd if=/dev/zero of="$file" bs=512 count=1 conv=notrunc status=none
    expect_errno "and of the next one" "Input/output error" \
        dd if=/dev/zero of="$file" bs=512 count=1 conv=notrunc status=none
    expect "what is there can be read" dd if="$file" of=/dev/null status=none
    kill_dmiod
    restart_dmiod
    expect_eq "the next daemon knows nothing of it" "$(legs_of full)" '["active","active"]'
else
    skip_case "a leg that fails: needs nbdfuse and nbdkit"
fi
expect "stop" stop_dmiod
