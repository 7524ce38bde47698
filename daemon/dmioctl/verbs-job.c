/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * copy, zero, job list, job cancel.
 *
 * A copy is followed to its end: the daemon replies several times. SIGINT cancels the job, by a
 * connection of its own because the first one is busy, and its end is still waited for; a second
 * one ends us where we stand.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <dmio/kcopyd.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/macros.h"

/* What of a job is known on this side. */
struct follow {
        struct request *request;
        const char *done;       /* "copied" */
        unsigned int n_sources; /* legs before the destinations */
        json_int_t job;         /* 0: not known yet */
        bool cancel;            /* as soon as it is known */
        bool line;              /* there is a progress line on the terminal */
};

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
        complain("cannot wait for signals: %s", strerror(errno));
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
}

static void clear_line(struct follow *follow)
{
        if (follow->line)
                fputs("\r\33[K", stderr);
        follow->line = false;
}

static void show_progress(struct follow *follow, const json_t *result)
{
        uint64_t done = show_integer(result, "done_sectors");
        uint64_t total = show_integer(result, "total_sectors");
        char done_size[SHOW_SIZE_MAX], total_size[SHOW_SIZE_MAX];

        if (!isatty(STDERR_FILENO))
                return;
        fprintf(stderr, "\rjob %" PRId64 ": %s of %s %s (%u %%)\33[K", (int64_t)follow->job,
                show_size(done * DMIO_SECTOR_SIZE, done_size),
                show_size(total * DMIO_SECTOR_SIZE, total_size), follow->done,
                total > 0 ? (unsigned int)((double)done * 100 / (double)total) : 0);
        follow->line = true;
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
                        leg > 0 && leg < (json_int_t)request->n_legs ? request->legs[leg].text
                                                                     : "?");
        }
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
                if (poll(fds, follow->cancel ? 1 : ARRAY_SIZE(fds), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        complain("cannot wait: %s", strerror(errno));
                        return STATUS_REFUSED;
                }
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

/* Ask for the job and follow it. Takes @parameters. */
static int follow_job(struct follow *follow, const char *method, json_t *parameters)
{
        struct request *request = follow->request;
        bool json = request->invocation->given[OPTION_JSON], more = true;
        DMIO_CLEANUP(close_fdp) int signals = -EBADF;
        const json_t *result;
        int r;

        r = signals_open(&signals);
        if (r != STATUS_OK) {
                json_decref(parameters);
                return r;
        }
        r = request_send(request, method, parameters, true);
        while (r == STATUS_OK && more) {
                r = wait_for_reply(follow, signals);
                if (r == STATUS_OK)
                        r = request_receive(request, &result, &more);
                clear_line(follow);
                if (r != STATUS_OK)
                        return r;
                if (follow->job == 0) {
                        follow->job = json_integer_value(json_object_get(result, "job"));
                        if (follow->cancel && more)
                                cancel_job(follow);
                }
                if (json)
                        fflush(stdout);
                else if (more)
                        show_progress(follow, result);
                else
                        show_end(follow, result);
        }
        return r == STATUS_OK ? judge(follow, result) : r;
}

/* --- the verbs */

static int parse_throttle(const struct invocation *invocation, json_t **ret)
{
        const char *text = invocation->values[OPTION_THROTTLE];
        uint64_t percent = 100;

        *ret = NULL;
        if (!invocation->given[OPTION_THROTTLE])
                return STATUS_OK;
        if (text[strspn(text, "0123456789")] || size_parse(text, 1, &percent) != LEG_OK ||
            percent < 1 || percent > 100)
                return complain_usage(invocation->verb, "--throttle is 1 to 100 percent, not '%s'",
                                      text);
        *ret = json_integer((json_int_t)percent);
        return STATUS_OK;
}

static int check_destinations(const struct request *request, unsigned int n)
{
        if (n <= DM_KCOPYD_MAX_REGIONS)
                return STATUS_OK;
        return complain_usage(request->invocation->verb, "%u destinations are too many, at most %d",
                              n, DM_KCOPYD_MAX_REGIONS);
}

int verb_copy(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        struct follow follow = { .request = &request, .done = "copied", .n_sources = 1 };
        json_t *source = NULL, *destinations = NULL, *throttle = NULL;
        int r;

        request_init(&request, invocation);
        request.first_leg = 1;
        r = request_parse_legs(&request, 1);
        if (r == STATUS_OK)
                r = check_destinations(&request, request.n_legs - 1);
        if (r == STATUS_OK)
                r = parse_throttle(invocation, &throttle);
        if (r == STATUS_OK)
                r = request_connect(&request);
        /* Destinations first: a source on the same device then shares a writable descriptor. */
        if (r == STATUS_OK)
                r = request_regions(&request, 1, request.n_legs - 1, false, &destinations);
        if (r == STATUS_OK)
                r = request_regions(&request, 0, 1, true, &source);
        if (r == STATUS_OK)
                r = follow_job(&follow, "io.dmiod.Copy",
                               json_pack("{s:s, s:O, s:O, s:b, s:b, s:O*}", "client",
                                         invocation->args[0], "source", json_array_get(source, 0),
                                         "destinations", destinations, "ignore_errors",
                                         invocation->given[OPTION_IGNORE_ERRORS], "sequential",
                                         invocation->given[OPTION_SEQUENTIAL], "throttle",
                                         throttle));
        json_decref(source);
        json_decref(destinations);
        json_decref(throttle);
        return r;
}

int verb_zero(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        struct follow follow = { .request = &request, .done = "zeroed" };
        json_t *destinations = NULL, *throttle = NULL;
        int r;

        request_init(&request, invocation);
        r = request_parse_legs(&request, 1);
        if (r == STATUS_OK)
                r = check_destinations(&request, request.n_legs);
        if (r == STATUS_OK)
                r = parse_throttle(invocation, &throttle);
        if (r == STATUS_OK)
                r = request_connect(&request);
        if (r == STATUS_OK)
                r = request_regions(&request, 0, request.n_legs, false, &destinations);
        if (r == STATUS_OK)
                r = follow_job(&follow, "io.dmiod.Zero",
                               json_pack("{s:s, s:O, s:O*}", "client", invocation->args[0],
                                         "destinations", destinations, "throttle", throttle));
        json_decref(destinations);
        json_decref(throttle);
        return r;
}

/* A row of the table: job, client, kind, state, done, total, age, failed. */
static json_t *job_row(const json_t *job)
{
        char number[32], age[32], done[SHOW_SIZE_MAX], total[SHOW_SIZE_MAX];
        const char *bits = show_string(job, "error_bits");
        bool read_failed = json_is_true(json_object_get(job, "read_failed"));

        snprintf(number, sizeof(number), "%" PRIu64, show_integer(job, "job"));
        snprintf(age, sizeof(age), "%" PRIu64 " s ago", show_integer(job, "started"));
        if (strcmp(bits, "0x0") == 0)
                bits = "";
        return json_pack("[s, s, s, s, s, s, s, s+]", number, show_string(job, "client"),
                         show_string(job, "kind"), show_string(job, "state"),
                         show_size(show_integer(job, "done_sectors") * DMIO_SECTOR_SIZE, done),
                         show_size(show_integer(job, "total_sectors") * DMIO_SECTOR_SIZE, total),
                         age, read_failed ? "source " : "", bits);
}

int verb_job_list(const struct invocation *invocation)
{
        static const char *const heads[] = {
                ">JOB", "CLIENT", "KIND", "STATE", ">DONE", ">TOTAL", ">STARTED", "FAILED",
        };
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result, *job;
        json_t *rows;
        size_t i;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "io.dmiod.ListJobs", json_object(), &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;
        rows = json_array();
        json_array_foreach (json_object_get(result, "jobs"), i, job)
                json_array_append_new(rows, job_row(job));
        show_table(heads, ARRAY_SIZE(heads), rows);
        json_decref(rows);
        return STATUS_OK;
}

int verb_job_cancel(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const char *text = invocation->args[0];
        const json_t *result;
        uint64_t job;

        request_init(&request, invocation);
        if (text[strspn(text, "0123456789")] || size_parse(text, 1, &job) != LEG_OK)
                return complain_usage(invocation->verb, "'%s' is not the number of a job", text);
        return request_call(&request, "io.dmiod.CancelJob",
                            json_pack("{s:I}", "job", (json_int_t)job), &result);
}
