#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The examples of the interface text are true: each method's are said to a fresh daemon.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat python3

cat >"$WORK/dmiod.conf" <<END
[daemon]
drills = yes
[device a.img]
path = $WORK/a.img
[device b.img]
path = $WORK/b.img
END
export DMIO_CONTROL=$CONTROL DMIO_WORK=$WORK
interface() {
    python3 "$(dirname "$0")/interface.py" "$@"
}

start_dmiod
interface --description
stop_dmiod
methods=$(interface --list)
expect "there are methods" test -n "$methods"
for method in $methods; do
    start_dmiod
    interface "$method" || fail "the examples of $method"
    stop_dmiod
done
