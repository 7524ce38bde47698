/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One line a message, whatever it contains: names and paths come from others, so control characters
 * are replaced. The line is formatted here and leaves in one call, so the lines of several threads
 * do not mix.
 */

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "log.h"
#include "util/macros.h"

#define LOG_LINE_MAX 2048

static _Atomic(int) log_level = LOG_INFO;
static bool log_to_journal;

static const struct {
        const char *name;
        int level;
} log_names[] = {
        { "error", LOG_ERR }, { "warning", LOG_WARNING }, { "notice", LOG_NOTICE },
        { "info", LOG_INFO }, { "debug", LOG_DEBUG },
};

/* The service manager names the stream that it has connected standard error to. */
static bool stderr_is_journal(void)
{
        const char *value = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        if (!value || sscanf(value, "%llu:%llu", &device, &inode) != 2)
                return false;
        if (fstat(STDERR_FILENO, &st) < 0)
                return false;
        return st.st_dev == device && st.st_ino == inode;
}

void log_open(void)
{
        log_to_journal = stderr_is_journal();
}

void log_set_level(int level)
{
        atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

int log_level_from_name(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(log_names); i++)
                if (strcmp(log_names[i].name, name) == 0)
                        return log_names[i].level;
        return -EINVAL;
}

static const char *level_name(int level)
{
        for (size_t i = 0; i < ARRAY_SIZE(log_names); i++)
                if (log_names[i].level == level)
                        return log_names[i].name;
        return "error";
}

static void write_stderr(int level, const char *text)
{
        char line[LOG_LINE_MAX + 32];
        size_t done = 0;
        int length;

        length = snprintf(line, sizeof(line), "%s: %s\n", level_name(level), text);
        while (length > 0 && done < (size_t)length) {
                ssize_t n = write(STDERR_FILENO, line + done, (size_t)length - done);

                /* There is nobody left to tell. */
                if (n < 0 && errno != EINTR)
                        return;
                if (n > 0)
                        done += (size_t)n;
        }
}

void log_message(int level, int error, const char *format, ...)
{
        int saved = errno;
        char text[LOG_LINE_MAX];
        va_list arguments;
        int length;

        if (level > atomic_load_explicit(&log_level, memory_order_relaxed))
                return;

        va_start(arguments, format);
        errno = error;
        length = vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);

        if (length >= 0) {
                for (char *p = text; *p; p++)
                        if ((unsigned char)*p < ' ' || *p == 127)
                                *p = '?';

                if (!log_to_journal)
                        write_stderr(level, text);
                else if (error > 0)
                        (void)sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", level, "ERRNO=%i",
                                              error, NULL);
                else
                        (void)sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", level, NULL);
        }
        errno = saved;
}
