/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "control/mount-guard.h"
#include "util/cleanup.h"

/* The next part of a path that is not "", and its length; 0 at the end. */
static size_t next_part(const char **path)
{
        *path += strspn(*path, "/");
        return strcspn(*path, "/");
}

/* "/a/./b//../c" becomes "/a/c": parts in place, behind a slash each. "/" becomes "". */
static char *normalise(const char *path)
{
        char *result, *end;
        size_t n;

        result = malloc(strlen(path) + 2);
        if (!result)
                return NULL;
        end = result;
        while ((n = next_part(&path)) > 0) {
                if (n == 2 && path[0] == '.' && path[1] == '.') {
                        while (end > result && *--end != '/')
                                ;
                } else if (n != 1 || path[0] != '.') {
                        *end++ = '/';
                        memcpy(end, path, n);
                        end += n;
                }
                path += n;
        }
        *end = '\0';
        return result;
}

bool mount_guard_has_path(const char *mount, const char *path)
{
        DMIO_CLEANUP(freep) char *folder = NULL;
        DMIO_CLEANUP(freep) char *file = NULL;
        size_t n;

        if (!mount)
                return false;
        folder = normalise(mount);
        file = normalise(path);
        if (!folder || !file)
                return true; /* rather refuse */
        n = strlen(folder);
        return strncmp(file, folder, n) == 0 && (file[n] == '\0' || file[n] == '/');
}

/* mountinfo writes blanks and the like as three octal digits behind a backslash. */
static void unescape(char *text)
{
        char *out = text;

        for (; *text; text++, out++) {
                if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
                    text[2] <= '7' && text[3] >= '0' && text[3] <= '7') {
                        *out = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 |
                                      (text[3] - '0'));
                        text += 3;
                } else {
                        *out = *text;
                }
        }
        *out = '\0';
}

static dev_t find_device(const char *mount, FILE *file)
{
        DMIO_CLEANUP(freep) char *folder = NULL;
        DMIO_CLEANUP(freep) char *line = NULL;
        dev_t device = 0;
        size_t size = 0;

        folder = normalise(mount);
        if (!folder)
                return 0;
        rewind(file);
        while (getline(&line, &size, file) > 0) {
                unsigned int major_number, minor_number;
                int place = 0;

                if (sscanf(line, "%*d %*d %u:%u %*s %n", &major_number, &minor_number, &place) !=
                            2 ||
                    place == 0)
                        continue;
                line[place + (int)strcspn(line + place, " ")] = '\0';
                unescape(line + place);
                /* The last one lies on top of the others. */
                if (strcmp(line + place, folder) == 0)
                        device = makedev(major_number, minor_number);
        }
        return device;
}

/*
 * The list of mounts can be long, and is asked for by every call with a device. The kernel tells a
 * poll of it when it has changed since the last one, so what was found holds until then.
 */
dev_t mount_guard_device(const char *mount)
{
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        static FILE *file;
        static char *known;
        static dev_t device;
        struct pollfd pollfd = { .events = POLLPRI };
        bool changed;
        dev_t result;

        if (!mount)
                return 0;
        pthread_mutex_lock(&lock);
        if (!file) {
                file = fopen("/proc/self/mountinfo", "re");
                free(known);
                known = NULL;
        }
        if (file) {
                pollfd.fd = fileno(file);
                changed = poll(&pollfd, 1, 0) != 0;
                if (changed || !known || strcmp(known, mount) != 0) {
                        free(known);
                        known = strdup(mount);
                        device = find_device(mount, file);
                }
        }
        result = file ? device : 0;
        pthread_mutex_unlock(&lock);
        return result;
}
