/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The log: to the journal when standard error is connected to it (sd_journal_stream_fd's
 * JOURNAL_STREAM), to standard error otherwise, with the level in front. One line each. Any thread.
 */

#include <errno.h>
#include <syslog.h>

void log_open(void);

/* Messages above @level (LOG_ERR ... LOG_DEBUG) are dropped; LOG_INFO at first. */
void log_set_level(int level);

/* "error", "warning", "notice", "info", "debug". Returns the level or -EINVAL. */
int log_level_from_name(const char *name);

void log_message(int level, int error, const char *format, ...)
        __attribute__((__format__(__printf__, 3, 4)));

#define log_error(...) log_message(LOG_ERR, 0, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, 0, __VA_ARGS__)
#define log_notice(...) log_message(LOG_NOTICE, 0, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO, 0, __VA_ARGS__)
#define log_debug(...) log_message(LOG_DEBUG, 0, __VA_ARGS__)

/* The same with a negative errno, which %m prints, and which is the value of the expression. */
#define log_errno_level(level, error, ...)                                                         \
        ({                                                                                         \
                int log_error_ = (error);                                                          \
                log_message((level), -log_error_, __VA_ARGS__);                                    \
                log_error_;                                                                        \
        })
#define log_error_errno(error, ...) log_errno_level(LOG_ERR, error, __VA_ARGS__)
#define log_warning_errno(error, ...) log_errno_level(LOG_WARNING, error, __VA_ARGS__)
#define log_notice_errno(error, ...) log_errno_level(LOG_NOTICE, error, __VA_ARGS__)
#define log_info_errno(error, ...) log_errno_level(LOG_INFO, error, __VA_ARGS__)
#define log_debug_errno(error, ...) log_errno_level(LOG_DEBUG, error, __VA_ARGS__)
