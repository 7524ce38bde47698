/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>

#include "log.h"
#include "model/commit.h"
#include "model/model.h"
#include "util/macros.h"

/* What nobody waits for is written after so long; and so is what could not be written. */
#define LATER_USEC UINT64_C(2000000)

static void keeper_start(struct keeper *keeper);

static void keeper_run(struct worker_job *job)
{
        struct keeper *keeper = container_of(job, struct keeper, job);

        if (keeper->content)
                keeper->result = keeper->class->write(keeper, keeper->content);
}

/* Tell those who wait up to @number. They may begin others. */
static void keeper_tell(struct keeper *keeper, uint64_t number, int error)
{
        struct commit *commit;

        while ((commit = list_first(&keeper->waiting, struct commit, link)) &&
               commit->number <= number) {
                list_unlink(&commit->link);
                commit->done(commit, error);
        }
}

static void keeper_wait_a_while(struct keeper *keeper)
{
        int r;

        if (!keeper->later || keeper->closed)
                return;
        r = sd_event_source_set_time_relative(keeper->later, LATER_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(keeper->later, SD_EVENT_ONESHOT);
        if (r < 0)
                log_debug_errno(r, "Cannot set a timer: %m");
}

static void keeper_done(struct worker_job *job)
{
        struct keeper *keeper = container_of(job, struct keeper, job);
        int error = keeper->result;

        if (error < 0 && !keeper->failing && !keeper->frozen)
                log_error_errno(error, "What is to last cannot be written: %m");
        else if (error == 0 && keeper->failing)
                log_notice("What is to last can be written again");
        keeper->failing = error < 0;
        keeper->writing = false;
        json_decref(keeper->content);
        keeper->content = NULL;

        keeper_tell(keeper, keeper->covered, error);
        /* The file may be the old one or the new one, and what is undone may be in it. */
        if (error < 0)
                keeper_wait_a_while(keeper);
        if (!list_is_empty(&keeper->waiting) && !keeper->writing)
                keeper_start(keeper);
}

static void keeper_start(struct keeper *keeper)
{
        keeper->writing = true;
        keeper->covered = keeper->number;
        keeper->content = keeper->frozen ? NULL : keeper->class->describe(keeper);
        keeper->result = keeper->frozen ? -ESHUTDOWN : keeper->content ? 0 : -ENOMEM;
        keeper->job = (struct worker_job){ .run = keeper_run, .done = keeper_done };
        worker_submit(keeper->worker, &keeper->job);
}

static int keeper_on_later(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct keeper *keeper = userdata;

        /* A write that is in progress may have begun too early. */
        if (keeper->writing)
                keeper_wait_a_while(keeper);
        else if (!keeper->closed)
                keeper_start(keeper);
        return 0;
}

int keeper_init(struct keeper *keeper, const struct keeper_class *class, sd_event *event)
{
        int r;

        *keeper = (struct keeper){ .class = class };
        list_init(&keeper->waiting);
        r = worker_new(event, &keeper->worker);
        if (r >= 0)
                r = sd_event_add_time(event, &keeper->later, CLOCK_MONOTONIC, 0, 0, keeper_on_later,
                                      keeper);
        if (r >= 0)
                r = sd_event_source_set_enabled(keeper->later, SD_EVENT_OFF);
        if (r < 0)
                keeper_deinit(keeper);
        return r;
}

void keeper_deinit(struct keeper *keeper)
{
        keeper->closed = keeper->frozen = true;
        keeper->later = sd_event_source_disable_unref(keeper->later);
        keeper->worker = worker_free(keeper->worker);
        keeper_tell(keeper, UINT64_MAX, -ESHUTDOWN);
}

uint64_t keeper_take_numbers(struct keeper *keeper, unsigned int n)
{
        uint64_t first = keeper->next_descriptor;

        keeper->next_descriptor += n;
        return first;
}

void keeper_forget(struct keeper *keeper, uint64_t number)
{
        if (!keeper->frozen && keeper->class->forget)
                keeper->class->forget(keeper, number);
}

bool model_can_last(const struct model *model)
{
        return model->keeper != NULL;
}

static void keeper_enter(struct keeper *keeper, struct commit *commit)
{
        commit->number = ++keeper->number;
        list_append(&keeper->waiting, &commit->link);
        if (!keeper->writing)
                keeper_start(keeper);
}

void commit_begin(struct model *model, struct commit *commit)
{
        struct keeper *keeper = model->keeper;

        assert(keeper);
        if (keeper->closed) {
                commit->done(commit, -ESHUTDOWN);
                return;
        }
        keeper_enter(keeper, commit);
}

void commit_later(struct model *model)
{
        struct keeper *keeper = model->keeper;
        int enabled = SD_EVENT_OFF;

        if (!keeper || !keeper->later)
                return;
        /* It is not put off by what comes after it. */
        if (sd_event_source_get_enabled(keeper->later, &enabled) < 0 || enabled == SD_EVENT_OFF)
                keeper_wait_a_while(keeper);
}

void commit_last(struct model *model, struct commit *commit)
{
        struct keeper *keeper = model->keeper;

        keeper->last = true;
        keeper_enter(keeper, commit);
        keeper->closed = true;
}

void commit_freeze(struct model *model)
{
        if (model->keeper)
                model->keeper->closed = model->keeper->frozen = true;
}

bool model_is_taken_apart(const struct model *model)
{
        return model->restoring || (model->keeper && model->keeper->frozen);
}
