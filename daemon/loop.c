/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>

#include "log.h"
#include "loop.h"

/* Callbacks make work for others: after so many rounds those others get their turn. */
#define ROUNDS_MAX 16

struct loop {
        sd_event *event;
        struct dmio_queue *queue;
        sd_event_source *io;
        sd_event_source *again; /* once, when a turn ended with work left */
};

static int loop_run(struct loop *loop)
{
        int n = 1;

        for (unsigned int i = 0; n > 0 && i < ROUNDS_MAX; i++)
                n = dmio_queue_process(loop->queue, 0, 0);
        if (n < 0) {
                log_error_errno(n, "The main loop's queue has failed: %m");
                return sd_event_exit(loop->event, EXIT_FAILURE);
        }
        return sd_event_source_set_enabled(loop->again, n > 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int loop_on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        return loop_run(userdata);
}

static int loop_on_again(sd_event_source *source, void *userdata)
{
        return loop_run(userdata);
}

int loop_new(sd_event *event, struct dmio_queue *queue, struct loop **ret)
{
        struct loop *loop;
        int r;

        loop = calloc(1, sizeof(*loop));
        if (!loop)
                return -ENOMEM;
        loop->event = sd_event_ref(event);
        loop->queue = queue;

        r = sd_event_add_defer(event, &loop->again, loop_on_again, loop);
        if (r >= 0)
                r = sd_event_source_set_enabled(loop->again, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_io(event, &loop->io, dmio_queue_fd(queue), EPOLLIN, loop_on_io,
                                    loop);
        if (r < 0) {
                loop_free(loop);
                return r;
        }

        *ret = loop;
        return 0;
}

struct loop *loop_free(struct loop *loop)
{
        if (!loop)
                return NULL;
        sd_event_source_disable_unref(loop->io);
        sd_event_source_disable_unref(loop->again);
        sd_event_unref(loop->event);
        free(loop);
        return NULL;
}

void loop_finish(struct dmio_queue *queue)
{
        while (dmio_queue_process(queue, 0, 0) > 0)
                ;
}
