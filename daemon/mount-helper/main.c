/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * dmiod-mount: mounts for a dmiod that may not mount by itself.
 *
 * A service in a sandbox has a view of the file system of its own; what it mounts there nobody else
 * sees. So the unit starts this program before the daemon and after it, as root, and it works where
 * process 1 does: "attach" mounts and gives the descriptor to the service manager, who keeps it and
 * passes it to every daemon of the unit from then on; "detach" ends the mount when the unit is
 * stopped, and only then. The mount, with the files that are open on it, so outlives the daemon.
 *
 * Where it has mounted is written down, because by the end the configuration may say otherwise.
 *
 * A mount that is not served must never be touched, or we wait for a daemon that waits for us.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "config.h"
#include "descriptor-store.h"
#include "log.h"
#include "mount-helper/unit-job.h"
#include "mount/mount-point.h"
#include "options.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define EXIT_USAGE 2

#define RECORD_FOLDER "/run/dmiod"

/* As many threads as the configuration may ask for, each with a descriptor of its own. */
#define CLONES_MAX 64

#define BARRIER_USEC (UINT64_C(5) * 1000 * 1000)

DMIO_DEFINE_CLEANUP(struct config, config_free)

/* Where everybody else sees mounts, and process 1 does. */
static int enter_host(void)
{
        DMIO_CLEANUP(close_fdp) int fd = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);

        if (fd < 0 || setns(fd, CLONE_NEWNS) < 0)
                return log_error_errno(-errno, "Cannot enter the mount namespace of process 1: %m");
        return 0;
}

/* The record: where a unit has its mount */

static int record_path(const char *unit, char **ret)
{
        if (asprintf(ret, RECORD_FOLDER "/%s.mount-point", unit) < 0)
                return log_error_errno(-ENOMEM, "Cannot name a file: %m");
        return 0;
}

/* NULL in *@ret if there is none. */
static int record_read(const char *unit, char **ret)
{
        DMIO_CLEANUP(freep) char *path = NULL;
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        DMIO_CLEANUP(freep) char *line = NULL;
        size_t size = 0;
        ssize_t n;
        int r;

        r = record_path(unit, &path);
        if (r < 0)
                return r;
        file = fopen(path, "re");
        if (!file && errno == ENOENT) {
                *ret = NULL;
                return 0;
        }
        if (!file)
                return log_error_errno(-errno, "Cannot open %s: %m", path);

        /* A path may have any character but the one that ends it. */
        n = getdelim(&line, &size, '\0', file);
        if (n < 2 || line[0] != '/')
                return log_error_errno(-EBADMSG, "%s does not name a mount point", path);
        *ret = DMIO_TAKE(line);
        return 0;
}

static int record_write(const char *unit, const char *mount)
{
        DMIO_CLEANUP(freep) char *path = NULL;
        DMIO_CLEANUP(freep) char *temporary = NULL;
        FILE *file;
        int r;

        r = record_path(unit, &path);
        if (r < 0)
                return r;
        if (asprintf(&temporary, "%s.new", path) < 0) {
                temporary = NULL;
                return log_error_errno(-ENOMEM, "Cannot name a file: %m");
        }

        (void)mkdir(RECORD_FOLDER, 0755);
        file = fopen(temporary, "we");
        r = file ? 0 : -errno;
        if (file && fwrite(mount, strlen(mount) + 1, 1, file) != 1)
                r = -errno;
        if (file && fclose(file) != 0 && r == 0)
                r = -errno;
        if (r == 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r < 0)
                return log_error_errno(r, "Cannot write down the mount point in %s: %m", path);
        return 0;
}

static void record_remove(const char *unit)
{
        DMIO_CLEANUP(freep) char *path = NULL;

        if (record_path(unit, &path) == 0)
                (void)unlink(path);
}

/* Attach */

static int load_mount(const struct options *options, char **ret)
{
        DMIO_CLEANUP(config_freep) struct config *config = NULL;
        DMIO_CLEANUP(freep) char *message = NULL;
        char *mount;
        int r;

        r = options_load(options, &config, &message);
        if (r < 0) {
                log_error("%s", message ?: strerrordesc_np(-r));
                return r;
        }
        log_set_level(config->log_level);
        mount = strdup(config->mount);
        if (!mount)
                return log_error_errno(-ENOMEM, "Cannot mount: %m");
        *ret = mount;
        return 0;
}

static int detach(const char *mount)
{
        if (umount2(mount, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
                return log_error_errno(-errno, "Cannot unmount %s: %m", mount);
        return 0;
}

/* What the unit mounted elsewhere, when its configuration was another one. */
static int detach_former(const char *unit, const char *mount)
{
        DMIO_CLEANUP(freep) char *former = NULL;
        int r;

        r = record_read(unit, &former);
        if (r < 0 || !former || strcmp(former, mount) == 0)
                return r;
        r = mount_point_look(former);
        if (r <= 0)
                return r;
        log_notice("The mount point is %s now: %s is detached", mount, former);
        return detach(former);
}

static int forget(const char *name)
{
        return sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

/* A new mount has a new session: what belongs to a former one would only mislead the daemon. */
static int forget_session(void)
{
        char clone[sizeof(DESCRIPTOR_STORE_FUSE) + 1 + 3 * sizeof(unsigned int)];
        int r;

        r = forget(DESCRIPTOR_STORE_FUSE);
        if (r > 0)
                r = forget(DESCRIPTOR_STORE_STATE);
        if (r > 0)
                r = forget(DESCRIPTOR_STORE_STATE_2);
        for (unsigned int i = 1; r > 0 && i < CLONES_MAX; i++) {
                (void)snprintf(clone, sizeof(clone), DESCRIPTOR_STORE_FUSE "-%u", i);
                r = forget(clone);
        }
        return r;
}

/* Have @fd kept in place of what was kept before. It must be there when we end. */
static int give_away(int fd)
{
        int r;

        r = forget_session();
        if (r > 0)
                r = sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=" DESCRIPTOR_STORE_FUSE, &fd,
                                           1);
        if (r > 0)
                r = sd_notify_barrier(0, BARRIER_USEC);
        if (r == 0)
                r = -EOPNOTSUPP;
        return r < 0 ? log_error_errno(r, "Cannot give the mount to the service manager: %m") : 0;
}

static int attach_new(const char *unit, const char *mount)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        struct mount_point point = { 0 };
        int r;

        r = mount_point_init(&point, mount, false);
        if (r >= 0)
                r = fd = mount_point_attach(&point);
        if (r >= 0)
                r = give_away(fd);
        if (r >= 0)
                r = record_write(unit, point.path);
        if (r >= 0) {
                log_info("Mounted at %s", point.path);
                point.attached = point.made = false; /* and stays */
        }
        mount_point_deinit(&point);
        return r;
}

static int verb_attach(const struct options *options, const char *unit)
{
        DMIO_CLEANUP(freep) char *mount = NULL;
        struct mount_point point;
        int r;

        /* As the daemon sees it; all else is done where everybody is. */
        r = load_mount(options, &mount);
        if (r >= 0)
                r = enter_host();
        if (r >= 0)
                r = mount_point_adopt(&point, mount);
        if (r < 0)
                return r;

        r = detach_former(unit, point.path);
        if (r >= 0)
                r = mount_point_look(point.path);
        if (r == MOUNT_POINT_UNSERVED) {
                log_debug("%s is mounted and waits for its daemon", point.path);
                r = record_write(unit, point.path);
        } else if (r >= 0) {
                r = attach_new(unit, mount);
        }
        mount_point_deinit(&point);
        return r;
}

/* Detach */

/*
 * After the daemon has ended. The service manager does not say what comes next; its job does.
 *
 *   job of the unit   the daemon ended    the mount
 *   stop              in any way          goes
 *   another           in any way          stays: a restart, or a start that did not succeed
 *   none              without an error    goes, unless the unit is started again in any case
 *   none              with an error       stays: the unit is started again; or it has failed for
 *                                         good, and the unit for failures runs "clean"
 */
static int verb_detach(const struct options *options, const char *unit)
{
        const char *result = getenv("SERVICE_RESULT");
        DMIO_CLEANUP(freep) char *mount = NULL;
        bool goes = false;
        int r;

        r = enter_host();
        if (r >= 0)
                r = record_read(unit, &mount);
        if (r < 0 || !mount)
                return r;

        r = unit_job(unit);
        if (r < 0)
                log_warning_errno(r,
                                  "Cannot ask the service manager whether %s is stopped or "
                                  "started again; %s stays mounted: %m",
                                  unit, mount);
        if (r == UNIT_JOB_STOP)
                goes = true;
        else if (r == UNIT_JOB_NONE && result && strcmp(result, "success") == 0)
                goes = unit_stays_down(unit) > 0;
        if (!goes) {
                log_debug("%s stays mounted", mount);
                return 0;
        }

        r = detach(mount);
        if (r >= 0) {
                record_remove(unit);
                log_debug("Unmounted %s", mount);
        }
        return r;
}

/*
 * After the unit has failed for good: nobody keeps the descriptor any more, and whoever looks at
 * the mount gets ENOTCONN. One that is kept after all, or served, is left alone.
 */
static int verb_clean(const struct options *options, const char *unit)
{
        DMIO_CLEANUP(freep) char *mount = NULL;
        int r;

        r = enter_host();
        if (r >= 0)
                r = record_read(unit, &mount);
        if (r < 0 || !mount)
                return r;

        /* The service manager may still be about to let go of what it kept for the unit. */
        r = mount_point_look_patiently(mount);
        if (r == MOUNT_POINT_DEAD) {
                r = detach(mount);
                if (r < 0)
                        return r;
                log_notice("%s has failed, %s is not mounted any more: files that were open there "
                           "are lost (ENOTCONN)",
                           unit, mount);
                r = MOUNT_POINT_FREE;
        }
        if (r == MOUNT_POINT_FREE)
                record_remove(unit);
        if (r == MOUNT_POINT_UNSERVED)
                log_debug("The descriptor of %s is still kept, it stays mounted", mount);
        return MIN(r, 0);
}

static const struct {
        const char *name;
        int (*run)(const struct options *options, const char *unit);
} verbs[] = {
        { "attach", verb_attach },
        { "detach", verb_detach },
        { "clean", verb_clean },
};

static int usage(void)
{
        fprintf(stderr, "Usage: dmiod-mount attach|detach|clean UNIT [OPTION...]\n"
                        "\n"
                        "For the unit files of dmiod. The options are dmiod's: \"attach\" mounts "
                        "where they say.\n");
        return EXIT_USAGE;
}

int main(int argc, char *argv[])
{
        struct options options;
        int r;

        log_open();
        if (argc < 3 || !*argv[2] || strchr(argv[2], '/'))
                return usage();

        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
                if (strcmp(argv[1], verbs[i].name) != 0)
                        continue;
                r = options_init(&options, argc - 2, argv + 2);
                if (r == OPTIONS_RUN)
                        r = verbs[i].run(&options, argv[2]) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
                else
                        r = EXIT_USAGE;
                options_deinit(&options);
                return r;
        }
        return usage();
}
