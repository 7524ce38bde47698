/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

#include "fuzz.h"
#include "log.h"
#include "mount/mount.h"
#include "world.h"

#define END_USEC UINT64_C(20000000)
#define TURN_USEC UINT64_C(100000)

static void make_disk(struct world *world, unsigned int i, const char *name)
{
        struct device_grant *grant = &world->grants[i];
        int fd = memfd_create(name, MFD_CLOEXEC);

        fuzz_require(fd >= 0 && ftruncate(fd, WORLD_SECTORS * 512) == 0);
        (void)snprintf(world->paths[i], sizeof(world->paths[i]), "/proc/self/fd/%d", fd);
        world->disk_fds[i] = fd;
        *grant = (struct device_grant){
                .name = (char *)name, .path = world->paths[i], .users = world->users, .n_users = 1
        };
        list_append(&world->config.devices, &grant->link);
}

static void make_world(struct world *world)
{
        const struct dmio_engine_options options = {
                .backend = "memory",
                .flags = DMIO_ENGINE_NO_THREAD,
                .max_pages = 16384,
        };

        world->config = (struct config){
                .limit_clients = 3,
                .limit_exports = 3,
                .limit_connections = 2,
                .limit_pages = 256,
                .limit_jobs = 2,
                .limit_requests = 4,
                .limit_buffers = 200000,
                .limit_held = 8,
                .limit_message = 65536,
                .limit_nesting = 32,
                .limit_descriptors = 2,
                .limit_events = 4,
                .log_level = LOG_ERR,
        };
        log_set_level(LOG_CRIT);
        list_init(&world->config.devices);
        world->users[0] = WORLD_UID;
        make_disk(world, 0, "disk0");
        make_disk(world, 1, "disk1");
        fuzz_require(sd_event_new(&world->event) >= 0);
        fuzz_require(dmio_engine_create(&options, &world->engine) == 0);
        fuzz_require(dmio_queue_create(world->engine, &world->queue) == 0);
        fuzz_require(loop_new(world->event, world->queue, &world->loop) == 0);
        fuzz_require(worker_new(world->event, &world->worker) == 0);
        fuzz_require(model_init(&world->model, world->engine, world->queue, &world->config,
                                world->worker) == 0);
        world->model.n_lanes = mount_n_threads(&world->config);
}

struct world *world_get(void)
{
        static struct world world;

        if (!world.event)
                make_world(&world);
        return &world;
}

bool world_run(struct world *world, uint64_t usec)
{
        int r = sd_event_run(world->event, usec);

        fuzz_require(r >= 0);
        return r > 0;
}

void world_end_clients(struct world *world)
{
        struct client *client, *after;

        list_for_each_safe (client, after, &world->model.clients, link)
                if (!client->closing)
                        (void)client_close(client, NULL, NULL);
        for (uint64_t i = 0; world->model.n_clients > 0 && i < END_USEC / TURN_USEC;)
                i += !world_run(world, TURN_USEC);
        fuzz_require(world->model.n_clients == 0);
        fuzz_require(world->model.n_exports == 0);
        fuzz_require(world->model.pages == 0);
        fuzz_require(list_is_empty(&world->model.regions));
}
