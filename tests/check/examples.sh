#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The examples do what they say. Each also builds with the line in its own comment against a staged
# installation, and includes nothing but what is installed there.
. "$(dirname "$0")/../lib/common.sh"
require_cmd meson pkg-config python3
cc=${CC:-cc}
EXAMPLES=$DMIO_BUILD/docs/examples

# --- build
stage=$WORK/stage
meson install -C "$DMIO_BUILD" --no-rebuild --destdir "$stage" >"$WORK/install.log" 2>&1 ||
    { cat "$WORK/install.log" && fail "meson install"; }
pc=$(find "$stage" -name libdmio.pc)
expect "libdmio.pc is installed" test -f "$pc"
sanitize=()
if is_sanitized "$(find "$stage" -name 'libdmio.so.*.*')"; then sanitize=(-fsanitize=address,undefined); fi

# The line is that of the comment, but the prefix is the staged one, and warnings are errors.
prefix=$(sed -n 's/^prefix=//p' "$pc")
mkdir "$WORK/bin"
cat >"$WORK/bin/cc" <<END
#!/bin/sh
PATH=$PATH exec $cc -std=gnu17 -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror ${sanitize[*]} -o "\$OUT" "\$@"
END
cat >"$WORK/bin/pkg-config" <<END
#!/bin/sh
case \$* in *libdmio*) set -- --define-variable=prefix="$stage$prefix" "\$@" ;; esac
exec $(command -v pkg-config) "\$@"
END
chmod +x "$WORK"/bin/*
for source in "$DMIO_SOURCE"/docs/examples/*.c; do
    name=$(basename "$source" .c)
    line=$(sed -n 's/^ \* *\(cc .*)\)$/\1/p' "$source")
    expect "$name says how to build it" test -n "$line"
    (cd "${source%/*}" && PKG_CONFIG_PATH=${pc%/*} PATH=$WORK/bin:$PATH OUT=$WORK/built-$name bash -c "$line") ||
        fail "$name: $line"
    ok "$name builds with the line in its comment"
    expect_not "$name includes nothing of its own" grep -q '^#include "' "$source"
    expect "$name is built by meson, too" test -x "$EXAMPLES/example-$name"
done

# run NAME ARGUMENT...: leaves the exit status in $STATUS and what it said in $WORK/said.
run() {
    local name=$1
    shift
    STATUS=0
    "$EXAMPLES/example-$name" "$@" >"$WORK/said" 2>&1 || STATUS=$?
}
said() {
    grep -qFx "$1" "$WORK/said"
}

# --- classic
a=$(make_image 1M) b=$(make_image 1M)
run classic "good morning" "$a:8" "$b:100"
expect_eq "classic: both are written" "$STATUS" 0
expect_eq "classic: it says so" "$(cat "$WORK/said")" "region 0, $a: written
region 1, $b: written"
expect_eq "classic: there it is" "$(bytes_at "$a" 4096 12)" "good morning"
expect "classic: on both" cmp -n 8192 "$a" "$b" 4096 51200
expect_eq "classic: and nothing beside" "$(tr -d '\0' <"$a" | wc -c)" 12
run classic evening "$a:8" "$b:2047"
expect_eq "classic: a region does not fit" "$STATUS" 1
expect "classic: that is named" said "region 1, $b: failed"
expect "classic: the other one is written" said "region 0, $a: written"
expect_eq "classic: indeed" "$(bytes_at "$a" 4096 7)" evening
run classic x "$WORK/none:0"
expect_eq "classic: a device that is not there" "$STATUS" 3
run classic x "$a"
expect_eq "classic: no sector" "$STATUS" 3
run classic x
expect_eq "classic: no device" "$STATUS" 2

# --- own-loop
fill "$a" 3
fnv() {
    bytes_at "$a" $(($1 * 512)) $(($2 * 512)) | python3 -c 'import sys
h = 0xcbf29ce484222325
for b in sys.stdin.buffer.read():
    h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
print("%016x" % h)'
}
run own-loop "$a" 0+8 9+1 100+200 </dev/null
expect_eq "own-loop: all are read" "$STATUS" 0
expect_eq "own-loop: in three lines" "$(grep -c '^[0-9]*+[0-9]*: ' "$WORK/said")" 3
for region in 0+8 9+1 100+200; do
    expect "own-loop: the checksum of $region" said "$region: $(fnv "${region%+*}" "${region#*+}")"
done
run own-loop "$a" 2040+16 8+8 </dev/null
expect_eq "own-loop: past the end" "$STATUS" 1
expect "own-loop: that is named" said "2040+16: Input/output error at sector 2040"
expect "own-loop: the other one is read" said "8+8: $(fnv 8 8)"

# With a device that takes its time the rest of the loop goes on.
if [ "$(id -u)" = 0 ] && [ -c /dev/fuse ] && command -v nbdfuse nbdkit >/dev/null; then
    mkdir "$WORK/slow"
    nbdfuse "$WORK/slow/leg" [ nbdkit --exit-with-parent --filter=delay memory 1M rdelay=2 ] \
        >"$WORK/slow.log" 2>&1 </dev/null &
    defer end_process $!
    wait_for 10 test -f "$WORK/slow/leg"
    run own-loop "$WORK/slow/leg" 0+8 < <(echo hello)
    expect_eq "own-loop: a slow device" "$STATUS" 0
    expect "own-loop: a line is answered meanwhile" said "busy with 1 regions"
    expect "own-loop: the timer is heard meanwhile" said "1 to come"
else
    skip_case "own-loop: a slow device: needs root, /dev/fuse, nbdfuse and nbdkit"
fi
run own-loop "$WORK/none" 0+8 </dev/null
expect_eq "own-loop: a device that is not there" "$STATUS" 3
for arguments in "" 8 x+1 "0+8 8" 0+99999999; do
    # shellcheck disable=SC2086 # a list of arguments
    run own-loop "$a" $arguments </dev/null
    expect_eq "own-loop: usage, given '$arguments'" "$STATUS" 2
done

# --- control: the same from a shell, from Python and from C
if [ "$(id -u)" != 0 ] || [ ! -c /dev/fuse ] || ! command -v socat jq >/dev/null; then
    skip_case "control: needs root, /dev/fuse, socat and jq"
    exit 0
fi
start_dmiod
a=$(make_image 1M "with \"marks\" and \\.img") b=$(make_image 1M)
expect "control.sh: it runs" "$DMIO_SOURCE/docs/examples/control.sh" "$CONTROL" "$a" "$b"
client=$(sed -n 's/^client \(shell-[0-9]*\): 64 pages$/\1/p' "$WORK/expect.log")
expect_eq "control.sh: it says what has become of it" "$(cat "$WORK/expect.log")" "client $client: 64 pages
on A: hello from $client
on B: hello from $client
error bits 0x2, failed: [1]
region 1: ENOSPC at sector 2048
read back: a sector of text"
expect_eq "control.sh: the text is on the image" "$(bytes_at "$a" 4096 16)" "a sector of text"
expect_eq "control.sh: nothing is left" "$(ctl_ok ListClients | jq -c .clients)" "[]"
expect_not "control.sh: it cannot go on without a device" \
    "$DMIO_SOURCE/docs/examples/control.sh" "$CONTROL" "$a" "$WORK"
expect_eq "control.sh: nothing is left then, either" "$(ctl_ok ListClients | jq -c .clients)" "[]"

# As a user who has no more than what he may open.
chmod 666 "$a" "$b"
cp "$DMIO_SOURCE/docs/examples/control.py" "$EXAMPLES/example-control" "$WORK"
chmod 755 "$WORK/control.py" "$WORK/example-control"
short=$(make_image 4K)
chmod 666 "$short"
control() {
    local program=$1
    shift
    STATUS=0
    as_nobody "$program" "$CONTROL" "$@" >"$WORK/said" 2>&1 || STATUS=$?
}
python=$(command -v /usr/bin/python3 || command -v python3)
control_py() {
    STATUS=0
    as_nobody "$python" "$WORK/control.py" "$@" >"$WORK/said" 2>&1 || STATUS=$?
}
control_py "$CONTROL" "$a" "$b"
expect_eq "control.py: all have it" "$STATUS" 0
expect "control.py: it says so" said "$b: written"
expect_match "control.py: Monitor tells" "$(grep ^event "$WORK/said")" \
    "event client-opened python-*event client-closed python-*"
expect "control.py: and so it is" cmp -i 4096 -n 16384 "$a" "$b"
expect "control.py: it is not zeroes" test "$(count_others "$a" 4096 16384 '\0')" -gt 16000
control_py "$CONTROL" "$a" "$short"
expect_eq "control.py: one is too short" "$STATUS" 1
expect "control.py: which is said" said "$short: failed"
expect "control.py: with the error" said "region 1: ENOSPC at sector 8"
expect "control.py: the other one has it" said "$a: written"
control_py "$CONTROL" "$WORK/none"
expect_eq "control.py: a device that is not there" "$STATUS" 3
control_py "$CONTROL"
expect_eq "control.py: usage" "$STATUS" 2

control "$WORK/example-control" "$b:9" "from C"
expect_eq "control.c: it is written" "$STATUS" 0
expect_eq "control.c: and read back" "$(cat "$WORK/said")" "from C"
expect_eq "control.c: it is there" "$(bytes_at "$b" 4608 512 | tr -d '\0')" "from C"
control "$WORK/example-control" "$short:8" "from C"
expect_eq "control.c: past the end" "$STATUS" 1
expect "control.c: which is said" said "write: ENOSPC at sector 8"
control "$WORK/example-control" "$b" "from C"
expect_eq "control.c: usage" "$STATUS" 2
ctl_ok OpenClient '{"name":"example-c","pages":1,"linger":true}' >"$WORK/opened"
control "$WORK/example-control" "$b:9" "from C"
expect_eq "control.c: an error of the daemon" "$STATUS" 3
expect_eq "control.c: is shown" "$(cat "$WORK/said")" \
    '{"error":"io.dmiod.ClientExists","parameters":{"name":"example-c"}}'
stop_dmiod
