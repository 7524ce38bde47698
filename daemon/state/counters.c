/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>

#include "log.h"
#include "model/client.h"
#include "model/describe.h"
#include "model/export.h"
#include "state/counters.h"
#include "state/document.h"
#include "state/saved-counters.h"
#include "util/cleanup.h"

/* A disk should be allowed to sleep. */
#define SAVE_USEC (UINT64_C(5) * 60 * 1000000)
#define ACCURACY_USEC (UINT64_C(10) * 1000000)

static uint64_t save_usec(void)
{
        const char *value = getenv(STATE_COUNTERS_USEC_VARIABLE);

        return value ? strtoull(value, NULL, 10) : SAVE_USEC;
}

/* Returns true if there is something new to be written. */
static bool gather(struct state_counters *counters)
{
        json_t *content = describe_saved_counters(counters->model, counters->epoch);

        if (!content || json_equal(content, counters->content)) {
                json_decref(content);
                return false;
        }
        json_decref(counters->content);
        counters->content = content;
        counters->due = true;
        return true;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct state_counters *counters = userdata;
        const struct keeper *keeper = counters->model->keeper;
        int r;

        /* What is being written must not change meanwhile. */
        if (keeper && !keeper->writing && !keeper->closed && gather(counters))
                commit_later(counters->model);
        r = sd_event_source_set_time_relative(source, save_usec());
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* What another process has left. */
static bool take_up(struct state_counters *counters, struct descriptor_store *store)
{
        int fd = descriptor_store_take(store, DESCRIPTOR_STORE_COUNTERS);
        const char *why = NULL;
        int r;

        if (fd < 0)
                return false;
        r = counters_file_open(&counters->file, fd, &why);
        if (r == 0)
                return true;
        (void)descriptor_store_remove(store, DESCRIPTOR_STORE_COUNTERS);
        if (r == -EBADMSG)
                log_error("The counters that were kept are damaged (%s): they go on from the last "
                          "ones in the state folder",
                          why);
        else if (r == -EPROTO)
                log_notice("The counters that were kept are of another build: they go on from the "
                           "last ones in the state folder");
        else
                log_error_errno(r, "Cannot use the counters that were kept: %m");
        return false;
}

int state_counters_new(struct state_counters *counters, struct model *model,
                       struct descriptor_store *store, sd_event *event)
{
        int r;

        *counters = (struct state_counters){ .model = model, .file = COUNTERS_FILE_NULL };
        if (!take_up(counters, store) && descriptor_store_is_there(store)) {
                r = counters_file_new(&counters->file);
                if (r == 0)
                        r = descriptor_store_push(store, DESCRIPTOR_STORE_COUNTERS,
                                                  counters->file.fd);
                if (r < 0)
                        log_warning_errno(r, "Counters will not outlast a kill of the process: %m");
        }
        if (counters->file.start)
                model->counters = &counters->file;

        r = sd_event_add_time_relative(event, &counters->timer, CLOCK_MONOTONIC, save_usec(),
                                       ACCURACY_USEC, on_timer, counters);
        return r < 0 ? log_error_errno(r, "Cannot set up a timer: %m") : 0;
}

void state_counters_restore(struct state_counters *counters, const struct folder *folder,
                            uint64_t epoch)
{
        DMIO_CLEANUP(freep) char *message = NULL;
        DMIO_CLEANUP(freep) char *text = NULL;
        json_t *content = NULL;
        size_t length;
        int r;

        counters->epoch = epoch;
        if (counters->file.start)
                counters_file_settle(&counters->file);

        r = folder_read(folder, FOLDER_COUNTERS, &text, &length);
        if (r == -ENOENT)
                return;
        if (r == 0)
                r = document_parse(text, length, &content, &message);
        if (r == 0)
                r = saved_counters_apply(content, counters->model, epoch, &message);
        json_decref(content);
        if (r < 0)
                log_warning_errno(r,
                                  "Cannot use %s/" FOLDER_COUNTERS " (%s): counters go on from "
                                  "what is kept, or begin anew",
                                  folder->path, message ?: "%m");
}

void state_counters_describe(struct state_counters *counters, bool last)
{
        if (last)
                (void)gather(counters);
        counters->writing = counters->due;
        counters->due = false;
}

void state_counters_write(struct state_counters *counters, struct folder *folder)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        size_t length;
        int r = -ENOMEM;

        if (!counters->writing)
                return;
        text = document_print(counters->content, &length);
        if (text)
                r = folder_write(folder, FOLDER_COUNTERS, text, length);
        if (r < 0)
                log_warning_errno(r, "Cannot write %s/" FOLDER_COUNTERS ": %m", folder->path);
}

void state_counters_free(struct state_counters *counters)
{
        if (counters->model && counters->model->counters == &counters->file)
                counters->model->counters = NULL;
        counters->timer = sd_event_source_disable_unref(counters->timer);
        json_decref(counters->content);
        counters->content = NULL;
        counters_file_close(&counters->file);
}
