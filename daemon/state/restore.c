/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "config.h"
#include "control/errors.h"
#include "control/mount-guard.h"
#include "control/resolve.h"
#include "log.h"
#include "model/client.h"
#include "model/export.h"
#include "state/restore.h"
#include "util/cleanup.h"

/* One export on its way back. */
struct restoration {
        struct model *model;
        const struct saved_client *client;
        const struct saved_export *saved;
        const struct peer *owner;
        struct descriptor_store *store;
        dev_t mount_device; /* of a mount that was made for us, or 0 */
        bool same_boot;
        struct leg_spec legs[DM_IO_MAX_REGIONS];
        int fds[DM_IO_MAX_REGIONS]; /* of those that were kept */
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

static void spec_deinit(struct leg_spec *spec)
{
        free(spec->device);
        dmio_device_close(spec->bdev);
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

/* The descriptor that was kept for a leg, or negative. Several legs may have one. */
static int find_descriptor(struct restoration *restoration, unsigned int i)
{
        uint64_t number = restoration->legs[i].kept;
        char name[RESTORE_NAME_SIZE];

        if (number == 0)
                return -ENOENT;
        for (unsigned int j = 0; j < i; j++)
                if (restoration->legs[j].kept == number && restoration->fds[j] >= 0)
                        return restoration->fds[j];
        restore_name(number, name);
        restoration->fds[i] = descriptor_store_take(restoration->store, name);
        return restoration->fds[i];
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

static void log_refusal(const struct restoration *restoration, unsigned int i, const json_t *error)
{
        const json_t *parameters = json_object_get(error, "parameters");
        const char *name = json_string_value(json_object_get(error, "error"));
        const char *reason = json_string_value(json_object_get(parameters, "errno"));

        if (!reason)
                reason = json_string_value(json_object_get(parameters, "reason"));
        log_missing(restoration, i, reason ?: name ?: "out of memory");
}

/* Open the device of a leg. If that is not possible, or it is not the same, the leg stays without.
 */
static void open_leg(struct restoration *restoration, unsigned int i)
{
        struct leg_spec *spec = &restoration->legs[i];
        DMIO_CLEANUP(freep) struct device_list *list = NULL;
        int fd = find_descriptor(restoration, i);
        const char *reason = NULL;
        const char *path = NULL;
        json_t *error;

        if (fd < 0)
                path = find_path(restoration, spec, &reason);
        list = path || fd >= 0 ? calloc(1, sizeof(*list)) : NULL;
        if (!list) {
                log_missing(restoration, i, reason ?: "out of memory");
                return;
        }

        list->mount = restoration->model->config->mount;
        list->mount_device = restoration->mount_device;
        list->unserved = restoration->mount_device != 0;
        list->writes = !restoration->saved->read_only;
        list->n = 1;
        list->entries[0] = (struct device_entry){
                .name = strdup(spec->device),
                .path = path ? strdup(path) : NULL,
                .fd = fd,
                .how = spec->how,
                .flags = list->writes ? 0 : DMIO_DEVICE_READ_ONLY,
        };
        error = list->entries[0].name && (fd >= 0 || list->entries[0].path) ? device_list_open(list)
                                                                            : ERROR_NO_MEMORY;
        if (error) {
                log_refusal(restoration, i, error);
                json_decref(error);
        } else {
                device_list_identify(list);
                reason = find_difference(&spec->identity, &list->entries[0].identity);
                if (reason) {
                        log_missing(restoration, i, reason);
                } else {
                        spec->identity = list->entries[0].identity;
                        spec->bdev = DMIO_TAKE(list->entries[0].bdev);
                }
        }
        device_list_close(list);
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
                atomic_store(&leg->errors->last, ENODEV);
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
                dmio_device_close(restoration->legs[refusal.region].bdev);
                restoration->legs[refusal.region].bdev = NULL;
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
        for (unsigned int i = 0; i < n_legs; i++)
                restoration->fds[i] = -EBADF;
        for (unsigned int i = 0; r == 0 && i < n_legs; i++) {
                r = spec_init(&restoration->legs[i], saved_leg(restoration, i),
                              restoration->same_boot);
                if (r == 0 && saved_leg(restoration, i)->state == LEG_ACTIVE)
                        open_leg(restoration, i);
        }
        if (r == 0)
                r = make_export(restoration, client, n_legs);
        for (unsigned int i = 0; i < n_legs; i++) {
                close_fd(restoration->fds[i]);
                if (r < 0)
                        spec_deinit(&restoration->legs[i]);
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

int restore(struct model *model, struct descriptor_store *store, const struct saved *saved,
            bool same_boot)
{
        const struct saved_client *clients = saved->clients.items;
        const dev_t mount_device = mount_guard_device(model->config->mount);
        DMIO_CLEANUP(freep) struct restoration *restoration = NULL;
        unsigned int n_exports = 0;
        int r = 0;

        restoration = calloc(1, sizeof(*restoration));
        if (!restoration)
                return log_error_errno(-ENOMEM, "Cannot restore what lasts: %m");

        model->restoring = true;
        for (size_t i = 0; r == 0 && i < saved->clients.n; i++) {
                DMIO_CLEANUP(peer_deinit) struct peer owner = PEER_NULL;
                struct client *client = NULL;

                *restoration = (struct restoration){
                        .model = model,
                        .client = &clients[i],
                        .owner = &owner,
                        .store = store,
                        .mount_device = mount_device,
                        .same_boot = same_boot,
                };
                r = peer_from_user((uid_t)clients[i].uid, (gid_t)clients[i].gid, &owner);
                if (r < 0)
                        log_error_errno(r, "Cannot look up user %" PRId64 ": %m", clients[i].uid);
                if (r == 0)
                        r = restore_client(model, &clients[i], &owner, &client);
                for (size_t j = 0; r == 0 && j < clients[i].exports.n; j++, n_exports++) {
                        restoration->saved =
                                (const struct saved_export *)clients[i].exports.items + j;
                        r = restore_export(restoration, client);
                }
        }
        model->restoring = false;
        if (r == 0 && saved->clients.n > 0)
                log_info("%zu clients and %u exports are back", saved->clients.n, n_exports);
        return r;
}
