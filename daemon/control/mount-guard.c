/* SPDX-License-Identifier: LGPL-2.1-or-later */

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

dev_t mount_guard_device(const char *mount)
{
        DMIO_CLEANUP(fclosep) FILE *file = NULL;
        DMIO_CLEANUP(freep) char *folder = NULL;
        DMIO_CLEANUP(freep) char *line = NULL;
        dev_t device = 0;
        size_t size = 0;

        if (!mount)
                return 0;
        folder = normalise(mount);
        file = fopen("/proc/self/mountinfo", "re");
        if (!folder || !file)
                return 0;
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
