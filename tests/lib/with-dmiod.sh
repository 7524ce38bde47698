#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Runs a test that is a Python program with a dmiod of its own, which it finds through client.py. A
# NAME.conf beside NAME.py is the daemon's configuration; @WORK@ in it stands for the work folder.
. "$(dirname "$0")/common.sh"
require_root
require_fuse
require_cmd python3 socat jq

if [ -f "${1%.py}.conf" ]; then
    sed "s|@WORK@|$WORK|g" "${1%.py}.conf" >"$WORK/dmiod.conf"
fi
start_dmiod
status=0
DMIO_CONTROL=$CONTROL DMIO_MOUNT=$MOUNT DMIO_WORK=$WORK DMIO_PID=$DMIOD_PID \
    DMIO_STATE=$STATE python3 "$@" || status=$?
[ "$status" != 77 ] || exit 77
[ "$status" = 0 ] || fail "$1 ended with status $status"
expect "the daemon still answers" dmiod_answers
expect "and stops when it is told to" stop_dmiod
