#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What is installed can be used: a program is built with pkg-config alone against a staged
# installation and runs, every public header stands alone as C and as C++, and the library exports
# exactly what its map names.
. "$(dirname "$0")/../lib/common.sh"
require_cmd meson pkg-config nm
cc=${CC:-cc}

stage=$WORK/stage
meson install -C "$DMIO_BUILD" --no-rebuild --destdir "$stage" >"$WORK/install.log" 2>&1 ||
    { cat "$WORK/install.log" && fail "meson install"; }

prefix=$(meson introspect --buildoptions "$DMIO_BUILD" | python3 -c '
import json, sys
print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
pc=$(find "$stage" -name libdmio.pc)
expect "libdmio.pc is installed" test -f "$pc"
for file in bin/dmiod bin/dmioctl include/dmio/dmio.h include/dmio/dm-io.h \
    share/bash-completion/completions/dmioctl; do
    expect "$file is installed" test -f "$stage$prefix/$file"
done
expect "the unit is installed" test -n "$(find "$stage" -name dmiod.service)"
if command -v scdoc >/dev/null; then
    for page in dmiod.8 dmiod.conf.5 dmiod-control.7 dmioctl.1 libdmio.3; do
        expect "$page is installed" test -n "$(find "$stage" -path "*/man${page##*.}/$page")"
    done
fi
expect "so is the configuration, where the daemon looks for it" test -f "$stage/etc/dmiod/dmiod.conf"
expect "internal headers are not" test -z "$(find "$stage" -path '*include*util*' -o -name '*-internal*')"

# --- a program
cat >"$WORK/program.c" <<'END'
#include <dmio/dm-io.h>
#include <dmio/dmio.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
        static unsigned char data[4096], back[4096];
        struct io_region where = { .sector = 8, .count = 8 };
        unsigned long bits = 1;

        if (argc != 2 || dmio_device_open(argv[1], 0, &where.bdev) < 0 || dm_io_get(16) < 0)
                return 1;
        memset(data, 0x42, sizeof(data));
        if (dm_io_sync_vm(1, &where, DM_IO_WRITE, data, &bits) < 0 || bits)
                return 2;
        if (dm_io_sync_vm(1, &where, DM_IO_READ, back, &bits) < 0 || memcmp(data, back, 4096))
                return 3;
        if (dm_io_put(16) < 0)
                return 4;
        dmio_device_close(where.bdev);
        puts(dmio_version());
        return 0;
}
END
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_SYSROOT_DIR=
# The staged prefix stands in for the real one.
flags=$(pkg-config --define-variable="prefix=$stage$prefix" --cflags --libs libdmio)
libdir=$(pkg-config --define-variable="prefix=$stage$prefix" --variable=libdir libdmio)
sanitize=()
if is_sanitized "$libdir/libdmio.so"; then sanitize=(-fsanitize=address,undefined); fi
# shellcheck disable=SC2086 # a list of flags
expect "a program builds with pkg-config's flags" \
    "$cc" -std=gnu17 -Wall -Wextra -Werror "${sanitize[@]}" "$WORK/program.c" -o "$WORK/program" $flags
image=$(make_image 16K)
version=$(LD_LIBRARY_PATH=$libdir "$WORK/program" "$image")
expect_eq "it runs, and knows the version" "$version" "$(pkg-config --modversion libdmio)"
expect_eq "its bytes are on the image" "$(count_others "$image" 4096 4096 B)" 0

# --- headers
languages=("c:$cc -std=c11 -x c")
if command -v c++ >/dev/null; then
    languages+=("c++:c++ -std=c++17 -x c++")
else
    skip_case "headers as C++: no compiler"
fi
for header in "$stage$prefix"/include/dmio/*.h; do
    for language in "${languages[@]}"; do
        printf '#include <dmio/%s>\n#include <dmio/%s>\n' "${header##*/}" "${header##*/}" >"$WORK/alone.c"
        # shellcheck disable=SC2086 # a command and its options
        expect "${header##*/} stands alone as ${language%%:*}" \
            ${language#*:} -Wall -Wextra -Werror -pedantic -fsyntax-only \
            -I "$stage$prefix/include" "$WORK/alone.c"
    done
done

# --- symbols
nm -D --defined-only "$libdir/libdmio.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
    sort -u >"$WORK/exported"
# Names between "global:" and "local:" or the end of a block.
sed -e 's/#.*//' -e 's,/\*.*\*/,,' "$DMIO_SOURCE/libdmio/libdmio.map" |
    awk '/global:/ { on = 1; next } /local:|}/ { on = 0 } on' | tr -d ' \t' | tr ';' '\n' |
    sed '/^$/d' | sort -u >"$WORK/named"
diff -u "$WORK/named" "$WORK/exported" || fail "the exported symbols differ from libdmio.map"
ok "the exported symbols are those of libdmio.map"
expect "and there are some" test -s "$WORK/named"

# Every function that a public header declares is exported.
cat "$stage$prefix"/include/dmio/*.h >"$WORK/all.h"
while read -r symbol; do
    grep -qw "$symbol" "$WORK/all.h" || fail "$symbol is exported but no public header declares it"
done <"$WORK/exported"
ok "every exported symbol is declared by a public header"
sed -n 's/^[a-z][a-z_ 0-9]*[ *]\(dmio\?_[a-z_0-9]*\|dm_io[a-z_0-9]*\|dm_kcopyd_[a-z_0-9]*\)(.*/\1/p' "$WORK/all.h" |
    sort -u >"$WORK/declared"
while read -r symbol; do
    grep -qx "$symbol" "$WORK/exported" || fail "$symbol is declared but not exported"
done <"$WORK/declared"
ok "every declared function is exported"
