/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* without-uring PROGRAM [ARGUMENT...]: run a program that io_uring is denied (deny.h). */

#include <stdio.h>
#include <unistd.h>

#include "deny.h"

int main(int argc, char **argv)
{
        if (argc < 2) {
                (void)fprintf(stderr, "usage: without-uring PROGRAM [ARGUMENT...]\n");
                return 2;
        }
        if (deny_uring() < 0) {
                (void)printf("SKIP: system calls cannot be denied here\n");
                return 77;
        }
        (void)execvp(argv[1], argv + 1);
        perror(argv[1]);
        return 2;
}
