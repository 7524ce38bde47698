# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What every test script begins with:   . "$(dirname "$0")/../lib/common.sh"
#
# A script says what it needs (require_*), makes what it uses with the functions here, and reports
# with ok, expect*, skip_case and fail. Everything it makes lies in its own folder $WORK or is noted
# with defer, and goes when the script ends, however that happens: mounts first, then the rest in
# reverse order. Results: 0 passed, 1 failed, 77 skipped.
#
# A script run by hand uses build/ of the checkout; DMIO_BUILD names another one. DMIO_BACKEND is the
# back-end of every dmiod that start_dmiod starts; without it the best that works.

set -eEu -o pipefail
export LC_ALL=C

DMIO_SOURCE=${DMIO_SOURCE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
DMIO_BUILD=${DMIO_BUILD:-$DMIO_SOURCE/build}
DMIOD=$DMIO_BUILD/daemon/dmiod
DMIOCTL=$DMIO_BUILD/daemon/dmioctl
TEST_LIB=$DMIO_SOURCE/tests/lib
export DMIO_SOURCE DMIO_BUILD PYTHONPATH=$TEST_LIB PYTHONDONTWRITEBYTECODE=1

# Readable by others, because some tests act as another user.
WORK=$(mktemp -d "${TMPDIR:-/tmp}/dmio-test.XXXXXX")
chmod 711 "$WORK"
MOUNT=$WORK/mnt
CONTROL=$WORK/control
STATE=$WORK/state
# In memory where there is some: tests make thousands of changes that last.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then
    STATE=$(mktemp -d "/dev/shm/dmio-test.XXXXXX")/state
    STATE_FOLDER=${STATE%/state}
fi
DMIOD_PID=

# A sanitizer's reports. Those of a process that is killed afterwards, started again, or run by a program
# that does not look at its end, would be seen by nobody; so they are files, which others may make as well.
REPORTS=$WORK/reports
mkdir -m 1777 "$REPORTS"
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$REPORTS/address
# Where two are in one program, the one that starts last decides where both report.
export UBSAN_OPTIONS=${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$REPORTS/undefined
export TSAN_OPTIONS=${TSAN_OPTIONS:+$TSAN_OPTIONS:}log_path=$REPORTS/thread:suppressions=$TEST_LIB/thread.supp
SANITIZER_LINE='(ERROR|WARNING): .*Sanitizer|runtime error:'

# --- reporting

ok() {
    printf 'ok - %s\n' "$*"
}

fail() {
    printf 'not ok - %s\n' "$*"
    exit 1
}

# One case that cannot be tried here; the script goes on.
skip_case() {
    printf 'skip - %s\n' "$*"
}

# The whole script cannot be tried here.
skip() {
    printf 'SKIP: %s\n' "$*"
    exit 77
}

# expect WHAT COMMAND...: the command succeeds. What it says is shown if it does not.
expect() {
    local what=$1 status=0
    shift
    "$@" >"$WORK/expect.log" || status=$?
    if [ "$status" != 0 ]; then
        tail -n 20 "$WORK/expect.log"
        fail "$what: \"$*\" failed with status $status"
    fi
    ok "$what"
}

# expect_not WHAT COMMAND...: the command fails, for a reason of its own (not: is not there, or had to be
# stopped by timeout).
expect_not() {
    local what=$1 status=0
    shift
    "$@" >"$WORK/expect-not.log" 2>&1 || status=$?
    if [ "$status" = 0 ] || [ "$status" -ge 124 ]; then
        cat "$WORK/expect-not.log"
        fail "$what: \"$*\" ended with status $status"
    fi
    ok "$what"
}

# expect_eq WHAT ACTUAL WANTED
expect_eq() {
    [ "$2" = "$3" ] || fail "$1: \"$2\", not \"$3\""
    ok "$1"
}

# expect_match WHAT ACTUAL PATTERN: a pattern of the shell.
expect_match() {
    # shellcheck disable=SC2053 # a pattern is what is wanted
    [[ $2 == $3 ]] || fail "$1: \"$2\" is not like \"$3\""
    ok "$1"
}

# expect_errno WHAT ERRNO COMMAND...: the command fails and names the error (as strerror says it).
expect_errno() {
    local what=$1 text=$2 output
    shift 2
    if output=$("$@" 2>&1 >/dev/null); then
        fail "$what: \"$*\" succeeded"
    fi
    [[ $output == *"$text"* ]] || fail "$what: \"$output\" does not say \"$text\""
    ok "$what"
}

# wait_for SECONDS COMMAND...: until it succeeds, and not longer.
wait_for() {
    local limit=$1 end
    shift
    end=$((${EPOCHREALTIME/./} + limit * 1000000))
    until "$@" >/dev/null 2>&1; do
        [ "${EPOCHREALTIME/./}" -lt "$end" ] || fail "waited $limit s in vain for: $*"
        sleep 0.02
    done
}

# --- needs

require_root() {
    [ "$(id -u)" = 0 ] || skip "needs root"
}

require_fuse() {
    [ -c /dev/fuse ] || skip "needs /dev/fuse"
}

require_cmd() {
    local command
    for command; do
        command -v "$command" >/dev/null || skip "needs $command"
    done
}

require_loop() {
    [ -c /dev/loop-control ] || skip "needs loop devices"
    losetup -f >/dev/null 2>&1 || skip "needs a free loop device"
}

# kernel_has VERSION: the kernel is that one or a later one.
kernel_has() {
    [ "$(printf '%s\n' "$1" "$(uname -r)" | sort -V | head -n 1)" = "$1" ]
}

# --- what goes at the end

# A file, so that functions called in $(...) can add to it.
defer() {
    printf '%q ' "$@" >>"$WORK/.defer"
    printf '\n' >>"$WORK/.defer"
}

mounts_below() {
    awk -v below="$1/" '{ gsub(/\\040/, " ", $5) } index($5 "/", below) == 1 { print $5 }' \
        /proc/self/mountinfo | tac
}

is_mounted() {
    awk -v where="$1" '$5 == where { found = 1 } END { exit !found }' /proc/self/mountinfo
}

process_is_gone() {
    [ ! -d "/proc/$1" ] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# end_process PID: asks, waits three seconds, insists.
end_process() {
    local i
    kill "$1" 2>/dev/null || return 0
    for ((i = 0; i < 150; i++)); do
        process_is_gone "$1" && return 0
        sleep 0.02
    done
    kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# What helps to understand a failure; a test may have its own.
on_failure() {
    if [ -s "$WORK/dmiod.log" ]; then
        echo "--- the last lines of dmiod's log:"
        tail -n 15 "$WORK/dmiod.log"
    fi
}

# Shows what a sanitizer has to say, and fails if that is nothing. That of undefined behaviour may know
# the standard error only.
sanitizer_complains() {
    local file found=1
    for file in "$REPORTS"/*; do
        [ -f "$file" ] || continue
        echo "--- ${file##*/}:"
        head -n 60 "$file"
        found=0
    done
    for file in "$WORK"/*.log; do
        grep -qE "$SANITIZER_LINE" "$file" 2>/dev/null || continue
        echo "--- ${file##*/}:"
        grep -E -A 30 "$SANITIZER_LINE" "$file" | head -n 60
        found=0
    done
    return "$found"
}

cleanup() {
    local status=$? line mount
    trap - EXIT
    trap '' INT TERM PIPE
    set +e
    if [ "$status" != 0 ] && [ "$status" != 77 ]; then
        on_failure
    fi
    mounts_below "$WORK" | while read -r mount; do umount -l "$mount"; done
    [ -z "$DMIOD_PID" ] || end_process "$DMIOD_PID"
    if [ -f "$WORK/.defer" ]; then
        tac "$WORK/.defer" >"$WORK/.undo"
        while read -r line; do eval "$line"; done <"$WORK/.undo"
    fi
    if [ "$status" != 77 ] && sanitizer_complains; then
        echo "not ok - a sanitizer complains"
        status=1
    fi
    [ -n "${DMIO_KEEP:-}" ] || rm -rf --one-file-system "$WORK" ${STATE_FOLDER:+"$STATE_FOLDER"}
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
report_line() {
    printf 'not ok - line %s: %s\n' "$1" "${2%%$'\n'*}"
}
trap 'report_line "$LINENO" "$BASH_COMMAND"' ERR

# --- things to test with

# make_image SIZE [NAME]: an image file of zeroes; prints its path.
make_image() {
    local path=$WORK/${2:-}
    [ -n "${2:-}" ] || path=$(mktemp "$WORK/image.XXXXXX")
    truncate -s "$1" "$path"
    printf '%s\n' "$path"
}

# make_loop IMAGE [SECTOR-SIZE [OPTION...]]: a loop device on it; prints its path.
make_loop() {
    local device
    device=$(losetup -f --show --sector-size "${2:-512}" "${@:3}" "$1")
    defer end_loop "$device" "$(loop_number "$device")"
    printf '%s\n' "$device"
}

# A number that no other use of any loop device has.
loop_number() {
    cat "/sys/block/${1##*/}/diskseq"
}

# end_loop DEVICE [NUMBER]: with the number, unless it has gone already, and perhaps to somebody else.
end_loop() {
    if [ $# = 1 ] || [ "$(loop_number "$1")" = "$2" ]; then losetup -d "$1"; fi
}

# Nowhere mounted: another mount namespace, made while it was mounted here, may still have it.
loop_is_idle() {
    python3 -c 'import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)' "$1"
}

# loop_is_gone DEVICE NUMBER
loop_is_gone() {
    [ "$(loop_number "$1")" != "$2" ] || [ ! -e "/sys/block/${1##*/}/loop/backing_file" ]
}

# make_bad_leg SIZE FIRST END [both|read|write [ERRNO]]: a file of SIZE bytes in which operations that
# touch the bytes from FIRST up to END fail with EIO, or another one that nbdkit knows. Prints its path; image_of PATH is where the bytes lie.
make_bad_leg() {
    local size=$1 first=$2 end=$3 which=${4:-both} errno=${5:-EIO} dir bad read_bad= write_bad=
    require_cmd nbdfuse nbdkit >&2
    dir=$(mktemp -d "$WORK/bad.XXXXXX")
    truncate -s "$size" "$dir.image"
    bad="if [ \$4 -lt $end ] && [ \$((\$4 + \$3)) -gt $first ]; then echo '$errno bad' >&2; exit 1; fi; "
    [ "$which" = write ] || read_bad=$bad
    # nbdkit wants its bytes to be taken, or it tells of EIO.
    [ "$which" = read ] || write_bad=${bad/then/then cat >/dev/null;}
    # shellcheck disable=SC2016 # nbdkit's own shell expands these
    nbdfuse "$dir/leg" [ nbdkit --exit-with-parent -f eval "get_size=echo $size" \
        can_write='exit 0' can_flush='exit 0' flush='exit 0' \
        pread="$read_bad"'dd if='"$dir.image"' bs=65536 skip=$4 count=$3 status=none \
            iflag=skip_bytes,count_bytes,fullblock' \
        pwrite="$write_bad"'dd of='"$dir.image"' bs=65536 seek=$4 oflag=seek_bytes \
            conv=notrunc status=none' ] >"$dir.log" 2>&1 </dev/null &
    defer end_process $!
    wait_for 10 test -f "$dir/leg"
    printf '%s\n' "$dir/leg"
}

# make_fallible_leg SIZE: a file of SIZE bytes whose writes fail with EIO while PATH-ITS-FOLDER.fail is
# there (see fail_leg); what it read it keeps reading. Prints its path, image_of as above.
make_fallible_leg() {
    local dir
    require_cmd nbdfuse nbdkit >&2
    dir=$(mktemp -d "$WORK/fallible.XXXXXX")
    truncate -s "$1" "$dir.image"
    nbdfuse "$dir/leg" [ nbdkit --exit-with-parent -f --filter=error file "$dir.image" \
        error-pwrite=EIO error-pwrite-rate=100% error-file="$dir.fail" ] >"$dir.log" 2>&1 </dev/null &
    defer end_process $!
    wait_for 10 test -f "$dir/leg"
    printf '%s\n' "$dir/leg"
}

fail_leg() {
    : >"${1%/leg}.fail"
}

image_of() {
    printf '%s.image\n' "${1%/leg}"
}

# bytes_at FILE OFFSET LENGTH
bytes_at() {
    dd if="$1" iflag=skip_bytes,count_bytes,fullblock bs=64K skip="$2" count="$3" status=none
}

# count_others FILE OFFSET LENGTH BYTE: how many of these bytes are not BYTE (as tr(1) has it).
count_others() {
    bytes_at "$1" "$2" "$3" | tr -d "$4" | wc -c
}

# fill FILE [SEED]: bytes that look random, always the same for a seed.
fill() {
    python3 -c 'import os, random, sys
path, seed = sys.argv[1:]
with open(path, "r+b") as f:
    f.write(random.Random(int(seed)).randbytes(os.stat(path).st_size))' "$1" "${2:-1}"
}

# --- the daemon

# One call that is answered, whatever the answer.
dmiod_answers() {
    [ -n "$(ctl Status)" ]
}

dmiod_is_up_or_gone() {
    process_is_gone "$DMIOD_PID" || { [ -S "$CONTROL" ] && dmiod_answers; }
}

# start_dmiod [OPTION...]: one of our own, everything below $WORK, with nothing in its state folder.
# $WORK/dmiod.conf is its configuration and may be written before.
start_dmiod() {
    rm -rf "$STATE"
    restart_dmiod "$@"
}

# restart_dmiod [OPTION...]: the same, with what the one before has left in the state folder.
restart_dmiod() {
    [ -x "$DMIOD" ] || fail "there is no $DMIOD"
    [ -e "$WORK/dmiod.conf" ] || : >"$WORK/dmiod.conf"
    "$DMIOD" --config="$WORK/dmiod.conf" --mount="$MOUNT" --control="$CONTROL" --state="$STATE" \
        ${DMIO_BACKEND:+--backend="$DMIO_BACKEND"} "$@" >>"$WORK/dmiod.log" 2>&1 </dev/null &
    DMIOD_PID=$!
    wait_for 20 dmiod_is_up_or_gone
    ! process_is_gone "$DMIOD_PID" || fail "dmiod has not started"
}

# kill_dmiod: as a bug or the kernel would.
kill_dmiod() {
    kill -9 "$DMIOD_PID"
    dmiod_dies
}

# dmiod_dies: it is being killed, or kills itself.
dmiod_dies() {
    wait_for 20 process_is_gone "$DMIOD_PID"
    wait "$DMIOD_PID" 2>/dev/null || true
    DMIOD_PID=
}

# stop_dmiod: as the service manager does; the exit status is the daemon's.
stop_dmiod() {
    local status=0 pid=$DMIOD_PID
    kill -TERM "$pid"
    wait_for 20 process_is_gone "$pid"
    DMIOD_PID=
    wait "$pid" || status=$?
    return "$status"
}

# --- the control channel

# ctl METHOD [PARAMETERS]: one call of io.dmiod; prints the reply.
ctl() {
    local parameters=${2:-}
    [ -n "$parameters" ] || parameters='{}'
    printf '{"method":"io.dmiod.%s","parameters":%s}\n' "$1" "$parameters" |
        socat -t20 - "UNIX-CONNECT:$CONTROL"
}

# ctl_ok METHOD [PARAMETERS]: the same; it must succeed; prints the reply's parameters.
ctl_ok() {
    local reply
    reply=$(ctl "$@")
    if ! jq -e 'has("error") | not' >/dev/null <<<"$reply"; then
        printf 'not ok - %s %s: %s\n' "$1" "${2:-}" "$reply" >&2
        return 1
    fi
    jq -c .parameters <<<"$reply"
}

# expect_refused WHAT ERROR METHOD [PARAMETERS]: the error is io.dmiod.ERROR, or ERROR as it stands
# if it has a dot. The reply is left in $REPLY_JSON.
expect_refused() {
    local what=$1 error=$2 got
    shift 2
    case $error in
    *.*) ;;
    *) error=io.dmiod.$error ;;
    esac
    REPLY_JSON=$(ctl "$@")
    got=$(jq -r '.error // "no error"' <<<"$REPLY_JSON")
    [ "$got" = "$error" ] || fail "$what: $REPLY_JSON, not $error"
    ok "$what"
}

# regions DEVICE:SECTOR+COUNT...: as a JSON list. No device has a character that JSON would mind.
regions() {
    local leg list=()
    for leg; do
        [[ $leg =~ ^([^\"\\]*):([0-9]+)\+([0-9]+)$ ]] || fail "regions: $leg"
        list+=("{\"device\":\"${BASH_REMATCH[1]}\",\"sector\":${BASH_REMATCH[2]},\"count\":${BASH_REMATCH[3]}}")
    done
    local IFS=,
    printf '[%s]\n' "${list[*]}"
}

# open_client NAME PAGES: a lingering one.
open_client() {
    ctl_ok OpenClient "{\"name\":\"$1\",\"pages\":$2,\"linger\":true}" >/dev/null
}

# create_export CLIENT NAME LEG... [-- MEMBER:VALUE,...]: prints its path. Further members are JSON,
# for example -- '"read_only":true'.
create_export() {
    local client=$1 name=$2 legs=() more=
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        legs+=("$1")
        shift
    done
    [ $# -lt 2 ] || more=,$2
    ctl_ok CreateExport \
        "{\"client\":\"$client\",\"name\":\"$name\",\"regions\":$(regions "${legs[@]}")$more}" |
        jq -r .export.path
}

# as_nobody COMMAND...: as uid and gid 65534, without other groups.
as_nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
}

# is_sanitized FILE: a program or library that was built with the address sanitizer.
is_sanitized() {
    grep -qa __asan_init "$1"
}

# has_shadow_memory FILE: the same, or the thread sanitizer: how large a process is says nothing.
has_shadow_memory() {
    grep -qaE '__(asan|tsan)_init' "$1"
}

# The figures that a leak would move.
dmiod_fds() {
    find "/proc/$DMIOD_PID/fd" -mindepth 1 -maxdepth 1 | wc -l
}

dmiod_rss_kib() {
    awk '$1 == "VmRSS:" { print $2 }' "/proc/$DMIOD_PID/status"
}
