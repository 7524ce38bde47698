#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# docs/conformance.md speaks of the cases that there are: each number of the suite once, with its
# line, and no others.
. "$(dirname "$0")/../lib/common.sh"

CONFORMANCE=$DMIO_BUILD/tests/conformance/conformance
TABLE=$DMIO_SOURCE/docs/conformance.md

[ -x "$CONFORMANCE" ] || skip "needs $CONFORMANCE"

"$CONFORMANCE" --list >"$WORK/list"
cut -f 1 "$WORK/list" | sort -n >"$WORK/numbers"
expect "there are cases" test -s "$WORK/numbers"
expect_eq "every case has a number of its own" "$(uniq -d "$WORK/numbers")" ""
expect_eq "the numbers have no gaps" "$(cat "$WORK/numbers")" \
    "$(seq "$(tail -n 1 "$WORK/numbers")")"

while IFS=$'\t' read -r number name _; do
    [[ $name == case_$(printf %03d "$number")_* ]] || fail "case $number is called $name"
done <"$WORK/list"
ok "the names begin with the numbers"

sed -n 's/^| \([0-9][0-9]*\) | \(.*\)$/\1\t\2/p' "$TABLE" | sed 's/\\|/|/g' |
    awk -F '\t' '{ sub(/ \| .*/, "", $2); print $1 "\t" $2 }' >"$WORK/table"
cut -f 1,3 "$WORK/list" | sort -n >"$WORK/wanted"
if ! diff "$WORK/wanted" "$WORK/table"; then
    fail "docs/conformance.md is not of these cases; tests/conformance/table.py says how to make it"
fi
ok "docs/conformance.md has every case with its line"
