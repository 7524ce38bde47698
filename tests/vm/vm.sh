#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# vm.sh NAME: boots the kernel of Debian 12 in QEMU and runs tests/vm/NAME.sh there.
#
# The machine has one processor, emulated (no KVM is needed), and lives in memory: an initial RAM file
# system with this checkout's tests and build, the programs of a few packages, and their libraries, all
# taken from the host. Inside it is root, /dmio is the checkout, and the script's exit status is this
# one's. The kernel comes from the package archive, once, into the build folder.
#
# What a script wants otherwise stands in it, in lines like "# VM_MEMORY=768M", for these:
#   VM_MEMORY    the memory of the machine
#   VM_DISK      the size of an empty disk, /dev/vda; 0: none
#   VM_TIMEOUT   how many seconds it may take
# The environment goes before that.
set -eu -o pipefail
. "$(dirname "$0")/../lib/common.sh"

name=$1
# setting VARIABLE DEFAULT
setting() {
    local written
    written=$(sed -n "s/^# $1=\\([0-9A-Z]*\\)\$/\\1/p" "$DMIO_SOURCE/tests/vm/$name.sh")
    declare -g "$1=${!1:-${written:-$2}}"
}
setting VM_MEMORY 768M
setting VM_DISK 0
setting VM_TIMEOUT 900
cache=$DMIO_BUILD/vm
# What the scripts need inside.
packages=(bash coreutils diffutils findutils mawk grep sed util-linux util-linux-extra mount procps kmod
    e2fsprogs fuse3 jq socat fio libnbd-bin nbdkit python3.11-minimal attr)
modules=(fuse loop overlay virtio_rng virtio_pci virtio_blk)

require_cmd qemu-system-x86_64 cpio busybox dpkg-deb apt-get
[ "$(uname -m)" = x86_64 ] || skip "the machine is an x86-64 one"

# The kernel of this release, whatever the host runs; once for all who want it at the same time.
fetch_kernel() {
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }')
    [ -n "$package" ] || skip "the package archive has no kernel linux-image-cloud-amd64"
    (cd "$cache" && apt-get -q -o APT::Sandbox::User=root download "$package" >"$WORK/download.log" 2>&1) ||
        skip "cannot download $package: $(tail -n 1 "$WORK/download.log")"
    dpkg-deb -x "$cache/$package"_*.deb "$cache/kernel"
    rm "$cache/$package"_*.deb
}

mkdir -p "$cache"
exec {lock}>"$cache/lock"
flock "$lock"
[ -d "$cache/kernel/boot" ] || fetch_kernel
kernel=$(echo "$cache"/kernel/boot/vmlinuz-*)
version=${kernel##*/vmlinuz-}
[ -e "$cache/kernel/lib/modules/$version/modules.dep" ] || depmod -b "$cache/kernel" "$version"
exec {lock}>&-

# --- what is inside
root=$WORK/root
mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,usr/lib64,proc,sys,dev,run,tmp,var/tmp,etc,root,modules,dmio}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done

# Programs; scripts among them are harmless.
list=$WORK/programs
for package in "${packages[@]}"; do
    dpkg -L "$package" 2>/dev/null || skip "the package $package is not installed"
done | sed 's,^/bin/,/usr/bin/,; s,^/sbin/,/usr/sbin/,' | grep -E '^/usr/s?bin/[^/]+$' | sort -u >"$list"
while read -r file; do
    [ -f "$file" ] && cp -a --parents "$file" "$root" 2>/dev/null || true
done <"$list"
ln -sf bash "$root/usr/bin/sh"
ln -sf mawk "$root/usr/bin/awk"
ln -sf python3.11 "$root/usr/bin/python3"
cp "$(command -v busybox)" "$root/usr/bin/busybox"
mkdir -p "$root/usr/lib/python3.11" "$root/usr/lib/x86_64-linux-gnu"
cp -a /usr/lib/x86_64-linux-gnu/nbdkit "$root/usr/lib/x86_64-linux-gnu/"
(cd /usr/lib/python3.11 && tar -c --exclude=__pycache__ --exclude=test --exclude='config-*' .) |
    tar -x -C "$root/usr/lib/python3.11"

# The checkout: the tests and what was built of it.
cp -a "$DMIO_SOURCE/tests" "$root/dmio/tests"
mkdir -p "$root/dmio/build"
(cd "$DMIO_BUILD" && tar -c --exclude='*.p' --exclude='*.a' daemon libdmio tests docs) |
    tar -x -C "$root/dmio/build"
cp -a "$DMIO_SOURCE/docs" "$root/dmio/docs"

# And the libraries of all of that.
{ find "$root" -type f -perm -u+x -exec ldd {} + 2>/dev/null || true; } | grep -o '/[^ ]*\.so[^ ]*' | sort -u |
    { grep -v "^$DMIO_BUILD" || true; } | while read -r library; do
    [ -e "$root$library" ] || cp -L --parents "$library" "$root" 2>/dev/null || true
done
for module in "${modules[@]}"; do
    modprobe -d "$cache/kernel" -S "$version" --show-depends "$module" 2>/dev/null |
        awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" "$root/modules/"
    echo "${file##*/}" >>"$root/modules/order"
done
printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
cat >"$root/init" <<INIT
#!/bin/bash
export PATH=/usr/sbin:/usr/bin LANG=C.UTF-8 HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
while read -r module; do insmod /modules/\$module; done </modules/order
ip link set lo up 2>/dev/null || busybox ifconfig lo up
export DMIO_SOURCE=/dmio DMIO_BUILD=/dmio/build VM_ARGUMENTS='${*:2}'
status=0
bash /dmio/tests/vm/$name.sh \$VM_ARGUMENTS </dev/null || status=\$?
echo "vm: status \$status"
# Until the console has said so.
python3 -c 'import termios; termios.tcdrain(1)'
busybox poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$WORK/initrd"

# --- and off it goes
disk=()
if [ "$VM_DISK" != 0 ]; then
    truncate -s "$VM_DISK" "$WORK/disk"
    disk=(-drive "file=$WORK/disk,format=raw,if=virtio,cache=unsafe")
fi
timeout -k 5 "$VM_TIMEOUT" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 1 \
    -m "$VM_MEMORY" "${disk[@]}" -nographic -nodefaults -no-user-config -serial stdio -no-reboot \
    -kernel "$kernel" -initrd "$WORK/initrd" -append 'console=ttyS0 rootfstype=ramfs panic=-1 quiet loglevel=3' \
    </dev/null 2>&1 | sed -u 's,\r,,g' | tee "$WORK/console" | grep --line-buffered -v '^vm: status ' || true
status=$(sed -n 's/^vm: status //p' "$WORK/console")
[ -n "$status" ] || fail "the machine did not get to the end"
exit "$status"
