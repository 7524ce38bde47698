#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Like with-dmiod.sh, for a program that kills its dmiod: that is started under the supervisor. The
# process number of the daemon that runs is in the file $DMIO_PID_FILE. With DMIO_ALTERNATE=1 each daemon
# is of another build than the one before.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/supervised.sh"
require_root
require_fuse
require_cmd python3 socat jq

if [ -n "${DMIO_ALTERNATE:-}" ]; then
    DMIOD=$TEST_LIB/alternating.sh
    export DMIO_STARTS=$WORK/starts
fi
start_supervised ${DMIO_QUEUES:+--queues="$DMIO_QUEUES"}
status=0
DMIO_CONTROL=$CONTROL DMIO_MOUNT=$MOUNT DMIO_WORK=$WORK DMIO_PID_FILE=$WORK/dmiod.pid \
    python3 "$@" || status=$?
[ "$status" != 77 ] || exit 77
[ "$status" = 0 ] || fail "$1 ended with status $status"
expect "the daemon still answers" dmiod_answers
if [ -n "${DMIO_ALTERNATE:-}" ]; then
    expect "one build has taken over from the other" grep -q "was another build" "$WORK/dmiod.log"
fi
expect "and stops when it is told to" stop_supervised
