/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * monitor: a line an event, until it is interrupted or the daemon goes.
 *
 * What an event is about stands in its details; which of them are worth a word, and how they are
 * said, is a table. Events that are not in it, because the daemon is younger than dmioctl, are
 * shown as they came.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/macros.h"

/* A name in braces stands for the detail of that name. {region} is written like a leg. */
static const struct {
        const char *event;
        const char *text;
} texts[] = {
        { "watching", "" },
        { "client-opened", "{client} of uid {uid}, {pages} pages" },
        { "client-closed", "{client}" },
        { "pages-changed", "{client}: {pages} pages, before {before}" },
        { "export-created", "{client}/{export}, {sectors} sectors" },
        { "export-removed", "{client}/{export}" },
        { "leg-failed", "{client}/{export}: leg {leg} ({region}), {operation}: {errno}" },
        { "leg-error",
          "{client}/{export}: leg {leg} ({region}), {operation}: {errno} (errors: {errors})" },
        { "configuration-reloaded", "" },
        { "stopping", "" },
        { "overrun", "{lost} events are lost" },
};

static void show_detail(const json_t *details, const char *key)
{
        const json_t *value = json_object_get(details, key);

        if (strcmp(key, "region") == 0) {
                show_text(stdout, show_string(value, "device"));
                printf(":%ju+%ju", (uintmax_t)show_integer(value, "sector"),
                       (uintmax_t)show_integer(value, "count"));
        } else if (json_is_integer(value)) {
                printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
        } else {
                show_text(stdout, show_string(details, key));
        }
}

static void show_details(const char *text, const json_t *details)
{
        while (*text) {
                size_t n = strcspn(text, "{");
                char key[32];

                fwrite(text, 1, n, stdout);
                text += n;
                if (!*text)
                        return;
                n = strcspn(text, "}");
                snprintf(key, sizeof(key), "%.*s", (int)n - 1, text + 1);
                show_detail(details, key);
                text += n + 1;
        }
}

static void show_event(const json_t *parameters)
{
        const json_t *details = json_object_get(parameters, "details");
        const char *event = show_string(parameters, "event");
        const char *text = NULL;
        time_t now = time(NULL);
        struct tm parts = {};
        char clock[16];

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                if (strcmp(texts[i].event, event) == 0)
                        text = texts[i].text;

        (void)localtime_r(&now, &parts);
        (void)strftime(clock, sizeof(clock), "%H:%M:%S", &parts);
        printf("%s ", clock);
        show_text(stdout, event);
        if (!text || *text)
                putchar(' ');
        if (text) {
                show_details(text, details);
                putchar('\n');
        } else {
                show_json(details);
        }
}

/* Take a reply. *@ret_last: there will be no more. Returns a status. */
static int take_reply(struct request *request, json_t *reply, bool *ret_last)
{
        const json_t *error = json_object_get(reply, "error");
        const json_t *parameters = json_object_get(reply, "parameters");

        *ret_last = !json_is_true(json_object_get(reply, "continues"));
        if (json_is_string(error))
                return request_refused(request, reply, error);
        if (request->invocation->given[OPTION_JSON])
                show_json(parameters);
        else
                show_event(parameters);
        /* Whoever reads a pipe wants it now; main() tells of what could not be written. */
        return fflush(stdout) == 0 ? STATUS_OK : STATUS_REFUSED;
}

static int complain_gone(int error)
{
        if (error == -ECONNRESET || error == -EPIPE)
                complain("the daemon has ended the connection");
        else
                complain("cannot speak with the daemon: %s", strerror(-error));
        return STATUS_NO_DAEMON;
}

/* Show replies until the last one, or until a signal comes. */
static int watch(struct request *request, int signals)
{
        struct pollfd fds[] = {
                { .fd = signals, .events = POLLIN },
                { .fd = control_get_fd(request->control), .events = POLLIN },
        };
        bool last = false;
        json_t *reply;
        int r, status;

        for (;;) {
                if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        complain("cannot wait: %s", strerror(errno));
                        return STATUS_REFUSED;
                }
                if (fds[0].revents)
                        return STATUS_OK;
                r = control_receive_some(request->control);
                while (r >= 0 && control_take(request->control, &reply, &r)) {
                        status = take_reply(request, reply, &last);
                        json_decref(reply);
                        if (status != STATUS_OK)
                                return status;
                        if (last) {
                                complain("the daemon has stopped");
                                return STATUS_NO_DAEMON;
                        }
                }
                if (r < 0)
                        return complain_gone(r);
        }
}

int verb_monitor(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        DMIO_CLEANUP(close_fdp) int signals = -EBADF;
        sigset_t set;
        int r;

        request_init(&request, invocation);
        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signals = signalfd(-1, &set, SFD_CLOEXEC);
        if (signals < 0) {
                complain("cannot wait for signals: %s", strerror(errno));
                return STATUS_REFUSED;
        }

        r = request_connect(&request);
        if (r != STATUS_OK)
                return r;
        r = control_call_more(request.control, "io.dmiod.Monitor");
        if (r < 0)
                return complain_gone(r);
        return watch(&request, signals);
}
