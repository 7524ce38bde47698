#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What has been flushed is on the legs, whatever else a power failure leaves: qemu's write log records
# what reaches two legs, a file and a loop device, and in which order. From it every state is made
# that could be found afterwards: all up to some point, and after the last flush before it any part.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_loop
require_cmd socat jq python3 qemu-storage-daemon nbdfuse

# logged NAME: a file whose writes are logged in $WORK/NAME.log; prints its path
logged() {
    truncate -s 4M "$WORK/$1.img"
    : >"$WORK/$1.log"
    qemu-storage-daemon --blockdev driver=file,node-name=f,filename="$WORK/$1.img" \
        --blockdev driver=file,node-name=l,filename="$WORK/$1.log" \
        --blockdev driver=blklogwrites,node-name=d,file=f,log=l,log-sector-size=512 \
        --nbd-server addr.type=unix,addr.path="$WORK/$1.nbd" \
        --export type=nbd,id=e,node-name=d,name=x,writable=on >"$WORK/$1.out" 2>&1 </dev/null &
    printf '%s\n' $! >"$WORK/$1.pid"
    defer end_process $!
    wait_for 10 test -S "$WORK/$1.nbd"
    mkdir "$WORK/$1"
    nbdfuse "$WORK/$1/disk" "nbd+unix:///x?socket=$WORK/$1.nbd" >>"$WORK/$1.out" 2>&1 </dev/null &
    defer end_process $!
    printf '%s\n' $! >"$WORK/$1.fuse-pid"
    wait_for 10 test -f "$WORK/$1/disk"
    printf '%s\n' "$WORK/$1/disk"
}

a=$(logged a)
b=$(make_loop "$(logged b)" 512 --direct-io=on)
start_dmiod
open_client alice 64
file=$(create_export alice vol "$a:8+4096" "$b:8+4096")

# Each round changes a record somewhere, makes it durable, and only then says so in the first block,
# with a write that nobody makes durable. The ways take turns.
cat >"$WORK/writer.py" <<'END'
import fcntl, json, os, random, struct, sys
path, plan = sys.argv[1:]
rng = random.Random(7)
fd = os.open(path, os.O_RDWR)
direct = os.open(path, os.O_RDWR | os.O_DIRECT)
dsync = os.open(path, os.O_RDWR | os.O_DSYNC)
rounds = []
place = 4096
for number in range(1, 61):
    length = rng.choice((100, 512, 700, 4096, 5000, 40000))
    data = struct.pack('<I', number) * (length // 4)
    way = ('fsync', 'fdatasync', 'dsync', 'direct')[number % 4]
    if way == 'dsync':
        assert os.pwrite(dsync, data, place) == len(data)
    else:
        assert os.pwrite(direct if way == 'direct' else fd, data, place) == len(data)
        (os.fdatasync if way == 'fdatasync' else os.fsync)(fd)
    assert os.pwrite(fd, struct.pack('<I', number), 0) == 4
    rounds.append((place, length // 4, way))
    place += length // 4 * 4 + rng.randrange(50)
with open(plan, 'w') as f:
    json.dump(rounds, f)
END
cat >"$WORK/replay.py" <<'END'
import json, random, struct, sys
log, plan, base, except_for = sys.argv[1], json.load(open(sys.argv[2])), int(sys.argv[3]), sys.argv[4:]
data = open(log, 'rb').read()
magic, version, entries, sector_size = struct.unpack_from('<QQQI', data)
assert magic == 0x6a736677736872, hex(magic)
rng = random.Random(3)
image = bytearray(4 << 20)      # all that was flushed
pending = []                    # what was written since
states = flushes = highest = 0

def judge(state, where):
    global states, highest
    states += 1
    number, = struct.unpack_from('<I', state, base)
    highest = max(highest, number)
    for i, (place, n, way) in enumerate(plan[:number], 1):
        if way in except_for:
            continue
        got = struct.unpack_from('<%dI' % n, state, base + place)
        assert got == (i,) * n, 'entry %d: round %d is said to be durable, but round %d (%s) is not' % (
            where, number, i, way)

def apply(state, entry):
    at, content = entry
    state[at:at + len(content)] = content

at = sector_size
for where in range(entries):
    sector, count, flags, _ = struct.unpack_from('<QQQQ', data, at)
    at += sector_size
    if flags & 1:               # a flush: what came before is kept
        flushes += 1
        for entry in pending:
            apply(image, entry)
        pending = []
    if count and not flags & 4:
        content = data[at:at + count * sector_size]
        at += len(content)
        if flags & 2:
            apply(image, (sector * sector_size, content))
        else:
            pending.append((sector * sector_size, content))
    judge(image, where)
    for keep in (1.0, 0.5, 0.5):
        state = bytearray(image)
        for entry in pending:
            if rng.random() < keep:
                apply(state, entry)
        judge(state, where)
assert flushes >= len(plan) // 2, (flushes, len(plan))
for entry in pending:
    apply(image, entry)
judge(image, entries)
assert highest == len(plan), (highest, len(plan))
print('%d entries, %d flushes, %d states' % (entries, flushes, states))
END
expect "60 rounds" python3 "$WORK/writer.py" "$file" "$WORK/plan"
expect "stop" stop_dmiod
number=$(loop_number "$b")
end_loop "$b" "$number"
wait_for 10 loop_is_gone "$b" "$number"
# A file that another FUSE server serves does not become durable by O_DSYNC or RWF_DSYNC: the kernel
# leaves that to the server, and nbdfuse does not care.
declare -A except_for=([a]=dsync [b]="")
for name in a b; do
    end_process "$(cat "$WORK/$name.fuse-pid")"
    end_process "$(cat "$WORK/$name.pid")"
    wait_for 10 process_is_gone "$(cat "$WORK/$name.pid")"
    # shellcheck disable=SC2086 # none or one
    expect "leg $name: in every state that could be found, what was flushed is there" \
        python3 "$WORK/replay.py" "$WORK/$name.log" "$WORK/plan" 4096 ${except_for[$name]}
    cat "$WORK/expect.log"
done
