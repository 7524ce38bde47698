#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# docs/examples/copy-progress.c does what it says: copies, shows progress, names what failed, and
# can be cancelled. It uses nothing but the public headers.
. "$(dirname "$0")/../lib/common.sh"

SOURCE=$DMIO_SOURCE/docs/examples/copy-progress.c
COPY=$DMIO_BUILD/docs/examples/example-copy-progress

[ -x "$COPY" ] || skip "needs $COPY"

# copy ARGUMENT...: leaves the exit status in $STATUS and what it said in $WORK/said.
copy() {
    STATUS=0
    "$COPY" "$@" >"$WORK/said" 2>&1 || STATUS=$?
}

said() {
    grep -q "$1" "$WORK/said"
}

expect_eq "it includes the public headers only" \
    "$(sed -n 's/^#include "\(.*\)"/\1/p' "$SOURCE")$(sed -n 's/^#include <\(util.*\)>/\1/p' "$SOURCE")" ""

# --- copies
source=$(make_image 9M)
fill "$source" 1
a=$(make_image 9M) b=$(make_image 10M)
copy "$source" "$a" "$b"
expect_eq "a copy to two" "$STATUS" 0
expect "the first one is equal" cmp "$source" "$a"
expect "the second one is equal" cmp -n 9M "$source" "$b"
expect_eq "and the same behind it" "$(count_others "$b" 9437184 1048576 '\0')" 0
expect "progress ends at the end" said '100.0 %  9 of 9 MiB'

# --- errors
small=$(make_image 8M)
copy -i "$source" "$a" "$small"
expect_eq "a destination is too small" "$STATUS" 1
expect "it is named" said "$small: No space left on device at sector 0"
expect_not "and no other" said "$a:"
expect_eq "nothing of it was written" "$(count_others "$small" 0 8388608 '\0')" 0
expect_eq "it has not grown" "$(stat -c %s "$small")" 8388608
expect "the other one is equal" cmp "$source" "$a"

copy "$source" "$source"
expect_eq "to itself" "$STATUS" 3
copy "$source" "$WORK/missing"
expect_eq "to nowhere" "$STATUS" 3
expect "it is named" said "$WORK/missing: No such file or directory"
expect_not "and not made" test -e "$WORK/missing"
copy "$source"
expect_eq "without a destination" "$STATUS" 2
copy -t 101 "$source" "$a"
expect_eq "with a throttle that is none" "$STATUS" 2

if [ "$(id -u)" = 0 ] && [ -c /dev/fuse ] && command -v nbdfuse nbdkit >/dev/null; then
    bad=$(make_bad_leg 4M 2097152 2101248)
    good=$(make_image 4M)
    source4=$(make_image 4M)
    fill "$source4" 2
    copy -i "$source4" "$good" "$bad"
    expect_eq "a destination is bad" "$STATUS" 1
    expect "it is named with its errno" said "$bad: Input/output error"
    expect "the good one is equal" cmp "$source4" "$good"
    copy -i "$bad" "$good"
    expect_eq "the source is bad" "$STATUS" 1
    expect "it is named with its errno" said "$bad: Input/output error"
    expect_eq "zeroes in its place" "$(count_others "$good" 2097152 4096 '\0')" 0
else
    skip_case "bad legs: needs root, /dev/fuse, nbdfuse and nbdkit"
fi

# --- Ctrl-C: at one percent this would take minutes
source=$(make_image 2G) a=$(make_image 2G)
: >"$WORK/said" # what the last one said must not be taken for its words
"$COPY" -t 1 "$source" "$a" >"$WORK/said" 2>&1 &
pid=$!
defer end_process "$pid"
wait_for 20 said MiB
kill -INT "$pid"
wait_for 20 process_is_gone "$pid"
STATUS=0
wait "$pid" || STATUS=$?
expect_eq "an interrupted copy" "$STATUS" 130
expect "says so" said cancelled
expect_not "and has not come to the end" said '100.0 %'
