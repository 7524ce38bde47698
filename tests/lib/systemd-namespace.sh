#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A real systemd as PID 1 of namespaces of its own, on a throw-away overlay of this machine's root.
#
#   systemd-namespace.sh DIR start [TREE]   boots; the files of TREE lie over the root. Prints the state.
#   systemd-namespace.sh DIR exec CMD...    runs something in there
#   systemd-namespace.sh DIR stop           powers off and removes the cgroup
#
# DIR is absolute and private; DIR/shared is /srv/t inside. With DMIO_SYSTEM=TREE it is not this
# machine's root but that tree, which stays as it is. Needs root.
set -eu
dir=$1 verb=$2
shift 2

# Runs in the new namespaces, builds the root and becomes systemd.
boot() {
    local root=$dir/root name
    mount -t tmpfs -o mode=755 tmpfs "$dir/tmpfs"
    mkdir "$dir"/tmpfs/{upper,work}
    mount -t overlay -o "lowerdir=${DMIO_SYSTEM:-/},upperdir=$dir/tmpfs/upper,workdir=$dir/tmpfs/work" overlay "$root"
    # Through links such as /lib, which stay what they are.
    [ -z "${1:-}" ] || tar -C "$1" -cf - . | tar -C "$root" -xf - --keep-directory-symlink
    mount -t proc proc "$root/proc"
    # Sysctls are not namespaced: read-only, so that the host's stay as they are.
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t tmpfs tmpfs "$root/tmp"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    mkdir "$root"/dev/{pts,shm,mqueue}
    mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
    mount -t tmpfs tmpfs "$root/dev/shm"
    for name in null zero full random urandom tty fuse loop-control $(cd /dev && ls -d loop[0-9]*); do
        [ ! -e "/dev/$name" ] || cp -a "/dev/$name" "$root/dev/"
    done
    chmod 666 "$root/dev/fuse" # as udev would; the host's stays as it is
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s pts/ptmx "$root/dev/ptmx"
    for name in 0:stdin 1:stdout 2:stderr; do
        ln -s "/proc/self/fd/${name%%:*}" "$root/dev/${name##*:}"
    done
    # Nothing of the host may lie below /tmp: systemd-tmpfiles empties it at boot.
    mkdir -p "$root/srv/t"
    mount --bind "$dir/shared" "$root/srv/t"
    : >"$root/etc/fstab"
    mkdir -p "$root/run/systemd/system"
    for name in systemd-{sysctl,modules-load,remount-fs,udevd,udev-trigger,timesyncd,logind}.service \
        systemd-udevd-{control,kernel}.socket sys-kernel-{debug,tracing}.mount dev-hugepages.mount; do
        ln -s /dev/null "$root/run/systemd/system/$name"
    done
    cd "$root"
    mkdir -p oldroot
    pivot_root . oldroot
    umount -l /oldroot
    mount --make-rshared / # as after a real boot; in a container systemd leaves it alone
    exec env -i container=sdns PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 /lib/systemd/systemd \
        --unit=basic.target --log-target=console --log-level=warning --show-status=no </dev/null
}

start() {
    local cgroup=/sys/fs/cgroup/unified init pid state i
    mkdir -p "$dir"/{root,tmpfs,shared}
    [ -e $cgroup/cgroup.procs ] || cgroup=/sys/fs/cgroup
    [ -e $cgroup/cgroup.procs ] || { echo "no cgroup v2" >&2 && exit 77; }
    cgroup=$cgroup/dmio-test-$$
    mkdir "$cgroup"
    echo "$cgroup" >"$dir/cgroup"
    (
        echo $BASHPID >"$cgroup/cgroup.procs"
        exec unshare --mount --pid --fork --kill-child=SIGKILL --cgroup --uts --ipc --propagation private \
            bash "$0" "$dir" boot "$@" >"$dir/console.log" 2>&1 </dev/null
    ) &
    init=$!
    for ((i = 0; i < 600; i++)); do
        [ -d /proc/$init ] || break
        pid=$(cat "/proc/$init/task/$init/children" 2>/dev/null || :)
        pid=${pid%% *}
        if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = systemd ]; then
            state=$(nsenter -t "$pid" -a systemctl is-system-running 2>/dev/null || :)
            case $state in
            running | degraded)
                echo "$pid" >"$dir/pid1"
                echo "$state"
                exit 0
                ;;
            esac
        fi
        sleep .05
    done
    cat "$dir/console.log" >&2
    kill -9 $init 2>/dev/null || :
    exit 1
}

stop() {
    local pid i
    if [ -f "$dir/pid1" ]; then
        pid=$(cat "$dir/pid1")
        kill -s RTMIN+4 "$pid" 2>/dev/null || : # power off
        for ((i = 0; i < 200; i++)); do
            [ -d "/proc/$pid" ] || break
            sleep .05
        done
        [ ! -d "/proc/$pid" ] || kill -9 "$pid"
    fi
    [ -f "$dir/cgroup" ] || exit 0
    for ((i = 0; i < 100; i++)); do
        find "$(cat "$dir/cgroup")" -depth -type d -exec rmdir {} \; 2>/dev/null || :
        [ -d "$(cat "$dir/cgroup")" ] || exit 0
        sleep .05
    done
    exit 1
}

case $verb in
boot) boot "$@" ;;
start) start "$@" ;;
exec) exec nsenter -t "$(cat "$dir/pid1")" -a -- "$@" ;;
stop) stop ;;
*) exit 2 ;;
esac
