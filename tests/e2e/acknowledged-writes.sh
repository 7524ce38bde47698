#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What was acknowledged is on every leg, however the daemon ends: four writers number their blocks
# and remember the last one that succeeded; meanwhile the daemon is stopped, or killed.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq python3

cat >"$WORK/writer.py" <<'END'
# Each of four threads writes every fourth block of 4096 bytes, its number in each word, until an
# error comes. Prints, for each, how many were acknowledged.
import mmap, os, struct, sys, threading
path, blocks, direct = sys.argv[1], int(sys.argv[2]), sys.argv[3] == 'direct'
acknowledged = [0] * 4

def write(lane):
    buffer = mmap.mmap(-1, 4096)            # page-aligned
    try:
        fd = os.open(path, os.O_RDWR | (os.O_DIRECT if direct else 0))
        for block in range(lane, blocks * 1000, 4):
            buffer[:] = struct.pack('<Q', block + 1) * 512
            if os.pwrite(fd, buffer, block % blocks * 4096) != 4096:
                break
            acknowledged[lane] = block + 1
    except OSError:
        pass

threads = [threading.Thread(target=write, args=(lane,)) for lane in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print(*acknowledged, flush=True)
END
cat >"$WORK/verify.py" <<'END'
# On each leg, the last acknowledged block of each lane or a later one is at its place, whole.
import struct, sys
blocks, lanes = int(sys.argv[1]), [int(n) for n in sys.argv[2:6]]
for leg in sys.argv[6:]:
    path, offset = leg.rsplit(':', 1)
    with open(path, 'rb') as f:
        f.seek(int(offset))
        data = f.read(blocks * 4096)
    for lane, last in enumerate(lanes):
        assert last > 0, 'lane %d has written nothing' % lane
        for block in range(max(lane, last - 1 - blocks + 4), last, 4):
            at = block % blocks * 4096
            words = set(struct.unpack('<512Q', data[at:at + 4096]))
            assert len(words) == 1, 'block %d of %s is torn' % (block, path)
            assert words.pop() >= block + 1, 'block %d of %s is lost' % (block, path)
END

a=$(make_image 4M a.img)
b=$(make_image 5M b.img)
for signal in TERM KILL; do
    for way in direct buffered; do
        start_dmiod
        open_client alice 64
        file=$(create_export alice vol "$a:0+8192" "$b:512+8192")
        python3 "$WORK/writer.py" "$file" 1024 $way >"$WORK/written" &
        writer=$!
        defer end_process $writer
        once_around() { # the last block has been written
            [ "$(count_others "$b" $((262144 + 4190208)) 4096 '\0')" != 0 ]
        }
        wait_for 30 once_around
        if [ $signal = TERM ]; then
            expect "SIGTERM under load ($way): the daemon ends well" stop_dmiod
        else
            kill -9 "$DMIOD_PID"
            wait_for 10 process_is_gone "$DMIOD_PID"
            umount -l "$MOUNT"
            DMIOD_PID=
        fi
        wait_for 20 process_is_gone $writer
        # shellcheck disable=SC2046 # four numbers
        expect "SIG$signal ($way): every acknowledged block is on both legs" \
            python3 "$WORK/verify.py" 1024 $(tail -n 1 "$WORK/written") "$a:0" "$b:262144"
        truncate -s 0 "$a" "$b"
        truncate -s 4M "$a"
        truncate -s 5M "$b"
    done
done
