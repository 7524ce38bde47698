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
#include "util/clock.h"
#include "util/macros.h"

/* How long the service manager may take to begin what it was asked for. */
#define STOP_USEC (UINT64_C(2) * 1000 * 1000)

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

/* "systemctl --user OPTION COMMAND -- UNIT", with the outcome in @text. */
static int ask_about(const char *unit, bool user, const char *option, const char *command,
                     char *text, size_t size)
{
        char *const arguments[] = { (char *)"systemctl",
                                    (char *)(user ? "--user" : "--system"),
                                    (char *)option,
                                    (char *)command,
                                    (char *)"--",
                                    (char *)unit,
                                    NULL };

        return ask(arguments, text, size);
}

/* Whether the job has begun in *@ret_runs. */
static int find_job(const char *unit, bool user, bool *ret_runs)
{
        char text[1024], name[256], type[32], state[32] = "";
        int r;

        r = ask_about(unit, user, "--no-legend", "list-jobs", text, sizeof(text));
        if (r < 0)
                return r;

        /* 1234 dmiod.service restart running; nothing, or a sentence, if there is no job. */
        if (sscanf(text, "%*u %255s %31s %31s", name, type, state) < 2 || strcmp(name, unit) != 0)
                return UNIT_JOB_NONE;
        *ret_runs = strcmp(state, "running") == 0;
        return strcmp(type, "stop") == 0 ? UNIT_JOB_STOP : UNIT_JOB_OTHER;
}

int unit_job(const char *unit, bool user)
{
        bool runs;

        return find_job(unit, user, &runs);
}

int unit_stays_down(const char *unit, bool user)
{
        char text[64];
        int r;

        r = ask_about(unit, user, "--property=Restart", "show", text, sizeof(text));
        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        return strcmp(text, "Restart=always") != 0 && strcmp(text, "Restart=on-success") != 0;
}

/*
 * Together with the socket that would start it again for whoever has connected and waits: these are
 * to hear that nobody answers.
 */
static int begin_stop(const char *unit, bool user)
{
        static const char property[] = "TriggeredBy=";
        char text[256], ignored[64];
        char *trigger = text;
        int r;

        r = ask_about(unit, user, "--property=TriggeredBy", "show", text, sizeof(text));
        if (r < 0)
                return r;
        if (strncmp(text, property, strlen(property)) == 0)
                trigger += strlen(property);
        trigger[strcspn(trigger, " \n")] = '\0';

        r = ask_about(unit, user, "--no-block", "stop", ignored, sizeof(ignored));
        if (r >= 0 && *trigger)
                r = ask_about(trigger, user, "--no-block", "stop", ignored, sizeof(ignored));
        return r;
}

int unit_stop(const char *unit, bool user)
{
        uint64_t end = now_usec() + STOP_USEC;
        bool runs = false;
        int r;

        r = begin_stop(unit, user);
        while (r >= 0 && !runs && now_usec() < end)
                r = find_job(unit, user, &runs);
        return r < 0 || runs ? MIN(r, 0) : -ETIMEDOUT;
}
