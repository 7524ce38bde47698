#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dmioctl for scripts and for people: with --json every verb prints the parameters of the daemon's
# replies, as they came, a compact line each; the tables are aligned. submit and wait, call, interface;
# data that no message could hold.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq python3

dmioctl() {
    "$DMIOCTL" --control="$CONTROL" "$@"
}
# json FILTER ARGUMENT...: the verb succeeds; what the filter makes of its lines, which must be as jq
# would write them.
json() {
    local filter=$1
    shift
    dmioctl "$@" --json >"$WORK/out" </dev/null || fail "dmioctl $*"
    jq -c . <"$WORK/out" | cmp -s - "$WORK/out" || fail "dmioctl $*: not compact: $(head -c 300 "$WORK/out")"
    jq -c "$filter" <"$WORK/out"
}
# same METHOD PARAMETERS ARGUMENT...: the verb's line is what the method answers.
same() {
    local method=$1 parameters=$2
    shift 2
    expect_eq "$* --json is what $method answers" "$(json . "$@")" "$(ctl_ok "$method" "$parameters")"
}

start_dmiod
cd "$WORK"
a=$(make_image 64M a.img)
b=$(make_image 64M b.img)
small=$(make_image 4K small.img)
fill "$a"

# --- every verb
expect_eq "client open" "$(json '[.client.name, .client.pages]' client open alice --linger)" '["alice",256]'
expect_eq "get" "$(json . get alice 8)" '{"pages":264}'
expect_eq "put" "$(json . put alice 8)" '{"pages":256}'
expect_eq "export create" "$(json .export.sectors export create alice/vol "$a:0+8MiB" "$b:8MiB+8MiB")" 16384
dmioctl export create alice/ro "$a:16MiB+1MiB" --read-only >/dev/null
same ListClients '{}' client list
same ListExports '{}' export list
same ListExports '{"client":"alice"}' export list alice
same ListJobs '{}' job list
expect_eq "status" "$(json 'del(.uptime_s)' status)" "$(ctl_ok Status | jq -c 'del(.uptime_s)')"
expect_eq "io write" "$(json . io write alice "$b:0+8" --fill 1)" '{"error_bits":"0x0","failed":[],"errors":[]}'
status=0
dmioctl io write alice "$b:0+8" "$small:8+8" --fill 1 --json >out 2>/dev/null || status=$?
expect_eq "io write, one fails" "$status $(cat out)" \
    '4 {"error_bits":"0x2","failed":[1],"errors":[{"region":1,"errno":"ENOSPC","sector":8}]}'
expect_eq "io read" "$(json .data io read alice "$a:8+1" | tr -d '"' | base64 -d | cmp - <(bytes_at "$a" 4096 512))" ""
expect_eq "io read to a file" "$(json . io read alice "$a:8+8" --output=out.data)" \
    '{"error_bits":"0x0","failed":[],"errors":[]}'
expect "has the data there" cmp out.data <(bytes_at "$a" 4096 4096)
expect_eq "copy" "$(json '[.job, .state]' copy alice "$a:0+8" "$b:0+8" | tail -n 1)" '[1,"done"]'
expect_eq "zero" "$(json '[.job, .state]' zero alice "$b:0+8" | tail -n 1)" '[2,"done"]'
expect_eq "job watch" "$(json '[.job, .kind, .state]' job watch 2)" '[2,"zero","done"]'
expect_eq "job cancel" "$(json . job cancel 2)" '{}'
same ListClients '{}' call ListClients
expect_eq "call of another interface" \
    "$(json .interfaces call org.varlink.service.GetInfo)" '["org.varlink.service","io.dmiod"]'
expect_eq "interface" "$(json .description interface | jq -r .)" \
    "$(cat "$DMIO_SOURCE/daemon/control/io.dmiod.varlink")"
expect "interface, as it is" cmp "$DMIO_SOURCE/daemon/control/io.dmiod.varlink" <(dmioctl interface)
expect_eq "doctor" "$(json '[.checks[].state] | unique | inside(["fail", "ok", "warn"])' doctor --config="$WORK/dmiod.conf")" true
expect_eq "export remove" "$(json . export remove alice/ro)" '{}'
"$DMIOCTL" --control="$CONTROL" monitor --json >events 2>/dev/null &
defer end_process $!
wait_for 10 test -s events
expect_eq "monitor" "$(jq -r .event events)" watching

# --- what is submitted
id=$(dmioctl submit write alice "$b:0+8" "$b:16+8" --fill=7)
expect_match "submit prints the id" "$id" "[0-9]*"
expect_eq "wait tells that it is done" "$(dmioctl wait alice "$id")" "$id: done"
expect_eq "it is" "$(count_others "$b" 0 4096 '\7')" 0
id=$(json .id submit read alice "$a:0+16" --output=out.data)
expect_eq "wait --json" "$(json '[.id, .error_bits, .failed, .errors]' wait alice)" "[$id,\"0x0\",[],[]]"
expect "the data are in the file" cmp out.data <(bytes_at "$a" 0 8192)
id=$(json .id submit read alice "$a:0+1")
expect "data that are kept with the result" cmp <(bytes_at "$a" 0 512) <(json .data wait alice | tr -d '"' | base64 -d)
for ((i = 0; i < 20; i++)); do dmioctl submit write alice "$b:$((i * 8))+8" --fill=$i; done >ids
dmioctl wait alice --json | jq .id | sort -n | cmp - ids
ok "wait without ids: all, each once"
dmioctl submit flush alice "$b:0+0" >ids
dmioctl submit write alice "$b:0+8" "$small:8+8" --fill=1 >>ids
status=0
mapfile -t ids <ids
dmioctl wait alice "${ids[@]}" >out 2>err || status=$?
expect_eq "one of two fails: 4" "$status" 4
expect_eq "the other is done" "$(cat out)" "${ids[0]}: done"
expect "it is named" grep -q "request ${ids[1]}: region 1 failed: ENOSPC" err

# --- large data
truncate -s 64M data
fill data 3
expect "64 MiB from standard input, to two regions" \
    sh -c 'head -c 64M data | "$0" --control="$1" io write alice a.img:0+64MiB b.img:0+64MiB' "$DMIOCTL" "$CONTROL"
expect "are on the first" cmp data a.img
expect "and on the second" cmp data b.img
expect "and back" sh -c '"$0" --control="$1" io read alice b.img:0+64MiB | cmp - data' "$DMIOCTL" "$CONTROL"
id=$(head -c 32M data | dmioctl submit write alice a.img:32MiB+32MiB)
dmioctl wait alice "$id" >/dev/null
expect "32 MiB of a request that is not waited for" cmp -n 33554432 a.img data 33554432 0

# --- any method, files sent along
expect_eq "call with a file" \
    "$(json .data call Io '{"client":"alice","op":"read","regions":[{"device":"fd:0","sector":1,"count":1}]}' data |
        tr -d '"' | base64 -d | cmp - <(bytes_at data 512 512))" ""
printf '{"name":"bob","pages":1,"linger":true}' | dmioctl call OpenClient - >out
expect_eq "call with parameters from standard input" "$(jq -r .client.name out)" bob
expect_eq "call --more" "$(dmioctl call Copy --more '{"client":"alice","source":{"device":"fd:0","sector":0,"count":8},"destinations":[{"device":"fd:1","sector":0,"count":8}]}' a.img b.img | jq -r .state | tr '\n' ' ')" "running done "

# --- tables
# Every cell of a column ends, or begins, where the head does; nothing stands behind the last one.
aligned() {
    python3 - "$1" <<'END'
import re, sys
lines = open(sys.argv[1], encoding='utf-8').read().split('\n')[:-1]
assert len(lines) > 1 and all(line == line.rstrip() and '\t' not in line for line in lines), lines
spans = [match.span() for match in re.finditer(r'\S+(?: \S+)*', lines[0])]
for line in lines[1:]:
    cells = [match.span() for match in re.finditer(r'\S+(?: \S+)*', line)]
    assert len(cells) == len(spans), line
    for cell, head in zip(cells, spans):
        assert cell[0] == head[0] or cell[1] == head[1], (line, cell, head)
END
}
# How many blanks there are depends on the heads, too; an age on the time.
words() {
    tr -s ' ' | sed 's/^ //; s/[0-9]* s ago//'
}
mkdir -p "$WORK/größe"
mv b.img größe/
dmioctl export create bob/umlaut größe/b.img:16MiB+1MiB --shared >/dev/null
for table in "client list" "export list" "job list" "doctor --config=$WORK/dmiod.conf"; do
    # shellcheck disable=SC2086 # words
    dmioctl $table >table 2>/dev/null
    expect "$table is aligned" aligned table
    # shellcheck disable=SC2086 # words
    dmioctl $table --no-header >rows 2>/dev/null
    expect_eq "$table --no-header: the same rows" "$(words <rows)" "$(tail -n +2 table | words)"
done
expect_eq "sizes have units" "$(dmioctl export list alice --no-header | awk '{ print $2, $3 }' | uniq)" "8 MiB"
dmioctl export remove bob/umlaut >/dev/null
dmioctl export remove alice/vol >/dev/null
expect_eq "nothing to list is said" "$(dmioctl export list)" "no exports"
expect_eq "but not without a head" "$(dmioctl export list --no-header)" ""

# --- an age has a unit, too: what a daemon would say later
cat >"$WORK/later.py" <<'END'
import json, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
ages = [0, 119, 120, 7199, 7200, 172799, 172800, 8640000]
jobs = [{'job': i + 1, 'client': 'c', 'kind': 'zero', 'state': 'done', 'done_sectors': 0, 'total_sectors': 0,
         'started': age, 'error_bits': '0x0', 'failed': []} for i, age in enumerate(ages)]
connection, _ = server.accept()
connection.recv(65536)
connection.sendall(json.dumps({'parameters': {'jobs': jobs}}).encode() + b'\0')
END
python3 "$WORK/later.py" "$WORK/later" &
defer end_process $!
wait_for 10 test -S "$WORK/later"
expect_eq "ages" "$("$DMIOCTL" --control="$WORK/later" job list --no-header | sed 's/.*  \([0-9].* ago\).*/\1/' | tr '\n' ' ')" \
    "0 s ago 119 s ago 2 min ago 119 min ago 2 h ago 47 h ago 2 d ago 100 d ago "
