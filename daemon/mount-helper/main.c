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
 * The daemon of a user mounts by itself and has the service manager keep the descriptor; then the
 * program (--user) runs as that user, for what remains: "attach" only writes down where that will
 * be.
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
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "config.h"
#include "descriptor-store.h"
#include "log.h"
#include "mount-helper/record.h"
#include "mount-helper/unit-job.h"
#include "mount/fusermount.h"
#include "mount/mount-point.h"
#include "options.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

#define EXIT_USAGE 2

/* Where the control sockets are as well; for a user below $XDG_RUNTIME_DIR. */
#define RECORD_FOLDER "/run/dmiod"
#define RECORD_FOLDER_USER "dmiod"

/* As many threads as the configuration may ask for, each with a descriptor of its own. */
#define CLONES_MAX 64

#define BARRIER_USEC (UINT64_C(5) * 1000 * 1000)

DMIO_DEFINE_CLEANUP(struct config, config_free)

static void record_deinitp(struct record *record)
{
        record_deinit(record);
}

struct helper {
        struct options options;
        const char *unit;
        const char *folder; /* of the records */
};

/* Where everybody else sees mounts, and process 1 does. */
static int enter_host(const struct helper *helper)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;

        if (helper->options.user)
                return 0;
        fd = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || setns(fd, CLONE_NEWNS) < 0)
                return log_error_errno(-errno, "Cannot enter the mount namespace of process 1: %m");
        return 0;
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

static int detach(const struct helper *helper, const char *mount)
{
        int r = 0;

        if (umount2(mount, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
                r = helper->options.user ? fusermount_detach(mount) : -errno;
        return r < 0 ? log_error_errno(r, "Cannot unmount %s: %m", mount) : 0;
}

/* What the unit mounted elsewhere, when its configuration was another one. */
static int detach_former(const struct helper *helper, const struct record *former,
                         const char *mount)
{
        int r;

        if (!former->mount || strcmp(former->mount, mount) == 0)
                return 0;
        r = mount_point_look(former->mount);
        if (r <= 0)
                return r;
        log_notice("The mount point is %s now: %s is detached", mount, former->mount);
        return detach(helper, former->mount);
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

static int attach_new(const struct helper *helper, const char *mount)
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
                r = record_write(helper->folder, helper->unit,
                                 &(struct record){ .mount = point.path,
                                                   .device = mount_point_device(&point, fd) });
        if (r >= 0) {
                log_info("Mounted at %s", point.path);
                point.attached = point.made = false; /* and stays */
        }
        mount_point_deinit(&point);
        return r;
}

static int verb_attach(const struct helper *helper)
{
        DMIO_CLEANUP(record_deinitp) struct record former = RECORD_NULL;
        DMIO_CLEANUP(freep) char *mount = NULL;
        struct mount_point point = { 0 };
        int r;

        /* As the daemon sees it; all else is done where everybody is. */
        r = load_mount(&helper->options, &mount);
        if (r >= 0)
                r = enter_host(helper);
        if (r >= 0)
                r = mount_point_adopt(&point, mount);
        if (r >= 0)
                r = record_read(helper->folder, helper->unit, &former);
        if (r >= 0)
                r = detach_former(helper, &former, point.path);
        if (r < 0) {
                mount_point_deinit(&point);
                return r;
        }

        if (!former.mount || strcmp(former.mount, point.path) != 0)
                former.device = 0;
        if (!helper->options.user)
                r = mount_point_look_again(point.path, former.device);
        if (helper->options.user || r == MOUNT_POINT_UNSERVED) {
                log_debug("%s waits for its daemon", point.path);
                r = record_write(helper->folder, helper->unit,
                                 &(struct record){ point.path, former.device });
        } else if (r >= 0) {
                r = attach_new(helper, mount);
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
 *   none              by crashing, and    goes, and the unit is not started again: it does nothing
 *                     not the first time  but crash
 */
static bool is_stopping(const struct helper *helper, const char *mount)
{
        const char *result = getenv("SERVICE_RESULT");
        int r;

        r = unit_job(helper->unit, helper->options.user);
        if (r < 0)
                log_warning_errno(r,
                                  "Cannot ask the service manager whether %s is stopped or "
                                  "started again; %s stays mounted: %m",
                                  helper->unit, mount);
        if (r == UNIT_JOB_NONE && result && strcmp(result, "success") == 0)
                return unit_stays_down(helper->unit, helper->options.user) > 0;
        return r == UNIT_JOB_STOP;
}

/* Of its own doing. SIGKILL is somebody's will, but for that of a kernel without memory. */
static bool has_crashed(void)
{
        static const char *const crashes[] = { "exit-code", "core-dump", "signal",
                                               "oom-kill",  "protocol",  "resources" };
        const char *result = getenv("SERVICE_RESULT"), *status = getenv("EXIT_STATUS");

        if (result && strcmp(result, "signal") == 0 && status && strcmp(status, "KILL") == 0)
                return false;
        for (size_t i = 0; result && i < ARRAY_SIZE(crashes); i++)
                if (strcmp(result, crashes[i]) == 0)
                        return true;
        return false;
}

/*
 * The service manager's own limit counts every start, also those after a kill -9 or a restart that
 * somebody wanted; so the unit does not use it.
 */
static bool gives_up(const struct helper *helper)
{
        int r;

        if (!has_crashed() ||
            record_crash(helper->folder, helper->unit, now_usec()) < RECORD_CRASHES_MAX)
                return false;
        log_error("%s has crashed %d times in a minute, and is given up: it is not started again, "
                  "its mount goes, and files that are open there are lost (ENOTCONN)",
                  helper->unit, RECORD_CRASHES_MAX);
        r = unit_stop(helper->unit, helper->options.user);
        if (r < 0)
                log_warning_errno(r, "Cannot have %s stopped: %m", helper->unit);
        return r >= 0;
}

static int verb_detach(const struct helper *helper)
{
        DMIO_CLEANUP(record_deinitp) struct record record = RECORD_NULL;
        int r;

        r = enter_host(helper);
        if (r >= 0)
                r = record_read(helper->folder, helper->unit, &record);
        if (r < 0)
                return r;
        if (!is_stopping(helper, record.mount ?: "what is mounted") && !gives_up(helper)) {
                log_debug("%s stays mounted", record.mount ?: "Nothing");
                return 0;
        }

        if (record.mount)
                r = detach(helper, record.mount);
        if (r >= 0)
                record_remove(helper->folder, helper->unit);
        return r;
}

/*
 * After the unit has failed for good: nobody keeps the descriptor any more, and whoever looks at
 * the mount gets ENOTCONN. One that is kept after all, or served, is left alone.
 */
static int verb_clean(const struct helper *helper)
{
        DMIO_CLEANUP(record_deinitp) struct record record = RECORD_NULL;
        int r;

        r = enter_host(helper);
        if (r >= 0)
                r = record_read(helper->folder, helper->unit, &record);
        if (r < 0 || !record.mount)
                return r;

        /* The service manager may still be about to let go of what it kept for the unit. */
        r = mount_point_look_patiently(record.mount);
        if (r == MOUNT_POINT_DEAD) {
                r = detach(helper, record.mount);
                if (r < 0)
                        return r;
                log_notice("%s has failed, %s is not mounted any more: files that were open there "
                           "are lost (ENOTCONN)",
                           helper->unit, record.mount);
                r = MOUNT_POINT_FREE;
        }
        if (r == MOUNT_POINT_FREE)
                record_remove(helper->folder, helper->unit);
        if (r == MOUNT_POINT_UNSERVED)
                log_debug("The descriptor of %s is still kept, it stays mounted", record.mount);
        return MIN(r, 0);
}

/* Of the user that runs it, or of the system. Returns NULL if the user has none. */
static char *find_folder(bool user)
{
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        char *folder;

        if (!user)
                return strdup(RECORD_FOLDER);
        if (!runtime || runtime[0] != '/')
                return NULL;
        return asprintf(&folder, "%s/" RECORD_FOLDER_USER, runtime) < 0 ? NULL : folder;
}

static int run_verb(int (*run)(const struct helper *helper), int argc, char *argv[])
{
        DMIO_CLEANUP(freep) char *folder = NULL;
        struct helper helper = { .unit = argv[0] };
        int r;

        r = options_init(&helper.options, argc, argv);
        if (r == OPTIONS_RUN) {
                helper.folder = folder = find_folder(helper.options.user);
                if (!folder)
                        log_error("XDG_RUNTIME_DIR is not set");
                r = folder && run(&helper) >= 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        } else {
                r = EXIT_USAGE;
        }
        options_deinit(&helper.options);
        return r;
}

static const struct {
        const char *name;
        int (*run)(const struct helper *helper);
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
        log_open();
        if (argc < 3 || !*argv[2] || strchr(argv[2], '/'))
                return usage();

        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                if (strcmp(argv[1], verbs[i].name) == 0)
                        return run_verb(verbs[i].run, argc - 2, argv + 2);
        return usage();
}
