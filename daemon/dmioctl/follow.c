/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The daemon replies several times. SIGINT cancels the job, by a connection of its own because the
 * first one is busy, and its end is still waited for; a second one ends us where we stand.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "dmioctl/follow.h"
#include "dmioctl/interrupt.h"
#include "dmioctl/show.h"
#include "util/clock.h"
#include "util/macros.h"

#define REDRAW_MSEC 250

/* --- signals */

static void signals_to_take(sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGINT);
        sigaddset(set, SIGTERM);
}

static int signals_open(int *ret)
{
        sigset_t set;

        signals_to_take(&set);
        sigprocmask(SIG_BLOCK, &set, NULL);
        *ret = signalfd(-1, &set, SFD_CLOEXEC);
        if (*ret >= 0)
                return STATUS_OK;
        complain("cannot wait for signals: %s; try again", strerror(errno));
        return STATUS_REFUSED;
}

/* Take the one that has come; the next one does what it always does. */
static void signals_end(int fd)
{
        struct signalfd_siginfo info;
        sigset_t set;

        (void)!read(fd, &info, sizeof(info));
        signals_to_take(&set);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* --- a job that is followed */

static void cancel_job(const struct follow *follow)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const struct invocation *original = follow->request->invocation;
        struct invocation invocation = *original;
        const json_t *result;

        /* One line of JSON for each reply about the job, and nothing else. */
        invocation.given[OPTION_JSON] = false;
        request_init(&request, &invocation);
        (void)request_call(&request, "io.dmiod.CancelJob", json_pack("{s:I}", "job", follow->job),
                           &result);
        interrupt_say("dmioctl: interrupted again; 'dmioctl job list' tells whether the job has "
                      "ended\n");
}

static void show_progress(struct follow *follow, const json_t *result)
{
        snprintf(follow->name, sizeof(follow->name), "job %" PRId64, (int64_t)follow->job);
        follow->progress.name = follow->name;
        progress_update(&follow->progress, show_integer(result, "done_sectors") * DMIO_SECTOR_SIZE,
                        show_integer(result, "total_sectors") * DMIO_SECTOR_SIZE, now_usec());
        progress_show(&follow->progress);
}

/* "job 7 has failed, 8 MiB of 16 MiB copied; destination 1 (b.img:0+8) failed" */
static void show_end(const struct follow *follow, const json_t *result)
{
        const struct request *request = follow->request;
        uint64_t done = show_integer(result, "done_sectors");
        uint64_t total = show_integer(result, "total_sectors");
        char done_size[SHOW_SIZE_MAX], total_size[SHOW_SIZE_MAX];
        const char *state = show_string(result, "state");
        DMIO_CLEANUP(freep) char *text = NULL;
        unsigned int n = request->n_legs - follow->n_sources;
        const json_t *number;
        size_t length, i;
        FILE *stream;

        show_size(done * DMIO_SECTOR_SIZE, done_size);
        show_size(total * DMIO_SECTOR_SIZE, total_size);
        if (strcmp(state, "done") == 0) {
                printf("%s %s, %u destination%s\n", done_size, follow->done, n, n == 1 ? "" : "s");
                return;
        }
        stream = open_memstream(&text, &length);
        if (!stream)
                return;
        fprintf(stream, "job %" PRId64 " %s %s, %s of %s %s", (int64_t)follow->job,
                strcmp(state, "failed") == 0 ? "has" : "was", state, done_size, total_size,
                follow->done);
        if (json_is_true(json_object_get(result, "read_failed")))
                fprintf(stream, "; the source (%s) cannot be read", request->legs[0].text);
        json_array_foreach (json_object_get(result, "failed"), i, number) {
                json_int_t leg = json_integer_value(number) + (json_int_t)follow->n_sources;

                fprintf(stream, "; destination %" PRId64 " (%s) failed",
                        (int64_t)json_integer_value(number),
                        leg >= 0 && leg < (json_int_t)request->n_legs ? request->legs[leg].text
                                                                      : "?");
        }
        if (strcmp(state, "failed") == 0)
                fputs("; see to these devices, then do it again", stream);
        else
                fputs("; the same command begins it anew", stream);
        if (fclose(stream) == 0)
                complain("%s", text);
}

static int judge(const struct follow *follow, const json_t *result)
{
        unsigned int n = follow->request->n_legs - follow->n_sources;
        size_t n_failed = json_array_size(json_object_get(result, "failed"));

        if (strcmp(show_string(result, "state"), "done") == 0)
                return STATUS_OK;
        if (strcmp(show_string(result, "state"), "failed") == 0 && n_failed > 0 && n_failed < n &&
            !json_is_true(json_object_get(result, "read_failed")))
                return STATUS_PARTLY;
        return STATUS_REFUSED;
}

/* Wait until there is a reply to be read, and for a signal meanwhile. */
static int wait_for_reply(struct follow *follow, int signals)
{
        struct pollfd fds[2] = {
                { .fd = control_get_fd(follow->request->control), .events = POLLIN },
                { .fd = signals, .events = POLLIN },
        };

        while (!control_has_reply(follow->request->control)) {
                int n = poll(fds, follow->cancel ? 1 : ARRAY_SIZE(fds),
                             follow->progress.shown ? REDRAW_MSEC : -1);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        complain("cannot wait: %s; the job goes on, see 'dmioctl job list'",
                                 strerror(errno));
                        return STATUS_REFUSED;
                }
                /* Nothing new, but the terminal may be another size. */
                if (n == 0)
                        progress_show(&follow->progress);
                if (!follow->cancel && fds[1].revents) {
                        signals_end(signals);
                        follow->cancel = true;
                        if (follow->job > 0)
                                cancel_job(follow);
                }
                if (fds[0].revents)
                        break;
        }
        return STATUS_OK;
}

/* One reply has come. */
static int take_reply(struct follow *follow, const json_t *result, bool more)
{
        bool json = follow->request->invocation->given[OPTION_JSON];

        if (follow->job == 0) {
                follow->job = json_integer_value(json_object_get(result, "job"));
                if (follow->cancel && more)
                        cancel_job(follow);
        }
        if (more)
                show_progress(follow, result);
        else if (!json || strcmp(show_string(result, "state"), "done") != 0)
                show_end(follow, result);
        if (!json || show_flush() == 0)
                return STATUS_OK;
        if (more)
                complain("nobody reads what is told of job %" PRId64 "; it goes on, see 'dmioctl "
                         "job list'",
                         (int64_t)follow->job);
        return STATUS_REFUSED;
}

int follow_job(struct follow *follow, const char *method, json_t *parameters)
{
        struct request *request = follow->request;
        DMIO_CLEANUP(close_fdp) int signals = -EBADF;
        const json_t *result;
        bool more = true;
        int r;

        r = signals_open(&signals);
        if (r != STATUS_OK) {
                json_decref(parameters);
                return r;
        }
        r = request_send(request, method, parameters, true);
        while (r == STATUS_OK && more) {
                r = wait_for_reply(follow, signals);
                progress_clear(&follow->progress);
                if (r == STATUS_OK)
                        r = request_receive(request, &result, &more);
                if (r == STATUS_OK)
                        r = take_reply(follow, result, more);
        }
        return r == STATUS_OK ? judge(follow, result) : r;
}
