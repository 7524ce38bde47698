/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount-helper/unit-job.h"
#include "util/cleanup.h"

extern char **environ;

/* Run systemctl and have what it says, cut off at @size. */
static int ask(char *const arguments[], char *text, size_t size)
{
        DMIO_CLEANUP(close_fdp) int from = -EBADF;
        posix_spawn_file_actions_t actions;
        int ends[2], status, r;
        size_t length = 0;
        pid_t pid;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        from = ends[0];

        r = posix_spawn_file_actions_init(&actions);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        if (r == 0)
                r = posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
        (void)close_fd(ends[1]);
        if (r != 0)
                return -r;

        for (;;) {
                char rest[256];
                ssize_t n = length + 1 < size ? read(from, text + length, size - length - 1)
                                              : read(from, rest, sizeof(rest));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                if (length + 1 < size)
                        length += (size_t)n;
        }
        text[length] = '\0';

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int unit_job(const char *unit)
{
        char *const arguments[] = { (char *)"systemctl",
                                    (char *)"list-jobs",
                                    (char *)"--plain",
                                    (char *)"--no-legend",
                                    (char *)"--",
                                    (char *)unit,
                                    NULL };
        char text[1024], name[256], type[32];
        int r;

        r = ask(arguments, text, sizeof(text));
        if (r < 0)
                return r;

        /* 1234 dmiod.service restart running; nothing, or a sentence, if there is no job. */
        if (sscanf(text, "%*u %255s %31s", name, type) != 2 || strcmp(name, unit) != 0)
                return UNIT_JOB_NONE;
        return strcmp(type, "stop") == 0 ? UNIT_JOB_STOP : UNIT_JOB_OTHER;
}

int unit_stays_down(const char *unit)
{
        char *const arguments[] = { (char *)"systemctl",
                                    (char *)"show",
                                    (char *)"--property=Restart",
                                    (char *)"--value",
                                    (char *)"--",
                                    (char *)unit,
                                    NULL };
        char text[64];
        int r;

        r = ask(arguments, text, sizeof(text));
        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        return strcmp(text, "always") != 0 && strcmp(text, "on-success") != 0;
}
