/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * top: what goes on now, a table that is drawn again and again.
 *
 * A frame (top-frame.c) is what has come between two samples of Statistics. On a terminal it is
 * drawn in place (the alternate screen, no cursor), which ends with the command however that ends;
 * elsewhere, or with --batch, frames follow each other as plain text.
 *
 * A daemon that goes away is waited for, and that is said. Everything that waits, waits for signals
 * as well, so an interrupt is heard even if the daemon does not answer.
 */

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "dmioctl/top-frame.h"
#include "util/clock.h"
#include "util/macros.h"

#define INTERVAL_USEC UINT64_C(2000000)
#define INTERVAL_MIN_USEC UINT64_C(100000)
#define INTERVAL_MAX_USEC (UINT64_C(3600) * 1000000)

#define SCREEN_ENTER "\33[?1049h\33[?25l"
#define SCREEN_LEAVE "\33[?25h\33[?1049l"

struct top {
        char *path;
        struct control *control; /* NULL while there is none */
        json_t *before;          /* parameters of Statistics; NULL: none yet */
        json_t *now;
        uint64_t now_usec; /* when it came */
        uint64_t interval_usec;
        int signals;
        bool on_screen;
        bool is_waiting; /* for a daemon that has gone, which has been said */
};

/* Of the functions that return an int: 0 goes on, 1 ends in good order, and others are errnos. */
#define TOP_END 1

/* --- the screen */

static void put(const char *text)
{
        fputs(text, stdout);
        fflush(stdout);
}

static void screen_size(unsigned int *ret_rows, unsigned int *ret_columns)
{
        struct winsize size = {};

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
                size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
        *ret_rows = size.ws_row;
        *ret_columns = size.ws_col;
}

/* As much of @text as there is room for, over what was there before. */
static void screen_draw(const char *text)
{
        unsigned int rows, columns;

        screen_size(&rows, &columns);
        fputs("\33[H", stdout);
        for (unsigned int row = 1; *text && row <= rows; row++) {
                size_t length = strcspn(text, "\n");

                printf("%.*s\33[K%s", (int)MIN(length, columns), text, row < rows ? "\r\n" : "");
                text += length + (text[length] == '\n');
        }
        put("\33[J");
}

/* --- signals */

static int signals_open(struct top *top)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGHUP);
        if (top->on_screen) {
                sigaddset(&set, SIGTSTP);
                sigaddset(&set, SIGWINCH);
        }
        sigprocmask(SIG_BLOCK, &set, NULL);
        top->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return top->signals < 0 ? -errno : 0;
}

/* The shell gets its screen while we are stopped. */
static int signals_take(struct top *top)
{
        struct signalfd_siginfo info;

        while (read(top->signals, &info, sizeof(info)) == sizeof(info)) {
                if (info.ssi_signo == SIGWINCH)
                        continue;
                if (info.ssi_signo != SIGTSTP)
                        return TOP_END;
                put(SCREEN_LEAVE);
                (void)raise(SIGSTOP);
                put(SCREEN_ENTER);
        }
        return 0;
}

/* Wait until @end, or until there is something to read at @fd (or -1). Returns as above. */
static int wait_for(struct top *top, int fd, uint64_t end)
{
        struct pollfd fds[] = {
                { .fd = top->signals, .events = POLLIN },
                { .fd = fd, .events = POLLIN },
        };

        for (;;) {
                uint64_t now = now_usec();
                int r, timeout = end == UINT64_MAX ? -1 : (int)((end - MIN(now, end)) / 1000 + 1);

                if (now >= end)
                        return 0;
                r = poll(fds, ARRAY_SIZE(fds), timeout);
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r > 0 && fds[0].revents) {
                        r = signals_take(top);
                        if (r != 0)
                                return r;
                } else if (r > 0) {
                        return 0;
                }
        }
}

/* --- samples */

/*
 * A new one, that was asked for at @asked. Counters outlast a daemon, its uptime does not: one that
 * was not yet there when the sample before came has counted in a time that is not known.
 */
static void sample_came(struct top *top, json_t *parameters, uint64_t asked)
{
        top->now = parameters;
        if (top->before && show_integer(parameters, "uptime_us") < asked - top->now_usec) {
                json_decref(top->before);
                top->before = NULL;
        }
        top->now_usec = now_usec();
}

static int sample_receive(struct top *top, uint64_t asked)
{
        json_t *parameters;
        json_t *reply;
        int r = 0;

        if (!control_has_reply(top->control))
                r = wait_for(top, control_get_fd(top->control), UINT64_MAX);
        if (r == 0)
                r = control_receive(top->control, &reply);
        if (r != 0)
                return r;
        parameters = json_object_get(reply, "parameters");
        if (json_object_get(reply, "error") || !parameters)
                r = -EBADMSG;
        else
                sample_came(top, json_incref(parameters), asked);
        json_decref(reply);
        return r;
}

/* The next one; a connection that fails is closed. */
static int sample(struct top *top)
{
        uint64_t asked = now_usec();
        int r = 0;

        json_decref(top->before);
        top->before = DMIO_TAKE(top->now);
        if (!top->control)
                r = control_connect(top->path, &top->control);
        if (r == 0)
                r = control_send(top->control, "io.dmiod.Statistics", NULL, false, NULL, 0);
        if (r == 0)
                r = sample_receive(top, asked);
        if (r < 0)
                top->control = control_free(top->control);
        return r;
}

/* --- frames */

static int show_frame(const struct top *top)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        unsigned int rows, columns = UINT_MAX;

        if (top->on_screen)
                screen_size(&rows, &columns);
        text = frame_text(top->before, top->now, columns);
        if (!text)
                return -ENOMEM;
        if (top->on_screen)
                screen_draw(text);
        else
                put(text);
        return ferror(stdout) ? -EIO : 0;
}

static void show_absence(struct top *top, int error)
{
        DMIO_CLEANUP(freep) char *text = NULL;

        if (top->on_screen) {
                if (asprintf(&text,
                             "no daemon at '%s' (%s); waiting for it, an interrupt (Ctrl-C) "
                             "ends\n",
                             top->path, strerror(-error)) < 0)
                        text = NULL;
                screen_draw(text ?: "no daemon\n");
        } else if (!top->is_waiting) {
                complain("no daemon at '%s' (%s); waiting for it, an interrupt (Ctrl-C) ends",
                         top->path, strerror(-error));
        }
        top->is_waiting = true;
}

/* Samples and frames until a signal comes. */
static int top_run(struct top *top)
{
        uint64_t next = now_usec();
        int r;

        for (;;) {
                r = sample(top);
                if (r == -EBADMSG || r == -ENOMEM)
                        return r;
                if (r < 0)
                        show_absence(top, r);
                else if (r == 0)
                        r = show_frame(top);
                if (r == TOP_END || ferror(stdout))
                        return r;
                top->is_waiting &= r < 0;
                /* No frames to make up for, when it took long or was stopped. */
                next = MAX(next + top->interval_usec, now_usec());
                r = wait_for(top, -1, next);
                if (r != 0)
                        return r;
        }
}

/* Two samples and the frame between them. */
static int top_once(struct top *top, struct request *request)
{
        const json_t *result;
        uint64_t asked;
        int r;

        for (unsigned int i = 0; i < 2; i++) {
                if (i > 0 && wait_for(top, -1, now_usec() + top->interval_usec) != 0)
                        return STATUS_OK;
                asked = now_usec();
                r = request_call(request, "io.dmiod.Statistics", json_object(), &result);
                if (r != STATUS_OK)
                        return r;
                json_decref(top->before);
                top->before = DMIO_TAKE(top->now);
                sample_came(top, json_incref((json_t *)result), asked);
        }
        if (request->invocation->given[OPTION_JSON])
                return STATUS_OK;
        return show_frame(top) < 0 ? STATUS_REFUSED : STATUS_OK;
}

static void top_deinit(struct top *top)
{
        json_decref(top->before);
        json_decref(top->now);
        control_free(top->control);
        close_fd(top->signals);
        free(top->path);
}

static int parse_interval(const struct invocation *invocation, uint64_t *ret)
{
        const char *text = invocation->values[OPTION_INTERVAL];
        int r;

        *ret = INTERVAL_USEC;
        if (!invocation->given[OPTION_INTERVAL])
                return STATUS_OK;
        r = time_parse(text, ret);
        if (r != LEG_OK)
                return complain_usage(invocation->verb, "the interval '%s' %s", text,
                                      leg_outcome_text(r));
        if (*ret < INTERVAL_MIN_USEC || *ret > INTERVAL_MAX_USEC)
                return complain_usage(invocation->verb,
                                      "the interval '%s' is not between 100ms and 3600s", text);
        return STATUS_OK;
}

/* Where escape sequences mean something. */
static bool has_screen(const struct invocation *invocation)
{
        const char *terminal = getenv("TERM");

        return !invocation->given[OPTION_BATCH] && !invocation->given[OPTION_ONCE] &&
               isatty(STDOUT_FILENO) && terminal && *terminal && strcmp(terminal, "dumb") != 0;
}

int verb_top(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        DMIO_CLEANUP(top_deinit) struct top top = { .signals = -EBADF };
        int r;

        request_init(&request, invocation);
        if (invocation->given[OPTION_JSON] && !invocation->given[OPTION_ONCE])
                return complain_usage(invocation->verb,
                                      "--json goes with --once only; 'statistics --json' has all "
                                      "counters");
        r = parse_interval(invocation, &top.interval_usec);
        if (r == STATUS_OK)
                r = request_path(&request, &top.path);
        /* That there is a daemon at the beginning is for the user to see to. */
        if (r == STATUS_OK)
                r = request_connect(&request);
        if (r != STATUS_OK)
                return r;

        top.on_screen = has_screen(invocation);
        r = signals_open(&top);
        if (r < 0) {
                complain("cannot wait for signals: %s; try again", strerror(-r));
                return STATUS_REFUSED;
        }
        if (invocation->given[OPTION_ONCE])
                return top_once(&top, &request);

        top.control = DMIO_TAKE(request.control);
        if (top.on_screen)
                put(SCREEN_ENTER);
        r = top_run(&top);
        if (top.on_screen)
                put(SCREEN_LEAVE);
        if (r < 0 && !ferror(stdout)) {
                complain(r == -EBADMSG
                                 ? "this daemon tells of no statistics (%s); 'dmioctl status' "
                                   "shows its version"
                                 : "cannot go on: %s; try again",
                         strerror(-r));
                return STATUS_REFUSED;
        }
        return STATUS_OK;
}
