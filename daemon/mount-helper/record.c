/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "mount-helper/record.h"
#include "util/cleanup.h"

#define MOUNT_POINT "mount-point"
#define CRASHES "crashes"

static char *name_file(const char *folder, const char *unit, const char *what, const char *suffix)
{
        char *path;

        return asprintf(&path, "%s/%s.%s%s", folder, unit, what, suffix) < 0 ? NULL : path;
}

/* Whole, or not at all. */
static int replace_file(const char *folder, const char *unit, const char *what, const char *data,
                        size_t size)
{
        DMIO_CLEANUP(freep) char *path = name_file(folder, unit, what, "");
        DMIO_CLEANUP(freep) char *temporary = name_file(folder, unit, what, ".new");
        FILE *file;
        int r;

        if (!path || !temporary)
                return log_error_errno(-ENOMEM, "Cannot name a file: %m");

        /* For everybody to pass, whatever the umask is: the socket is there, too. */
        if (mkdir(folder, 0755) == 0)
                (void)chmod(folder, 0755);
        file = fopen(temporary, "we");
        r = file ? 0 : -errno;
        if (file && fwrite(data, size, 1, file) != 1)
                r = -errno;
        if (file && fclose(file) != 0 && r == 0)
                r = -errno;
        if (r == 0 && rename(temporary, path) < 0)
                r = -errno;
        return r < 0 ? log_error_errno(r, "Cannot write %s: %m", path) : 0;
}

int record_read(const char *folder, const char *unit, struct record *ret)
{
        DMIO_CLEANUP(freep) char *path = name_file(folder, unit, MOUNT_POINT, "");
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        DMIO_CLEANUP(freep) char *line = NULL;
        size_t size = 0;
        uintmax_t device = 0;

        if (!path)
                return log_error_errno(-ENOMEM, "Cannot name a file: %m");
        file = fopen(path, "re");
        if (!file && errno == ENOENT) {
                *ret = (struct record)RECORD_NULL;
                return 0;
        }
        if (!file)
                return log_error_errno(-errno, "Cannot open %s: %m", path);

        /* A path may have any character but the one that ends it. */
        if (getdelim(&line, &size, '\0', file) < 2 || line[0] != '/')
                return log_error_errno(-EBADMSG, "%s does not name a mount point", path);
        if (fscanf(file, "%ju", &device) != 1)
                device = 0;
        *ret = (struct record){ .mount = DMIO_TAKE(line), .device = (dev_t)device };
        return 0;
}

int record_write(const char *folder, const char *unit, const struct record *record)
{
        DMIO_CLEANUP(freep) char *data = NULL;
        int n;

        n = asprintf(&data, "%s%c%ju\n", record->mount, '\0', (uintmax_t)record->device);
        if (n < 0) {
                data = NULL;
                return log_error_errno(-ENOMEM, "Cannot write down the mount point: %m");
        }
        return replace_file(folder, unit, MOUNT_POINT, data, (size_t)n);
}

void record_remove(const char *folder, const char *unit)
{
        static const char *const all[] = { MOUNT_POINT, CRASHES };

        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
                DMIO_CLEANUP(freep) char *path = name_file(folder, unit, all[i], "");

                if (path)
                        (void)unlink(path);
        }
}

void record_deinit(struct record *record)
{
        free(record->mount);
}

int record_crash(const char *folder, const char *unit, uint64_t now)
{
        DMIO_CLEANUP(freep) char *path = name_file(folder, unit, CRASHES, "");
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        uint64_t crashes[RECORD_CRASHES_MAX] = { 0 }, crash;
        char data[RECORD_CRASHES_MAX * 24];
        unsigned int n = 0;
        int length = 0, r;

        if (!path)
                return log_error_errno(-ENOMEM, "Cannot name a file: %m");
        file = fopen(path, "re");
        while (file && n < RECORD_CRASHES_MAX - 1 && fscanf(file, "%" SCNu64, &crash) == 1)
                if (crash <= now && now - crash < RECORD_CRASHES_USEC)
                        crashes[n++] = crash;
        crashes[n++] = now;

        for (unsigned int i = 0; i < n; i++)
                length += snprintf(data + length, sizeof(data) - (size_t)length, "%" PRIu64 "\n",
                                   crashes[i]);
        r = replace_file(folder, unit, CRASHES, data, (size_t)length);
        return r < 0 ? r : (int)n;
}
