/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Clients and their reservations. */

#include <errno.h>
#include <stdlib.h>

#include "control/call.h"
#include "control/errors.h"
#include "control/lasting.h"
#include "control/methods.h"
#include "control/retry.h"
#include "control/varlink.h"
#include "log.h"
#include "model/describe.h"
#include "util/list.h"

/* What a reservation may be; the pool's own limit comes far earlier. */
#define PAGES_MAX (INT64_C(1) << 31)

const struct field open_client_fields[] = {
        FIELD(struct open_client_arguments, name, FIELD_STRING, .required = true),
        FIELD(struct open_client_arguments, pages, FIELD_INT, .required = true, .max = PAGES_MAX),
        FIELD(struct open_client_arguments, linger, FIELD_BOOL),
        FIELD_END,
};

const struct field close_client_fields[] = {
        FIELD(struct close_client_arguments, name, FIELD_STRING, .required = true),
        FIELD_END,
};

const struct field pages_fields[] = {
        FIELD(struct pages_arguments, client, FIELD_STRING, .required = true),
        FIELD(struct pages_arguments, pages, FIELD_INT, .required = true, .max = PAGES_MAX),
        FIELD_END,
};

static json_t *client_reply(const struct client *client)
{
        /* A NULL inside makes the whole NULL. */
        return varlink_reply(json_pack("{s:o}", "client", describe_client(client)));
}

/*
 * What is in the way may be about to go: a client that is closing, or one that ends with a
 * connection that has been closed, which we may not have noticed yet. Whoever opens again what he
 * has just left should not be told that it exists, or that he has too many; so he is kept waiting
 * for a moment.
 */
#define OPEN_GRACE_TRIES 100

struct opening {
        struct retry retry;
        struct call *call;
};

static bool is_about_to_go(const struct call *call, const struct client *client)
{
        return client->uid == call->peer->uid &&
               (!client_takes_work(client) ||
                (!client->linger && client->connection != call->connection));
}

/* Does waiting change @outcome, perhaps? */
static bool may_pass(const struct call *call, int outcome, const char *name)
{
        const struct client *client;

        if (outcome == MODEL_E_EXISTS) {
                client = model_find_client(call->model, name);
                return client && is_about_to_go(call, client);
        }
        if (outcome == MODEL_E_LIMIT)
                list_for_each (client, &call->model->clients, link)
                        if (is_about_to_go(call, client))
                                return true;
        return false;
}

static void log_opened(const struct client *client)
{
        log_info("Client '%s' is opened by uid %u with %ju pages", client->name,
                 (unsigned int)client->uid, (uintmax_t)client->pages);
}

static void open_undone(void *userdata)
{
        struct lasting *lasting = userdata;
        struct call *call = lasting->call;
        int error = lasting->error;

        lasting_end(lasting);
        call_answer(call, error == -ENOMEM ? ERROR_NO_MEMORY : error_state(error));
}

static void open_failed(void *userdata)
{
        call_answer(userdata, ERROR_NO_MEMORY);
}

static void open_written(struct lasting *lasting, int error)
{
        struct client *client = lasting->client;
        struct call *call = lasting->call;

        if (error == 0) {
                json_t *answer = client_reply(client);

                log_opened(client);
                lasting_end(lasting);
                call_answer(call, answer);
                return;
        }
        lasting->error = error;
        if (client_close(client, open_undone, lasting) == MODEL_OK) {
                lasting_let_go(lasting);
                return;
        }
        lasting_end(lasting);
        call_answer(call, error_state(error));
}

/* Answers the call, unless it is worth while to try again and that is allowed. */
static bool open_client(struct call *call, bool may_wait)
{
        const struct open_client_arguments *arguments = call->arguments;
        const struct error_subject subject = { .client = arguments->name };
        struct model_refusal refusal = {};
        struct client *client;
        struct lasting *lasting;
        int r;

        if (arguments->linger && !model_can_last(call->model)) {
                call_answer(call, error_cannot_linger());
                return true;
        }
        r = client_new(call->model, arguments->name, call->peer, (uint64_t)arguments->pages,
                       arguments->linger, arguments->linger ? 0 : call->connection, &client,
                       &refusal);
        if (may_wait && may_pass(call, r, arguments->name))
                return false;
        if (r != MODEL_OK) {
                call_answer(call, error_from_outcome(r, &refusal, &subject));
                return true;
        }
        if (client->linger) {
                json_t *error = lasting_new(call, client, NULL, open_written, &lasting);

                if (!error)
                        lasting_commit(lasting);
                else
                        (void)client_close(client, open_failed, call);
                json_decref(error);
                return true;
        }
        log_opened(client);
        call_answer(call, client_reply(client));
        return true;
}

static void opening_attempt(struct retry *retry, bool is_last)
{
        struct opening *opening = container_of(retry, struct opening, retry);
        struct call *call = opening->call;

        if (call->abandoned)
                /* Nobody would end the client. */
                call_answer(call, json_object());
        else if (!open_client(call, !is_last))
                return;
        retry_stop(retry);
        free(opening);
}

void method_open_client(struct call *call)
{
        struct opening *opening;

        if (open_client(call, true))
                return;
        opening = calloc(1, sizeof(*opening));
        if (opening && retry_start(&opening->retry, worker_event(call->model->worker),
                                   OPEN_GRACE_TRIES, opening_attempt) == 0) {
                opening->call = call;
                return;
        }
        free(opening);
        (void)open_client(call, false);
}

static void client_closed(void *userdata)
{
        call_reply(userdata, json_object());
}

/* It has gone from what lasts, so it may go. */
static void close_written(struct lasting *lasting, int error)
{
        const struct close_client_arguments *arguments = lasting->call->arguments;
        struct client *client = lasting->client;
        struct call *call = lasting->call;

        if (error < 0) {
                client->leaving = false;
                call_answer(call, error_state(error));
        } else if (client_close(client, client_closed, call) != MODEL_OK) {
                call_answer(call, error_no_such_client(arguments->name));
        }
        lasting_end(lasting);
}

void method_close_client(struct call *call)
{
        const struct close_client_arguments *arguments = call->arguments;
        struct lasting *lasting = NULL;
        struct client *client;
        json_t *error;

        error = call_find_client(call, arguments->name, &client);
        if (!error && client->linger)
                error = lasting_new(call, client, NULL, close_written, &lasting);
        if (lasting) {
                client->leaving = true;
                lasting_commit(lasting);
                return;
        }
        /* One that somebody else is closing is as good as gone. */
        if (!error && (client->leaving || client_close(client, client_closed, call) != MODEL_OK))
                error = error_no_such_client(arguments->name);
        if (error)
                call_answer(call, error);
}

void method_list_clients(struct call *call)
{
        const struct client *client;
        json_t *clients = json_array();

        list_for_each (client, &call->model->clients, link) {
                if (!client_is_visible(client, call->peer))
                        continue;
                if (json_array_append_new(clients, describe_client(client)) < 0) {
                        json_decref(clients);
                        call_answer(call, ERROR_NO_MEMORY);
                        return;
                }
        }
        call_reply(call, json_pack("{s:o}", "clients", clients));
}

static void pages_answer(struct call *call, const struct client *client, int r,
                         const struct model_refusal *refusal)
{
        const struct pages_arguments *arguments = call->arguments;
        const struct error_subject subject = { .client = arguments->client,
                                               .pages = (uint64_t)arguments->pages };

        if (r != MODEL_OK)
                call_answer(call, error_from_outcome(r, refusal, &subject));
        else
                call_reply(call, json_pack("{s:I}", "pages", (json_int_t)client->pages));
}

/* Pages that could not be written down are given back. */
static void get_written(struct lasting *lasting, int error)
{
        struct call *call = lasting->call;

        if (error < 0) {
                (void)client_put(lasting->client, lasting->pages);
                call_answer(call, error_state(error));
        } else {
                pages_answer(call, lasting->client, MODEL_OK, NULL);
        }
        lasting_end(lasting);
}

void method_get(struct call *call)
{
        const struct pages_arguments *arguments = call->arguments;
        struct lasting *lasting = NULL;
        struct model_refusal refusal = {};
        struct client *client;
        json_t *error;
        int r;

        error = call_find_client(call, arguments->client, &client);
        if (!error && client->linger)
                error = lasting_new(call, client, NULL, get_written, &lasting);
        if (error) {
                call_answer(call, error);
                return;
        }
        r = client_get(client, (uint64_t)arguments->pages, &refusal);
        if (lasting && r == MODEL_OK) {
                lasting->pages = (uint64_t)arguments->pages;
                lasting_commit(lasting);
                return;
        }
        pages_answer(call, client, r, &refusal);
        if (lasting)
                lasting_end(lasting);
}

/* Others may want what is put, so that could not be undone: it is put when it is written. */
static void put_written(struct lasting *lasting, int error)
{
        struct client *client = lasting->client;
        struct call *call = lasting->call;

        client->pages_leaving -= lasting->pages;
        if (error < 0)
                call_answer(call, error_state(error));
        else
                pages_answer(call, client, client_put(client, lasting->pages), NULL);
        lasting_end(lasting);
}

void method_put(struct call *call)
{
        const struct pages_arguments *arguments = call->arguments;
        uint64_t pages = (uint64_t)arguments->pages;
        struct lasting *lasting = NULL;
        struct client *client;
        json_t *error;

        error = call_find_client(call, arguments->client, &client);
        if (!error && client->linger)
                error = lasting_new(call, client, NULL, put_written, &lasting);
        if (error) {
                call_answer(call, error);
        } else if (!lasting) {
                pages_answer(call, client, client_put(client, pages), NULL);
        } else if (pages > client->pages - client->pages_leaving) {
                pages_answer(call, client, MODEL_E_NOT_RESERVED, NULL);
                lasting_end(lasting);
        } else {
                lasting->pages = pages;
                client->pages_leaving += pages;
                lasting_commit(lasting);
        }
}
