/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Io and SubmitIo: one request of the engine. Its way, with the thread in front:
 *
 *   main    method_io      who, what, how much: all that the message alone can tell
 *   worker  io_open        open the devices, map the memory, close the descriptors
 *   main    io_opened      do the sectors belong to somebody else? get pages for inline data
 *   main    io_start       submit
 *   main    io_complete    the answer, the pages back
 *   worker  io_close       close and unmap
 *   main    io_finish      answer
 *
 * A refusal anywhere goes on with io_close, so there is one way out. SubmitIo is answered when
 * io_opened has found no fault; the call is over then, and what would be its answer goes to
 * whoever waits for the request (model/request.h).
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"
#include "control/call.h"
#include "control/errors.h"
#include "control/memory-arg.h"
#include "control/methods.h"
#include "control/mount-guard.h"
#include "control/resolve.h"
#include "control/varlink.h"
#include "model/describe.h"
#include "model/quota.h"
#include "model/region-table.h"
#include "model/request.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

enum io_op {
        IO_READ,
        IO_WRITE,
        IO_FLUSH,
        IO_DISCARD,
        IO_WRITE_ZEROES,
        _IO_MAX,
};

static const char *const op_names[] = {
        [IO_READ] = "read",
        [IO_WRITE] = "write",
        [IO_FLUSH] = "flush",
        [IO_DISCARD] = "discard",
        [IO_WRITE_ZEROES] = "write_zeroes",
        [_IO_MAX] = NULL,
};

static const struct {
        enum dm_io_op op;
        unsigned int flags;
        bool takes_memory;
        bool takes_flags;
        bool counts;              /* the counts of the regions mean something */
        enum operation operation; /* as what it is counted */
} ops[_IO_MAX] = {
        [IO_READ] = { DM_IO_READ, 0, true, false, true, OPERATION_READ },
        [IO_WRITE] = { DM_IO_WRITE, 0, true, true, true, OPERATION_WRITE },
        /* A write of nothing, flushed first: unlike the engine's flush it takes many regions. */
        [IO_FLUSH] = { DM_IO_WRITE, DM_IO_PREFLUSH, false, false, false, OPERATION_FLUSH },
        [IO_DISCARD] = { DM_IO_DISCARD, 0, false, false, true, OPERATION_DISCARD },
        [IO_WRITE_ZEROES] = { DM_IO_WRITE_ZEROES, 0, false, false, true, OPERATION_WRITE_ZEROES },
};

const struct field io_fields[] = {
        FIELD(struct io_arguments, client, FIELD_STRING, .required = true),
        FIELD(struct io_arguments, op, FIELD_ENUM, .required = true, .names = op_names),
        FIELD(struct io_arguments, regions, FIELD_OBJECTS, .required = true,
              .fields = region_fields, .size = sizeof(struct region_argument)),
        FIELD(struct io_arguments, memory, FIELD_OBJECT, .fields = memory_fields,
              .size = sizeof(struct memory_argument)),
        FIELD(struct io_arguments, preflush, FIELD_BOOL),
        FIELD(struct io_arguments, fua, FIELD_BOOL),
        FIELD_END,
};

/* What an answer has beside its data. */
#define ANSWER_ENVELOPE 256

/* Most bytes that go inline with a submitted request: they may have to be kept for long. */
#define SUBMITTED_INLINE_MAX (UINT64_C(64) * 1024)

/* An Io in progress. */
struct io {
        struct worker_job job;
        struct call *call; /* NULL once SubmitIo is answered */
        struct model *model;
        struct client *client;
        uid_t uid;
        uid_t worker_uid;
        uint64_t n_bytes; /* taken over from the call, once SubmitIo is answered */
        enum io_op op;
        bool preflush, fua;
        bool is_submitted;
        struct request *request; /* once SubmitIo is answered */
        struct device_list devices;
        struct memory memory;
        struct dmio_page_wait wait;
        struct io_region regions[DM_IO_MAX_REGIONS];
        struct dm_io_leg_error errors[DM_IO_MAX_REGIONS];
        struct grant *claims; /* one for each device, while it is in the region table */
        unsigned int n_claims;
        uint64_t begun_usec; /* CLOCK_MONOTONIC: when the devices were open */
        json_t *answer;
};

static void io_finish(struct worker_job *job)
{
        struct io *io = container_of(job, struct io, job);

        if (io->request)
                request_complete(io->request, io->answer);
        client_end_call(io->client);
        quota_release(io->model, io->uid, QUOTA_BUFFERS, io->n_bytes);
        if (!io->request)
                call_answer(io->call, io->answer);
        free(io);
}

static void io_close(struct worker_job *job)
{
        struct io *io = container_of(job, struct io, job);

        memory_release(&io->memory);
        device_list_close(&io->devices);
}

/* So that nobody makes an export of sectors that we are about to touch, or are touching. */
static json_t *io_claim(struct io *io)
{
        struct model *model = io->model;

        io->claims = calloc(io->devices.n, sizeof(*io->claims));
        if (!io->claims)
                return ERROR_NO_MEMORY;
        pthread_mutex_lock(&model->lock);
        for (; io->n_claims < io->devices.n; io->n_claims++) {
                const struct device_entry *entry = &io->devices.entries[io->n_claims];

                io->claims[io->n_claims] = (struct grant){ .id = entry->id,
                                                           .sector = entry->sector,
                                                           .count = entry->count,
                                                           .client_name = io->client->name,
                                                           .export_name = "" };
                region_table_add(model, &io->claims[io->n_claims]);
        }
        pthread_mutex_unlock(&model->lock);
        return NULL;
}

static void io_unclaim(struct io *io)
{
        struct model *model = io->model;

        pthread_mutex_lock(&model->lock);
        while (io->n_claims > 0)
                list_unlink(&io->claims[--io->n_claims].link);
        pthread_mutex_unlock(&model->lock);
        free(io->claims);
        io->claims = NULL;
}

/* It is over, one way or the other; @answer is taken. */
static void io_end(struct io *io, json_t *answer)
{
        io_unclaim(io);
        dmio_pages_put(io->client->io, io->memory.pages);
        io->memory.pages = NULL;
        io->answer = answer;
        io->job = (struct worker_job){ .run = io_close, .done = io_finish, .uid = io->worker_uid };
        worker_submit(io->model->worker, &io->job);
}

/* The regions whose bits are set, as numbers and as what they met. */
static json_t *describe_failures(const struct io *io, unsigned long bits)
{
        json_t *failed = json_array();
        json_t *errors = json_array();

        for (unsigned int i = 0; i < io->devices.n; i++) {
                if (!(bits >> i & 1))
                        continue;
                if (json_array_append_new(failed, json_integer(i)) < 0 ||
                    json_array_append_new(errors,
                                          json_pack("{s:i, s:s, s:I}", "region", (int)i, "errno",
                                                    errno_name(io->errors[i].error), "sector",
                                                    (json_int_t)io->errors[i].sector)) < 0) {
                        json_decref(failed);
                        json_decref(errors);
                        return NULL;
                }
        }
        return json_pack("{s:o, s:o}", "failed", failed, "errors", errors);
}

/* Parameters for WaitIo, of @reply, which is taken. Without memory for it all that is told is that
 * something has failed. */
static json_t *describe_result(const struct io *io, json_t *reply)
{
        if (!reply)
                reply = json_pack("{s:s, s:[], s:[]}", "error_bits", "0x1", "failed", "errors");
        if (!reply ||
            json_object_set_new(reply, "id", json_integer((json_int_t)io->request->id)) < 0) {
                json_decref(reply);
                return json_null();
        }
        return reply;
}

static void io_count(const struct io *io, unsigned long bits)
{
        uint64_t sectors = 0;

        for (unsigned int i = 0; i < io->devices.n; i++)
                if (ops[io->op].counts && !(bits >> i & 1))
                        sectors += io->devices.entries[i].count;
        client_count(io->client, &io->client->counters->calls[ops[io->op].operation],
                     now_usec() - io->begun_usec, sectors << DMIO_SECTOR_SHIFT, bits != 0);
}

static void io_complete(unsigned long bits, void *context)
{
        struct io *io = context;
        char text[2 + 2 * sizeof(bits) + 1];
        json_t *reply, *failures;

        io_count(io, bits);
        (void)snprintf(text, sizeof(text), "0x%lx", bits);
        reply = json_pack("{s:s}", "error_bits", text);
        failures = describe_failures(io, bits);
        if (!reply || !failures || json_object_update(reply, failures) < 0 ||
            (io->memory.kind == MEMORY_REPLY && bits == 0 &&
             json_object_set_new(reply, "data", memory_data(&io->memory)) < 0)) {
                json_decref(reply);
                reply = NULL;
        }
        json_decref(failures);
        io_end(io, io->request ? describe_result(io, reply) : varlink_reply(reply));
}

/* It could not even be begun, for a reason of our own. A request that was submitted has failed. */
static void io_fail(struct io *io, int error)
{
        if (!io->request) {
                io_end(io, error_internal(error));
                return;
        }
        for (unsigned int i = 0; i < io->devices.n; i++)
                io->errors[i] = (struct dm_io_leg_error){ .error = -error,
                                                          .sector = io->devices.entries[i].sector };
        io_complete(ULONG_MAX >> (8 * sizeof(unsigned long) - io->devices.n), io);
}

/* Everything is there. */
static void io_start(struct io *io)
{
        static struct page nothing;
        struct dm_io_request request = {
                .op = ops[io->op].op,
                .flags = ops[io->op].flags | DM_IO_SYNC,
                .notify = { io_complete, io },
                .client = io->client->io,
                .queue = io->model->queue,
                .leg_errors = io->errors,
        };
        int r;

        if (io->preflush)
                request.flags |= DM_IO_PREFLUSH;
        if (io->fua)
                request.flags |= DM_IO_FUA;
        if (memory_pages_needed(&io->memory) > 0)
                memory_fill(&io->memory);
        request.mem = io->memory.io;
        request.flags |= io->memory.io_flags;
        /* Where no byte is needed, somewhere has to be pointed to all the same. */
        if (io->memory.length == 0)
                request.mem = (struct dm_io_memory){ .type = DM_IO_KMEM, .ptr.addr = &nothing };

        for (unsigned int i = 0; i < io->devices.n; i++) {
                const struct device_entry *entry = &io->devices.entries[i];
                bool counts = ops[io->op].counts;

                io->regions[i] = (struct io_region){ .bdev = entry->bdev,
                                                     .sector = counts ? entry->sector : 0,
                                                     .count = counts ? entry->count : 0 };
        }
        r = dm_io(&request, io->devices.n, io->regions, NULL);
        if (r < 0)
                io_fail(io, r);
}

static void io_pages_come(struct dmio_page_wait *wait, struct page_list *pages)
{
        struct io *io = container_of(wait, struct io, wait);

        io->memory.pages = pages;
        io_start(io);
}

/* Pages for what goes inline; the client's own, and nobody waits for them but this call. */
static void io_get_pages(struct io *io)
{
        unsigned int n = memory_pages_needed(&io->memory);
        int r;

        io->begun_usec = now_usec();
        if (n > 0) {
                io->memory.pages = dmio_pages_get(io->client->io, n);
                if (!io->memory.pages) {
                        io->wait = (struct dmio_page_wait){ .client = io->client->io,
                                                            .queue = io->model->queue,
                                                            .n_pages = n,
                                                            .fn = io_pages_come };
                        r = dmio_pages_wait(&io->wait);
                        if (r < 0 && io->request)
                                io_fail(io, -ENOMEM);
                        else if (r < 0)
                                io_end(io, error_invalid_memory("%u pages cannot be had, even by "
                                                                "waiting",
                                                                n));
                        return;
                }
        }
        io_start(io);
}

static json_t *check_holders(const struct io *io)
{
        for (unsigned int i = 0; ops[io->op].counts && i < io->devices.n; i++) {
                const struct device_entry *entry = &io->devices.entries[i];
                const struct grant *grant;

                grant = region_table_find_foreign(io->model, io->client, &entry->id, entry->sector,
                                                  entry->count);
                if (grant)
                        return error_region_busy(i, grant->client_name, grant->export_name);
        }
        return NULL;
}

/* SubmitIo: nothing is wrong with it. Returns NULL, with the call answered, or an error. */
static json_t *io_accept(struct io *io)
{
        const struct error_subject subject = { .client = io->client->name };
        struct model_refusal refusal = {};
        int r;

        r = request_new(io->client, &io->request, &refusal);
        if (r != MODEL_OK)
                return error_from_outcome(r, &refusal, &subject);
        io->n_bytes = io->call->n_bytes;
        io->call->n_bytes = 0;
        call_reply(DMIO_TAKE(io->call), json_pack("{s:I}", "id", (json_int_t)io->request->id));
        return NULL;
}

static void io_opened(struct worker_job *job)
{
        struct io *io = container_of(job, struct io, job);

        if (!io->answer)
                io->answer = check_holders(io);
        if (!io->answer && ops[io->op].counts)
                io->answer = io_claim(io);
        if (!io->answer && io->is_submitted)
                io->answer = io_accept(io);
        if (io->answer)
                io_end(io, io->answer);
        else
                io_get_pages(io);
}

static void io_open(struct worker_job *job)
{
        struct io *io = container_of(job, struct io, job);
        const struct io_arguments *arguments = io->call->arguments;
        struct descriptors *descriptors = &io->call->descriptors;

        io->answer = device_list_open(&io->devices);
        if (!io->answer && io->memory.kind == MEMORY_MAPPED)
                io->answer =
                        memory_map(&io->memory, arguments->memory, descriptors->fds[io->memory.fd],
                                   io->call->peer->privileged, io->devices.mount_device);
        descriptors_close(descriptors);
}

/* All that can be said without touching a file. */
static json_t *io_prepare(struct io *io, const struct io_arguments *arguments)
{
        const struct region_argument *regions = arguments->regions.items;
        const struct call *call = io->call;
        int op = arguments->op;
        int64_t largest = 0;
        uint64_t inline_max;
        json_t *error;

        if (arguments->preflush && !ops[op].takes_flags)
                return error_invalid_parameter("preflush", "is for writes");
        if (arguments->fua && !ops[op].takes_flags)
                return error_invalid_parameter("fua", "is for writes");
        if (op == IO_READ && arguments->regions.n > 1)
                return error_invalid_parameter("regions", "a read has one region");
        error = device_list_prepare(&io->devices, call, &arguments->regions, op != IO_READ);
        if (error)
                return error;

        for (size_t i = 0; i < arguments->regions.n; i++)
                largest = MAX(largest, regions[i].count);
        inline_max = call->model->config->limit_message;
        inline_max = inline_max > ANSWER_ENVELOPE ? (inline_max - ANSWER_ENVELOPE) / 4 * 3 : 0;
        if (io->is_submitted)
                inline_max = MIN(inline_max, SUBMITTED_INLINE_MAX);
        return memory_prepare(&io->memory, arguments->memory, ops[op].takes_memory, op == IO_READ,
                              ops[op].takes_memory ? (uint64_t)largest * DMIO_SECTOR_SIZE : 0,
                              inline_max, call->descriptors.n);
}

static void begin_io(struct call *call, bool is_submitted)
{
        const struct io_arguments *arguments = call->arguments;
        struct client *client;
        json_t *error;
        struct io *io;

        error = call_find_client(call, arguments->client, &client);
        if (error) {
                call_answer(call, error);
                return;
        }
        io = calloc(1, sizeof(*io));
        if (!io) {
                call_answer(call, ERROR_NO_MEMORY);
                return;
        }
        io->call = call;
        io->model = call->model;
        io->uid = call->peer->uid;
        io->worker_uid = call_worker_uid(call);
        io->op = (enum io_op)arguments->op;
        io->preflush = arguments->preflush;
        io->fua = arguments->fua;
        io->is_submitted = is_submitted;
        error = io_prepare(io, arguments);
        if (!error && client_begin_call(client) != MODEL_OK)
                error = error_no_such_client(arguments->client);
        if (error) {
                memory_release(&io->memory);
                device_list_close(&io->devices);
                free(io);
                call_answer(call, error);
                return;
        }

        io->client = client;
        io->job = (struct worker_job){ .run = io_open, .done = io_opened, .uid = io->worker_uid };
        worker_submit(io->model->worker, &io->job);
}

void method_io(struct call *call)
{
        begin_io(call, false);
}

void method_submit_io(struct call *call)
{
        begin_io(call, true);
}
