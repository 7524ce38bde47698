/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dmioctl/systemctl.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

#define OUTPUT_MAX 4096

extern char **environ;

/* Start it with @out as its output; it has the signals that everybody has. */
static int spawn(const char *const *arguments, int out, pid_t *ret)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t set;
        int r;

        if (posix_spawn_file_actions_init(&actions) != 0)
                return -ENOMEM;
        if (posix_spawnattr_init(&attributes) != 0) {
                posix_spawn_file_actions_destroy(&actions);
                return -ENOMEM;
        }
        sigemptyset(&set);
        sigaddset(&set, SIGPIPE);
        posix_spawnattr_setsigdefault(&attributes, &set);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        r = posix_spawnp(ret, arguments[0], &actions, &attributes, (char *const *)arguments,
                         environ);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        return -r;
}

/* All that comes until @fd is closed at the other end. */
static int read_all(int fd, int limit_msec, char buffer[static OUTPUT_MAX])
{
        uint64_t end = now_usec() + (uint64_t)limit_msec * 1000;
        size_t length = 0;

        for (;;) {
                struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
                uint64_t now = now_usec();
                ssize_t n;

                if (now >= end)
                        return -ETIME;
                if (poll(&poll_fd, 1, (int)((end - now) / 1000 + 1)) <= 0)
                        continue;
                n = read(fd, buffer + length, OUTPUT_MAX - 1 - length);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                length += (size_t)n;
        }
        buffer[length] = 0;
        return 0;
}

int systemctl_show(bool user, const char *unit, const char *properties, int limit_msec, char **ret)
{
        const char *arguments[] = {
                "systemctl", user ? "--user" : "--system", "show", "-p", properties, unit, NULL
        };
        DMIO_CLEANUP(close_fdp) int in = -EBADF;
        DMIO_CLEANUP(freep) char *text = malloc(OUTPUT_MAX);
        int pipes[2], status = 0, r;
        pid_t pid;

        if (!text)
                return -ENOMEM;
        if (pipe2(pipes, O_CLOEXEC) < 0)
                return -errno;
        in = pipes[0];
        r = spawn(arguments, pipes[1], &pid);
        close_fd(pipes[1]);
        if (r < 0)
                return r;

        r = read_all(in, limit_msec, text);
        if (r < 0)
                (void)kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (r < 0)
                return r;
        /* It says "System has not been booted with systemd", or that it cannot connect. */
        if (status != 0 || !*text)
                return -ENOENT;
        *ret = DMIO_TAKE(text);
        return 0;
}

char *systemctl_value(const char *text, const char *property)
{
        size_t length = strlen(property);

        for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
                if (strncmp(line, property, length) == 0 && line[length] == '=')
                        return strndup(line + length + 1, strcspn(line, "\n") - length - 1);
        return NULL;
}

bool systemctl_daemon_is_idle(bool user, int limit_msec)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        DMIO_CLEANUP(freep) char *state = NULL;

        if (systemctl_show(user, "dmiod.socket", "SubState", limit_msec, &text) < 0)
                return false;
        state = systemctl_value(text, "SubState");
        return state && strcmp(state, "listening") == 0;
}
