/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>

#include "model/export.h"
#include "model/record.h"
#include "util/macros.h"

void record_init(struct record *record, bool lasts)
{
        record->lasts = lasts;
        atomic_init(&record->pending, false);
        pthread_mutex_init(&record->lock, NULL);
        list_init(&record->waits);
}

void record_deinit(struct record *record)
{
        assert(list_is_empty(&record->waits));
        pthread_mutex_destroy(&record->lock);
}

void record_begin_failure(struct record *record)
{
        pthread_mutex_lock(&record->lock);
        if (!record->lasts)
                return;
        record->number++;
        atomic_store(&record->pending, true);
}

void record_end_failure(struct record *record)
{
        pthread_mutex_unlock(&record->lock);
}

bool record_wait(struct export *export, struct record_wait *wait)
{
        struct record *record = &export->record;
        bool pending;

        pthread_mutex_lock(&record->lock);
        pending = atomic_load(&record->pending);
        if (pending) {
                wait->number = record->number;
                list_append(&record->waits, &wait->link);
        }
        pthread_mutex_unlock(&record->lock);
        if (pending)
                export_post_errors(export);
        return pending;
}

/* Those whose failure the commit has not seen go on waiting, unless it has come to nothing. */
static void record_written(struct commit *commit, int error)
{
        struct export *export = container_of(commit, struct export, record.commit);
        struct record *record = &export->record;
        struct record_wait *wait, *after;
        bool again;

        pthread_mutex_lock(&record->lock);
        record->committing = false;
        if (error == 0 && record->covered == record->number)
                atomic_store(&record->pending, false);
        list_for_each_safe (wait, after, &record->waits, link) {
                if (error == 0 && wait->number > record->covered)
                        continue;
                list_unlink(&wait->link);
                wait->error = error;
                dmio_queue_post(wait->queue, &wait->task);
        }
        again = !list_is_empty(&record->waits);
        pthread_mutex_unlock(&record->lock);

        if (again)
                record_commit(export);
        export_unref(export);
}

void record_commit(struct export *export)
{
        struct record *record = &export->record;
        bool begin;

        pthread_mutex_lock(&record->lock);
        begin = atomic_load(&record->pending) && !record->committing;
        if (begin) {
                record->committing = true;
                record->covered = record->number;
        }
        pthread_mutex_unlock(&record->lock);
        if (!begin)
                return;

        export_ref(export);
        record->commit.done = record_written;
        commit_begin(export->model, &record->commit);
}
