#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A dmiod that is another build at every start, beginning with this one: in place of dmiod, with its
# options. How often it has been started is counted in $DMIO_STARTS.
starts=0
[ ! -s "$DMIO_STARTS" ] || read -r starts <"$DMIO_STARTS"
echo $((starts + 1)) >"$DMIO_STARTS"
if [ $((starts % 2)) = 0 ]; then
    exec "$DMIO_BUILD/daemon/dmiod" "$@"
else
    exec "$DMIO_BUILD/tests/dmiod-other" "$@"
fi
