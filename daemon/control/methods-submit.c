/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * WaitIo: the results of submitted requests (methods-io.c has SubmitIo).
 *
 * A wait is for a set of requests: those that are named, or all that there are when it begins. The
 * set loses what somebody else has fetched; a wait that has nothing left to wait for is told so. A
 * result is only given to a peer that has taken the one before; until then it stays where it is,
 * for others as well.
 */

#include <stdlib.h>
#include <string.h>

#include "control/call.h"
#include "control/errors.h"
#include "control/methods.h"
#include "control/varlink.h"
#include "model/request.h"

const struct field wait_io_fields[] = {
        FIELD(struct wait_io_arguments, client, FIELD_STRING, .required = true),
        FIELD(struct wait_io_arguments, ids, FIELD_INTS, .max = FIELD_INT_MAX),
        FIELD_END,
};

struct wait {
        struct request_wait wait;
        struct call *call;
        struct client *client;
        int64_t *ids; /* sorted, each once; NULL: all up to max_id */
        size_t n_ids;
        uint64_t max_id;
        size_t n_left; /* requests of the set that are still there */
        bool is_busy;  /* the set is being worked off */
};

static int compare_ids(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return x < y ? -1 : x > y;
}

static bool wait_has(const struct wait *wait, const struct request *request)
{
        int64_t id = (int64_t)request->id;

        if (!wait->ids)
                return request->id <= wait->max_id;
        return bsearch(&id, wait->ids, wait->n_ids, sizeof(id), compare_ids) != NULL;
}

/* @answer is taken. */
static void wait_end(struct wait *wait, json_t *answer)
{
        struct call *call = wait->call;

        list_unlink(&wait->wait.link);
        free(wait->ids);
        free(wait);
        call->listener = NULL;
        call_answer(call, answer);
}

static json_t *nothing_left(const struct wait *wait)
{
        return error_no_such_request(wait->ids ? (uint64_t)wait->ids[wait->n_ids - 1] : 0);
}

/* Give the result to the peer, if it can take it. Returns false if not; else the wait may be over,
 * which *@ret_over tells. */
static bool wait_give(struct wait *wait, struct request *request, bool *ret_over)
{
        struct call *call = wait->call;
        bool is_last = !call->more || wait->n_left == 1;
        json_t *result;

        if (!call->has_room)
                return false;
        wait->is_busy = true;
        result = request_take(request);
        if (is_last)
                wait_end(wait, varlink_reply(result));
        else
                call_continue(call, result);
        *ret_over = is_last;
        return true;
}

/* The set has been worked off as far as that goes. */
static void wait_rest(struct wait *wait)
{
        wait->is_busy = false;
        if (wait->call->abandoned)
                wait_end(wait, json_object());
        else if (wait->n_left == 0)
                wait_end(wait, nothing_left(wait));
}

static bool wait_completed(struct request_wait *request_wait, struct request *request)
{
        struct wait *wait = container_of(request_wait, struct wait, wait);
        bool over, given;

        if (wait->is_busy || wait->call->abandoned || !wait_has(wait, request))
                return false;
        given = wait_give(wait, request, &over);
        if (given && !over)
                wait_rest(wait);
        return given;
}

static void wait_taken(struct request_wait *request_wait, const struct request *request)
{
        struct wait *wait = container_of(request_wait, struct wait, wait);

        if (!wait_has(wait, request))
                return;
        wait->n_left--;
        if (wait->n_left == 0 && !wait->is_busy)
                wait_end(wait, nothing_left(wait));
}

static struct request *next_result(const struct wait *wait)
{
        struct request *request;

        list_for_each (request, &wait->client->requests, link)
                if (request->result && wait_has(wait, request))
                        return request;
        return NULL;
}

/* Give what is there. */
static void wait_work(struct wait *wait)
{
        struct request *request;
        bool over;

        if (wait->is_busy)
                return;
        while (!wait->call->abandoned && (request = next_result(wait)) != NULL) {
                if (!wait_give(wait, request, &over))
                        break;
                if (over)
                        return;
        }
        wait_rest(wait);
}

static void wait_room(struct call *call)
{
        wait_work(call->listener_data);
}

/* One that is busy sees it by itself. */
static void wait_abandon(struct call *call)
{
        struct wait *wait = call->listener_data;

        if (!wait->is_busy)
                wait_end(wait, json_object());
}

static const struct call_listener listener = {
        .room = wait_room,
        .abandon = wait_abandon,
};

/* What is waited for. Returns NULL or an error. */
static json_t *wait_prepare(struct wait *wait, const struct wait_io_arguments *arguments)
{
        struct client *client = wait->client;
        const struct request *request;

        if (!arguments->ids.present) {
                wait->max_id = client->model->last_request;
                list_for_each (request, &client->requests, link)
                        wait->n_left++;
                return wait->n_left > 0 ? NULL : nothing_left(wait);
        }
        if (arguments->ids.n == 0)
                return error_invalid_parameter("ids", "names no request");
        wait->ids = calloc(arguments->ids.n, sizeof(*wait->ids));
        if (!wait->ids)
                return ERROR_NO_MEMORY;
        memcpy(wait->ids, arguments->ids.items, arguments->ids.n * sizeof(*wait->ids));
        qsort(wait->ids, arguments->ids.n, sizeof(*wait->ids), compare_ids);
        for (size_t i = 0; i < arguments->ids.n; i++)
                if (i == 0 || wait->ids[i] != wait->ids[wait->n_ids - 1])
                        wait->ids[wait->n_ids++] = wait->ids[i];

        list_for_each (request, &client->requests, link)
                wait->n_left += wait_has(wait, request);
        for (size_t i = 0; wait->n_left < wait->n_ids && i < wait->n_ids; i++)
                if (!request_find(client, (uint64_t)wait->ids[i]))
                        return error_no_such_request((uint64_t)wait->ids[i]);
        return NULL;
}

void method_wait_io(struct call *call)
{
        const struct wait_io_arguments *arguments = call->arguments;
        struct client *client;
        struct wait *wait;
        json_t *error;

        error = call_find_client(call, arguments->client, &client);
        if (error) {
                call_answer(call, error);
                return;
        }
        wait = calloc(1, sizeof(*wait));
        if (!wait) {
                call_answer(call, ERROR_NO_MEMORY);
                return;
        }
        wait->wait = (struct request_wait){ .completed = wait_completed, .taken = wait_taken };
        wait->call = call;
        wait->client = client;
        error = wait_prepare(wait, arguments);
        if (error) {
                free(wait->ids);
                free(wait);
                call_answer(call, error);
                return;
        }
        list_append(&client->waits, &wait->wait.link);
        call->listener = &listener;
        call->listener_data = wait;
        wait_work(wait);
}
