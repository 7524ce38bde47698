/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "control/connection-internal.h"
#include "control/connection.h"
#include "control/server-internal.h"
#include "control/varlink.h"
#include "log.h"
#include "model/quota.h"

#define USEC_PER_SEC UINT64_C(1000000)

/* A peer that takes nothing of its answer for so long is given up. */
#define STALL_USEC (30 * USEC_PER_SEC)

/* A peer that we part with has so long to read why; when we stop, so long for all of its answer. */
#define PARTING_USEC (2 * USEC_PER_SEC)

/* A message of more bytes than that leaves much behind in the heap, in small pieces. */
#define LARGE_MESSAGE ((size_t)64 * 1024)

void connection_free_if_over(struct connection *connection)
{
        if (connection->state != CONNECTION_ENDED || connection->dispatching ||
            connection->call.answered)
                return;
        peer_deinit(&connection->peer);
        free(connection);
}

int connection_charge_bytes(struct connection *connection, uint64_t *ret_limit)
{
        size_t held = stream_held(&connection->stream);

        return quota_set(connection->call.model, connection->peer.uid, QUOTA_BUFFERS,
                         &connection->n_bytes, held > BUFFERS_FREE ? held : 0, ret_limit);
}

void connection_charge_less(struct connection *connection)
{
        (void)connection_charge_bytes(connection, NULL);
}

int connection_charge_descriptors(struct connection *connection, uint64_t n, uint64_t *ret_limit)
{
        return quota_set(connection->call.model, connection->peer.uid, QUOTA_DESCRIPTORS,
                         &connection->n_descriptors, n, ret_limit);
}

void connection_watch(struct connection *connection)
{
        uint32_t events = stream_unsent(&connection->stream) > 0 ? EPOLLOUT : 0;
        bool watched = connection->state == CONNECTION_CALLING &&
                       (connection->call.watch_peer || connection->call.listener);
        int r;

        if (connection->state == CONNECTION_DISCARDING ||
            (connection->state == CONNECTION_READING && !connection->stopping))
                events |= EPOLLIN;
        /* Switched off, it need not be told for what it would be on. */
        if (events || watched) {
                r = sd_event_source_set_io_events(connection->source, events);
                if (r >= 0)
                        r = sd_event_source_set_enabled(connection->source, SD_EVENT_ON);
        } else {
                r = sd_event_source_set_enabled(connection->source, SD_EVENT_OFF);
        }
        if (r < 0)
                (void)log_warning_errno(r, "Cannot watch a connection: %m");
}

static int connection_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct connection *connection = userdata;

        if (stream_unsent(&connection->stream) > 0)
                log_notice("Dropping a connection of uid %u, which does not read its answer",
                           (unsigned int)connection->peer.uid);
        connection_end(connection);
        return 0;
}

static void connection_stop_timer(struct connection *connection)
{
        connection->timer = sd_event_source_disable_unref(connection->timer);
}

/* End the connection unless it makes progress in time. Returns 0 or a negative errno. */
static int connection_start_timer(struct connection *connection, uint64_t usec)
{
        connection_stop_timer(connection);
        return sd_event_add_time_relative(connection->server->event, &connection->timer,
                                          CLOCK_MONOTONIC, usec, USEC_PER_SEC / 10,
                                          connection_timeout, connection);
}

void connection_go_on(struct connection *connection)
{
        size_t unsent = stream_unsent(&connection->stream);

        if (connection->parting && unsent == 0) {
                if (connection_start_timer(connection, PARTING_USEC) < 0) {
                        connection_end(connection);
                        return;
                }
                connection->state = CONNECTION_DISCARDING;
                connection_watch(connection);
                if (stream_discard(&connection->stream) == 0)
                        connection_end(connection);
                return;
        }
        if (unsent > CONNECTION_UNSENT_MAX ||
            (unsent > 0 && (connection->parting || connection->stopping)))
                connection->state = CONNECTION_WRITING;
        else
                connection->state = CONNECTION_READING;
        connection_watch(connection);
        if (unsent == 0)
                server_connection_idle(connection->server);
}

/* Send what the peer takes. May end the connection. */
static void connection_flush(struct connection *connection)
{
        bool progress;
        int r;

        r = stream_flush(&connection->stream, &progress);
        connection->call.has_room = r == 0;
        if (r < 0) {
                /* It does not want to know. */
                connection_end(connection);
                return;
        }
        if (r == 0) {
                connection_stop_timer(connection);
                connection_charge_less(connection);
                if (connection->large) {
                        connection->large = false;
                        server_trim(connection->server);
                }
        } else if (connection->call.listener && !connection->timer && !connection->stopping) {
                /* It sends no more until the peer has read: there is nothing to be saved. */
        } else if (!connection->timer || (progress && !connection->stopping)) {
                /* A stop does not wait the longer for somebody who takes a byte now and then. */
                r = connection_start_timer(connection,
                                           connection->stopping ? PARTING_USEC : STALL_USEC);
                if (r < 0) {
                        connection_end(connection);
                        return;
                }
        }
        if (connection->state != CONNECTION_CALLING) {
                connection_go_on(connection);
                return;
        }
        connection_watch(connection);
        if (connection->call.has_room && connection->call.listener)
                connection->call.listener->room(&connection->call);
}

static void connection_send(struct connection *connection, json_t *answer)
{
        uint64_t limit = 0;
        size_t length;
        char *text;

        text = varlink_print(answer, connection->terminator, &length);
        json_decref(answer);
        if (!text) {
                connection_end(connection);
                return;
        }
        connection->large = connection->large || length > LARGE_MESSAGE;
        if (stream_write(&connection->stream, text, length) < 0) {
                connection_end(connection);
                return;
        }
        if (connection_charge_bytes(connection, &limit) != 0) {
                log_notice("Dropping a connection of uid %u, whose answers take more than %" PRIu64
                           " bytes unread",
                           (unsigned int)connection->peer.uid, limit);
                connection_end(connection);
                return;
        }
        connection_flush(connection);
}

/* The call goes on. */
static void connection_continued(struct call *call, json_t *answer)
{
        struct connection *connection = container_of(call, struct connection, call);

        if (connection->state == CONNECTION_ENDED || call->oneway)
                json_decref(answer);
        else
                connection_send(connection, answer);
}

/* The call is over. */
static void connection_answered(struct call *call, json_t *answer)
{
        struct connection *connection = container_of(call, struct connection, call);
        bool oneway = call->oneway;

        call->answered = NULL;
        (void)connection_charge_descriptors(connection, 0, NULL);
        if (connection->state == CONNECTION_ENDED) {
                json_decref(answer);
                connection_free_if_over(connection);
                return;
        }
        connection->state = CONNECTION_READING;
        if (oneway) {
                json_decref(answer);
                connection_flush(connection);
        } else {
                connection_send(connection, answer);
        }
}

struct call *connection_begin_call(struct connection *connection)
{
        struct call *call = &connection->call;

        call->oneway = false;
        call->more = false;
        call->watch_peer = false;
        call->listener = NULL;
        call->descriptors = descriptors_take(&connection->stream.descriptors);
        call->answered = connection_answered;
        call->continued = connection_continued;
        call->has_room = stream_unsent(&connection->stream) == 0;
        connection->large = connection->large || connection->stream.in_length > LARGE_MESSAGE;
        connection->state = CONNECTION_CALLING;
        return call;
}

/* Something can be done for the connection, which may be its end. */
static void connection_turn(struct connection *connection, uint32_t revents)
{
        if (connection->state == CONNECTION_DISCARDING) {
                if (stream_discard(&connection->stream) == 0)
                        connection_end(connection);
                return;
        }
        if (stream_unsent(&connection->stream) > 0) {
                bool only_flush = connection->state != CONNECTION_READING || !(revents & EPOLLIN);

                connection->dispatching = true;
                connection_flush(connection);
                connection->dispatching = false;
                if (connection->state == CONNECTION_ENDED) {
                        connection_free_if_over(connection);
                        return;
                }
                if (only_flush)
                        return;
        }
        if (connection->state == CONNECTION_CALLING && revents & (EPOLLHUP | EPOLLERR)) {
                connection_end(connection);
                return;
        }
        if (connection->state == CONNECTION_READING && !connection->stopping)
                connection_read(connection);
}

static int connection_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct connection *connection = userdata;
        struct share_user *user = share_begin(&connection->share);

        connection_turn(connection, revents);
        share_end(user);
        return 0;
}

int connection_new(struct server *server, int fd, struct peer *peer, uint64_t id,
                   struct connection **ret)
{
        struct connection *connection;
        int r;

        connection = calloc(1, sizeof(*connection));
        if (!connection)
                return -ENOMEM;
        r = sd_event_add_io(server->event, &connection->source, fd, EPOLLIN, connection_event,
                            connection);
        if (r >= 0)
                r = share_join(&connection->share, &server->share_users, peer, connection->source);
        if (r < 0) {
                (void)sd_event_source_disable_unref(connection->source);
                free(connection);
                return r;
        }
        (void)sd_event_source_set_description(connection->source, "control-connection");

        connection->server = server;
        connection->terminator = '\n';
        connection->peer = *peer;
        *peer = PEER_NULL;
        stream_init(&connection->stream, fd);
        connection->call.model = server->model;
        connection->call.peer = &connection->peer;
        connection->call.connection = id;
        list_append(&server->connections, &connection->link);
        *ret = connection;
        return 0;
}

static void close_clients(struct model *model, uint64_t connection)
{
        struct client *client, *after;

        list_for_each_safe (client, after, &model->clients, link)
                if (client->connection == connection && !client->closing)
                        (void)client_close(client, NULL, NULL);
}

/* What is left of a message that was not complete: closing its descriptors is a call's business. */
static void discard_message(struct call *call, json_t *answer)
{
        struct connection *connection = container_of(call, struct connection, call);

        json_decref(answer);
        call->answered = NULL;
        (void)connection_charge_descriptors(connection, 0, NULL);
        connection_free_if_over(connection);
}

void connection_end(struct connection *connection)
{
        struct server *server = connection->server;
        struct call *call = &connection->call;

        if (connection->state == CONNECTION_ENDED)
                return;
        connection->state = CONNECTION_ENDED;
        connection->server = NULL;
        call->abandoned = true;
        connection_stop_timer(connection);
        share_leave(&connection->share);
        connection->source = sd_event_source_disable_unref(connection->source);
        list_unlink(&connection->link);
        close_clients(server->model, call->connection);
        quota_release(server->model, connection->peer.uid, QUOTA_CONNECTIONS, 1);

        if (connection->stream.descriptors.n > 0) {
                /* Then there is no call: they are taken when one begins. */
                assert(!call->answered);
                call->descriptors = descriptors_take(&connection->stream.descriptors);
                call->answered = discard_message;
                call_answer(call, json_object());
        }
        if (connection->large || connection->stream.in_length > LARGE_MESSAGE)
                server_trim(server);
        stream_deinit(&connection->stream);
        connection_charge_less(connection);
        server_connection_ended(server);
        if (call->listener)
                call->listener->abandon(call);
        else
                connection_free_if_over(connection);
}

bool connection_is_busy(const struct connection *connection)
{
        return connection->state == CONNECTION_CALLING || stream_unsent(&connection->stream) > 0;
}

void connection_stop(struct connection *connection)
{
        bool has_unsent = stream_unsent(&connection->stream) > 0;

        connection->stopping = true;
        if (has_unsent && connection_start_timer(connection, PARTING_USEC) < 0) {
                connection_end(connection);
                return;
        }
        if (connection->call.listener && connection->call.listener->stop) {
                connection->call.listener->stop(&connection->call);
                return;
        }
        if (has_unsent && connection->state == CONNECTION_READING)
                connection->state = CONNECTION_WRITING;
        connection_watch(connection);
}
