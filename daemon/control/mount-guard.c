/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdlib.h>
#include <string.h>

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
