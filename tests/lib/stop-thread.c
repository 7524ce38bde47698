/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * stop-thread TID: stops that thread, and no other of its process, until this program ends or the
 * thread is killed. Says "stopped". A thread that is stuck, as far as anybody else can tell.
 */

#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
        pid_t thread = argc == 2 ? (pid_t)atoi(argv[1]) : 0;
        int status;

        if (thread <= 0 || ptrace(PTRACE_SEIZE, thread, NULL, NULL) < 0 ||
            ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) < 0 ||
            waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status)) {
                perror("stop-thread");
                return EXIT_FAILURE;
        }
        puts("stopped");
        fflush(stdout);
        (void)waitpid(thread, &status, __WALL);
        return EXIT_SUCCESS;
}
