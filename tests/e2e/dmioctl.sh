#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dmioctl: every verb, its text and its JSON, and the exit statuses: 0 done, 1 refused, 2 usage,
# 3 no daemon, 4 some regions failed.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/dmioctl.sh"
require_root
require_fuse
require_cmd socat jq

json() {
    jq -c "$1" <"$WORK/out"
}

expect_match "--version" "$(dmioctl --version)" "dmioctl [0-9]*"
for verb in "client open" "client close" "client list" get put "export create" "export remove" "export list" \
    io submit wait copy zero "job list" "job watch" "job cancel" status call interface doctor; do
    expect "--help names $verb" grep -q "$verb" <<<"$(dmioctl --help)"
    # shellcheck disable=SC2086 # one or two words
    expect "$verb --help" grep -qi usage <<<"$(dmioctl $verb --help)"
done
expect_status 3 "no daemon" status
expect "it says so" test -s "$WORK/err"

start_dmiod
for usage in "" "fly" "client" "client open" "client open a b" "get a" "get a x" "get a -1" "put a 1KiB" \
    "export create a/b" "export create ab $WORK/a.img:0+8" "export create a/b $WORK/a.img" "io" \
    "io write a" "io fly a $WORK/a.img:0+8" "io write a $WORK/a.img:0+8 --fill=256" "status extra" \
    "status --nothing" "client open a --pages=x" "export create a/b $WORK/a.img:0+8 --cache=some"; do
    # shellcheck disable=SC2086 # words
    expect_status 2 "usage: \"$usage\"" $usage
    expect "it says what is wrong" test -s "$WORK/err"
done
expect_eq "none of it reached the daemon" "$(ctl_ok ListClients | jq '.clients | length')" 0

# --- clients and pages
a=$(make_image 16M a.img)
b=$(make_image 16M b.img)
make_image 4K small.img >/dev/null
expect_status 0 "client open" client open alice --pages 256 --linger
expect_status 1 "once" client open alice --pages 256 --linger
expect "the error is named" grep -qi "alice" "$WORK/err"
expect_status 0 "client open, a size" client open bob --linger --pages=1MiB --json
expect_eq "as JSON" "$(json '[.client.name, .client.pages, .client.linger]')" '["bob",256,true]'
expect_status 0 "client list" client list
expect "it has both" test "$(grep -cE '\<(alice|bob)\>' "$WORK/out")" = 2
expect_status 0 "client list --json" client list --json
expect_eq "one line of it" "$(wc -l <"$WORK/out") $(json '.clients | map(.name) | sort')" '1 ["alice","bob"]'
expect_status 0 "get" get alice 64 --json
expect_eq "it answers the sum" "$(json .pages)" 320
expect_status 0 "put, a size" put alice 256KiB --json
expect_eq "it answers the rest" "$(json .pages)" 256
expect_status 1 "put of too many" put alice 257
expect_status 1 "put of too many, as JSON" put alice 257 --json
expect_eq "is the whole error" "$(json .error)" '"io.dmiod.NotReserved"'
expect_status 1 "no such client" get carol 1

# A client that does not linger lives as long as the command.
"$DMIOCTL" --control="$CONTROL" client open brief --pages 8 >"$WORK/brief.log" 2>&1 &
holder=$!
defer end_process $holder
has_brief() {
    ctl_ok ListClients | jq -e '.clients | map(.name) | index("brief")'
}
has_no_brief() {
    ! has_brief
}
wait_for 10 has_brief
ok "client open stays in the foreground"
kill -TERM $holder
wait_for 10 process_is_gone $holder
wait_for 10 has_no_brief
ok "and the client ends with it"

# --- exports
cd "$WORK"
expect_status 0 "export create, of files here" export create alice/vol a.img:0+16384 b.img:100+16384
expect_eq "it prints the path, and nothing else" "$(cat "$WORK/out")" "$MOUNT/alice/vol"
expect_eq "and there it is" "$(stat -c %s "$MOUNT/alice/vol")" 8388608
expect_status 0 "sizes with units" export create alice/sized ./a.img:8MiB+512KiB "$b:9MiB+512KiB" --read-only --json
expect_eq "they are sectors" "$(json '[.export.sectors, .export.read_only, .export.legs[0].region.sector]')" \
    '[1024,true,16384]'
expect_status 1 "a region past the end" export create alice/big a.img:0+1GiB
expect_status 1 "a file that is not there" export create alice/none ./none.img:0+8
expect_status 1 "sectors that are taken" export create bob/vol a.img:0+8
expect_status 0 "shared, cache none" export create bob/shared b.img:12MiB+1MiB --shared --cache=none
expect_status 0 "export list" export list
expect "it has them" test "$(grep -cE 'vol|sized|shared' "$WORK/out")" -ge 3
expect_status 0 "export list of one client" export list alice --json
expect_eq "only that one's" "$(json '.exports | map(.name) | sort')" '["sized","vol"]'
dd if=/dev/urandom of="$MOUNT/alice/vol" bs=1M count=8 conv=notrunc,fsync status=none
expect "it is a mirror" cmp -n 8388608 "$a" "$b" 0 51200

exec 7<"$MOUNT/alice/vol"
expect_status 1 "an export that is open" export remove alice/vol
expect_status 0 "by force" export remove alice/vol --force
exec 7<&-
expect_status 1 "once" export remove alice/vol

# --- io
head -c 4096 /dev/urandom >"$WORK/data"
dmioctl io write alice a.img:8+8 b.img:40+8 <"$WORK/data"
ok "io write"
expect "both have it" sh -c "cmp -n 4096 a.img data 4096 0 && cmp -n 4096 b.img data 20480 0"
dmioctl io read alice b.img:40+8 >"$WORK/back"
expect "io read" cmp "$WORK/data" "$WORK/back"
expect_status 0 "io read --json" io read alice b.img:40+8 --json
expect "has the data in base64" cmp "$WORK/data" <(json .data | tr -d '"' | base64 -d)
status=0
dmioctl io write alice a.img:8+8 small.img:8+8 b.img:40+8 <"$WORK/data" 2>"$WORK/err" || status=$?
expect_eq "some regions fail: 4" $status 4
expect "it names the one" grep -q "small.img:8+8" "$WORK/err"
expect_status 4 "as JSON" io write alice a.img:8+8 small.img:8+8 b.img:40+8 --fill=0x5a --json
expect_eq "the bits" "$(json '[.error_bits, .failed]')" '["0x2",[1]]'
expect_eq "the others are written" "$(count_others a.img 4096 4096 Z)" 0
expect_status 1 "all regions fail: 1" io write alice small.img:8+8 --fill 1
status=0
head -c 4095 "$WORK/data" | dmioctl io write alice a.img:8+8 2>/dev/null || status=$?
expect_eq "too few bytes: 2" $status 2
status=0
cat "$WORK/data" "$WORK/data" | dmioctl io write alice a.img:8+8 2>/dev/null || status=$?
expect_eq "too many bytes: 2" $status 2
expect_eq "nothing was written" "$(count_others a.img 4096 4096 Z)" 0
expect_status 0 "io flush" io flush alice a.img:0+0 b.img:0+0
expect_status 0 "io write-zeroes" io write-zeroes alice a.img:8+8
expect_eq "zeroes" "$(count_others a.img 4096 4096 '\0')" 0
expect_status 0 "io discard" io discard alice b.img:40+8
legs=()
for ((i = 0; i < 65; i++)); do legs+=("a.img:$((i * 8))+8"); done
expect_status 0 "64 legs of one file" io write alice "${legs[@]:0:64}" --fill 1
expect_status 2 "65 legs" io write alice "${legs[@]}" --fill 1

# --- as another user: what it can open, it can use
if command -v setpriv >/dev/null; then
    cp "$DMIOCTL" "$WORK/dmioctl" # where everybody can run it
    [ ! -e "$DMIO_BUILD/libdmio" ] || cp -a "$DMIO_BUILD"/libdmio/libdmio.so* "$WORK/"
    chmod 755 "$WORK/dmioctl" "$WORK"
    mkdir "$WORK/own"
    truncate -s 1M "$WORK/own/image"
    chown -R 65534:65534 "$WORK/own"
    other() {
        LD_LIBRARY_PATH=$WORK as_nobody "$WORK/dmioctl" --control="$CONTROL" "$@"
    }
    chmod 666 "$CONTROL"
    expect "another user opens a client" other client open mine --linger
    expect "and writes to its own file" other io write mine "$WORK/own/image:8+8" --fill 7
    chmod 600 "$a"
    expect_not "not to what it cannot open" other io write mine "$WORK/a.img:8+8" --fill 7
    expect_eq "sees only its own" "$(other client list --json | jq -c '.clients | map(.name)')" '["mine"]'
    path=$(other export create mine/vol "$WORK/own/image:0+64")
    expect "makes an export of it" as_nobody head -c 1 "$path"
else
    skip_case "as another user: needs setpriv"
fi

expect_status 0 "status" status
expect_status 0 "status --json" status --json
expect "the pool is in it" test "$(json .pool.reserved)" -ge 512
expect_status 0 "client close" client close alice
expect_status 1 "once" client close alice
stop_dmiod
expect_status 3 "no daemon any more" status
