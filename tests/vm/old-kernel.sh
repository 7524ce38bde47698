#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Inside the machine: what depends on the kernel, on the oldest one that we support.
set -u
cd /dmio
echo "# kernel $(uname -r)"
failed=0
run() {
    echo "# $*"
    "$@" || { [ $? = 77 ] && return; echo "not ok - $*"; failed=1; }
}

for script in "${@:-export-files region-lists start-and-stop leg-errors cache holes}"; do
    for name in $script; do run bash "tests/e2e/$name.sh"; done
done
exit $failed
