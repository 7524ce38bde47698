#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Runs as root in the tree of a Debian release that has nothing but build-essential, and builds what
# lies in /build as an ordinary user does it:
#
#   build.sh VERSION    /build/dmio-VERSION and its tarball; the packages come to lie in /build
#
# Then lintian; the packages of the next revision, which is another build with another layout of what it
# leaves to the next daemon; and a program that is built with the development package.
set -eu
version=$1
cd "/build/dmio-$version"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

as_builder() {
    runuser -u builder -- "$@"
}

useradd --create-home builder
chown -R builder: /build
apt-get -q -y -o Dpkg::Use-Pty=0 build-dep ./ >/build/build-dep.log 2>&1 || { cat /build/build-dep.log && exit 1; }
apt-get -q -y -o Dpkg::Use-Pty=0 install lintian >/build/lintian-install.log 2>&1

echo "== dpkg-buildpackage"
as_builder nice -n 5 dpkg-buildpackage -us -uc 2>&1
cp "/build/dmio_$version-1_"*.changes /build/first.changes

echo "== lintian"
as_builder lintian --fail-on error --suppress-tags initial-upload-closes-no-bugs \
    --tag-display-limit 0 "/build/dmio_$version-1_"*.changes 2>&1

echo "== the next revision"
{
    printf 'dmio (%s-2) unstable; urgency=medium\n\n  * Built again.\n\n' "$version"
    sed -n '/^ -- /{p;q}' debian/changelog
    echo
    cat debian/changelog
} >/build/changelog
as_builder cp /build/changelog debian/changelog
DEB_BUILD_OPTIONS=nocheck DEB_CPPFLAGS_APPEND="-include $PWD/tests/lib/other-build.h" \
    as_builder nice -n 5 dpkg-buildpackage -us -uc -b >/build/next.log 2>&1 ||
    { cat /build/next.log && exit 1; }

echo "== a program"
apt-get -q -y -o Dpkg::Use-Pty=0 install "/build/libdmio1_$version-1_"*.deb "/build/libdmio-dev_$version-1_"*.deb \
    >/build/program.log 2>&1 || { cat /build/program.log && exit 1; }
as_builder debian/tests/program
