/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aside.h"
#include "control/errors.h"
#include "log.h"
#include "starting.h"
#include "state/opening.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/macros.h"

/* When it is said that somebody is waited for. */
#define TELL_USEC UINT64_C(1000000)

/* Its thread's while that runs; of no use to others when it has been let go. */
struct opening {
        struct aside_call call;
        char *name;
        char *path;
        int fd;
        dev_t mount_device;
        enum leg_how how;
        bool writes;
        struct leg_identity was;

        struct leg_identity is;
        struct block_device *bdev;
        char reason[160]; /* without a device: why */
        bool ours;        /* memory of our own is what it lacks */
};

struct openings {
        struct aside *aside;
        size_t n;
        dev_t mount_device;
};

/* How what was opened differs from what it was, or NULL. */
static const char *find_difference(const struct leg_identity *was, const struct leg_identity *is)
{
        if (was->block != is->block)
                return "it is a device of another kind";
        if (was->id.device != 0 && was->id.device != is->id.device)
                return was->block ? "it is another device" : "it lies on another file system";
        if (was->serial[0] && strcmp(was->serial, is->serial) != 0)
                return "it is another device";
        if (was->id.inode != is->id.inode ||
            (was->born_sec != 0 && is->born_sec != 0 &&
             (was->born_sec != is->born_sec || was->born_nsec != is->born_nsec)))
                return "it is another file";
        if (was->capacity != is->capacity)
                return "its size has changed";
        return NULL;
}

/* What another moment may mend. */
static bool passes(int error)
{
        return error == -EINTR || error == -EAGAIN || error == -EMFILE || error == -ENFILE ||
               error == -ENOMEM;
}

static void set_reason(struct opening *opening, const char *reason)
{
        (void)snprintf(opening->reason, sizeof(opening->reason), "%s", reason);
}

static void set_refusal(struct opening *opening, const json_t *error)
{
        const json_t *parameters = json_object_get(error, "parameters");
        const char *name = json_string_value(json_object_get(error, "error"));
        const char *reason = json_string_value(json_object_get(parameters, "errno"));

        if (!reason)
                reason = json_string_value(json_object_get(parameters, "reason"));
        set_reason(opening, reason ?: name ?: "out of memory");
}

static void list_closep(struct device_list **list)
{
        if (*list)
                device_list_close(*list);
        free(*list);
}

/* As if a call had named it. */
static struct device_list *make_list(const struct opening *opening)
{
        DMIO_CLEANUP(list_closep) struct device_list *list = calloc(1, sizeof(*list));

        if (!list)
                return NULL;
        list->mount_device = opening->mount_device;
        list->unserved = opening->mount_device != 0;
        list->writes = opening->writes;
        list->n = 1;
        list->entries[0] = (struct device_entry){
                .name = strdup(opening->name),
                .path = opening->path ? strdup(opening->path) : NULL,
                .fd = opening->fd,
                .how = opening->how,
                .flags = opening->writes ? 0 : DMIO_DEVICE_READ_ONLY,
        };
        if (!list->entries[0].name || (opening->path && !list->entries[0].path))
                return NULL;
        return DMIO_TAKE(list);
}

/* Returns 0, with a device or a reason; or an error that may pass. */
static int opening_try(struct opening *opening)
{
        DMIO_CLEANUP(list_closep) struct device_list *list = make_list(opening);
        const char *difference;
        json_t *error;

        opening->ours = !list;
        if (!list)
                return -ENOMEM;
        error = device_list_open(list);
        if (!error)
                error = device_list_identify(list);
        if (error) {
                set_refusal(opening, error);
                json_decref(error);
                return passes(list->entries[0].error) ? list->entries[0].error : 0;
        }
        difference = find_difference(&opening->was, &list->entries[0].identity);
        if (difference) {
                set_reason(opening, difference);
        } else {
                opening->is = list->entries[0].identity;
                opening->bdev = DMIO_TAKE(list->entries[0].bdev);
        }
        return 0;
}

static int opening_run(struct aside_call *call)
{
        struct opening *opening = container_of(call, struct opening, call);
        int r = opening_try(opening);

        if (!passes(r))
                opening->fd = close_fd(opening->fd);
        return r;
}

static void opening_drop(struct aside_call *call)
{
        struct opening *opening = container_of(call, struct opening, call);

        dmio_device_close(opening->bdev);
        close_fd(opening->fd);
        free(opening->name);
        free(opening->path);
        free(opening);
}

int openings_new(dev_t mount_device, struct openings **ret)
{
        struct openings *openings;
        int r;

        openings = calloc(1, sizeof(*openings));
        if (!openings)
                return -ENOMEM;
        openings->mount_device = mount_device;
        r = aside_new(passes, &openings->aside);
        if (r < 0) {
                free(openings);
                return r;
        }
        *ret = openings;
        return 0;
}

int openings_add(struct openings *openings, const struct opening_how *how)
{
        struct opening *opening;

        opening = calloc(1, sizeof(*opening));
        if (!opening) {
                aside_close_fds(&how->fd, how->fd >= 0);
                return -ENOMEM;
        }
        *opening = (struct opening){
                .call = { .run = opening_run, .drop = opening_drop },
                .name = strdup(how->name),
                .path = how->path ? strdup(how->path) : NULL,
                .fd = how->fd,
                .mount_device = openings->mount_device,
                .how = how->how,
                .writes = how->writes,
                .was = *how->identity,
        };
        if (!opening->name || (how->path && !opening->path) ||
            aside_add(openings->aside, &opening->call) < 0) {
                aside_close_fds(&how->fd, how->fd >= 0);
                opening->fd = -EBADF;
                opening_drop(&opening->call);
                return -ENOMEM;
        }
        openings->n++;
        return 0;
}

/* Whether it is we who have no descriptors or memory, and not somebody's file server. */
static bool we_are_short(void)
{
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return true;
        close_fd(fds[0]);
        close_fd(fds[1]);
        return false;
}

/* What kept one from being opened though its device may be good, or 0. */
static int find_shortage(const struct openings *openings, size_t *ret_number)
{
        for (size_t i = 0; i < openings->n; i++) {
                const struct opening *opening;
                struct aside_call *call;
                int r;

                *ret_number = i;
                if (aside_get(openings->aside, i, &call, &r) == ASIDE_NOT_BEGUN)
                        return -EAGAIN;
                if (!passes(r) || r == -EINTR || r == -EAGAIN)
                        continue;
                opening = call ? container_of(call, struct opening, call) : NULL;
                if ((opening && opening->ours) || we_are_short())
                        return r;
        }
        return 0;
}

/* What is told while it is waited. Returns false if somebody wants that to end. */
static bool tell(const struct openings *openings, size_t left, uint64_t left_usec)
{
        char text[96];

        (void)snprintf(text, sizeof(text), "%zu of %zu devices have not answered", left,
                       openings->n);
        return starting_goes_on(text, left_usec);
}

int openings_run(struct openings *openings, unsigned int limit_sec, size_t *ret_number)
{
        uint64_t limit = limit_sec * UINT64_C(1000000), begun = now_usec(), now = begun;
        uint64_t end = begun + limit;
        bool all_begun = false, told = false, goes_on = true;
        size_t left;

        while ((left = aside_wait(openings->aside, MIN(STARTING_LOOK_USEC, end - now))) > 0) {
                now = now_usec();
                /* Whose turn has come late has as much time as the others. */
                if (!all_begun && aside_all_begun(openings->aside)) {
                        all_begun = true;
                        end = now + limit;
                }
                if (now >= end)
                        break;
                if (!told && now - begun >= TELL_USEC) {
                        told = true;
                        log_notice("Waiting for %zu of %zu devices, for %u seconds at most", left,
                                   openings->n, limit_sec);
                }
                goes_on = tell(openings, left, end - now);
                if (!goes_on)
                        break;
        }
        aside_end(openings->aside);
        return goes_on ? find_shortage(openings, ret_number) : -ECANCELED;
}

int openings_get(const struct openings *openings, size_t number, struct block_device **ret,
                 struct leg_identity *ret_identity, const char **ret_reason)
{
        const struct opening *opening;
        struct aside_call *call;
        int result;

        if (aside_get(openings->aside, number, &call, &result) == ASIDE_LET_GO) {
                *ret_reason = "it does not answer";
                return -ETIMEDOUT;
        }
        opening = container_of(call, struct opening, call);
        if (!opening->bdev) {
                *ret_reason = opening->reason;
                return -ENODEV;
        }
        *ret = opening->bdev;
        *ret_identity = opening->is;
        return 0;
}

void openings_take(struct openings *openings, size_t number)
{
        struct aside_call *call;
        int result;

        if (aside_get(openings->aside, number, &call, &result) == ASIDE_BACK)
                container_of(call, struct opening, call)->bdev = NULL;
}

struct openings *openings_free(struct openings *openings)
{
        if (!openings)
                return NULL;
        aside_free(openings->aside);
        free(openings);
        return NULL;
}
