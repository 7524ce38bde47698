/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * An engine without a thread of its own, in a program that has a poll(2) loop already: reads
 * regions of a device, all at once, while it also listens to a timer and to standard input.
 *
 *   own-loop DEVICE SECTOR+COUNT...
 *
 * Prints a checksum (FNV-1a) of each region as it comes in, and every second what is still to come.
 * A line on standard input is answered. Exit status: 0 all were read, 1 some were not, 2 usage, 3
 * nothing was tried.
 *
 *   cc own-loop.c $(pkg-config --cflags --libs libdmio)
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <dmio/dmio.h>

#define READINGS_MAX 64
#define SECTORS_MAX 2097152 /* 1 GiB */

struct program {
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        struct dm_io_client *client;
        struct block_device *device;
        unsigned int n_left, n_failed;
};

struct reading {
        struct program *program;
        struct io_region where;
        struct dm_io_leg_error error;
        unsigned char *data;
};

static void check(const char *what, int r)
{
        if (r >= 0)
                return;
        fprintf(stderr, "%s: %s\n", what, strerror(-r));
        exit(3);
}

/* From within dmio_queue_process(), so on this thread: nothing here needs a lock. */
static void read_done(unsigned long error_bits, void *context)
{
        struct reading *reading = context;
        uint64_t sum = UINT64_C(0xcbf29ce484222325);

        reading->program->n_left--;
        printf("%" PRIu64 "+%" PRIu64 ": ", reading->where.sector, reading->where.count);
        for (uint64_t i = 0; i < reading->where.count * DMIO_SECTOR_SIZE; i++)
                sum = (sum ^ reading->data[i]) * UINT64_C(0x100000001b3);
        if (error_bits)
                printf("%s at sector %" PRIu64 "\n", strerror(reading->error.error),
                       reading->error.sector);
        else
                printf("%016" PRIx64 "\n", sum);
        reading->program->n_failed += error_bits != 0;
        free(reading->data);
}

/* The request may go as soon as the call returns; the region's memory belongs to the engine. */
static void read_start(struct program *program, struct reading *reading)
{
        struct dm_io_request request = {
                .op = DM_IO_READ,
                .mem = { .type = DM_IO_KMEM },
                .notify = { .fn = read_done, .context = reading },
                .client = program->client,
                .leg_errors = &reading->error,
        };

        reading->program = program;
        reading->where.bdev = program->device;
        reading->data = malloc(reading->where.count * DMIO_SECTOR_SIZE);
        request.mem.ptr.addr = reading->data;
        check("dm_io", reading->data ? dm_io(&request, 1, &reading->where, NULL) : -ENOMEM);
        program->n_left++;
}

/* The loop of the program. The engine is one descriptor among others. */
static void loop(struct program *program)
{
        const struct itimerspec second = { .it_interval.tv_sec = 1, .it_value.tv_sec = 1 };
        struct pollfd fds[] = {
                { .fd = dmio_queue_fd(program->queue), .events = POLLIN },
                { .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), .events = POLLIN },
                { .fd = STDIN_FILENO, .events = POLLIN },
        };
        uint64_t ticks;
        char line[256];

        check("dmio_queue_fd", fds[0].fd);
        check("timerfd", timerfd_settime(fds[1].fd, 0, &second, NULL) < 0 ? -errno : 0);
        while (program->n_left > 0) {
                check("poll", poll(fds, 3, -1) < 0 ? -errno : 0);
                /* Calls back what is done, without sleeping for what is not. */
                if (fds[0].revents)
                        check("dmio_queue_process", dmio_queue_process(program->queue, 0, 0));
                if (fds[1].revents && read(fds[1].fd, &ticks, sizeof(ticks)) > 0)
                        printf("%u to come\n", program->n_left);
                if (fds[2].revents && read(STDIN_FILENO, line, sizeof(line)) > 0)
                        printf("busy with %u regions\n", program->n_left);
                else if (fds[2].revents)
                        fds[2].fd = -1; /* the end: poll(2) passes over it */
        }
        close(fds[1].fd);
}

int main(int argc, char **argv)
{
        const struct dmio_engine_options options = { .flags = DMIO_ENGINE_NO_THREAD };
        static struct reading readings[READINGS_MAX];
        struct program program = {};

        setlinebuf(stdout);
        for (int i = 2; i < argc && i - 2 < READINGS_MAX; i++) {
                struct io_region *where = &readings[i - 2].where;

                if (sscanf(argv[i], "%" SCNu64 "+%" SCNu64, &where->sector, &where->count) != 2 ||
                    where->count > SECTORS_MAX)
                        argc = 0;
        }
        if (argc < 3 || argc - 2 > READINGS_MAX) {
                fprintf(stderr, "usage: own-loop DEVICE SECTOR+COUNT...\n");
                return 2;
        }
        check(argv[1], dmio_device_open(argv[1], DMIO_DEVICE_READ_ONLY, &program.device));
        check("dmio_engine_create", dmio_engine_create(&options, &program.engine));
        check("dmio_queue_create", dmio_queue_create(program.engine, &program.queue));
        check("dm_io_client_create", dm_io_client_create(program.engine, 0, &program.client));

        for (int i = 2; i < argc; i++)
                read_start(&program, &readings[i - 2]);
        loop(&program);

        /* In this order: each wants what was made of it gone. */
        dm_io_client_destroy(program.client);
        dmio_queue_destroy(program.queue);
        dmio_engine_destroy(program.engine);
        dmio_device_close(program.device);
        return program.n_failed > 0;
}
