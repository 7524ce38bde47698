/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "model/commit.h"
#include "state/counters.h"
#include "state/document.h"
#include "state/folder.h"
#include "state/restore.h"
#include "state/saved.h"
#include "state/state.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define BOOT_ID_SIZE 37

struct state {
        struct keeper keeper;
        struct model *model;
        struct descriptor_store *store;
        struct folder folder;
        struct state_counters counters;
        char boot[BOOT_ID_SIZE];
        uint64_t epoch;
};

static void json_decrefp_(json_t **object)
{
        json_decref(*object);
}

#define JSON DMIO_CLEANUP(json_decrefp_) json_t

static json_t *state_describe(struct keeper *keeper)
{
        struct state *state = container_of(keeper, struct state, keeper);

        state_counters_describe(&state->counters, keeper->last);
        return saved_describe(state->model, state->boot, state->epoch);
}

static int state_write(struct keeper *keeper, const json_t *content)
{
        struct state *state = container_of(keeper, struct state, keeper);
        DMIO_CLEANUP(freep) char *text = NULL;
        size_t length;

        state_counters_write(&state->counters, &state->folder);
        text = document_print(content, &length);
        return text ? folder_write(&state->folder, FOLDER_FILE, text, length) : -ENOMEM;
}

static int state_keep(struct keeper *keeper, uint64_t number, int fd)
{
        struct state *state = container_of(keeper, struct state, keeper);
        char name[RESTORE_NAME_SIZE];

        restore_name(number, name);
        return descriptor_store_push(state->store, name, fd);
}

static void state_forget(struct keeper *keeper, uint64_t number)
{
        struct state *state = container_of(keeper, struct state, keeper);
        char name[RESTORE_NAME_SIZE];

        restore_name(number, name);
        (void)descriptor_store_remove(state->store, name);
}

static const struct keeper_class state_keeper = {
        .describe = state_describe,
        .write = state_write,
        .keep = state_keep,
        .forget = state_forget,
};

/* Where it cannot be told, each start counts as another boot. */
static void read_boot_id(char ret[static BOOT_ID_SIZE])
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        ssize_t n = 0;

        fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
                n = read(fd, ret, BOOT_ID_SIZE - 1);
        ret[n > 0 ? n : 0] = '\0';
}

/* The content of the file; that of a new one if there is none. */
static int state_read(const struct state *state, json_t **ret_content, struct saved *ret)
{
        DMIO_CLEANUP(freep) char *message = NULL;
        DMIO_CLEANUP(freep) char *text = NULL;
        JSON *content = NULL;
        size_t length;
        int r;

        r = folder_read(&state->folder, FOLDER_FILE, &text, &length);
        if (r == -ENOENT) {
                content = json_pack("{ss si s[]}", "boot", "", "epoch", 1, "clients");
                r = content ? saved_read(content, ret, &message) : -ENOMEM;
        } else if (r == 0) {
                r = document_parse(text, length, &content, &message);
                if (r == 0)
                        r = saved_read(content, ret, &message);
                if (r == -EBADMSG)
                        return log_error_errno(r,
                                               "%s/" FOLDER_FILE
                                               " is damaged: %s. It is left as it is; to start "
                                               "without what it holds, move it away",
                                               state->folder.path, message ?: "out of memory");
        }
        if (r < 0)
                return log_error_errno(r, "Cannot read %s/" FOLDER_FILE ": %m", state->folder.path);
        *ret_content = DMIO_TAKE(content);
        return 0;
}

/* Opens the folder. Returns false after saying why the daemon has to do without. */
static bool state_open(struct state *state, const char *path)
{
        int r;

        r = folder_open(&state->folder, path);
        if (r == -EBUSY)
                log_warning("Another dmiod has the state folder %s: no client of this one can "
                            "linger, and none of earlier ones comes back",
                            path);
        else if (r < 0)
                log_warning_errno(r,
                                  "Cannot use the state folder %s (%m): no client can linger, and "
                                  "none of earlier ones comes back",
                                  path);
        return r == 0;
}

/* As it was, in the next epoch. Returns 0, or a negative errno after saying why not. */
static int state_raise_epoch(struct state *state, json_t *content, const struct saved *saved)
{
        int r;

        if (saved->epoch >= SAVED_EPOCH_MAX)
                return log_error_errno(-EOVERFLOW, "There have been too many starts on %s",
                                       state->folder.path);
        state->epoch = (uint64_t)saved->epoch + 1;
        r = json_object_set_new(content, "epoch", json_integer((json_int_t)state->epoch));
        r = r < 0 ? -ENOMEM : state_write(&state->keeper, content);
        if (r < 0)
                log_warning_errno(r,
                                  "Cannot write to the state folder %s (%m): no client can linger, "
                                  "and none of earlier ones comes back",
                                  state->folder.path);
        return r;
}

/* Legs may have failed, and devices have other numbers. */
static int state_update(struct state *state, const json_t *before)
{
        JSON *content = state_describe(&state->keeper);
        int r = -ENOMEM;

        if (content && json_equal(content, before))
                return 0;
        if (content)
                r = state_write(&state->keeper, content);
        if (r < 0)
                log_error_errno(r, "Cannot write what became of the legs to %s: %m",
                                state->folder.path);
        return r;
}

static int state_restore(struct state *state, const json_t *content, const struct saved *saved,
                         sd_event *event)
{
        struct model *model = state->model;
        int r;

        r = keeper_init(&state->keeper, &state_keeper, event);
        if (r < 0)
                return log_error_errno(r, "Cannot start a thread for what lasts: %m");
        model->keeper = &state->keeper;
        model->next_node = (node_id_t)state->epoch << SAVED_EPOCH_SHIFT;
        state->keeper.next_descriptor = state->epoch << SAVED_EPOCH_SHIFT;

        r = state_counters_new(&state->counters, model, state->store, event);
        if (r == 0)
                r = restore(model, state->store, saved,
                            strcmp(saved->boot, state->boot) == 0 && saved->boot[0]);
        if (r < 0)
                return r;
        state_counters_restore(&state->counters, &state->folder, state->epoch);
        return state_update(state, content);
}

int state_new(struct model *model, struct descriptor_store *store, sd_event *event,
              struct state **ret)
{
        struct saved saved = {};
        struct state *state;
        JSON *content = NULL;
        int r;

        *ret = NULL;
        state = calloc(1, sizeof(*state));
        if (!state)
                return log_error_errno(-ENOMEM, "Cannot start: %m");
        state->model = model;
        state->store = store;
        state->counters.file.fd = -EBADF;
        read_boot_id(state->boot);
        if (!state_open(state, model->config->state)) {
                free(state);
                return 0;
        }

        r = state_read(state, &content, &saved);
        if (r == 0 && state_raise_epoch(state, content, &saved) < 0) {
                saved_clear(&saved);
                folder_close(&state->folder);
                free(state);
                return 0;
        }
        /* Clients that are made refer to it. */
        *ret = state;
        if (r == 0)
                r = state_restore(state, content, &saved, event);
        saved_clear(&saved);
        return r;
}

struct state *state_free(struct state *state)
{
        if (!state)
                return NULL;
        if (state->model->keeper == &state->keeper) {
                keeper_deinit(&state->keeper);
                state->model->keeper = NULL;
        }
        state_counters_free(&state->counters);
        folder_close(&state->folder);
        free(state);
        return NULL;
}
