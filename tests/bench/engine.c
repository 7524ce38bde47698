/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The engine's own rate: random or sequential requests of one size at one depth, driven by the
 * program's own loop, for some time. Prints requests a second. See engine.sh, which runs it beside
 * fio on the same device.
 *
 *      bench-engine [--backend=NAME] [--pool] [--requests=N] [--spin=US] OP SIZE DEPTH SECONDS
 * OFFSET LENGTH DEVICE...
 *
 * OP is randread, randwrite, read or write; SIZE, OFFSET and LENGTH are in bytes. Several devices
 * are the legs of each write. With --pool the memory is pages of the engine's pool. With --requests
 * it ends after that many instead, for tools that count instructions. With --spin the queue is
 * polled that many microseconds before it sleeps.
 */

#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <dmio/dmio.h>

struct bench {
        struct dm_io_request request;
        struct io_region regions[DM_IO_MAX_REGIONS];
        unsigned int n_regions;
        bool is_random;
        uint64_t first, n_blocks, block; /* in units of one request's size */
        sector_t sectors;                /* of one request */
        uint64_t next;
        uint64_t seed;
        uint64_t n_done;
        uint64_t n_requests; /* 0: by time */
        unsigned int spin_us;
        bool is_pooled;
        bool stopping;
        unsigned int n_in_flight;
};

struct slot {
        struct bench *bench;
        void *memory;
};

static void fail(const char *what, int error)
{
        fprintf(stderr, "bench-engine: %s: %s\n", what, strerror(error));
        exit(1);
}

static uint64_t bench_position(struct bench *bench)
{
        if (!bench->is_random)
                return bench->first + bench->next++ % bench->n_blocks;
        bench->seed = bench->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        return bench->first + (bench->seed >> 20) % bench->n_blocks;
}

static void slot_done(unsigned long error, void *context);

static void slot_start(struct slot *slot)
{
        struct bench *bench = slot->bench;
        sector_t sector = bench_position(bench) * bench->sectors;
        int r;

        for (unsigned int i = 0; i < bench->n_regions; i++)
                bench->regions[i].sector = sector;
        bench->request.mem.ptr.addr = slot->memory;
        bench->request.notify.context = slot;
        r = dm_io(&bench->request, bench->n_regions, bench->regions, NULL);
        if (r < 0)
                fail("dm_io", -r);
        bench->n_in_flight++;
}

static void slot_done(unsigned long error, void *context)
{
        struct slot *slot = context;

        if (error)
                fail("a request failed", EIO);
        slot->bench->n_in_flight--;
        slot->bench->n_done++;
        if (slot->bench->n_done == slot->bench->n_requests)
                slot->bench->stopping = true;
        if (!slot->bench->stopping)
                slot_start(slot);
}

static double now(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static struct bench bench = { .seed = 4711 };
static struct dmio_engine_options options = { .flags = DMIO_ENGINE_NO_THREAD };

static const char usage[] = "usage: bench-engine [--backend=NAME] [--pool] [--requests=N] "
                            "randread|randwrite|read|write "
                            "SIZE DEPTH SECONDS OFFSET LENGTH DEVICE...\n";

static void parse_options(int argc, char **argv)
{
        static const struct option known[] = {
                { "backend", required_argument, NULL, 'b' },
                { "pool", no_argument, NULL, 'p' },
                { "requests", required_argument, NULL, 'r' },
                { "spin", required_argument, NULL, 's' },
                {},
        };
        int c;

        while ((c = getopt_long(argc, argv, "+", known, NULL)) != -1) {
                switch (c) {
                case 'b':
                        options.backend = optarg;
                        break;
                case 'p':
                        bench.is_pooled = true;
                        break;
                case 'r':
                        bench.n_requests = strtoull(optarg, NULL, 0);
                        break;
                case 's':
                        bench.spin_us = (unsigned int)strtoul(optarg, NULL, 0);
                        break;
                default:
                        fputs(usage, stderr);
                        exit(2);
                }
        }
        if (argc - optind < 7 || argc - optind > 6 + DM_IO_MAX_REGIONS) {
                fputs(usage, stderr);
                exit(2);
        }
}

static void open_devices(char **paths)
{
        for (; *paths; paths++) {
                struct io_region *region = &bench.regions[bench.n_regions++];
                int r = dmio_device_open(*paths, 0, &region->bdev);

                if (r < 0)
                        fail(*paths, -r);
                region->count = bench.sectors;
        }
}

static void *memory_new(size_t size)
{
        struct page_list *pages;
        void *memory;

        if (bench.is_pooled) {
                pages = dmio_pages_get(bench.request.client, (unsigned int)((size + 4095) / 4096));
                if (!pages)
                        fail("the pool", ENOMEM);
                return page_address(pages->page);
        }
        if (posix_memalign(&memory, 4096, size) != 0)
                fail("memory", ENOMEM);
        return memory;
}

static void run_for(struct dmio_queue *queue, double seconds)
{
        double begin = now(), end;
        uint64_t counted;
        int r;

        /* The first tenth is not counted. */
        while (now() < begin + seconds / 10)
                (void)dmio_queue_process(queue, -1, 0);
        counted = bench.n_done;
        begin = now();
        do {
                r = dmio_queue_process(queue, -1, bench.spin_us);
                end = now();
        } while (r >= 0 && end < begin + seconds);
        if (r < 0)
                fail("the ring", -r);
        printf("%.0f\n", (double)(bench.n_done - counted) / (end - begin));
        bench.stopping = true;
}

int main(int argc, char **argv)
{
        uint64_t size, depth, offset, length;
        struct dmio_engine *engine;
        struct dmio_queue *queue;
        double seconds;
        int r;

        parse_options(argc, argv);
        argv += optind;
        bench.is_random = strncmp(argv[0], "rand", 4) == 0;
        bench.request.op = strstr(argv[0], "write") ? DM_IO_WRITE : DM_IO_READ;
        size = strtoull(argv[1], NULL, 0);
        depth = strtoull(argv[2], NULL, 0);
        seconds = strtod(argv[3], NULL);
        offset = strtoull(argv[4], NULL, 0);
        length = strtoull(argv[5], NULL, 0);
        if (size < 512 || size % 512 || depth < 1 || depth > 4096 || length < size || offset % size)
                fail("arguments", EINVAL);
        bench.sectors = size / 512;
        bench.first = offset / size;
        bench.n_blocks = length / size;

        r = dmio_engine_create(&options, &engine);
        if (r == 0)
                r = dmio_queue_create(engine, &queue);
        if (r == 0)
                r = dm_io_client_create(engine, (unsigned int)((size + 4095) / 4096 * depth),
                                        &bench.request.client);
        if (r < 0)
                fail("the engine", -r);
        open_devices(argv + 6);
        bench.request.mem.type = DM_IO_KMEM;
        bench.request.notify.fn = slot_done;

        for (uint64_t i = 0; i < depth; i++) {
                struct slot *slot = calloc(1, sizeof(*slot));

                if (!slot)
                        fail("memory", ENOMEM);
                slot->memory = memory_new(size);
                memset(slot->memory, (int)i, size);
                slot->bench = &bench;
                slot_start(slot);
        }
        if (bench.n_requests == 0)
                run_for(queue, seconds);
        while (bench.n_in_flight > 0)
                (void)dmio_queue_process(queue, -1, 0);
        return 0;
}
