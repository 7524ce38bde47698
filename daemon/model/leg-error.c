/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What queue threads find out about legs: counted in the leg, and told on the main loop, by events
 * and to what lasts (record.h).
 */

#include "log.h"
#include "model/commit.h"
#include "model/describe.h"
#include "model/event.h"
#include "model/export.h"

/* An errno and its operation in one word, so that they are of the same error. Never 0. */
static uint32_t pack_error(enum dm_io_op op, int error)
{
        return (uint32_t)op << 16 | (uint32_t)error;
}

static struct event_leg_error unpack_error(unsigned int leg, uint32_t packed, uint64_t n)
{
        return (struct event_leg_error){ .leg = leg,
                                         .error = (int)(packed & UINT16_MAX),
                                         .op = (enum dm_io_op)(packed >> 16),
                                         .n = n };
}

/*
 * On the main loop, for what queue threads have left in the legs since the last time. However many
 * errors there were, nothing more than that is kept of them, and none goes uncounted. What happens
 * from the first line on posts the task again.
 */
void export_tell_errors(struct dmio_task *task)
{
        struct export *export = container_of(task, struct export, error_task);

        atomic_store(&export->error_posted, false);
        for (unsigned int i = 0; i < export->n_legs; i++) {
                struct leg *leg = &export->legs[i];
                uint64_t n = atomic_exchange(&leg->untold_errors, 0);
                uint32_t failure = atomic_exchange(&leg->untold_failure, 0);
                struct event_leg_error error;

                if (n > 0) {
                        error = unpack_error(i, atomic_load(&leg->untold_error), n);
                        event_leg(EVENT_LEG_ERROR, export, &error);
                }
                if (failure) {
                        error = unpack_error(i, failure, 1);
                        event_leg(EVENT_LEG_FAILED, export, &error);
                }
        }
        if (export->record.lasts)
                commit_later(export->model);
        record_commit(export);
}

/* Whoever sees that the leg has failed is to find that it is not yet written. Was it active? */
static bool fail_leg(struct export *export, struct leg *leg)
{
        bool was_active;

        record_begin_failure(&export->record);
        was_active = atomic_exchange(&leg->state, LEG_FAILED) != LEG_FAILED;
        record_end_failure(&export->record);
        return was_active;
}

void export_leg_error(struct export *export, unsigned int leg, enum dm_io_op op, int error,
                      bool fail)
{
        struct leg *entry = &export->legs[leg];

        atomic_store_explicit(&entry->errors->last, error, memory_order_relaxed);
        atomic_fetch_add_explicit(&entry->errors->count, 1, memory_order_relaxed);
        if (fail && fail_leg(export, entry)) {
                log_warning("Leg %u of '%s' has failed (%s, %s) and takes part in nothing any more",
                            leg, export->path, entry->spec.device, errno_name(error));
                atomic_store(&entry->untold_failure, pack_error(op, error));
        } else {
                atomic_store(&entry->untold_error, pack_error(op, error));
                atomic_fetch_add(&entry->untold_errors, 1);
        }
        export_post_errors(export);
}

void export_post_errors(struct export *export)
{
        if (!atomic_exchange(&export->error_posted, true))
                dmio_queue_post(export->model->queue, &export->error_task);
}

bool export_error_is_harmless(int error)
{
        return error == EOPNOTSUPP || error == EINVAL;
}
