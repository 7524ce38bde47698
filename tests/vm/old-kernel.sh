#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Inside the machine: what depends on the kernel, on the oldest one that we support.
set -u
cd /dmio
chmod 666 /dev/fuse # as everywhere else
echo "# kernel $(uname -r)"
failed=0
run() {
    echo "# $*"
    "$@" || { [ $? = 77 ] && return; echo "not ok - $*"; failed=1; }
}

# Those in Python have a daemon that somebody starts for them, here one under a supervisor.
run_test() {
    if [ -e "tests/e2e/$1.sh" ]; then
        run bash "tests/e2e/$1.sh"
    else
        run bash tests/lib/with-supervisor.sh "tests/e2e/$1.py"
    fi
}

for script in "${@:-export-files start-and-stop cache holes outlive kill-old-kernel memory-pressure}"; do
    for name in $script; do run_test "$name"; done
done
exit $failed
