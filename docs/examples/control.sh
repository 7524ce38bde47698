#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dmiod's control channel from a shell, with socat and jq: a reservation, an export, a write to two
# regions of which one fails, and what has become of it.
#
#   control.sh SOCKET A B
#
# A and B are devices or images that the daemon opens by their paths, so run it as root or as the
# daemon's own user. Their first 64 KiB are overwritten. Ends with 0 if all went as it is told here.
set -eu -o pipefail
socket=$1 a=$(realpath "$2") b=$(realpath "$3")
client=shell-$$

# call METHOD PARAMETERS: one line there, one line back. Prints the parameters of the reply; an error is
# printed to standard error, and is the status.
call() {
    local parameters reply
    parameters=$(jq -c . <<<"$2") # in one line, because a newline ends a message
    reply=$(printf '{"method":"io.dmiod.%s","parameters":%s}\n' "$1" "$parameters" |
        socat -t30 - "UNIX-CONNECT:$socket")
    if jq -e 'has("error")' >/dev/null <<<"$reply"; then
        jq -r '"\(.error): \(.parameters | tostring)"' <<<"$reply" >&2
        return 1
    fi
    jq -c .parameters <<<"$reply"
}

# region DEVICE SECTOR COUNT: jq sees to it that any path is right in JSON.
region() {
    jq -nc --arg device "$1" --argjson sector "$2" --argjson count "$3" '$ARGS.named'
}

# Each call is a connection of its own here, so the client must outlive the one that makes it.
call OpenClient "{\"name\":\"$client\",\"pages\":64,\"linger\":true}" |
    jq -r '.client | "client \(.name): \(.pages) pages"'
trap 'call CloseClient "{\"name\":\"$client\"}" >/dev/null' EXIT

# --- an export: a file whose writes go to both
file=$(call CreateExport "{\"client\":\"$client\",\"name\":\"vol\",
    \"regions\":[$(region "$a" 0 128),$(region "$b" 0 128)]}" | jq -r .export.path)
echo "hello from $client" | dd of="$file" conv=notrunc,fsync status=none
echo "on A: $(head -n 1 "$a" | tr -d '\0')"
echo "on B: $(head -n 1 "$b" | tr -d '\0')"

# --- one request to two regions: the second one lies behind the end of B
end=$(($(blockdev --getsz "$b" 2>/dev/null || echo $(($(stat -c %s "$b") / 512)))))
data=$({ echo "a sector of text" && head -c 512 /dev/zero; } | head -c 512 | base64 -w0)
result=$(call Io "{\"client\":\"$client\",\"op\":\"write\",\"memory\":{\"data\":\"$data\"},
    \"regions\":[$(region "$a" 8 1),$(region "$b" "$end" 1)]}")
jq -r '"error bits \(.error_bits), failed: \(.failed)"' <<<"$result"
jq -r '.errors[] | "region \(.region): \(.errno) at sector \(.sector)"' <<<"$result"
[ "$(jq -c .failed <<<"$result")" = "[1]" ]

# --- the region that took it has it
call Io "{\"client\":\"$client\",\"op\":\"read\",\"regions\":[$(region "$a" 8 1)]}" |
    jq -r .data | base64 -d | tr -d '\0' | sed 's/^/read back: /'
