#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What debian/ repeats is as it is elsewhere: the version, the exported symbols, and
# the names in the state folder. The suite "package" builds and uses the packages.
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

# The purge removes by name, because somebody may keep an image in the state folder.
if [ -e "$DMIO_SOURCE/daemon/state/folder.h" ]; then
    sed -n 's/^#define FOLDER_[A-Z_]* "\([^"]*\)".*/\1/p' "$DMIO_SOURCE/daemon/state/folder.h" >"$WORK/names"
    expect "the state folder has files" test -s "$WORK/names"
    while read -r name; do
        expect "the purge removes $name" grep -qF "\"\$state/$name\"" "$debian/dmiod.postrm"
    done <"$WORK/names"
fi
