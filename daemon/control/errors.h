/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The errors of the interface texts, ready to be sent: {"error": NAME, "parameters": {...}}.
 *
 * A function that may refuse returns such an object, or NULL if all is well; so the refusal of a
 * worker thread is the same thing as that of a handler. None of these returns NULL: when there is
 * no memory left to say it, the answer is ERROR_NO_MEMORY, for which the text is at hand.
 */

#include <stdint.h>

#include <jansson.h>

#include "model/client.h"

enum error_id {
        ERROR_INTERFACE_NOT_FOUND,
        ERROR_METHOD_NOT_FOUND,
        ERROR_METHOD_NOT_IMPLEMENTED,
        ERROR_INVALID_PARAMETER,
        ERROR_EXPECTED_MORE,
        ERROR_NO_SUCH_CLIENT,
        ERROR_CLIENT_EXISTS,
        ERROR_NO_SUCH_EXPORT,
        ERROR_EXPORT_EXISTS,
        ERROR_EXPORT_BUSY,
        ERROR_NO_SUCH_DEVICE,
        ERROR_DEVICE_ERROR,
        ERROR_INVALID_REGION,
        ERROR_INVALID_MEMORY,
        ERROR_REGION_BUSY,
        ERROR_NOT_RESERVED,
        ERROR_POOL_EXHAUSTED,
        ERROR_LIMIT_REACHED,
        ERROR_NO_SUCH_JOB,
        ERROR_NO_SUCH_REQUEST,
        ERROR_PERMISSION_DENIED,
        ERROR_STATE,
        _ERROR_MAX,
};

#define ERROR_NO_MEMORY (json_null())
#define ERROR_NO_MEMORY_TEXT                                                                       \
        "{\"error\":\"io.dmiod.LimitReached\",\"parameters\":{\"limit\":\"memory\",\"value\":0}}"

/* The parameters' texts and numbers, each in the order of the interface text. */
json_t *error_new(enum error_id id, const char *text, const char *text2, uint64_t number,
                  uint64_t number2);

static inline json_t *error_interface_not_found(const char *interface)
{
        return error_new(ERROR_INTERFACE_NOT_FOUND, interface, NULL, 0, 0);
}

static inline json_t *error_method_not_found(const char *method)
{
        return error_new(ERROR_METHOD_NOT_FOUND, method, NULL, 0, 0);
}

static inline json_t *error_method_not_implemented(const char *method)
{
        return error_new(ERROR_METHOD_NOT_IMPLEMENTED, method, NULL, 0, 0);
}

/* @parameter: the way to the field, for example "regions[1].sector". */
static inline json_t *error_invalid_parameter(const char *parameter, const char *reason)
{
        return error_new(ERROR_INVALID_PARAMETER, parameter, reason, 0, 0);
}

/* For a method that answers more than once, or not at all. */
static inline json_t *error_expected_more(void)
{
        return error_new(ERROR_EXPECTED_MORE, NULL, NULL, 0, 0);
}

static inline json_t *error_no_such_client(const char *name)
{
        return error_new(ERROR_NO_SUCH_CLIENT, name, NULL, 0, 0);
}

static inline json_t *error_no_such_export(const char *client, const char *name)
{
        return error_new(ERROR_NO_SUCH_EXPORT, client, name, 0, 0);
}

static inline json_t *error_no_such_device(const char *device)
{
        return error_new(ERROR_NO_SUCH_DEVICE, device, NULL, 0, 0);
}

/* @error: an errno, of either sign. */
json_t *error_device(const char *device, int error);

static inline json_t *error_invalid_region(unsigned int region, const char *reason)
{
        return error_new(ERROR_INVALID_REGION, reason, NULL, region, 0);
}

json_t *error_invalid_memory(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

static inline json_t *error_region_busy(unsigned int region, const char *client, const char *name)
{
        return error_new(ERROR_REGION_BUSY, client, name, region, 0);
}

static inline json_t *error_limit_reached(const char *limit, uint64_t value)
{
        return error_new(ERROR_LIMIT_REACHED, limit, NULL, value, 0);
}

static inline json_t *error_no_such_job(uint64_t job)
{
        return error_new(ERROR_NO_SUCH_JOB, NULL, NULL, job, 0);
}

/* @id: 0 if it is about all that are outstanding. */
static inline json_t *error_no_such_request(uint64_t id)
{
        return error_new(ERROR_NO_SUCH_REQUEST, NULL, NULL, id, 0);
}

static inline json_t *error_permission_denied(const char *reason)
{
        return error_new(ERROR_PERMISSION_DENIED, reason, NULL, 0, 0);
}

/* What was to last could not be written, @error being a negative errno. And: there is no folder. */
json_t *error_state(int error);
json_t *error_cannot_linger(void);

/* Trouble of our own, @error being a negative errno: it is logged, and the peer told little. */
json_t *error_internal(int error);

/* What a call to the model was about, for the parameters of the errors that it may lead to. */
struct error_subject {
        const char *client;
        const char *export; /* NULL if it was about the client itself */
        uint64_t pages;
};

/* The error for an outcome other than MODEL_OK (enum model_outcome), or for a negative errno. */
json_t *error_from_outcome(int outcome, const struct model_refusal *refusal,
                           const struct error_subject *subject);
