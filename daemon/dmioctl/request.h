/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A request: the legs and descriptors of one call, the connection, and what is said when the daemon
 * refuses. The functions return an exit status, and have complained when that is not STATUS_OK.
 *
 * Order: init, legs, connect, open devices (regions), call, deinit.
 */

#include <stdint.h>

#include <dmio/types.h>
#include <jansson.h>

#include "dmioctl/call.h"
#include "dmioctl/devices.h"
#include "dmioctl/dmioctl.h"
#include "dmioctl/leg.h"

struct request {
        const struct invocation *invocation;
        struct leg legs[DM_IO_MAX_REGIONS];
        unsigned int n_legs;
        unsigned int first_leg; /* the one that errors call region 0; the source of a copy is before
                                   it */
        struct devices devices;
        struct control *control;
        json_t *reply;
};

void request_init(struct request *request, const struct invocation *invocation);
void request_deinit(struct request *request);

/* Parse the arguments from number @first on as legs. */
int request_parse_legs(struct request *request, unsigned int first);

/* The socket to connect to, to be freed. -ENXIO: --user without XDG_RUNTIME_DIR; -ENOMEM. */
int control_path(const struct invocation *invocation, char **ret);
/* Where the daemon's socket is: as options and environment say; to be freed. */
int request_path(const struct request *request, char **ret);

int request_connect(struct request *request);

/* Open the devices of @n legs and describe these as an array of Region, which is the caller's. */
int request_regions(struct request *request, unsigned int first, unsigned int n, bool read_only,
                    json_t **ret);

/*
 * The two halves of request_call(), for a method that replies several times if @more: *@ret_more
 * says whether this reply was not the last.
 */
int request_send(struct request *request, const char *method, json_t *parameters, bool more);
int request_receive(struct request *request, const json_t **ret, bool *ret_more);

/*
 * Connect if need be, call, and show the reply or the error as JSON if that was asked for. Takes
 * @parameters; NULL means that they could not be made. *@ret belongs to the request.
 */
int request_call(struct request *request, const char *method, json_t *parameters,
                 const json_t **ret);

/* Take CLIENT/NAME apart; *@ret_client is to be freed, *@ret_name points into @text. */
int parse_export_name(const struct invocation *invocation, const char *text, char **ret_client,
                      const char **ret_name);

/* For methods of which the verb's only argument is the client, if it is given. */
json_t *client_parameters(const struct invocation *invocation);

/* Parse a number of pages. */
int parse_pages(const struct invocation *invocation, const char *what, const char *text,
                uint64_t *ret);
