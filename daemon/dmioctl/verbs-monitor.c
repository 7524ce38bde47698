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

/* Wait for a reply or a signal. Returns 1, 0 after a signal, or a negative errno. */
static int wait_for_reply(const struct control *control, int signals)
{
        struct pollfd fds[] = {
                { .fd = signals, .events = POLLIN },
                { .fd = control_get_fd(control), .events = POLLIN },
        };
        int timeout = control_has_reply(control) ? 0 : -1;

        while (poll(fds, ARRAY_SIZE(fds), timeout) < 0)
                if (errno != EINTR)
                        return -errno;
        return fds[0].revents == 0;
}

/* Show replies until the last one, or until a signal comes. */
static int watch(struct request *request, int signals)
{
        const json_t *parameters;
        bool more = true;
        int r;

        while (more) {
                r = wait_for_reply(request->control, signals);
                if (r < 0) {
                        complain("cannot wait: %s; try again", strerror(-r));
                        return STATUS_REFUSED;
                }
                if (r == 0)
                        return STATUS_OK;
                r = request_receive(request, &parameters, &more);
                if (r != STATUS_OK)
                        return r;
                if (!request->invocation->given[OPTION_JSON])
                        show_event(parameters);
                /* Whoever reads a pipe wants it now; main() tells of what could not be written. */
                if (show_flush() < 0)
                        return STATUS_REFUSED;
        }
        complain("the daemon has stopped; 'systemctl start dmiod' starts it again");
        return STATUS_NO_DAEMON;
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
                complain("cannot wait for signals: %s; try again", strerror(errno));
                return STATUS_REFUSED;
        }

        r = request_send(&request, "io.dmiod.Monitor", json_object(), true);
        return r == STATUS_OK ? watch(&request, signals) : r;
}
