/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the daemon has: its configuration, itself, the descriptor store, mount, state, devices. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "config.h"
#include "dmioctl/doctor.h"
#include "dmioctl/errors.h"
#include "dmioctl/show.h"
#include "dmioctl/systemctl.h"
#include "mount-guard.h"
#include "util/cleanup.h"

/* What lasts is small, but must fit. */
#define STATE_WANTED (UINT64_C(4) << 20)

static const char *start_command(const struct doctor *doctor)
{
        return doctor->invocation->given[OPTION_USER] ? "dmiod --user" : "systemctl start dmiod";
}

void check_configuration(const struct doctor *doctor, struct finding *finding)
{
        const struct device_grant *grant;
        unsigned int n = 0;

        if (!doctor->config) {
                const char *error = doctor->config_error ? doctor->config_error : "out of memory";

                finding_set(finding, VERDICT_FAIL, words("%s", error),
                            words("correct it; until then the daemon neither starts nor reloads"));
                return;
        }
        list_for_each (grant, &doctor->config->devices, link)
                n++;
        finding_set(finding, VERDICT_OK,
                    words("nothing is wrong with it, %u device%s", n, n == 1 ? "" : "s"), NULL);
}

void check_daemon(const struct doctor *doctor, struct finding *finding)
{
        switch (doctor->daemon) {
        case DAEMON_RUNS:
                finding_set(finding, VERDICT_OK,
                            words("dmiod %s answers at %s", show_string(doctor->status, "version"),
                                  doctor->control),
                            NULL);
                return;
        case DAEMON_IDLE:
                finding_set(finding, VERDICT_OK,
                            words("systemd listens at %s and starts it when it is called",
                                  doctor->control),
                            NULL);
                return;
        case DAEMON_DENIED:
                finding_set(finding, VERDICT_FAIL,
                            words("%s: %s", doctor->control, strerror(-doctor->daemon_error)),
                            words("ask for the right to use the socket, or be root"));
                return;
        case DAEMON_MUTE:
                finding_set(finding, VERDICT_FAIL,
                            words("what listens at %s does not answer like dmiod (%s)",
                                  doctor->control,
                                  doctor->daemon_error == -ETIME ? "nothing came in time"
                                                                 : strerror(-doctor->daemon_error)),
                            words("see 'journalctl -u dmiod', then 'systemctl restart dmiod'"));
                return;
        case DAEMON_GONE:
        default:
                finding_set(
                        finding, VERDICT_FAIL,
                        words("nobody listens at %s (%s)", doctor->control ? doctor->control : "?",
                              strerror(-doctor->daemon_error)),
                        doctor->control ? words("%s, or --control=SOCKET", start_command(doctor))
                                        : words("set XDG_RUNTIME_DIR, or --control=SOCKET"));
        }
}

static long unit_number(const struct doctor *doctor, const char *property)
{
        DMIO_CLEANUP(freep) char *value = NULL;

        if (doctor->unit)
                value = systemctl_value(doctor->unit, property);
        return value && *value ? strtol(value, NULL, 10) : 0;
}

void check_descriptor_store(const struct doctor *doctor, struct finding *finding)
{
        long most = unit_number(doctor, "FileDescriptorStoreMax");
        long kept = unit_number(doctor, "NFileDescriptorStore");
        long main_pid = unit_number(doctor, "MainPID");
        DMIO_CLEANUP(freep) char *load = NULL;

        if (doctor->unit)
                load = systemctl_value(doctor->unit, "LoadState");
        if (!doctor->unit)
                finding_set(
                        finding, VERDICT_WARN,
                        words("no service manager answers: when the daemon dies, open files get "
                              "ENOTCONN"),
                        words("run it as a service of systemd"));
        else if (!load || strcmp(load, "loaded") != 0)
                finding_set(finding, VERDICT_WARN,
                            words("there is no dmiod.service: when the daemon dies, open files get "
                                  "ENOTCONN"),
                            words("meson install, then systemctl enable --now dmiod.socket"));
        else if (doctor->pid > 0 && main_pid != doctor->pid)
                finding_set(finding, VERDICT_WARN,
                            words("the daemon is not dmiod.service's: when it dies, open files get "
                                  "ENOTCONN"),
                            words("run it as that service"));
        else if (most <= 0)
                finding_set(finding, VERDICT_WARN,
                            words("dmiod.service keeps no descriptors: when the daemon dies, open "
                                  "files "
                                  "get "
                                  "ENOTCONN"),
                            words("FileDescriptorStoreMax=1024 in the unit, then restart it"));
        else if (main_pid > 0 && kept <= 0)
                finding_set(finding, VERDICT_WARN,
                            words("there is room for %ld, but the daemon has put none there", most),
                            words("see 'journalctl -u dmiod', then 'systemctl restart dmiod'"));
        else if (kept >= most)
                finding_set(finding, VERDICT_WARN, words("%ld of %ld: it is full", kept, most),
                            words("a larger FileDescriptorStoreMax= in the unit, then restart it"));
        else
                finding_set(finding, VERDICT_OK,
                            words("%ld of %ld descriptors are kept", kept, most), NULL);
}

/* The text of mountinfo has octal numbers for what would be in its way. */
static void unescape(char *path)
{
        char *to = path;

        for (const char *from = path; *from; to++) {
                unsigned int byte;

                if (from[0] == '\\' && sscanf(from + 1, "%3o", &byte) == 1) {
                        *to = (char)byte;
                        from += 4;
                } else {
                        *to = *from++;
                }
        }
        *to = 0;
}

/* *@ret_type is to be freed: what kind of file system is mounted there last, or NULL. */
static int find_mount(const char *path, char **ret_type)
{
        FILE *file = fopen("/proc/self/mountinfo", "re");
        DMIO_CLEANUP(freep) char *line = NULL;
        DMIO_CLEANUP(freep) char *type = NULL;
        size_t size = 0;

        if (!file)
                return -errno;
        while (getline(&line, &size, file) > 0) {
                DMIO_CLEANUP(freep) char *where = NULL;
                const char *rest = strstr(line, " - ");

                if (!rest || sscanf(line, "%*s %*s %*s %*s %ms", &where) != 1)
                        continue;
                unescape(where);
                if (strcmp(where, path) != 0)
                        continue;
                free(type);
                type = strndup(rest + 3, strcspn(rest + 3, " "));
        }
        fclose(file);
        *ret_type = DMIO_TAKE(type);
        return 0;
}

static const char *mount_of(const struct doctor *doctor)
{
        const char *path = show_string(doctor->status, "mount");

        if (*path)
                return path;
        return doctor->config ? doctor->config->mount : NULL;
}

void check_mount(const struct doctor *doctor, struct finding *finding)
{
        const char *path = mount_of(doctor);
        DMIO_CLEANUP(freep) char *type = NULL;
        bool kept = unit_number(doctor, "NFileDescriptorStore") > 0;
        int r;

        if (!path) {
                finding_set(finding, VERDICT_WARN, words("where it is cannot be told"),
                            words("see 'configuration'"));
                return;
        }
        r = find_mount(path, &type);
        if (r < 0)
                finding_set(finding, VERDICT_WARN, words("/proc/self/mountinfo: %s", strerror(-r)),
                            words("mount /proc"));
        else if (doctor->daemon == DAEMON_RUNS && !type)
                finding_set(
                        finding, VERDICT_FAIL,
                        words("the daemon serves %s, but nothing is mounted there from here", path),
                        words("somebody has unmounted it, or settings of dmiod.service give it a "
                              "view of "
                              "its own: correct these, and restart it"));
        else if (type && strncmp(type, "fuse", 4) != 0)
                finding_set(finding, VERDICT_FAIL, words("%s on %s is in the way", type, path),
                            words("umount %s", path));
        else if (doctor->daemon == DAEMON_RUNS || (type && kept))
                finding_set(finding, VERDICT_OK, words("%s on %s", type, path), NULL);
        else if (type && doctor->daemon != DAEMON_DENIED)
                finding_set(finding, VERDICT_WARN,
                            words("%s on %s is there, but no daemon: who uses it waits or gets "
                                  "ENOTCONN",
                                  type, path),
                            words("%s; if that does not help, umount -l %s", start_command(doctor),
                                  path));
        else
                finding_set(
                        finding, VERDICT_OK,
                        words(type ? "%s" : "nothing on %s, which is right without a daemon", path),
                        NULL);
}

void check_state(const struct doctor *doctor, struct finding *finding)
{
        const char *path = doctor->config ? doctor->config->state : NULL;
        char size[SHOW_SIZE_MAX];
        struct statvfs fs;
        struct stat st;
        uint64_t room;

        if (!path) {
                finding_set(finding, VERDICT_WARN, words("where it is cannot be told"),
                            words("see 'configuration'"));
                return;
        }
        if (stat(path, &st) < 0 && errno == ENOENT) {
                finding_set(finding, VERDICT_OK,
                            words("%s is not there yet; the daemon makes it", path), NULL);
                return;
        }
        if (stat(path, &st) < 0 || statvfs(path, &fs) < 0) {
                int error = errno;

                finding_set(finding, VERDICT_WARN, words("%s: %s", path, strerror(error)),
                            words("%s", errno_advice(error)));
                return;
        }
        room = (uint64_t)fs.f_bavail * fs.f_frsize;
        show_size(room, size);
        if (!S_ISDIR(st.st_mode))
                finding_set(finding, VERDICT_FAIL, words("%s is not a folder", path),
                            words("move it away, then %s", start_command(doctor)));
        else if ((fs.f_flag & ST_RDONLY) != 0)
                finding_set(finding, VERDICT_FAIL,
                            words("%s lies on a file system that is read-only", path),
                            words("mount it for writing, or set 'state' in the configuration"));
        else if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
                finding_set(finding, VERDICT_WARN,
                            words("others may write to %s (mode %04o)", path, st.st_mode & 07777),
                            words("chmod 700 %s", path));
        else if (room < STATE_WANTED)
                finding_set(finding, VERDICT_WARN, words("%s has %s left", path, size),
                            words("make room, or set 'state' in the configuration"));
        else
                finding_set(finding, VERDICT_OK, words("%s, %s left", path, size), NULL);
}

/* However it is named, and without a look at it: whoever serves the mount may be gone. */
static bool lies_in_mount(const char *path, const char *mount)
{
        dev_t device;
        int fd;

        if (!mount)
                return false;
        if (mount_guard_has_path(mount, path))
                return true;
        device = mount_guard_device(mount);
        fd = device != 0 ? mount_guard_open(path, device) : -ENOENT;
        close_fd(fd);
        return fd == -EXDEV;
}

void check_device(const struct doctor *doctor, const struct device_grant *grant,
                  struct finding *finding)
{
        const char *mount = mount_of(doctor);
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        struct stat st;
        int error;

        if (lies_in_mount(grant->path, mount)) {
                finding_set(finding, VERDICT_FAIL,
                            words("%s lies in the daemon's own mount", grant->path),
                            words("name the device itself"));
                return;
        }
        if (stat(grant->path, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))) {
                error = errno;
                if (error == EACCES && geteuid() != 0)
                        finding_set(finding, VERDICT_WARN,
                                    words("%s is not for you to see", grant->path),
                                    words("run this as root"));
                else if (stat(grant->path, &st) == 0)
                        finding_set(finding, VERDICT_FAIL,
                                    words("%s is neither a block device nor a regular file",
                                          grant->path),
                                    words("correct its path in the configuration"));
                else
                        finding_set(finding, VERDICT_FAIL,
                                    words("%s: %s", grant->path, strerror(error)),
                                    words("plug it in, or correct its path in the configuration"));
                return;
        }
        fd = open(grant->path,
                  (grant->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        error = errno;
        if (fd >= 0)
                finding_set(finding, VERDICT_OK,
                            words("%s can be opened for %s", grant->path,
                                  grant->read_only ? "reading" : "reading and writing"),
                            NULL);
        else if ((error == EACCES || error == EPERM) && geteuid() != 0)
                finding_set(finding, VERDICT_WARN, words("%s is not for you to open", grant->path),
                            words("run this as root; the daemon may have the right"));
        else
                finding_set(finding, VERDICT_FAIL, words("%s: %s", grant->path, strerror(error)),
                            error == EROFS ? words("read-only = yes in its section")
                                           : words("%s", errno_advice(error)));
}
