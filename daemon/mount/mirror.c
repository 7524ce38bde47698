/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "log.h"
#include "model/export.h"
#include "mount/mirror.h"
#include "mount/mount-internal.h"
#include "mount/transfer.h"
#include "util/clock.h"
#include "util/macros.h"

/* Zeroes without end, for legs that cannot be told to make some. Only ever read. */
static struct page zero_page;
static struct page_list zeroes = { .next = &zeroes, .page = &zero_page };

static void read_done(unsigned long error, void *context);
static void write_done(unsigned long error, void *context);
static void undo_read(unsigned long error, void *context);
static void undo_done(unsigned long error, void *context);
static void zero_done(unsigned long error, void *context);

/* Errors of a read that say nothing about the leg. */
static bool speaks_of_request(int error)
{
        return error == ENOMEM || export_error_is_harmless(error);
}

/* What the client is told: the few errors that a program may act on, EIO for the rest. */
static int client_error(int error)
{
        switch (error) {
        case ENOSPC:
        case EDQUOT:
        case EROFS:
        case EINVAL:
        case ENOMEM:
        case EOPNOTSUPP:
                return -error;
        default:
                return -EIO;
        }
}

static struct io_region leg_region(const struct leg *leg, uint64_t offset, uint64_t length)
{
        return (struct io_region){
                .bdev = leg->spec.bdev,
                .sector = leg->spec.sector + (offset >> DMIO_SECTOR_SHIFT),
                .count = length >> DMIO_SECTOR_SHIFT,
        };
}

/*
 * The legs that were sent a request are done with it, each in its own time. What follows goes on
 * from there.
 */
static void count_legs(struct transfer *transfer, unsigned long errors)
{
        struct mirror *mirror = &transfer->mirror;
        uint64_t last = mirror->asked_usec;

        for (unsigned int i = 0; i < mirror->n_sent; i++) {
                uint64_t done = MAX(mirror->leg_errors[i].done_usec, mirror->asked_usec);
                unsigned int leg = mirror->leg[mirror->sent[i]];

                transfer_count_leg(transfer, leg, mirror->asked, done - mirror->asked_usec,
                                   mirror->length, errors >> i & 1);
                last = MAX(last, done);
        }
        transfer->now_usec = last;
}

static void mirror_asks(struct transfer *transfer, enum operation operation)
{
        transfer->mirror.asked = operation;
        transfer->mirror.asked_usec = transfer->now_usec;
}

/* A write that relies on a failure that is not written down is no success. What was read is right.
 */
static void mirror_recorded(struct dmio_task *task)
{
        struct transfer *transfer = container_of(task, struct transfer, mirror.record.task);
        struct mirror *mirror = &transfer->mirror;
        int error = mirror->result;

        transfer->now_usec = now_usec();
        if (error == 0 && mirror->record.error < 0 && mirror->op != DM_IO_READ)
                error = -EIO;
        mirror->then(transfer, error);
}

/* Nobody hears of anything while a leg's failure is not recorded (model/record.h). */
static void mirror_finish(struct transfer *transfer, int error)
{
        struct mirror *mirror = &transfer->mirror;

        if (!record_is_pending(&transfer->export->record)) {
                mirror->then(transfer, error);
                return;
        }
        mirror->result = error;
        mirror->record.queue = transfer->thread->queue;
        mirror->record.task.fn = mirror_recorded;
        if (!record_wait(transfer->export, &mirror->record))
                mirror->then(transfer, error);
}

static void read_next(struct transfer *transfer)
{
        struct mirror *mirror = &transfer->mirror;
        struct export *export = transfer->export;
        struct dm_io_request request = {
                .op = DM_IO_READ,
                .mem = { .type = DM_IO_PAGE_LIST, .ptr.pl = mirror->pages },
                .notify = { .fn = read_done, .context = transfer },
                .client = export->io,
                .queue = transfer->thread->queue,
                .leg_errors = mirror->leg_errors,
        };
        int r = -EIO;

        for (unsigned int i = 0; i < export->n_legs; i++) {
                struct io_region region;

                if (mirror->tried & UINT64_C(1) << i || !leg_is_active(&export->legs[i]))
                        continue;
                mirror->tried |= UINT64_C(1) << i;
                mirror->leg[0] = (uint8_t)i;
                mirror_asks(transfer, OPERATION_READ);

                region = leg_region(&export->legs[i], mirror->offset, mirror->length);
                mirror->leg_errors[0].error = 0;
                r = dm_io(&request, 1, &region, NULL);
                if (r == 0)
                        return;
                /* Nothing was submitted, which another leg would not change. */
                mirror->first_error = -r;
                break;
        }

        mirror_finish(transfer, client_error(mirror->first_error ? mirror->first_error : EIO));
}

static void read_done(unsigned long error, void *context)
{
        struct transfer *transfer = context;
        struct mirror *mirror = &transfer->mirror;
        unsigned int leg = mirror->leg[0];

        count_legs(transfer, error);
        if (error) {
                int leg_error = mirror->leg_errors[0].error ? mirror->leg_errors[0].error : EIO;

                if (!mirror->first_error)
                        mirror->first_error = leg_error;
                if (!speaks_of_request(leg_error))
                        export_leg_error(transfer->export, leg, DM_IO_READ, leg_error, false);
                read_next(transfer);
        } else if (!leg_is_active(&transfer->export->legs[leg])) {
                /* It failed meanwhile, and may lack what has been acknowledged since. */
                read_next(transfer);
        } else {
                mirror_finish(transfer, 0);
        }
}

void mirror_read(struct transfer *transfer, uint64_t offset, uint64_t length,
                 struct page_list *pages, mirror_fn then)
{
        struct mirror *mirror = &transfer->mirror;

        mirror->op = DM_IO_READ;
        mirror->then = then;
        mirror->pages = pages;
        mirror->offset = offset;
        mirror->length = length;
        mirror->tried = 0;
        mirror->n_sent = 1;
        mirror->sent[0] = 0;
        mirror->first_error = 0;
        read_next(transfer);
}

/* Fill the slots with the legs that are active now: the request is about them, whatever happens. */
static void slots_fill(struct transfer *transfer)
{
        struct mirror *mirror = &transfer->mirror;
        const struct export *export = transfer->export;

        mirror->n_slots = 0;
        for (unsigned int i = 0; i < export->n_legs; i++) {
                if (!leg_is_active(&export->legs[i]))
                        continue;
                mirror->leg[mirror->n_slots] = (uint8_t)i;
                mirror->sent[mirror->n_slots] = (uint8_t)mirror->n_slots;
                mirror->error[mirror->n_slots] = 0;
                mirror->n_slots++;
        }
        mirror->n_sent = mirror->n_slots;
}

/* Take over what became of the regions just sent. */
static void slots_collect(struct transfer *transfer, unsigned long error)
{
        struct mirror *mirror = &transfer->mirror;

        count_legs(transfer, error);
        for (unsigned int i = 0; i < mirror->n_sent; i++) {
                int leg_error = mirror->leg_errors[i].error ? mirror->leg_errors[i].error : EIO;

                mirror->error[mirror->sent[i]] = error & 1UL << i ? leg_error : 0;
        }
}

/*
 * What the errors in the slots mean. A leg that refused is as good as one that took it, if they are
 * @equal; else it fails like one that could not.
 */
static int slots_judge(struct transfer *transfer, bool equal)
{
        struct mirror *mirror = &transfer->mirror;
        struct export *export = transfer->export;
        int first_error = 0, refusal = 0;
        bool taken = false, good = false;

        pthread_mutex_lock(&export->judge_lock);
        for (unsigned int i = 0; i < mirror->n_slots; i++) {
                bool is_active = leg_is_active(&export->legs[mirror->leg[i]]);
                int error = mirror->error[i];

                if (error == 0)
                        taken |= is_active;
                else if (export_error_is_harmless(error))
                        refusal = error;
                else if (!first_error)
                        first_error = error;
                good |= is_active && (error == 0 || export_error_is_harmless(error));
        }

        /* What nobody took is nowhere. */
        equal |= !taken;
        for (unsigned int i = 0; i < mirror->n_slots; i++) {
                int error = mirror->error[i];

                if (error && !(equal && export_error_is_harmless(error)))
                        export_leg_error(export, mirror->leg[i], mirror->op, error,
                                         good && leg_is_active(&export->legs[mirror->leg[i]]));
        }
        pthread_mutex_unlock(&export->judge_lock);

        if (refusal && equal)
                return client_error(refusal);
        if (taken)
                return 0;
        return client_error(first_error ? first_error : EIO);
}

/* Send a request to the slots in mirror->sent. */
static void slots_send(struct transfer *transfer, enum operation operation, struct page_list *pages,
                       unsigned int flags, io_notify_fn done)
{
        struct mirror *mirror = &transfer->mirror;
        const struct export *export = transfer->export;
        struct dm_io_request request = {
                .op = operation == OPERATION_WRITE_ZEROES ? DM_IO_WRITE_ZEROES : DM_IO_WRITE,
                .flags = flags,
                .mem = { .type = DM_IO_PAGE_LIST, .ptr.pl = pages },
                .notify = { .fn = done, .context = transfer },
                .client = export->io,
                .queue = transfer->thread->queue,
                .leg_errors = mirror->leg_errors,
        };
        struct io_region regions[DM_IO_MAX_REGIONS];
        int r;

        for (unsigned int i = 0; i < mirror->n_sent; i++) {
                regions[i] = leg_region(&export->legs[mirror->leg[mirror->sent[i]]], mirror->offset,
                                        mirror->length);
                mirror->leg_errors[i].error = 0;
        }

        mirror_asks(transfer, operation);
        r = mirror->n_sent > 0 ? dm_io(&request, mirror->n_sent, regions, NULL) : -EIO;
        if (r == 0)
                return;

        /* Not one leg was asked, so not one has an error. */
        log_debug_errno(r, "Cannot submit a request to %s: %m", export->path);
        for (unsigned int i = 0; i < mirror->n_sent; i++)
                mirror->error[mirror->sent[i]] = -r;
        /* A second try for some of them: the others have changed already. */
        mirror_finish(transfer, mirror->n_sent < mirror->n_slots
                                        ? slots_judge(transfer, done == undo_done)
                                        : client_error(-r));
}

/* The slot of a leg that refused what another one took, or -1. */
static int slot_to_undo_for(const struct transfer *transfer)
{
        const struct mirror *mirror = &transfer->mirror;
        bool taken = false;
        int refused = -1;

        for (unsigned int i = 0; i < mirror->n_slots; i++) {
                if (!leg_is_active(&transfer->export->legs[mirror->leg[i]]))
                        continue;
                if (mirror->error[i] == 0)
                        taken = true;
                else if (export_error_is_harmless(mirror->error[i]))
                        refused = (int)i;
        }
        return taken ? refused : -1;
}

/* Read what was there before, from the leg in the slot. */
static void undo_begin(struct transfer *transfer, unsigned int slot)
{
        struct mirror *mirror = &transfer->mirror;
        struct dm_io_request request = {
                .op = DM_IO_READ,
                .mem = { .type = DM_IO_PAGE_LIST, .ptr.pl = mirror->pages },
                .notify = { .fn = undo_read, .context = transfer },
                .client = transfer->export->io,
                .queue = transfer->thread->queue,
                .leg_errors = mirror->leg_errors,
        };
        struct io_region region = leg_region(&transfer->export->legs[mirror->leg[slot]],
                                             mirror->offset, mirror->length);

        mirror->n_sent = 1;
        mirror->sent[0] = (uint8_t)slot;
        mirror_asks(transfer, OPERATION_READ);
        if (dm_io(&request, 1, &region, NULL) < 0)
                mirror_finish(transfer, slots_judge(transfer, false));
}

static void undo_read(unsigned long error, void *context)
{
        struct transfer *transfer = context;
        struct mirror *mirror = &transfer->mirror;

        count_legs(transfer, error);
        /* One that has failed meanwhile has nothing that others should get back. */
        if (error || !leg_is_active(&transfer->export->legs[mirror->leg[mirror->sent[0]]])) {
                mirror_finish(transfer, slots_judge(transfer, false));
                return;
        }
        mirror->n_sent = 0;
        for (unsigned int i = 0; i < mirror->n_slots; i++)
                if (mirror->error[i] == 0)
                        mirror->sent[mirror->n_sent++] = (uint8_t)i;
        slots_send(transfer, OPERATION_WRITE, mirror->pages, 0, undo_done);
}

static void undo_done(unsigned long error, void *context)
{
        struct transfer *transfer = context;

        slots_collect(transfer, error);
        mirror_finish(transfer, slots_judge(transfer, true));
}

static void write_done(unsigned long error, void *context)
{
        struct transfer *transfer = context;
        struct mirror *mirror = &transfer->mirror;
        int slot;

        slots_collect(transfer, error);
        if (!error && mirror->n_sent == mirror->n_slots) {
                mirror_finish(transfer, 0);
                return;
        }
        slot = mirror->may_undo ? slot_to_undo_for(transfer) : -1;
        if (slot >= 0)
                undo_begin(transfer, (unsigned int)slot);
        else
                mirror_finish(transfer, slots_judge(transfer, false));
}

static void mirror_begin(struct transfer *transfer, enum dm_io_op op, uint64_t offset,
                         uint64_t length, mirror_fn then)
{
        struct mirror *mirror = &transfer->mirror;

        mirror->op = op;
        mirror->then = then;
        mirror->offset = offset;
        mirror->length = length;
        mirror->may_undo = false;
        if (op == DM_IO_WRITE)
                uncache_writing(transfer->export, transfer->now_usec);
        slots_fill(transfer);
}

void mirror_write(struct transfer *transfer, uint64_t offset, uint64_t length,
                  struct page_list *pages, unsigned int flags, mirror_fn then)
{
        mirror_begin(transfer, DM_IO_WRITE, offset, length, then);
        transfer->mirror.pages = pages;
        transfer->mirror.may_undo = true;
        slots_send(transfer, OPERATION_WRITE, pages, flags, write_done);
}

/* Legs without such an operation get the zeroes as data; then all are judged together. */
static void zero_done(unsigned long error, void *context)
{
        struct transfer *transfer = context;
        struct mirror *mirror = &transfer->mirror;

        slots_collect(transfer, error);
        mirror->n_sent = 0;
        for (unsigned int i = 0; i < mirror->n_slots; i++)
                if (mirror->error[i] == EOPNOTSUPP || mirror->error[i] == EINVAL)
                        mirror->sent[mirror->n_sent++] = (uint8_t)i;

        if (mirror->n_sent > 0)
                slots_send(transfer, OPERATION_WRITE, &zeroes, 0, write_done);
        else
                mirror_finish(transfer, error ? slots_judge(transfer, false) : 0);
}

void mirror_zero(struct transfer *transfer, uint64_t offset, uint64_t length, unsigned int flags,
                 mirror_fn then)
{
        mirror_begin(transfer, DM_IO_WRITE_ZEROES, offset, length, then);
        slots_send(transfer, OPERATION_WRITE_ZEROES, NULL, flags, zero_done);
}

/*
 * A leg whose device has nothing to flush has nothing that could be lost. One whose device has lost
 * something at somebody else's flush, of another export or on the control channel, hears of it
 * here.
 */
static void flush_done(unsigned long error, void *context)
{
        struct transfer *transfer = context;
        struct mirror *mirror = &transfer->mirror;
        bool failed = false;

        slots_collect(transfer, error);
        for (unsigned int i = 0; i < mirror->n_slots; i++) {
                if (export_error_is_harmless(mirror->error[i]))
                        mirror->error[i] = 0;
                if (leg_has_lost(&transfer->export->legs[mirror->leg[i]]) && !mirror->error[i])
                        mirror->error[i] = EIO;
                failed |= mirror->error[i] != 0;
        }
        mirror_finish(transfer, failed ? slots_judge(transfer, false) : 0);
}

void mirror_flush(struct transfer *transfer, mirror_fn then)
{
        mirror_begin(transfer, DM_IO_FLUSH, 0, 0, then);
        slots_send(transfer, OPERATION_FLUSH, &zeroes, DM_IO_PREFLUSH, flush_done);
}
