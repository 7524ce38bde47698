# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash disable=SC2034 # DMIOD_PID is common.sh's
#
# A dmiod under docs/examples/supervisor.py, for tests that kill it:  . .../lib/supervised.sh
# after common.sh. DMIOD_PID is the supervisor then, which ends both; dmiod_pid tells the daemon's.

SUPERVISOR=$DMIO_SOURCE/docs/examples/supervisor.py

dmiod_pid() {
    cat "$WORK/dmiod.pid"
}

# start_supervised [OPTION...]: like start_dmiod.
start_supervised() {
    require_cmd python3
    [ -x "$DMIOD" ] || fail "there is no $DMIOD"
    [ -e "$WORK/dmiod.conf" ] || : >"$WORK/dmiod.conf"
    python3 "$SUPERVISOR" --unmount="$MOUNT" --pid-file="$WORK/dmiod.pid" -- \
        "$DMIOD" --config="$WORK/dmiod.conf" --mount="$MOUNT" --control="$CONTROL" \
        --state="$STATE" ${DMIO_BACKEND:+--backend="$DMIO_BACKEND"} "$@" \
        >>"$WORK/dmiod.log" 2>&1 </dev/null &
    DMIOD_PID=$!
    wait_for 20 dmiod_is_up_or_gone
    ! process_is_gone "$DMIOD_PID" || fail "dmiod has not started"
}

pid_is_another() {
    [ "$(dmiod_pid)" != "$1" ]
}

# kill_dmiod [SIGNAL]: and wait until there is another one, which need not serve yet.
kill_dmiod() {
    local pid
    pid=$(dmiod_pid)
    kill -s "${1:-KILL}" "$pid"
    wait_for 20 pid_is_another "$pid"
}

# By a signal that nobody has sent: another daemon has taken its place, and nobody has noticed.
has_crashed() {
    grep -E 'supervisor: ended by signal (4|7|8|11)$' "$WORK/dmiod.log"
}

# The supervisor ends it, and the mount is gone.
stop_supervised() {
    local status=0 pid=$DMIOD_PID
    ! has_crashed || fail "dmiod has crashed"
    kill -TERM "$pid"
    wait_for 30 process_is_gone "$pid"
    DMIOD_PID=
    wait "$pid" || status=$?
    return "$status"
}
