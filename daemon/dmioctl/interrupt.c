/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "dmioctl/interrupt.h"
#include "util/macros.h"

static const char *volatile line = INTERRUPT_NOTHING_ASKED;

static void on_signal(int number)
{
        const char *text = line;

        (void)!write(STDERR_FILENO, text, strlen(text));
        /* It has its default action again, and is blocked until we return. */
        (void)raise(number);
}

void interrupt_init(void)
{
        static const int numbers[] = { SIGINT, SIGTERM };
        struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND }, old;

        /* What is ignored, as by a shell for what it puts behind, stays ignored. */
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
                        (void)sigaction(numbers[i], &action, NULL);
        /* Whose reader is gone is told so, like by any other failure to write. */
        (void)signal(SIGPIPE, SIG_IGN);
}

void interrupt_say(const char *text)
{
        line = text;
}
