#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dmioctl(1) and dmioctl --help speak of the same verbs, arguments, options and examples; every check
# of doctor and every event of monitor is in the manual.
. "$(dirname "$0")/../lib/common.sh"
MANUAL=$DMIO_SOURCE/docs/man/dmioctl.1.scd

"$DMIOCTL" --help >"$WORK/help"
plain() {
    sed 's/\\\(.\)/\1/g; s/[*_]//g; s/++$//' "$MANUAL"
}
plain >"$WORK/plain"

# A verb is two spaces in, its arguments on the same line; what it does and an example are below it.
grep -E '^  [a-z]' "$WORK/help" >"$WORK/verbs"
expect "there are verbs" test "$(wc -l <"$WORK/verbs")" -gt 20
while read -r verb; do
    words=$(sed 's/ [[A-Z].*//' <<<"$verb")
    expect "$words is in the manual" grep -qE "^\*${words%% *}( [a-z| *-]*)?\*( |$)" "$MANUAL"
    # io has a line for each kind of operation.
    case $words in
    io) continue ;;
    submit) verb="submit OPERATION CLIENT LEG..." ;;
    esac
    expect "with its arguments" grep -qF -- "$verb" "$WORK/plain"
done < <(sed 's/^  //' "$WORK/verbs")

sed -n '/^```$/,/^```$/p' "$MANUAL" >"$WORK/literal"
grep -E '^        dmioctl ' "$WORK/help" | sed 's/^ *//' >"$WORK/examples"
expect_eq "each verb has an example" "$(wc -l <"$WORK/examples")" "$(wc -l <"$WORK/verbs")"
while IFS= read -r example; do
    expect "it is in the manual: $example" grep -qxF -- "$example" "$WORK/literal"
done <"$WORK/examples"

while IFS= read -r verb; do
    # shellcheck disable=SC2086 # one or two words
    "$DMIOCTL" $verb --help
done < <(sed 's/^  //; s/ [[A-Z].*//' "$WORK/verbs") | sed -n 's/^  \(--[a-z-]*\).*/\1/p' | sort -u >"$WORK/options"
expect "there are options" test "$(wc -l <"$WORK/options")" -gt 15
while read -r option; do
    expect "$option is in the manual" grep -qF -- "*$option*" "$MANUAL"
done <"$WORK/options"
grep -oE '\*--[a-z-]+\*' "$MANUAL" | tr -d '*' | sort -u >"$WORK/told"
expect_eq "and no option that is not there" "$(comm -13 "$WORK/options" "$WORK/told" | tr '\n' ' ')" ""

("$DMIOCTL" --control="$WORK/none" doctor --user --json 2>/dev/null || true) | tr '{' '\n' |
    sed -n 's/.*"check":"\([^"]*\)".*/\1/p' | grep -v '^device ' >"$WORK/checks"
expect "there are checks" test "$(wc -l <"$WORK/checks")" -gt 10
while read -r check; do
    expect "the check '$check' is in the manual" grep -qF "*$check*" "$MANUAL"
done <"$WORK/checks"

sed -n 's/^#   \([a-z][a-z-]*\)  .*/\1/p' "$DMIO_SOURCE/daemon/control/io.dmiod.varlink" | sort -u >"$WORK/events"
expect "there are events" test "$(wc -l <"$WORK/events")" -gt 8
while read -r event; do
    expect "the event '$event' is in the manual" grep -qF "*$event*" "$MANUAL"
done <"$WORK/events"

if command -v scdoc >/dev/null; then
    expect "scdoc takes it" scdoc <"$MANUAL"
    if command -v man >/dev/null; then
        scdoc <"$MANUAL" >"$WORK/dmioctl.1"
        MANWIDTH=80 man --warnings -l "$WORK/dmioctl.1" >"$WORK/text" 2>"$WORK/warnings" ||
            fail "man: $(head -n 3 "$WORK/warnings")"
        expect_eq "man has nothing to warn of" "$(head -n 3 "$WORK/warnings")" ""
    fi
else
    skip_case "to make the manual: needs scdoc"
fi
