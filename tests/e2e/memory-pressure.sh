#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A daemon that others write through when memory is short: it is an IO flusher and its memory is
# locked, where it may; where it may not, it says so and goes on.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq setpriv prlimit fio

# What the kernel makes of PR_SET_IO_FLUSHER: PF_LOCAL_THROTTLE and PF_MEMALLOC_NOIO in the ninth field of
# stat, or nothing.
mask=$(python3 -c '
import ctypes
def flags():
    return int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[6])
before = flags()
ctypes.CDLL(None).prctl(57, 1, 0, 0, 0)
print(flags() & ~before & 0x180000)')  # not: that a capability has been used
locked_kib() {
    awk '$1 == "VmLck:" { print $2 }' "/proc/$DMIOD_PID/status"
}

# STATE|FOUND|REMEDY
doctor_finds() {
    { timeout 20 "$DMIOCTL" --control="$CONTROL" doctor --config="$WORK/dmiod.conf" --json || true; } |
        jq -r '.checks[] | select(.check == "memory pressure") | [.state, .found, .remedy // ""] | join("|")'
}

start_dmiod
if [ "$mask" != 0 ]; then
    for task in "/proc/$DMIOD_PID"/task/*; do
        flags=$(sed 's/.*) //' "$task/stat" | cut -d' ' -f7)
        expect "$(cat "$task/comm") is an IO flusher" [ $((flags & mask)) = "$mask" ]
    done
else
    skip_case "an IO flusher: needs CAP_SYS_RESOURCE"
    expect "and that is logged" grep -q '^info: Not an IO flusher .*CAP_SYS_RESOURCE' "$WORK/dmiod.log"
fi
if has_shadow_memory "$DMIOD"; then
    skip_case "memory is locked: not that of a sanitizer"
elif grep -q 'Memory is not locked' "$WORK/dmiod.log"; then
    skip_case "memory is locked: needs CAP_IPC_LOCK"
else
    expect "memory is locked" [ "$(locked_kib)" -gt 0 ]
    case $mask in
    0) wanted="warn|the daemon is no IO flusher, and its memory is locked*|*CAP_SYS_RESOURCE" ;;
    *) wanted="ok|the daemon is an IO flusher, and its memory is locked|" ;;
    esac
    expect_match "dmioctl doctor tells" "$(doctor_finds)" "$wanted"
    # What has not run yet would be read from a disk.
    code_is_there() {
        awk '/^[0-9a-f]+-[0-9a-f]+ / { of_file = $2 ~ /x/ && $6 ~ /^\// && $6 !~ /memfd/; name = $6 }
            of_file && $1 == "Size:" { size = $2 }
            of_file && $1 == "Rss:" { n++; if ($2 != size) { print name, $2, "of", size; bad = 1 } }
            END { exit bad || n < 5 }' "/proc/$DMIOD_PID/smaps"
    }
    expect "so is the code of the daemon and its libraries, all of it" code_is_there
    # What is given back is not kept for being locked.
    for i in 1 2 3; do
        before=$(dmiod_rss_kib)
        open_client alice 16384
        expect "a reservation of 64 MiB is there" [ $(($(dmiod_rss_kib) - before)) -gt 60000 ]
        ctl_ok CloseClient '{"name":"alice"}' >/dev/null
        is_small() {
            [ $(($(dmiod_rss_kib) - before)) -lt 8192 ]
        }
        wait_for 10 is_small
        ok "and gone with its client"
    done
    expect "memory is still locked" [ "$(locked_kib)" -gt 0 ]
    expect "and all of the code" code_is_there

    # The threads of the mount have had all that many requests at once need before there was any.
    touched() {
        sed 's/.*) //' "/proc/$DMIOD_PID/task/$1/stat" | cut -d' ' -f8
    }
    thread=$(basename "$(dirname "$(grep -l '^dmiod-queue-0' "/proc/$DMIOD_PID"/task/*/comm)")")
    open_client bob 4096
    create_export bob vol "$(make_image 16M b.img):0+32768" >/dev/null
    before=$(touched "$thread")
    fio --name=deep --filename="$MOUNT/bob/vol" --size=16M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=64 \
        --direct=1 --allow_file_create=0 --output="$WORK/fio.log" || { cat "$WORK/fio.log" && fail "fio"; }
    n=$(($(touched "$thread") - before))
    expect "for 64 requests at once a thread of the mount has touched $n pages for the first time" [ "$n" -le 64 ]
    ctl_ok CloseClient '{"name":"bob"}' >/dev/null
fi
expect "it stops" stop_dmiod

# --- without the rights
DMIOD_REAL=$DMIOD
cat >"$WORK/dmiod-without" <<END
#!/bin/sh
exec prlimit --memlock=4194304:4194304 setpriv --bounding-set=-sys_resource,-ipc_lock \
    --inh-caps=-sys_resource,-ipc_lock -- "$DMIOD_REAL" "\$@"
END
chmod +x "$WORK/dmiod-without"
: >"$WORK/dmiod.log"
DMIOD=$WORK/dmiod-without start_dmiod
for text in 'Not an IO flusher .*CAP_SYS_RESOURCE' 'Memory is not locked .*CAP_IPC_LOCK'; do
    expect "without the right: $text" grep -q "^info: $text" "$WORK/dmiod.log"
done
expect_match "and dmioctl doctor tells" "$(doctor_finds)" "warn|*no IO flusher*not locked*|*CAP_SYS_RESOURCE*LimitMEMLOCK=infinity"
expect_eq "nothing is locked" "$(locked_kib)" 0
open_client alice 4096
create_export alice vol "$(make_image 1M a.img):0+1024" >/dev/null
expect "it works all the same" dd if=/dev/zero of="$MOUNT/alice/vol" bs=64k count=8 conv=notrunc status=none
expect "it stops, too" stop_dmiod

# --- a user who has that right and no other, as by AmbientCapabilities=
if [ "$mask" = 0 ] || ! as_nobody test -w /dev/fuse || ! command -v fusermount3 >/dev/null; then
    skip_case "the right is given back: needs CAP_SYS_RESOURCE, fusermount3, and /dev/fuse for everybody"
    exit 0
fi
cat >"$WORK/dmiod-of-nobody" <<END
#!/bin/sh
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+sys_resource --ambient-caps=+sys_resource \
    -- env XDG_RUNTIME_DIR="$WORK/nobody" "$DMIOD_REAL" --user "\$@"
END
chmod +x "$WORK/dmiod-of-nobody"
mkdir -p "$WORK/nobody/mnt"
chown -R 65534 "$WORK/nobody"
MOUNT=$WORK/nobody/mnt CONTROL=$WORK/nobody/control STATE=$WORK/nobody/state
: >"$WORK/dmiod.log"
DMIOD=$WORK/dmiod-of-nobody start_dmiod
expect_eq "it runs as nobody" "$(awk '$1 == "Uid:" { print $2 }' "/proc/$DMIOD_PID/status")" 65534
for task in "/proc/$DMIOD_PID"/task/*; do
    flags=$(sed 's/.*) //' "$task/stat" | cut -d' ' -f7)
    expect "$(cat "$task/comm") is an IO flusher" [ $((flags & mask)) = "$mask" ]
    for set in CapInh CapPrm CapEff CapAmb; do
        expect_eq "and has nothing in $set" "$(awk -v set="$set:" '$1 == set { print $2 }' "$task/status")" 0000000000000000
    done
done
expect_not "nothing is said about it" grep -q 'IO flusher\|CAP_SYS_RESOURCE' "$WORK/dmiod.log"
expect "it stops" stop_dmiod
