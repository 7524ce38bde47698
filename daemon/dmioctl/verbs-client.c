/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * client open, close and list; get, put; status.
 *
 * A client that does not linger ends with the connection that opened it, so "client open" without
 * --linger stays until it is interrupted, and holds the client for others to use meanwhile.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

#include "dmioctl/request.h"
#include "dmioctl/show.h"
#include "util/macros.h"

/* 1 MiB: two of the largest requests of the mount at once. */
#define DEFAULT_PAGES 256

static void show_pages(const char *client, uint64_t pages, const char *more)
{
        char size[SHOW_SIZE_MAX];

        show_text(stdout, client);
        printf(": %" PRIu64 " pages reserved (%s)%s\n", pages,
               show_size(pages * DMIO_PAGE_SIZE, size), more);
}

/* Wait for a signal that asks us to end, or for the daemon to go away. */
static int wait_for_end(struct request *request, const char *client)
{
        DMIO_CLEANUP(close_fdp) int signals = -EBADF;
        json_t *reply = NULL;
        struct pollfd fds[2];
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signals = signalfd(-1, &set, SFD_CLOEXEC);
        if (signals < 0) {
                complain("cannot wait for signals: %s; with --linger nothing need wait",
                         strerror(errno));
                return STATUS_REFUSED;
        }

        fds[0] = (struct pollfd){ .fd = signals, .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = control_get_fd(request->control), .events = POLLIN };
        while (poll(fds, ARRAY_SIZE(fds), -1) < 0)
                if (errno != EINTR) {
                        complain("cannot wait: %s; with --linger nothing need wait",
                                 strerror(errno));
                        return STATUS_REFUSED;
                }

        if (!fds[0].revents) {
                complain("the daemon ended the connection, and '%s' with it; 'systemctl status "
                         "dmiod' tells why",
                         client);
                return STATUS_NO_DAEMON;
        }

        /*
         * Closing the connection would do, but then the client may still be there when we are not.
         * The descriptor takes the signal away; the next one ends us where we stand.
         */
        (void)!read(signals, &(struct signalfd_siginfo){}, sizeof(struct signalfd_siginfo));
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        json_t *parameters = json_pack("{s:s}", "name", client);
        if (control_call(request->control, "io.dmiod.CloseClient", parameters, NULL, 0, &reply) ==
            0)
                json_decref(reply);
        json_decref(parameters);
        return STATUS_OK;
}

int verb_client_open(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        bool linger = invocation->given[OPTION_LINGER];
        const char *name = invocation->args[0];
        uint64_t pages = DEFAULT_PAGES;
        const json_t *result;
        int r;

        request_init(&request, invocation);
        if (invocation->given[OPTION_PAGES]) {
                r = parse_pages(invocation, "the number of pages", invocation->values[OPTION_PAGES],
                                &pages);
                if (r != STATUS_OK)
                        return r;
        }

        r = request_call(&request, "io.dmiod.OpenClient",
                         json_pack("{s:s, s:I, s:b}", "name", name, "pages", (json_int_t)pages,
                                   "linger", linger),
                         &result);
        if (r != STATUS_OK)
                return r;
        if (!invocation->given[OPTION_JSON])
                show_pages(name, show_integer(json_object_get(result, "client"), "pages"),
                           linger ? ", lingers until it is closed" : "");
        if (linger)
                return STATUS_OK;

        if (show_flush() < 0)
                return STATUS_REFUSED;
        complain("'%s' lasts until this command is interrupted (Ctrl-C); with --linger it stays",
                 name);
        return wait_for_end(&request, name);
}

int verb_client_close(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "io.dmiod.CloseClient",
                         json_pack("{s:s}", "name", invocation->args[0]), &result);
        if (r != STATUS_OK)
                return r;
        if (!invocation->given[OPTION_JSON])
                printf("%s: closed\n", invocation->args[0]);
        return STATUS_OK;
}

static json_t *client_row(const json_t *client)
{
        char size[SHOW_SIZE_MAX];
        json_t *row;
        const json_t *export;
        FILE *stream;
        size_t length, i;
        char *names = NULL;

        stream = open_memstream(&names, &length);
        if (!stream)
                return NULL;
        json_array_foreach (json_object_get(client, "exports"), i, export)
                fprintf(stream, "%s%s", i > 0 ? " " : "", json_string_value(export));
        if (fclose(stream) != 0)
                return NULL;

        row = json_pack("[s, o, o, s, o, o, s, s]", show_string(client, "name"),
                        json_sprintf("%" PRIu64, show_integer(client, "uid")),
                        json_sprintf("%" PRIu64, show_integer(client, "pages")),
                        show_size(show_integer(client, "pages") * DMIO_PAGE_SIZE, size),
                        json_sprintf("%" PRIu64, show_integer(client, "in_flight_pages")),
                        json_sprintf("%" PRIu64, show_integer(client, "waits")),
                        json_is_true(json_object_get(client, "linger")) ? "yes" : "no", names);
        free(names);
        return row;
}

int verb_client_list(const struct invocation *invocation)
{
        static const char *const heads[] = { "NAME",       ">UID",   ">PAGES", ">SIZE",
                                             ">IN-FLIGHT", ">WAITS", "LINGER", "EXPORTS" };
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result, *client;
        json_t *rows;
        size_t i;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "io.dmiod.ListClients", json_object(), &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;

        rows = json_array();
        json_array_foreach (json_object_get(result, "clients"), i, client)
                json_array_append_new(rows, client_row(client));
        return show_list(heads, ARRAY_SIZE(heads), rows, "no clients");
}

static int change_reservation(const struct invocation *invocation, const char *method)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result;
        uint64_t pages;
        int r;

        request_init(&request, invocation);
        r = parse_pages(invocation, "the number of pages", invocation->args[1], &pages);
        if (r != STATUS_OK)
                return r;
        r = request_call(
                &request, method,
                json_pack("{s:s, s:I}", "client", invocation->args[0], "pages", (json_int_t)pages),
                &result);
        if (r != STATUS_OK)
                return r;
        if (!invocation->given[OPTION_JSON])
                show_pages(invocation->args[0], show_integer(result, "pages"), "");
        return STATUS_OK;
}

int verb_get(const struct invocation *invocation)
{
        return change_reservation(invocation, "io.dmiod.Get");
}

int verb_put(const struct invocation *invocation)
{
        return change_reservation(invocation, "io.dmiod.Put");
}

static void show_line(const char *label, const char *text)
{
        printf("%-11s", label);
        show_text(stdout, text);
        putchar('\n');
}

static void show_pool_line(const char *label, const json_t *pool, const char *key)
{
        uint64_t pages = show_integer(pool, key);
        char size[SHOW_SIZE_MAX];

        printf("  %-11s%" PRIu64 " pages (%s)\n", label, pages,
               show_size(pages * DMIO_PAGE_SIZE, size));
}

int verb_status(const struct invocation *invocation)
{
        DMIO_CLEANUP(request_deinit) struct request request;
        const json_t *result, *pool;
        uint64_t uptime;
        int r;

        request_init(&request, invocation);
        r = request_call(&request, "io.dmiod.Status", json_object(), &result);
        if (r != STATUS_OK || invocation->given[OPTION_JSON])
                return r;

        uptime = show_integer(result, "uptime_s");
        show_line("version", show_string(result, "version"));
        printf("%-11s%" PRIu64 "d %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 "\n", "up",
               uptime / 86400, uptime / 3600 % 24, uptime / 60 % 60, uptime % 60);
        show_line("mount", show_string(result, "mount"));
        show_line("backend", show_string(result, "backend"));
        show_line("transport", show_string(result, "transport"));
        printf("%-11s%" PRIu64 "\n", "clients", show_integer(result, "clients"));
        printf("%-11s%" PRIu64 "\n", "exports", show_integer(result, "exports"));

        pool = json_object_get(result, "pool");
        puts("pool");
        show_pool_line("reserved", pool, "reserved");
        show_pool_line("total", pool, "total");
        show_pool_line("in use", pool, "in_use");
        show_pool_line("high water", pool, "high_water");
        show_pool_line("limit", pool, "limit");
        printf("  %-11s%" PRIu64 "\n", "waits", show_integer(pool, "waits"));
        return STATUS_OK;
}
