#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# libdmio(3) and the headers speak of the same things: every exported function, flag, operation and
# action is in the manual, and nothing is there that no header has. Its example builds and runs.
. "$(dirname "$0")/../lib/common.sh"
MANUAL=$DMIO_SOURCE/docs/man/libdmio.3.scd
cc=${CC:-cc}

# Words of the kind that the library's names are, once each.
names() {
    grep -oE '\<(dmio|dm_io|dm_kcopyd|DMIO|DM_IO|DM_KCOPYD)_[A-Za-z0-9_]*[A-Za-z0-9]' | sort -u
}
names <"$MANUAL" >"$WORK/manual"
cat "$DMIO_SOURCE"/include/dmio/*.h >"$WORK/headers.h"
names <"$WORK/headers.h" >"$WORK/headers"

expect_eq "nothing in the manual is unknown to the headers" \
    "$(comm -23 "$WORK/manual" "$WORK/headers" | tr '\n' ' ')" ""

# Names between "global:" and "local:" of the map, as in install.sh.
sed -e 's/#.*//' -e 's,/\*.*\*/,,' "$DMIO_SOURCE/libdmio/libdmio.map" |
    awk '/global:/ { on = 1; next } /local:|}/ { on = 0 } on' | tr -d ' \t' | tr ';' '\n' |
    sed '/^$/d' | sort -u >"$WORK/exported"
expect "there are exported functions" test -s "$WORK/exported"
for function in $(cat "$WORK/exported"); do
    grep -q "\*$function\*()\|\*$function\*(\|[ *]$function(" "$MANUAL" || printf '%s ' "$function"
done >"$WORK/missing"
expect_eq "every exported function is in the manual" "$(cat "$WORK/missing")" ""

# Constants but for include guards and what is said in numbers: sectors, pages, the most regions.
grep -oE '^(#define|        )[ ]*(DMIO|DM_IO)_[A-Z0-9_]+\>' "$WORK/headers.h" | awk '{ print $NF }' |
    grep -vE '_(SHIFT|SIZE)$|^DM_IO_MAX_REGIONS$' | sort -u >"$WORK/constants"
expect "there are constants" test -s "$WORK/constants"
expect_eq "every flag, operation and action is in the manual" \
    "$(comm -13 "$WORK/manual" "$WORK/constants" | tr '\n' ' ')" ""

# --- the example
sed -n '/^```$/,/^```$/p' "$MANUAL" | sed '/^```$/d; s/\\\\/\\/g' >"$WORK/example.c"
sanitize=()
if is_sanitized "$DMIO_BUILD/libdmio/libdmio.so"; then sanitize=("-fsanitize=address,undefined"); fi
expect "the example builds" "$cc" -std=gnu17 -Wall -Wextra -Werror "${sanitize[@]}" \
    -I "$DMIO_SOURCE/include" "$WORK/example.c" -o "$WORK/example" \
    -L "$DMIO_BUILD/libdmio" -ldmio "-Wl,-rpath,$DMIO_BUILD/libdmio"
a=$(make_image 16K) b=$(make_image 1K)
status=0
"$WORK/example" "$a" "$b" >"$WORK/said" || status=$?
expect_eq "a region that does not fit" "$status" 1
expect_eq "is named" "$(cat "$WORK/said")" "$b: No space left on device"
expect_eq "the other one is written" "$(head -c 5 "$a")" hello
expect "two that fit" "$WORK/example" "$a" "$(make_image 8K)"

if command -v scdoc >/dev/null; then
    expect "scdoc takes it" scdoc <"$MANUAL"
    if command -v man >/dev/null; then
        scdoc <"$MANUAL" >"$WORK/libdmio.3"
        MANWIDTH=80 man --warnings -l "$WORK/libdmio.3" >"$WORK/text" 2>"$WORK/warnings" ||
            fail "man: $(head -n 3 "$WORK/warnings")"
        expect "man shows the example's backslash" grep -qF 's: %s\n"' "$WORK/text"
    fi
else
    skip_case "to make the manual: needs scdoc"
fi
