/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What comes in on a connection, from bytes and descriptors to the call that they ask for, or to
 * the reason why we part with the peer.
 */

#include "config.h"
#include "control/connection-internal.h"
#include "control/dispatch.h"
#include "control/errors.h"
#include "control/server-internal.h"
#include "control/varlink.h"
#include "model/quota.h"

/* Tell the peer why we part with it. */
static void connection_part(struct connection *connection, json_t *error)
{
        struct call *call = connection_begin_call(connection);

        stream_message_done(&connection->stream);
        connection_charge_less(connection);
        connection->parting = true;
        call_answer(call, error);
}

static void connection_message(struct connection *connection)
{
        const struct config *config = connection->server->model->config;
        struct stream *stream = &connection->stream;
        struct varlink_call message;
        struct call *call;
        json_t *error;
        bool fatal;

        if (varlink_is_blank(stream->in, stream->in_length) && stream->descriptors.n == 0) {
                stream_message_done(stream);
                return;
        }
        if (!connection->terminator_known) {
                connection->terminator_known = true;
                connection->terminator = stream->terminator;
        }

        error = varlink_read(stream->in, stream->in_length, config->limit_nesting, &message,
                             &fatal);
        call = connection_begin_call(connection);
        stream_message_done(stream);
        connection_charge_less(connection);
        call->oneway = message.oneway;
        call->more = message.more;
        if (error) {
                connection->parting = fatal;
                call_answer(call, error);
        } else {
                dispatch(call, message.method, message.parameters);
        }
        varlink_call_deinit(&message);
}

/* The peer sends no more, but may want to read the answers that it has not taken yet. */
static void connection_half_closed(struct connection *connection)
{
        if (stream_unsent(&connection->stream) == 0 || connection->stream.descriptors.n > 0) {
                connection_end(connection);
                return;
        }
        stream_message_done(&connection->stream);
        connection->parting = true;
        connection_go_on(connection);
}

/* Is what has been read within the limits? Returns NULL or an error. */
static json_t *connection_charge(struct connection *connection, bool lost)
{
        const struct descriptors *descriptors = &connection->stream.descriptors;
        uint64_t limit = 0;
        int r;

        r = connection_charge_bytes(connection, &limit);
        if (r != 0)
                return r < 0 ? ERROR_NO_MEMORY
                             : error_limit_reached(quota_name(QUOTA_BUFFERS), limit);
        if (descriptors->n == 0 && !lost)
                return NULL;
        r = connection_charge_descriptors(connection, descriptors->n, &limit);
        if (r != 0)
                return r < 0 ? ERROR_NO_MEMORY
                             : error_limit_reached(quota_name(QUOTA_DESCRIPTORS), limit);
        limit = server_descriptors_for(&connection->peer);
        for (size_t i = 0; i < descriptors->n; i++)
                lost = lost || (uint64_t)descriptors->fds[i] >= limit;
        return lost ? error_limit_reached(LIMIT_OPEN_DESCRIPTORS, limit) : NULL;
}

void connection_read(struct connection *connection)
{
        const struct config *config = connection->server->model->config;
        const struct stream_limits limits = { .message = config->limit_message,
                                              .descriptors = config->limit_descriptors };
        json_t *error;
        int r;

        /* Whatever is answered at once may also be the end of the connection. */
        connection->dispatching = true;
        r = stream_read(&connection->stream, &limits);
        error = connection_charge(connection,
                                  r == STREAM_E_DESCRIPTORS &&
                                          connection->stream.descriptors.n <= limits.descriptors);
        if (error) {
                connection_part(connection, error);
                r = STREAM_AGAIN;
        }
        switch (r) {
        case STREAM_AGAIN:
                break;
        case STREAM_MESSAGE:
                connection_message(connection);
                break;
        case STREAM_E_UNTERMINATED:
                if (!varlink_is_blank(connection->stream.in, connection->stream.in_length)) {
                        connection_part(connection,
                                        error_invalid_parameter(
                                                "message", "does not end in a newline or NUL"));
                        break;
                }
                connection_half_closed(connection);
                break;
        case STREAM_E_TOO_LONG:
                connection_part(connection, error_limit_reached("message", limits.message));
                break;
        case STREAM_E_DESCRIPTORS:
                connection_part(connection, error_limit_reached("descriptors", limits.descriptors));
                break;
        case STREAM_END:
                connection_half_closed(connection);
                break;
        default: /* broken */
                connection_end(connection);
                break;
        }
        connection->dispatching = false;

        if (connection->state == CONNECTION_CALLING)
                connection_watch(connection);
        connection_free_if_over(connection);
}
