/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount/fusermount.h"
#include "util/cleanup.h"

#define PROGRAM "fusermount3"

extern char **environ;

int fusermount_detach(const char *path)
{
        char *argv[] = { (char *)PROGRAM, (char *)"-u", (char *)"-q", (char *)"-z",
                         (char *)"--",    (char *)path, NULL };
        int status = 0;
        pid_t child;
        int r;

        r = posix_spawnp(&child, argv[0], NULL, NULL, argv, environ);
        if (r != 0)
                return -r;
        while (waitpid(child, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

static bool find_program(struct stat *ret)
{
        DMIO_CLEANUP(freep) char *copy = strdup(getenv("PATH") ?: "/usr/bin:/bin");
        char *save = NULL;

        for (char *folder = copy ? strtok_r(copy, ":", &save) : NULL; folder;
             folder = strtok_r(NULL, ":", &save)) {
                char path[PATH_MAX];

                (void)snprintf(path, sizeof(path), "%s/" PROGRAM, folder);
                if (access(path, X_OK) == 0 && stat(path, ret) == 0)
                        return true;
        }
        return false;
}

const char *fusermount_hint(void)
{
        struct stat st;

        if (!find_program(&st))
                return PROGRAM " is not installed";
        if (geteuid() != 0 && (st.st_uid != 0 || !(st.st_mode & S_ISUID)))
                return PROGRAM " is not setuid root";
        if (geteuid() != 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) > 0)
                return PROGRAM " gets no privileges here (NoNewPrivileges=)";
        if (access("/dev/fuse", R_OK | W_OK) < 0)
                return "/dev/fuse may not be opened, or is not there";
        return "see what " PROGRAM " has said";
}
