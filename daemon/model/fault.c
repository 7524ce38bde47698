/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>

#include "log.h"
#include "model/fault.h"
#include "model/quota.h"

static int add_rule(struct fault *fault)
{
        const struct export *export = fault->export;
        const struct fault_spec *spec = &fault->spec;
        const struct leg_spec *leg = &export->legs[spec->leg].spec;
        const struct dmio_fault_rule rule = {
                .action = spec->action,
                .ops = spec->ops,
                .bdev = leg->bdev,
                .client = export->io,
                .leg = -1,
                .sector = leg->sector + spec->sector,
                .count = spec->count > 0 ? spec->count : leg->count,
                .skip = spec->skip,
                .times = spec->times,
                .error = spec->error,
                .delay_us = spec->delay_usec,
                .bytes = spec->bytes,
        };

        return dmio_fault_add(export->model->engine, &rule, &fault->rule);
}

int fault_new(struct export *export, const struct fault_spec *spec, struct fault **ret,
              struct model_refusal *refusal)
{
        struct model *model = export->model;
        struct fault *fault;
        int r;

        r = quota_charge_or_refuse(model, export->uid, QUOTA_FAULTS, 1, refusal);
        if (r != MODEL_OK)
                return r;
        fault = calloc(1, sizeof(*fault));
        if (!fault) {
                quota_release(model, export->uid, QUOTA_FAULTS, 1);
                return -ENOMEM;
        }
        list_append(&export->faults, &fault->link);
        fault->export = export;
        fault->spec = *spec;
        r = add_rule(fault);
        if (r < 0) {
                fault_free(fault);
                return r;
        }
        fault->number = ++model->last_fault;
        log_notice("A drill: fault %ju begins on leg %u of '%s'", (uintmax_t)fault->number,
                   spec->leg, export->path);
        *ret = fault;
        return MODEL_OK;
}

struct fault *fault_free(struct fault *fault)
{
        const struct export *export = fault->export;

        if (fault->rule)
                log_notice("A drill: fault %ju ends on leg %u of '%s'", (uintmax_t)fault->number,
                           fault->spec.leg, export->path);
        dmio_fault_remove(fault->rule);
        quota_release(export->model, export->uid, QUOTA_FAULTS, 1);
        list_unlink(&fault->link);
        free(fault);
        return NULL;
}

struct fault *fault_find(struct model *model, uint64_t number, const struct peer *peer)
{
        struct client *client;
        struct export *export;
        struct fault *fault;

        list_for_each (client, &model->clients, link) {
                if (!client_is_visible(client, peer))
                        continue;
                list_for_each (export, &client->exports, link)
                        list_for_each (fault, &export->faults, link)
                                if (fault->number == number)
                                        return fault;
        }
        return NULL;
}

void faults_forget(struct export *export)
{
        struct fault *fault;

        while ((fault = list_first(&export->faults, struct fault, link)) != NULL)
                fault_free(fault);
}

unsigned int faults_stop(struct model *model)
{
        struct client *client;
        struct export *export;
        unsigned int n = 0;

        list_for_each (client, &model->clients, link)
                list_for_each (export, &client->exports, link)
                        while (!list_is_empty(&export->faults)) {
                                fault_free(list_first(&export->faults, struct fault, link));
                                n++;
                        }
        return n;
}
