#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Like with-dmiod.sh, for a program that kills its dmiod: that is started under the supervisor. The
# process number of the daemon that runs is in the file $DMIO_PID_FILE.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/supervised.sh"
require_root
require_fuse
require_cmd python3 socat jq

start_supervised ${DMIO_QUEUES:+--queues="$DMIO_QUEUES"}
status=0
DMIO_CONTROL=$CONTROL DMIO_MOUNT=$MOUNT DMIO_WORK=$WORK DMIO_PID_FILE=$WORK/dmiod.pid \
    python3 "$@" || status=$?
[ "$status" != 77 ] || exit 77
[ "$status" = 0 ] || fail "$1 ended with status $status"
expect "the daemon still answers" dmiod_answers
expect "and stops when it is told to" stop_supervised
