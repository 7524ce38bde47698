/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Copies an image or device to one or more others, all at once, and shows how far it is.
 *
 *   copy-progress [-t PERCENT] [-i] SOURCE DESTINATION...
 *
 *   -t PERCENT   be busy that much of the time only
 *   -i           go on after errors; what cannot be read is written as zeroes
 *
 * Destinations (up to 8) must be there and as large as the source. Ctrl-C ends the copy when what
 * is just being copied has been written. Exit status: 0 all destinations have everything, and
 * durably; 1 something went wrong, which is named for the source and for each destination; 2 usage;
 * 3 nothing was copied; 130 cancelled.
 *
 *   cc copy-progress.c $(pkg-config --cflags --libs libdmio)
 */

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <dmio/dmio.h>

#define SHOW_EVERY_NS 200000000

enum { EXIT_PARTLY = 1, EXIT_USAGE = 2, EXIT_NOTHING = 3, EXIT_CANCELLED = 130 };

struct copy {
        const char *names[1 + DM_KCOPYD_MAX_REGIONS]; /* the source, then the destinations */
        struct io_region from;
        struct io_region dests[DM_KCOPYD_MAX_REGIONS];
        unsigned int num_dests;
        unsigned int flags;

        struct dmio_engine *engine;
        struct dm_kcopyd_client *client;
        struct dm_kcopyd_job *job;
        sem_t done;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
        (void)number;
        interrupted = 1;
}

static int complain(const char *what, int error)
{
        (void)fprintf(stderr, "copy-progress: %s: %s\n", what, strerror(error));
        return EXIT_NOTHING;
}

/* Runs on the engine's thread; the job tells the rest. */
static void copied(int read_err, unsigned long write_err, void *context)
{
        struct copy *copy = context;

        (void)read_err;
        (void)write_err;
        (void)sem_post(&copy->done);
}

static int open_devices(struct copy *copy)
{
        int r;

        r = dmio_device_open(copy->names[0], DMIO_DEVICE_READ_ONLY, &copy->from.bdev);
        if (r < 0)
                return complain(copy->names[0], -r);
        copy->from.count = dmio_device_capacity(copy->from.bdev);
        for (unsigned int i = 0; i < copy->num_dests; i++) {
                r = dmio_device_open(copy->names[1 + i], 0, &copy->dests[i].bdev);
                if (r < 0)
                        return complain(copy->names[1 + i], -r);
                copy->dests[i].count = copy->from.count;
        }
        return 0;
}

static int begin(struct copy *copy, unsigned int throttle)
{
        struct dm_kcopyd_options options = { .throttle = throttle };
        int r;

        r = dmio_engine_create(NULL, &copy->engine);
        if (r < 0)
                return complain("engine", -r);
        r = dm_kcopyd_client_create(copy->engine, &options, &copy->client);
        if (r < 0)
                return complain("copier", -r);
        r = dm_kcopyd_copy(copy->client, &copy->from, copy->num_dests, copy->dests, copy->flags,
                           copied, copy, &copy->job);
        if (r == -EINVAL)
                (void)fprintf(stderr, "copy-progress: source and destinations must be different, "
                                      "and their sizes whole blocks\n");
        return r < 0 ? complain("copy", -r) : 0;
}

static void show(const struct copy *copy)
{
        struct dm_kcopyd_job_status status;
        double part;

        dm_kcopyd_job_status(copy->job, &status);
        part = status.total ? (double)status.done / (double)status.total : 1;
        (void)fprintf(stderr, "\r%5.1f %%  %llu of %llu MiB", 100 * part,
                      (unsigned long long)(status.done / 2048),
                      (unsigned long long)(status.total / 2048));
}

/* Until the callback has come, with a look at the progress now and then. */
static void watch(struct copy *copy)
{
        struct timespec next;
        bool cancelled = false;

        do {
                show(copy);
                if (interrupted && !cancelled) {
                        dm_kcopyd_job_cancel(copy->job);
                        cancelled = true;
                }
                (void)clock_gettime(CLOCK_REALTIME, &next);
                next.tv_nsec += SHOW_EVERY_NS;
                next.tv_sec += next.tv_nsec / 1000000000;
                next.tv_nsec %= 1000000000;
        } while (sem_timedwait(&copy->done, &next) < 0);
        show(copy);
        (void)fputc('\n', stderr);
}

/* Returns whether there was an error. */
static bool tell(const char *name, const struct dm_io_leg_error *error)
{
        if (error->error)
                (void)fprintf(stderr, "copy-progress: %s: %s at sector %llu\n", name,
                              strerror(error->error), (unsigned long long)error->sector);
        return error->error != 0;
}

/* What was written becomes durable; 0 or EXIT_PARTLY. */
static int flush(struct copy *copy)
{
        struct dm_io_leg_error error;
        struct dm_io_request request = { .op = DM_IO_FLUSH, .leg_errors = &error };
        int r, result = 0;

        r = dm_io_client_create(copy->engine, 0, &request.client);
        if (r < 0) {
                (void)complain("flush", -r);
                return EXIT_PARTLY;
        }
        for (unsigned int i = 0; i < copy->num_dests; i++) {
                r = dm_io(&request, 1, &copy->dests[i], NULL);
                if (r < 0) {
                        (void)complain(copy->names[1 + i], r == -EIO ? error.error : -r);
                        result = EXIT_PARTLY;
                }
        }
        (void)dm_io_client_destroy(request.client);
        return result;
}

static int conclude(struct copy *copy)
{
        struct dm_kcopyd_job_status status;
        bool failed;

        dm_kcopyd_job_status(copy->job, &status);
        failed = tell(copy->names[0], &status.source);
        for (unsigned int i = 0; i < copy->num_dests; i++)
                failed |= tell(copy->names[1 + i], &status.dests[i]);
        if (status.state == DM_KCOPYD_JOB_CANCELLED) {
                (void)fputs("copy-progress: cancelled\n", stderr);
                return EXIT_CANCELLED;
        }
        return failed ? EXIT_PARTLY : flush(copy);
}

static void clean_up(struct copy *copy)
{
        dm_kcopyd_job_unref(copy->job);
        (void)dm_kcopyd_client_destroy(copy->client);
        (void)dmio_engine_destroy(copy->engine);
        dmio_device_close(copy->from.bdev);
        for (unsigned int i = 0; i < copy->num_dests; i++)
                dmio_device_close(copy->dests[i].bdev);
        (void)sem_destroy(&copy->done);
}

static int usage(void)
{
        (void)fputs("usage: copy-progress [-t PERCENT] [-i] SOURCE DESTINATION...\n", stderr);
        return EXIT_USAGE;
}

int main(int argc, char **argv)
{
        const struct sigaction action = { .sa_handler = interrupt };
        struct copy copy = { .num_dests = 0 };
        unsigned long throttle = 100;
        char *end = NULL;
        int option, result;

        while ((option = getopt(argc, argv, "it:")) != -1) {
                if (option == 'i') {
                        copy.flags |= DM_KCOPYD_IGNORE_ERROR;
                } else if (option == 't') {
                        throttle = strtoul(optarg, &end, 10);
                        if (*end || end == optarg || throttle < 1 || throttle > 100)
                                return usage();
                } else {
                        return usage();
                }
        }
        if (argc - optind < 2 || argc - optind > 1 + DM_KCOPYD_MAX_REGIONS)
                return usage();
        copy.num_dests = (unsigned int)(argc - optind - 1);
        memcpy(copy.names, argv + optind, (1 + copy.num_dests) * sizeof(*copy.names));

        (void)sem_init(&copy.done, 0, 0);
        (void)sigaction(SIGINT, &action, NULL);
        result = open_devices(&copy);
        if (result == 0)
                result = begin(&copy, (unsigned int)throttle);
        if (result == 0) {
                watch(&copy);
                result = conclude(&copy);
        }
        clean_up(&copy);
        return result;
}
