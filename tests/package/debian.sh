#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The Debian packages: built from a clean clone in a clean tree of a release, without an error of
# lintian's; then, in a minimal tree of it with a real systemd, installed, started, used, upgraded to
# another build and back while fio writes and verifies, removed while a file is open, installed again
# and purged, after which nothing is left.
#
#   debian.sh RELEASE [DIR]    bookworm, trixie, ...; the packages come to lie in DIR. If they are there
#                              already, none are built, which is most of the time that this takes.
. "$(dirname "$0")/../lib/common.sh"
. "$(dirname "$0")/../lib/systemd.sh"
release=${1:-bookworm}
packages=${2:-$WORK/packages}
mirror=http://deb.debian.org/debian
require_root
require_fuse
require_cmd git mmdebstrap unshare nsenter pivot_root fio ldd
[ -e "$DMIO_SOURCE/.git" ] || skip "needs a clone"
timeout 10 bash -c ': </dev/tcp/deb.debian.org/80' 2>/dev/null || skip "needs deb.debian.org"

# Trees are many small files, for minutes: not on a disk.
mkdir -p "$WORK/trees" "$packages"
mount -t tmpfs -o mode=755 tmpfs "$WORK/trees"

# bootstrap LOG VARIANT TREE OPTION...
bootstrap() {
    local log=$WORK/$1 variant=$2 tree=$3
    shift 3
    TMPDIR=$WORK/trees mmdebstrap --quiet --mode=root --variant="$variant" "$@" "$release" "$tree" "$mirror" \
        >"$log" 2>&1 || { tail -n 60 "$log" && fail "mmdebstrap for $release"; }
}

# The clone: what git knows, with changes that are not committed.
make_source() {
    local what source=$WORK/trees/build
    mkdir "$source"
    what=$(git -C "$DMIO_SOURCE" -c user.name=test -c user.email=test@localhost stash create)
    git -C "$DMIO_SOURCE" archive --prefix="dmio-$version/" "${what:-HEAD}" | tar -C "$source" -x
    tar -C "$source" --exclude="dmio-$version/debian" -czf "$source/dmio_$version.orig.tar.gz" "dmio-$version"
    cp "$DMIO_SOURCE/tests/package/build.sh" "$source/"
}

# --- build
version=$(sed -n "s/^ *version: '\(.*\)',\$/\1/p" "$DMIO_SOURCE/meson.build" | head -n 1)
if [ -z "$(find "$packages" -name 'dmiod_*.deb')" ]; then
    make_source
    # Nothing of this environment goes in.
    bootstrap build.log buildd - --format=null \
        --customize-hook="copy-in '$WORK/trees/build' /" \
        --customize-hook="chroot \"\$1\" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin bash /build/build.sh $version" \
        --customize-hook='rm -rf "$1/build/dmio-'"$version"'"' \
        --customize-hook="sync-out /build '$packages'"
    expect "the unit tests have run" grep -q '^Ok: *[1-9]' "$WORK/build.log"
    sed -n '/^== lintian/,$p' "$WORK/build.log"
    ok "the packages are built, and lintian has no error"
fi
for package in dmiod dmioctl libdmio1 libdmio-dev; do
    for revision in 1 2; do
        expect "$package $version-$revision" \
            test -n "$(find "$packages" -name "${package}_$version-${revision}_*.deb")"
    done
done

# --- a machine
bootstrap tree.log minbase "$WORK/trees/root" --include=systemd-sysv --skip=cleanup/apt/lists
mkdir -p "$SHARED"
cp "$packages"/{dmiod,dmioctl,libdmio1}_*.deb "$DMIO_SOURCE/debian/tests/smoke" "$SHARED/"
DMIO_SYSTEM=$WORK/trees/root sd start >"$WORK/state" 2>"$WORK/start.log" </dev/null ||
    { cat "$WORK/start.log" && fail "systemd has not started"; }
defer "$TEST_LIB/systemd-namespace.sh" "$NAMESPACE" stop
ok "systemd is $(cat "$WORK/state")"

apt() {
    INSIDE_LIMIT=300 inside env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@" \
        >"$WORK/apt.log" 2>&1 || { cat "$WORK/apt.log" && fail "apt-get $*"; }
}
# install_packages REVISION [OPTION...]
install_packages() {
    local debs=("$SHARED"/*"_$version-$1_"*.deb)
    apt install "${@:2}" "${debs[@]/#"$SHARED"//srv/t}"
}
# Every file but what dpkg, apt and systemd keep for themselves.
list_files() {
    inside find / /run -xdev \( -path /srv/t -o -path /tmp -o -path /var/tmp -o -path /var/cache -o -path /var/log -o \
        -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /run/systemd -o \
        -path /usr/share/doc -o -path /etc/ld.so.cache -o -name '*-' \) -prune -o -print | sort -u
}
is_enabled() {
    inside systemctl is-enabled "$1" || true
}
# This machine's fio with its libraries, so that nothing of them has to be installed there.
mkdir "$SHARED/fio"
ldd "$(command -v fio)" | grep -o '/[^ ]*' | xargs cp -L -t "$SHARED/fio" "$(command -v fio)"
loader=$(find "$SHARED/fio" -name 'ld-linux*' -printf '%f\n' -quit)
cat >"$SHARED/load.sh" <<END
until [ -e /srv/t/stop-load ]; do
    /srv/t/fio/$loader --library-path /srv/t/fio /srv/t/fio/fio --name=vol --filename="\$1" --size=16M --ioengine=psync \
        --direct=1 --rw=randrw --bsrange=4k-64k --verify=crc32c --verify_state_save=0 --verify_fatal=1 \
        --time_based --runtime=3 --output=/srv/t/fio.out || exit 1
done
END
# One who writes VOLUME, and verifies, until he is told to end.
start_load() {
    rm -f "$SHARED/stop-load" "$SHARED/fio.out"
    INSIDE_LIMIT=900 inside sh /srv/t/load.sh "$1" >"$WORK/load.log" 2>&1 &
    load=$!
}
load_goes_on() {
    ! process_is_gone "$load" || { cat "$WORK/load.log" "$SHARED/fio.out" && fail "$1: fio has heard of it"; }
}
end_load() {
    touch "$SHARED/stop-load"
    wait "$load" || { cat "$WORK/load.log" "$SHARED/fio.out" && fail "$1: fio has heard of it"; }
    ok "$1: fio has read what it wrote"
}
# One who has the file VOLUME open until he is told to read from it: 0 if he can.
hold_file() {
    rm -f "$SHARED/ask" "$SHARED/holds"
    mkfifo "$SHARED/ask"
    INSIDE_LIMIT=600 inside sh -c 'exec 7<"$1"; : >/srv/t/holds; read -r line </srv/t/ask; head -c 4096 <&7 | cmp -n 4096 - /srv/t/data' - "$1" \
        >"$WORK/hold.log" 2>&1 &
    holder=$!
    wait_for 20 test -e "$SHARED/holds"
}

# What the packages want from others is there before, and stays.
wanted() {
    local deb
    for deb in "$SHARED"/*"_$version-1_"*.deb; do
        dpkg-deb -f "$deb" Depends Pre-Depends Recommends
    done | sed 's/^[A-Za-z-]*: //' | tr ',' '\n' | sed 's/[|(].*//; s/ //g; /^dmio/d; /^libdmio/d; /^$/d' | sort -u
}
# shellcheck disable=SC2046 # a list of packages
apt install $(wanted)
list_files >"$WORK/before"

# --- installed
install_packages 1
expect_eq "the socket listens" "$(property ActiveState dmiod.socket)" active
expect_eq "the daemon has nothing to do yet" "$(property ActiveState)" inactive
for unit in dmiod.socket dmiod.service; do
    expect_eq "$unit is enabled" "$(is_enabled $unit)" enabled
done
expect_eq "nobody gets a daemon of his own unasked" "$(inside systemctl --global is-enabled dmiod.socket || true)" disabled
expect_match "there is the daemon's user" "$(inside getent passwd dmiod)" "dmiod:*:/usr/sbin/nologin"

# --- used
expect "it is used" inside sh /srv/t/smoke
expect_eq "the daemon runs as its user" "$(inside stat -c %U "/proc/$(property MainPID)")" dmiod
expect "a user may ask" inside setpriv --reuid=65534 --regid=65534 --clear-groups -- dmioctl status
inside sh -c 'echo "#[daemon]" >/etc/dmiod/dmiod.conf.d/local.conf; echo "# a line of mine" >>/etc/dmiod/dmiod.conf'

# --- upgraded to another build while it is in use, and back
version_inside() {
    inside dmioctl status --json | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p'
}
taken_over() {
    journal | grep -c 'was another build, whose open files' || true
}
socket_since=$(property ActiveEnterTimestampMonotonic dmiod.socket)
# Not by what mountinfo says: numbers of mounts are used again. Nor by unit: of a process that has ended
# already the journal may not know it.
mounts_made() {
    inside journalctl -t dmiod-mount -o cat --no-pager -q | grep -c '^Mounted at '
}
mounted=$(mounts_made)
# An image that the daemon can open by itself, when nobody has kept the descriptor; others that it cannot.
keep=/var/lib/dmiod/keep.img
inside sh -c 'head -c 1M /dev/urandom >/srv/t/data && cp /srv/t/data $1 && chown dmiod: $1 && truncate -s 16M /srv/t/a.img /srv/t/b.img
dmioctl client open keep --pages 256 --linger && dmioctl export create keep/vol $1:0+2048 &&
dmioctl export create keep/load /srv/t/a.img:0+32768 /srv/t/b.img:0+32768' - $keep
hold_file $MOUNT_INSIDE/keep/vol
start_load $MOUNT_INSIDE/keep/load
# go_to REVISION VERSION [OPTION...]
go_to() {
    local pid
    pid=$(property MainPID)
    load_goes_on "before revision $1"
    install_packages "$1" "${@:3}"
    wait_for 20 is_active
    expect_not "revision $1: the daemon has been restarted" [ "$(property MainPID)" = "$pid" ]
    expect_eq "revision $1 is installed" "$(inside dpkg-query -W -f '${Version}' dmiod)" "$version-$1"
    expect_eq "revision $1: its build serves" "$(version_inside)" "$2"
    load_goes_on "revision $1"
}
expect_eq "the first build serves" "$(version_inside)" "$version"
go_to 2 "$version-other"
expect_eq "it has taken over from another build" "$(taken_over)" 1
killed=$(property MainPID)
is_another() {
    is_active && [ "$(property MainPID)" != "$killed" ] && [ "$(property MainPID)" != 0 ]
}
inside systemctl kill --signal=KILL dmiod.service
wait_for 20 is_another
load_goes_on "killed after the upgrade"
go_to 1 "$version" --allow-downgrades
expect_eq "and back" "$(taken_over)" 2
end_load "upgraded and downgraded"
expect "the legs are equal" cmp "$SHARED/a.img" "$SHARED/b.img"
timeout 10 sh -c 'echo >"$1"' - "$SHARED/ask"
expect "a file that was open all the while can be read" wait "$holder"
expect_eq "the mount is the same" "$(mounts_made)" "$mounted"
expect_eq "the socket has listened all the while" "$(property ActiveEnterTimestampMonotonic dmiod.socket)" "$socket_since"
expect "the configuration is as it was" inside grep -q 'a line of mine' /etc/dmiod/dmiod.conf
expect "it is used as before" inside sh /srv/t/smoke
expect "who lingers is there" inside dmioctl export remove keep/load

# --- upgraded while it is stopped: it stays so
inside systemctl stop dmiod.socket dmiod.service
install_packages 2
expect_eq "a daemon that is stopped is not started by an upgrade" "$(property ActiveState)" inactive
inside systemctl start dmiod.socket
expect "it can be used again" inside sh /srv/t/smoke
expect_eq "the new build serves" "$(version_inside)" "$version-other"

# --- removed while it runs, and somebody has a file open
wait_for 20 is_active
hold_file $MOUNT_INSIDE/keep/vol
INSIDE_LIMIT=120 apt remove dmiod
expect_eq "removed: nothing is mounted" "$(mounts_inside)" 0
expect_not "the socket is gone" inside test -e $CONTROL_INSIDE
expect_not "so is the folder of exports" inside test -e $MOUNT_INSIDE
expect_not "no unit is loaded" inside systemctl cat dmiod.service
expect "the configuration stays" inside test -f /etc/dmiod/dmiod.conf -a -f /etc/dmiod/dmiod.conf.d/local.conf
expect "so does what lasts" inside test -f /var/lib/dmiod/state.json
timeout 10 sh -c 'echo >"$1"' - "$SHARED/ask"
expect_not "who has a file open hears of it" wait "$holder"
expect "and does not wait for ever" grep -q 'not connected' "$WORK/hold.log"

# --- installed again: who lingered is back
install_packages 2
expect "installed again, the first call starts it" inside dmioctl status
expect "and an export is there" inside cmp -n 4096 $MOUNT_INSIDE/keep/vol /srv/t/data
hold_file $MOUNT_INSIDE/keep/vol
timeout 10 sh -c 'echo >"$1"' - "$SHARED/ask"
expect "and can be opened" wait "$holder"
expect "and removed" inside dmioctl client close keep
inside rm $keep
INSIDE_LIMIT=120 apt remove dmiod

# --- purged, with somebody's image in the only folder that the daemon could write to
inside sh -c 'mkdir -p /var/lib/dmiod && echo bytes >/var/lib/dmiod/disk.img'
apt purge dmiod
expect_eq "purged: an image is not ours to remove" "$(inside cat /var/lib/dmiod/disk.img)" bytes
expect "which is said" grep -q "/var/lib/dmiod stays" "$WORK/apt.log"
inside rm -r /var/lib/dmiod
apt purge dmioctl libdmio1
list_files >"$WORK/after"
diff "$WORK/before" "$WORK/after" || fail "purged: files are left, or gone"
ok "nothing is left"
expect_eq "no link of the units' is" "$(inside find /etc/systemd /var/lib/systemd -name '*dmiod*')" ""
expect "the user stays, as with other packages" inside getent passwd dmiod
expect_eq "no unit has failed" "$(inside systemctl list-units --failed --plain --no-legend 'dmio*')" ""

# --- and again, purged in one go while it runs
install_packages 2
expect "installed again, it is used" inside sh /srv/t/smoke
apt purge dmiod dmioctl libdmio1
list_files >"$WORK/after"
diff "$WORK/before" "$WORK/after" || fail "purged in one go: files are left, or gone"
expect_eq "nothing is left, nor mounted" "$(mounts_inside)" 0
