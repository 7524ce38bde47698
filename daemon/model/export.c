/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Three counters rule the life of an export.
 *
 * - n_open: open files. A removal that is not forced goes through only at 0, and sets OPEN_CLOSED
 * in the same step, so that no open can slip in between.
 * - in_flight: operations, and one for being in the model. A removal takes that one away; whoever
 *   brings it to 0 posts the drained task, and it never rises again. Then the devices are closed,
 * on a worker thread, since closing may block, and the sectors are free for others.
 * - refs: whoever has a pointer, which are the model (until the devices are closed) and open files.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "model/counters-file.h"
#include "model/event.h"
#include "model/export.h"
#include "model/fault.h"
#include "model/leg-check.h"
#include "model/quota.h"
#include "model/region-table.h"
#include "name.h"
#include "util/cleanup.h"
#include "util/fnv.h"
#include "util/macros.h"

#define OPEN_CLOSED (1u << 31)

static void export_drained(struct dmio_task *task);

/* What has been counted is the client's, unless the export is only taken apart. */
static void give_counters(struct export *export)
{
        struct export_counters *counters = &export->counters;

        if (!model_is_taken_apart(export->model)) {
                client_counters_take(export->owner->counters, counters, export->node.id);
                if (counters->file)
                        counters_file_put(counters->file, counters->block);
                client_counters_took(export->owner->counters);
        }
        if (counters->file)
                *counters = (struct export_counters){};
}

static struct export *export_free(struct export *export)
{
        if (!export)
                return NULL;

        pthread_mutex_destroy(&export->judge_lock);
        range_lock_deinit(&export->ranges);
        record_deinit(&export->record);
        if (export->counters.file && !model_is_taken_apart(export->model))
                counters_file_put(export->counters.file, export->counters.block);
        export_counters_deinit(&export->counters);
        for (unsigned int i = 0; export->legs_are_ours && i < export->n_legs; i++)
                free(export->legs[i].spec.device);
        free(export->grants);
        free(export->name);
        free(export->path);
        free(export);
        return NULL;
}

DMIO_DEFINE_CLEANUP(struct export, export_free)

/* What the legs' devices are. Returns the largest of their logical blocks, in bytes. */
static unsigned int look_at_devices(const struct leg_spec *legs, unsigned int n_legs,
                                    struct dmio_device_info *ret)
{
        unsigned int logical_block = DMIO_SECTOR_SIZE;

        for (unsigned int i = 0; i < n_legs; i++) {
                ret[i] = (struct dmio_device_info){};
                if (legs[i].bdev)
                        dmio_device_info(legs[i].bdev, &ret[i]);
                logical_block = MAX(logical_block, ret[i].logical_block);
        }
        return logical_block;
}

int export_name_path(struct export *export)
{
        const char *mount = export->model->mount ?: "";
        char *path;

        if (asprintf(&path, "%s/%s/%s", mount, export->owner->name, export->name) < 0)
                return -ENOMEM;
        free(export->path);
        export->path = path;
        return 0;
}

/* Those that it had in another process, if it was there. */
static int get_counters(struct export *export)
{
        struct client *client = export->client;
        const uint64_t sum = fnv(FNV_START, client->name, strlen(client->name) + 1);
        const struct counters_key key = {
                .node = export->node.id,
                .client = client->node.id,
                .check = fnv(sum, export->name, strlen(export->name)),
        };
        int r;

        /* If the client's have found no room its own cannot be given to them. */
        r = counters_file_get_export(client->counters_block < 0 ? NULL : export->model->counters,
                                     &key, export->model->n_lanes, export->n_legs,
                                     &export->counters);
        for (unsigned int i = 0; r == 0 && i < export->n_legs; i++)
                export->legs[i].errors = &export->counters.leg_errors[i];
        return r;
}

static int export_allocate(struct client *client, const char *name, unsigned int n_legs,
                           node_id_t node, struct export **ret)
{
        DMIO_CLEANUP(export_freep) struct export *export = NULL;
        struct timespec now;

        export = calloc(1, sizeof(*export) + n_legs * sizeof(struct leg));
        if (!export)
                return -ENOMEM;
        list_init(&export->link);
        list_init(&export->faults);
        range_lock_init(&export->ranges);
        pthread_mutex_init(&export->judge_lock, NULL);
        uncache_init(&export->uncache);
        record_init(&export->record, client->linger && model_can_last(client->model));
        clock_gettime(CLOCK_REALTIME, &now);
        export->ctime_sec = now.tv_sec;
        export->model = client->model;
        export->client = client;
        export->owner = client;
        export->uid = client->uid;
        export->gid = client->gid;
        export->io = client->io;
        export->node.type = NODE_TYPE_EXPORT;
        export->node.id = node;
        export->node.client = client;
        export->node.export = export;
        export->drained_task.fn = export_drained;
        export->error_task.fn = export_tell_errors;
        export->n_legs = n_legs;
        atomic_init(&export->refs, 1);
        atomic_init(&export->in_flight, 1);

        export->name = strdup(name);
        export->grants = calloc(n_legs, sizeof(*export->grants));
        if (!export->name || !export->grants || export_name_path(export) < 0 ||
            get_counters(export) < 0)
                return -ENOMEM;

        *ret = DMIO_TAKE(export);
        return 0;
}

static int export_enter(struct export *export, const struct dmio_device_info *infos)
{
        struct client *client = export->owner;
        struct model *model = export->model;
        int r;

        pthread_mutex_lock(&model->lock);
        r = model_add_node(model, &export->node);
        if (r == 0) {
                if (export->counters.file)
                        counters_file_enter(export->counters.file, export->counters.block,
                                            export->node.id);
                for (unsigned int i = 0; i < export->n_legs; i++) {
                        export->grants[i] = (struct grant){
                                .id = infos[i].id,
                                .sector = export->legs[i].spec.sector,
                                .count = export->legs[i].spec.count,
                                .export = export,
                                .client_name = client->name,
                                .export_name = export->name,
                                .shared = export->shared,
                                .writable = !export->read_only,
                        };
                        if (export->legs[i].spec.bdev)
                                region_table_add(model, &export->grants[i]);
                        else
                                list_init(&export->grants[i].link);
                }
                list_append(&client->exports, &export->link);
                client->n_exports++;
                model->n_exports++;
        }
        pthread_mutex_unlock(&model->lock);
        return r;
}

/* Legs without a device take part in nothing; the caller fails them. */
static int export_make(struct client *client, const char *name, struct leg_spec *legs,
                       unsigned int n_legs, bool read_only, bool shared, enum export_cache cache,
                       node_id_t node, struct export **ret, struct model_refusal *refusal)
{
        DMIO_CLEANUP(export_freep) struct export *export = NULL;
        struct dmio_device_info infos[DM_IO_MAX_REGIONS];
        struct model *model = client->model;
        unsigned int logical_block;
        int r;

        if (n_legs < 1 || n_legs > DM_IO_MAX_REGIONS)
                return -EINVAL;
        if (!client_takes_work(client))
                return MODEL_E_CLOSING;
        if (!name_is_valid(name))
                return MODEL_E_NAME;
        if (client_find_export(client, name))
                return MODEL_E_EXISTS;
        logical_block = look_at_devices(legs, n_legs, infos);
        r = legs_check(model, client, legs, n_legs, read_only, shared, infos, logical_block,
                       refusal);
        if (r != MODEL_OK)
                return r;

        r = export_allocate(client, name, n_legs, node, &export);
        if (r < 0)
                return r;
        export->read_only = read_only;
        export->shared = shared;
        export->cache = cache;
        export->sectors = legs[0].count;
        export->logical_block = logical_block;
        for (unsigned int i = 0; i < n_legs; i++) {
                export->legs[i].spec = legs[i];
                if (legs[i].bdev)
                        (void)leg_has_lost(&export->legs[i]);
                export->torn_reads |= legs[i].bdev && !infos[i].block;
        }

        r = quota_charge_or_refuse(model, client->uid, QUOTA_EXPORTS, 1, refusal);
        if (r != MODEL_OK)
                return r;
        r = export_enter(export, infos);
        if (r < 0) {
                quota_release(model, client->uid, QUOTA_EXPORTS, 1);
                return r;
        }

        export->legs_are_ours = true;
        event_export(EVENT_EXPORT_CREATED, export);
        *ret = DMIO_TAKE(export);
        return MODEL_OK;
}

int export_new(struct client *client, const char *name, struct leg_spec *legs, unsigned int n_legs,
               bool read_only, bool shared, enum export_cache cache, struct export **ret,
               struct model_refusal *refusal)
{
        return export_make(client, name, legs, n_legs, read_only, shared, cache, 0, ret, refusal);
}

int export_restore(struct client *client, const char *name, struct leg_spec *legs,
                   unsigned int n_legs, bool read_only, bool shared, enum export_cache cache,
                   node_id_t node, struct export **ret, struct model_refusal *refusal)
{
        int r = export_make(client, name, legs, n_legs, read_only, shared, cache, node, ret,
                            refusal);

        for (unsigned int i = 0; r == MODEL_OK && i < n_legs; i++)
                if (!legs[i].bdev)
                        atomic_init(&(*ret)->legs[i].state, LEG_FAILED);
        return r;
}

/* Several legs may have one. */
static void forget_descriptors(struct export *export)
{
        for (unsigned int i = 0; i < export->n_legs; i++)
                if (export->legs[i].spec.kept && export->model->keeper)
                        keeper_forget(export->model->keeper, export->legs[i].spec.kept);
}

static void close_devices(struct worker_job *job)
{
        struct export *export = container_of(job, struct export, close_job);

        for (unsigned int i = 0; i < export->n_legs; i++) {
                dmio_device_close(export->legs[i].spec.bdev);
                export->legs[i].spec.bdev = NULL;
        }
}

/* Whoever hears of the removal finds the devices closed and the sectors free. */
static void export_closed(struct worker_job *job)
{
        struct export *export = container_of(job, struct export, close_job);
        struct client *owner = export->owner;
        void (*removed)(void *userdata) = export->removed;
        void *userdata = export->removed_userdata;

        pthread_mutex_lock(&export->model->lock);
        for (unsigned int i = 0; i < export->n_legs; i++)
                list_unlink(&export->grants[i].link);
        list_unlink(&export->link);
        give_counters(export);
        pthread_mutex_unlock(&export->model->lock);

        forget_descriptors(export);
        quota_release(export->model, export->uid, QUOTA_EXPORTS, 1);
        event_export(EVENT_EXPORT_REMOVED, export);
        export->owner = NULL;
        export->io = NULL;
        export_unref(export);

        if (removed)
                removed(userdata);
        owner->n_draining--;
        client_continue_close(owner);
}

/*
 * Nothing is in flight any more, and nothing ever will be, even if somebody still has the file
 * open. In a callback of the main queue.
 */
static void export_drained(struct dmio_task *task)
{
        struct export *export = container_of(task, struct export, drained_task);

        export->close_job = (struct worker_job){
                .run = close_devices,
                .done = export_closed,
                .uid = peer_from_uid(export->uid).privileged ? 0 : export->uid,
        };
        worker_submit(export->model->worker, &export->close_job);
}

/* Returns false if somebody has it open and that matters. */
static bool refuse_opens(struct export *export, bool force)
{
        unsigned int none = 0;

        if (!force)
                return atomic_compare_exchange_strong(&export->n_open, &none, OPEN_CLOSED);
        atomic_fetch_or(&export->n_open, OPEN_CLOSED);
        return true;
}

int export_leave(struct export *export, bool force, struct model_refusal *refusal)
{
        if (!refuse_opens(export, force)) {
                refusal->client = export->client->name;
                refusal->export = export->name;
                refusal->n_open = export_n_open(export);
                return MODEL_E_BUSY;
        }
        export->leaving = true;
        return MODEL_OK;
}

void export_stay(struct export *export)
{
        export->leaving = false;
        atomic_fetch_and(&export->n_open, ~OPEN_CLOSED);
}

int export_remove(struct export *export, bool force, void (*removed)(void *userdata),
                  void *userdata, struct model_refusal *refusal)
{
        struct model *model = export->model;
        struct client *client = export->client;

        if (export_leave(export, force, refusal) != MODEL_OK)
                return MODEL_E_BUSY;
        /* What they hold would be in flight for ever. */
        faults_forget(export);
        export->removed = removed;
        export->removed_userdata = userdata;

        pthread_mutex_lock(&model->lock);
        list_unlink(&export->link);
        list_append(&client->draining, &export->link);
        client->n_exports--;
        client->n_draining++;
        model->n_exports--;
        model_remove_node(model, &export->node);
        export->client = NULL;
        export->node.client = NULL;
        pthread_mutex_unlock(&model->lock);

        atomic_store(&export->gone, true);
        export_end(export);
        return MODEL_OK;
}

struct export *export_ref(struct export *export)
{
        atomic_fetch_add_explicit(&export->refs, 1, memory_order_relaxed);
        return export;
}

struct export *export_unref(struct export *export)
{
        if (export && atomic_fetch_sub_explicit(&export->refs, 1, memory_order_acq_rel) == 1)
                export_free(export);
        return NULL;
}

int export_begin(struct export *export)
{
        unsigned int n = atomic_load_explicit(&export->in_flight, memory_order_relaxed);

        do {
                if (n == 0)
                        return -ENODEV;
        } while (!atomic_compare_exchange_weak(&export->in_flight, &n, n + 1));

        if (atomic_load(&export->gone)) {
                export_end(export);
                return -ENODEV;
        }
        return 0;
}

void export_end(struct export *export)
{
        if (atomic_fetch_sub_explicit(&export->in_flight, 1, memory_order_acq_rel) == 1)
                dmio_queue_post(export->model->queue, &export->drained_task);
}

int export_open(struct export *export)
{
        unsigned int n = atomic_load_explicit(&export->n_open, memory_order_relaxed);

        do {
                if (n & OPEN_CLOSED)
                        return -ENODEV;
        } while (!atomic_compare_exchange_weak(&export->n_open, &n, n + 1));
        return 0;
}

void export_close(struct export *export)
{
        atomic_fetch_sub(&export->n_open, 1);
}

unsigned int export_n_open(const struct export *export)
{
        return atomic_load_explicit(&export->n_open, memory_order_relaxed) & ~OPEN_CLOSED;
}
