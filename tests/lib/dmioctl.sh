# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What tests of dmioctl share, after common.sh:   . "$(dirname "$0")/../lib/dmioctl.sh"

dmioctl() {
    "$DMIOCTL" --control="$CONTROL" "$@"
}

# expect_status STATUS WHAT ARGUMENT...: what is wrong is said in one line. Both outputs are left in
# $WORK/out and $WORK/err.
expect_status() {
    local wanted=$1 what=$2 status=0
    shift 2
    dmioctl "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
    if [ "$status" != "$wanted" ]; then
        cat "$WORK/out" "$WORK/err"
        fail "$what: status $status, not $wanted"
    fi
    [ "$status" = 0 ] || [ "$(wc -l <"$WORK/err")" = 1 ] || fail "$what: not one line: $(cat "$WORK/err")"
    ok "$what"
}
