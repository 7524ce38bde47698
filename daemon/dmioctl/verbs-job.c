/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* copy, zero; job list, watch and cancel. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <dmio/kcopyd.h>

#include "dmioctl/follow.h"
#include "dmioctl/interrupt.h"
#include "dmioctl/show.h"
#include "util/clock.h"
#include "util/macros.h"

/* As often as the daemon tells of a job by itself. */
#define WATCH_USEC 250000

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

/* "12 s ago", in the unit that leaves a number of two digits or so. */
static void show_age(uint64_t seconds, char *buffer, size_t size)
{
        static const struct {
                const char *unit;
                uint64_t seconds;
                uint64_t limit;
        } units[] = {
                { "s", 1, 120 },
                { "min", 60, 120 * 60 },
                { "h", 3600, 48 * 3600 },
                { "d", 86400, UINT64_MAX },
        };
        size_t i = 0;

        while (seconds >= units[i].limit && i < ARRAY_SIZE(units) - 1)
                i++;
        snprintf(buffer, size, "%" PRIu64 " %s ago", seconds / units[i].seconds, units[i].unit);
}

/* A row of the table: job, client, kind, state, done, total, age, failed. */
static json_t *job_row(const json_t *job)
{
        char number[32], age[32], done[SHOW_SIZE_MAX], total[SHOW_SIZE_MAX];
        const char *bits = show_string(job, "error_bits");
        bool read_failed = json_is_true(json_object_get(job, "read_failed"));

        snprintf(number, sizeof(number), "%" PRIu64, show_integer(job, "job"));
        show_age(show_integer(job, "started"), age, sizeof(age));
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
        return show_list(heads, ARRAY_SIZE(heads), rows, "no jobs");
}

static int parse_job(const struct invocation *invocation, uint64_t *ret)
{
        const char *text = invocation->args[0];

        if (text[strspn(text, "0123456789")] || size_parse(text, 1, ret) != LEG_OK)
                return complain_usage(invocation->verb, "'%s' is not the number of a job", text);
        return STATUS_OK;
}

/* Look for the job @number: *@ret is a new reference. */
static int find_job(const struct invocation *invocation, uint64_t number, json_t **ret)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        struct invocation quiet = *invocation;
        const json_t *result;
        json_t *job;
        size_t i;
        int r;

        /* Of the list only one job is shown. */
        quiet.given[OPTION_JSON] = false;
        request_init(&request, &quiet);
        r = request_call(&request, "io.dmiod.ListJobs", json_object(), &result);
        if (r != STATUS_OK)
                return r;
        json_array_foreach (json_object_get(result, "jobs"), i, job)
                if (show_integer(job, "job") == number) {
                        *ret = json_incref(job);
                        return STATUS_OK;
                }
        complain("there is no job %" PRIu64 "; see 'dmioctl job list'", number);
        return STATUS_REFUSED;
}

/* "done" is 0. Of the others only the list knows how many destinations they had. */
static int judge_watched(const json_t *job, uint64_t number, bool json)
{
        const char *state = show_string(job, "state");
        char size[SHOW_SIZE_MAX];
        bool done = strcmp(state, "done") == 0;

        show_size(show_integer(job, "done_sectors") * DMIO_SECTOR_SIZE, size);
        if (done && !json)
                printf("job %" PRIu64 " is done, %s\n", number, size);
        else if (!done)
                complain("job %" PRIu64 " %s %s after %s; 'dmioctl job list' tells more", number,
                         strcmp(state, "failed") == 0 ? "has" : "was", state, size);
        return done ? STATUS_OK : STATUS_REFUSED;
}

int verb_job_watch(const struct invocation *invocation)
{
        bool json = invocation->given[OPTION_JSON], running = true;
        json_t *job = NULL, *before = NULL;
        struct progress progress = {};
        uint64_t number;
        char name[32];
        int r;

        r = parse_job(invocation, &number);
        if (r != STATUS_OK)
                return r;
        snprintf(name, sizeof(name), "job %" PRIu64, number);
        progress.name = name;

        while (running) {
                r = find_job(invocation, number, &job);
                progress_clear(&progress);
                if (r != STATUS_OK)
                        break;
                running = strcmp(show_string(job, "state"), "running") == 0;
                if (json && !json_equal(job, before))
                        show_json(job);
                json_decref(before);
                before = job;
                if (show_flush() < 0) {
                        r = STATUS_REFUSED;
                        break;
                }
                interrupt_say("dmioctl: interrupted; the job goes on, 'dmioctl job cancel' ends "
                              "it\n");
                if (!running)
                        break;
                progress_update(&progress, show_integer(job, "done_sectors") * DMIO_SECTOR_SIZE,
                                show_integer(job, "total_sectors") * DMIO_SECTOR_SIZE, now_usec());
                progress_show(&progress);
                (void)usleep(WATCH_USEC);
        }
        if (r == STATUS_OK)
                r = judge_watched(job, number, json);
        json_decref(before);
        return r;
}

int verb_job_cancel(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result;
        uint64_t job;
        int r;

        request_init(&request, invocation);
        r = parse_job(invocation, &job);
        if (r != STATUS_OK)
                return r;
        return request_call(&request, "io.dmiod.CancelJob",
                            json_pack("{s:I}", "job", (json_int_t)job), &result);
}
