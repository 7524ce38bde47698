/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The shape of messages: a call is {"method", "parameters", "more", "oneway"}, an answer is
 * {"parameters"} or {"error", "parameters"}. What methods there are is not known here.
 */

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

struct varlink_call {
        json_t *message;          /* holds what the others point to */
        const char *method;       /* "INTERFACE.METHOD" */
        const json_t *parameters; /* an object, or NULL */
        bool more;
        bool oneway;
};

#define VARLINK_CALL_NULL ((struct varlink_call){ .message = NULL })

/* True if there is nothing but blanks. */
bool varlink_is_blank(const char *text, size_t length);

/*
 * Read a message of at most @nesting levels. Returns NULL and the call; or an error (errors.h),
 * with *@ret_fatal set if the message is not JSON or too deep, so that one should not go on with
 * its sender. ret->oneway is right also for a call that is refused, if it could be read at all.
 */
json_t *varlink_read(const char *text, size_t length, size_t nesting, struct varlink_call *ret,
                     bool *ret_fatal);

void varlink_call_deinit(struct varlink_call *call);

/* {"parameters": @parameters}, which are taken. NULL, as from a failed json_pack(), is answered by
 * ERROR_NO_MEMORY (errors.h), so that this is never NULL. */
json_t *varlink_reply(json_t *parameters);

/*
 * An answer as one line of compact JSON and @terminator. Returns the text (to be freed), or NULL if
 * there is no memory even for the text of ERROR_NO_MEMORY.
 */
char *varlink_print(const json_t *answer, char terminator, size_t *ret_length);
