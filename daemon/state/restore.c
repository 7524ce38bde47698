/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "config.h"
#include "log.h"
#include "model/client.h"
#include "model/export.h"
#include "mount-guard.h"
#include "state/opening.h"
#include "state/restore.h"
#include "util/cleanup.h"

/* What there is of a leg, when its export is made again. */
struct leg_plan {
        const char *device;
        bool opens;         /* it is among the openings */
        size_t opening;     /* which one */
        const char *reason; /* why it is not */
        uint64_t kept;      /* the number of the descriptor that it is opened by, */
        int fd;             /* which is the opening's */
};

/* One export on its way back. */
struct restoration {
        struct model *model;
        const struct saved *all;
        const struct saved_client *client;
        const struct saved_export *saved;
        struct peer *owners;      /* of all clients */
        const struct peer *owner; /* of this one */
        struct descriptor_store *store;
        bool same_boot;
        struct openings *openings;
        size_t n_openings;
        struct leg_plan *plans; /* of all active legs, one after the other */
        size_t n_plans, next_plan;
        struct leg_spec legs[DM_IO_MAX_REGIONS];
        const struct leg_plan *taken[DM_IO_MAX_REGIONS]; /* whose devices are the export's */
        int errors[DM_IO_MAX_REGIONS];                   /* of those that are not there */
};

static const struct saved_leg *saved_leg(const struct restoration *restoration, unsigned int i)
{
        return (const struct saved_leg *)restoration->saved->legs.items + i;
}

static void log_missing(const struct restoration *restoration, unsigned int i, const char *reason)
{
        log_warning("Leg %u of '%s/%s' (%s) is not there: %s", i, restoration->client->name,
                    restoration->saved->name, saved_leg(restoration, i)->device, reason);
}

/* As it was saved, with no device yet. Numbers that mean nothing any more are left out. */
static int spec_init(struct leg_spec *spec, const struct saved_leg *saved, bool same_boot)
{
        *spec = (struct leg_spec){
                .device = strdup(saved->device),
                .sector = (sector_t)saved->sector,
                .count = (sector_t)saved->count,
                .how = (enum leg_how)saved->how,
                .kept = (uint64_t)saved->kept,
                .identity = {
                        .id.inode = (ino_t)strtoull(saved->inode, NULL, 10),
                        .block = saved->block,
                        .capacity = (sector_t)saved->capacity,
                        .born_sec = saved->born_sec,
                        .born_nsec = (uint32_t)saved->born_nsec,
                },
        };
        (void)snprintf(spec->identity.serial, sizeof(spec->identity.serial), "%s", saved->serial);
        if (same_boot)
                spec->identity.id.device =
                        makedev((unsigned int)saved->major, (unsigned int)saved->minor);
        return spec->device ? 0 : -ENOMEM;
}

void restore_name(uint64_t number, char ret[static RESTORE_NAME_SIZE])
{
        (void)snprintf(ret, RESTORE_NAME_SIZE, DESCRIPTOR_STORE_DEVICE_PREFIX "%ju",
                       (uintmax_t)number);
}

/*
 * The descriptor that was kept for the leg of the next plan; -ENOENT, or another negative errno.
 * Several legs of an export may have one: each gets its own.
 */
static int find_descriptor(struct restoration *restoration, const struct leg_spec *spec)
{
        struct leg_plan *plan = &restoration->plans[restoration->n_plans];
        char name[RESTORE_NAME_SIZE];
        int fd;

        if (spec->kept == 0)
                return -ENOENT;
        for (const struct leg_plan *other = restoration->plans; other < plan; other++)
                if (other->kept == spec->kept && other->fd >= 0) {
                        fd = fcntl(other->fd, F_DUPFD_CLOEXEC, 0);
                        return fd < 0 ? -errno : fd;
                }
        restore_name(spec->kept, name);
        return descriptor_store_take(restoration->store, name);
}

/* What to open for a leg, or NULL and why not. */
static const char *find_path(const struct restoration *restoration, const struct leg_spec *spec,
                             const char **ret_reason)
{
        const struct config *config = restoration->model->config;
        const struct device_grant *grant;
        const char *path = spec->device;

        switch (spec->how) {
        case LEG_BY_PATH:
                if (!restoration->owner->privileged) {
                        *ret_reason = "paths are for root and the daemon's own user";
                        return NULL;
                }
                break;
        case LEG_BY_NAME:
                grant = config_find_device(config, spec->device, restoration->owner);
                if (!grant || (grant->read_only && !restoration->saved->read_only)) {
                        *ret_reason = "the configuration does not grant it any more";
                        return NULL;
                }
                path = grant->path;
                break;
        case LEG_BY_DESCRIPTOR:
                *ret_reason = "nobody has kept the descriptor";
                return NULL;
        }
        if (mount_guard_has_path(config->mount, path)) {
                *ret_reason = "it lies in the daemon's own mount";
                return NULL;
        }
        return path;
}

/* What is to be opened for a leg. Returns 0 or a negative errno. */
static int plan_leg(struct restoration *restoration, const struct saved_leg *saved,
                    const struct leg_spec *spec)
{
        struct leg_plan *plan = &restoration->plans[restoration->n_plans];
        struct opening_how how = {
                .name = spec->device,
                .fd = find_descriptor(restoration, spec),
                .how = spec->how,
                .writes = !restoration->saved->read_only,
                .identity = &spec->identity,
        };
        int r = 0;

        if (how.fd < 0 && how.fd != -ENOENT)
                return how.fd;
        *plan = (struct leg_plan){
                .device = saved->device,
                .opening = restoration->n_openings,
                .kept = spec->kept,
                .fd = how.fd,
        };
        if (how.fd < 0)
                how.path = find_path(restoration, spec, &plan->reason);
        plan->opens = how.fd >= 0 || how.path;
        if (plan->opens)
                r = openings_add(restoration->openings, &how);
        if (plan->opens && r == 0)
                restoration->n_openings++;
        restoration->n_plans++;
        return r;
}

static int plan_export(struct restoration *restoration, struct client *client)
{
        unsigned int n_legs = (unsigned int)restoration->saved->legs.n;
        int r = 0;

        for (unsigned int i = 0; r == 0 && i < n_legs; i++) {
                struct leg_spec spec;

                r = spec_init(&spec, saved_leg(restoration, i), restoration->same_boot);
                if (r == 0 && saved_leg(restoration, i)->state == LEG_ACTIVE)
                        r = plan_leg(restoration, saved_leg(restoration, i), &spec);
                free(spec.device);
        }
        return r;
}

/* The device of the next leg, if it has been opened; it stays with the openings until it is taken.
 */
static void find_device(struct restoration *restoration, unsigned int i)
{
        const struct leg_plan *plan = &restoration->plans[restoration->next_plan++];
        struct leg_spec *spec = &restoration->legs[i];
        const char *reason = plan->reason;

        restoration->errors[i] = ENODEV;
        if (plan->opens)
                restoration->errors[i] = -openings_get(restoration->openings, plan->opening,
                                                       &spec->bdev, &spec->identity, &reason);
        if (spec->bdev)
                restoration->taken[i] = plan;
        else
                log_missing(restoration, i, reason);
}

/* What the legs were, and what has become of those that are not there. */
static void settle_legs(const struct restoration *restoration, struct export *export)
{
        bool works = false;

        for (unsigned int i = 0; i < export->n_legs; i++)
                works |= leg_is_active(&export->legs[i]);
        if (!works)
                log_error("None of the legs of '%s/%s' that are good is there: it gives EIO",
                          restoration->client->name, export->name);

        for (unsigned int i = 0; i < export->n_legs; i++) {
                const struct saved_leg *saved = saved_leg(restoration, i);
                struct leg *leg = &export->legs[i];

                /* Where counters outlast the process there may be more. */
                if (atomic_load(&leg->errors->count) <= (uint64_t)saved->errors) {
                        atomic_store(&leg->errors->count, (uint64_t)saved->errors);
                        atomic_store(&leg->errors->last, (int)saved->last_error);
                }
                if (saved->state == LEG_FAILED || leg_is_active(leg))
                        continue;
                leg->lasts_active = !works;
                atomic_store(&leg->errors->last, restoration->errors[i]);
                if (works)
                        log_warning("Leg %u of '%s/%s' has failed: it will miss what is written", i,
                                    restoration->client->name, export->name);
        }
}

/* Make the export of the legs that are there. One that is in the way of others is not. */
static int make_export(struct restoration *restoration, struct client *client, unsigned int n_legs)
{
        const struct saved_export *saved = restoration->saved;
        struct model_refusal refusal = {};
        struct export *export;
        char reason[256];
        int r;

        for (;;) {
                r = export_restore(client, saved->name, restoration->legs, n_legs, saved->read_only,
                                   saved->shared, (enum export_cache)saved->cache,
                                   (node_id_t)saved->node, &export, &refusal);
                if (r != MODEL_E_REGION && r != MODEL_E_BUSY)
                        break;
                if (r == MODEL_E_BUSY)
                        (void)snprintf(reason, sizeof(reason), "'%s/%s' has sectors of it",
                                       refusal.client, refusal.export);
                else
                        (void)snprintf(reason, sizeof(reason), "its region %s", refusal.reason);
                log_missing(restoration, refusal.region, reason);
                restoration->legs[refusal.region].bdev = NULL;
                restoration->errors[refusal.region] = ENODEV;
                restoration->taken[refusal.region] = NULL;
        }
        if (r != MODEL_OK) {
                log_error_errno(r < 0 ? r : -EINVAL, "Export '%s/%s' cannot be made again: %m",
                                client->name, saved->name);
                return r < 0 ? r : -EINVAL;
        }
        export->ctime_sec = saved->ctime;
        settle_legs(restoration, export);
        return 0;
}

static int restore_export(struct restoration *restoration, struct client *client)
{
        unsigned int n_legs = (unsigned int)restoration->saved->legs.n;
        int r = 0;

        memset(restoration->legs, 0, sizeof(restoration->legs));
        memset(restoration->taken, 0, sizeof(restoration->taken));
        for (unsigned int i = 0; r == 0 && i < n_legs; i++) {
                r = spec_init(&restoration->legs[i], saved_leg(restoration, i),
                              restoration->same_boot);
                if (r == 0 && saved_leg(restoration, i)->state == LEG_ACTIVE)
                        find_device(restoration, i);
        }
        if (r == 0)
                r = make_export(restoration, client, n_legs);
        for (unsigned int i = 0; i < n_legs; i++) {
                if (r < 0)
                        free(restoration->legs[i].device);
                else if (restoration->taken[i])
                        openings_take(restoration->openings, restoration->taken[i]->opening);
        }
        return r;
}

static int restore_client(struct model *model, const struct saved_client *saved,
                          const struct peer *owner, struct client **ret)
{
        struct model_refusal refusal = {};
        int r;

        r = client_restore(model, saved->name, owner, (uint64_t)saved->pages,
                           (node_id_t)saved->node, (node_id_t)saved->status_node, ret, &refusal);
        if (r == MODEL_E_POOL)
                log_error("Client '%s' has %ju pages reserved, and there are only %ju: raise "
                          "max-pages",
                          saved->name, (uintmax_t)refusal.requested, (uintmax_t)refusal.available);
        else if (r != MODEL_OK)
                log_error_errno(r < 0 ? r : -EINVAL, "Client '%s' cannot be made again: %m",
                                saved->name);
        return r > 0 ? -EINVAL : r;
}

/* Call @fn for each export; with the client, if they are there already. */
static int for_each_export(struct restoration *restoration, size_t client,
                           int (*fn)(struct restoration *restoration, struct client *client),
                           struct client *made)
{
        const struct saved_client *saved =
                (const struct saved_client *)restoration->all->clients.items + client;
        int r = 0;

        restoration->client = saved;
        restoration->owner = &restoration->owners[client];
        for (size_t i = 0; r == 0 && i < saved->exports.n; i++) {
                restoration->saved = (const struct saved_export *)saved->exports.items + i;
                r = fn(restoration, made);
        }
        return r;
}

/* Who the clients belong to, and what is to be opened for them. */
static int plan(struct restoration *restoration)
{
        const struct saved_client *clients = restoration->all->clients.items;
        size_t n_clients = restoration->all->clients.n, n_legs = 0;
        int r;

        for (size_t i = 0; i < n_clients; i++)
                for (size_t j = 0; j < clients[i].exports.n; j++)
                        n_legs += ((const struct saved_export *)clients[i].exports.items)[j].legs.n;
        restoration->owners = calloc(n_clients + 1, sizeof(*restoration->owners));
        restoration->plans = calloc(n_legs + 1, sizeof(*restoration->plans));
        if (!restoration->owners || !restoration->plans)
                return -ENOMEM;
        r = openings_new(mount_guard_device(restoration->model->config->mount),
                         &restoration->openings);
        for (size_t i = 0; r == 0 && i < n_clients; i++) {
                r = peer_from_user((uid_t)clients[i].uid, (gid_t)clients[i].gid,
                                   &restoration->owners[i]);
                if (r == 0)
                        r = for_each_export(restoration, i, plan_export, NULL);
        }
        return r;
}

/* The name of the device of an opening. */
static const char *name_of_opening(struct restoration *restoration, size_t number)
{
        const struct leg_plan *plan = restoration->plans;

        while (!plan->opens || plan->opening != number)
                plan++;
        return plan->device;
}

static int open_devices(struct restoration *restoration)
{
        size_t number = 0;
        int r;

        r = openings_run(restoration->openings, restoration->model->config->restore_timeout,
                         &number);
        if (r == -ECANCELED)
                log_info("Stopping before what lasts is back");
        else if (r < 0)
                log_error_errno(r,
                                "Cannot start, because %s cannot be opened for want of "
                                "descriptors, memory or threads (%m). Nothing has changed",
                                name_of_opening(restoration, number));
        return r;
}

static int make_clients(struct restoration *restoration)
{
        const struct saved_client *clients = restoration->all->clients.items;
        struct model *model = restoration->model;
        int r = 0;

        model->restoring = true;
        for (size_t i = 0; r == 0 && i < restoration->all->clients.n; i++) {
                struct client *client = NULL;

                r = restore_client(model, &clients[i], &restoration->owners[i], &client);
                if (r == 0)
                        r = for_each_export(restoration, i, restore_export, client);
        }
        model->restoring = false;
        return r;
}

static void restoration_free(struct restoration *restoration)
{
        for (size_t i = 0; restoration->owners && i < restoration->all->clients.n; i++)
                peer_deinit(&restoration->owners[i]);
        free(restoration->owners);
        free(restoration->plans);
        openings_free(restoration->openings);
        free(restoration);
}

int restore(struct model *model, struct descriptor_store *store, const struct saved *saved,
            bool same_boot)
{
        struct restoration *restoration;
        int r;

        restoration = calloc(1, sizeof(*restoration));
        if (!restoration)
                return log_error_errno(-ENOMEM, "Cannot restore what lasts: %m");
        *restoration = (struct restoration){
                .model = model,
                .all = saved,
                .store = store,
                .same_boot = same_boot,
        };
        r = plan(restoration);
        if (r < 0)
                log_error_errno(r, "Cannot restore what lasts: %m");
        else
                r = open_devices(restoration);
        if (r == 0)
                r = make_clients(restoration);
        if (r == 0 && saved->clients.n > 0)
                log_info("%zu clients and %u exports are back", saved->clients.n, model->n_exports);
        restoration_free(restoration);
        return r;
}
