#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What debian/ repeats is as it is elsewhere: the version and the exported symbols. The suite "package"
# builds and uses the packages.
. "$(dirname "$0")/../lib/common.sh"
debian=$DMIO_SOURCE/debian

expect_eq "debian/changelog has the version of the build" \
    "$(sed -n '1s/^dmio (\(.*\)-[0-9]*) .*/\1/p' "$debian/changelog")" \
    "$(sed -n "s/^ *version: '\(.*\)',\$/\1/p" "$DMIO_SOURCE/meson.build" | head -n 1)"

# A symbol of the node LIBDMIO_0.1 is there since 0.1.0. A new one gets a line, one that goes a new
# SONAME.
awk '/^[A-Z_0-9.]+ \{/ { node = $1 } /^ +[a-z_0-9]+;$/ { sub(/;/, ""); print $1 "@" node }' \
    "$DMIO_SOURCE/libdmio/libdmio.map" | sort >"$WORK/map"
awk '/^ [a-z]/ { print $1 }' "$debian/libdmio1.symbols" | sort >"$WORK/symbols"
expect "libdmio.map has symbols" test -s "$WORK/map"
diff -u "$WORK/map" "$WORK/symbols" || fail "debian/libdmio1.symbols differs from libdmio.map"
ok "debian/libdmio1.symbols has the symbols of libdmio.map"
