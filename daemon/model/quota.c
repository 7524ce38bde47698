/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "config.h"
#include "model/quota.h"
#include "util/list.h"

/* A user that has something; it goes with the last charge. */
struct user {
        struct list link; /* model.users */
        uid_t uid;
        uint64_t charges[_QUOTA_MAX];
};

static const struct {
        const char *name;
        size_t limit;
} quotas[_QUOTA_MAX] = {
        [QUOTA_CLIENTS] = { "clients", offsetof(struct config, limit_clients) },
        [QUOTA_EXPORTS] = { "exports", offsetof(struct config, limit_exports) },
        [QUOTA_CONNECTIONS] = { "connections", offsetof(struct config, limit_connections) },
        [QUOTA_PAGES] = { "pages", offsetof(struct config, limit_pages) },
        [QUOTA_JOBS] = { "jobs", offsetof(struct config, limit_jobs) },
        [QUOTA_REQUESTS] = { "requests", offsetof(struct config, limit_requests) },
        [QUOTA_MONITORS] = { "monitors", offsetof(struct config, limit_monitors) },
        [QUOTA_FAULTS] = { "faults", offsetof(struct config, limit_faults) },
        [QUOTA_BUFFERS] = { "buffers", offsetof(struct config, limit_buffers) },
        [QUOTA_DESCRIPTORS] = { "held-descriptors", offsetof(struct config, limit_held) },
};

const char *quota_name(enum quota quota)
{
        return quotas[quota].name;
}

static struct user *find_user(struct model *model, uid_t uid)
{
        struct user *user;

        list_for_each (user, &model->users, link)
                if (user->uid == uid)
                        return user;
        return NULL;
}

static void drop_user_if_idle(struct user *user)
{
        for (unsigned int i = 0; i < _QUOTA_MAX; i++)
                if (user->charges[i] > 0)
                        return;
        list_unlink(&user->link);
        free(user);
}

int quota_charge(struct model *model, uid_t uid, enum quota quota, uint64_t n, uint64_t *ret_limit)
{
        uint64_t limit, used;
        struct user *user;

        user = find_user(model, uid);
        used = user ? user->charges[quota] : 0;
        limit = *(const uint64_t *)((const char *)model->config + quotas[quota].limit);

        /* A reload may have set the limit below what is in use. */
        if (!model->restoring && !peer_from_uid(uid).privileged &&
            (used > limit || n > limit - used)) {
                if (ret_limit)
                        *ret_limit = limit;
                return 1;
        }

        if (n == 0)
                return 0;
        if (!user) {
                user = calloc(1, sizeof(*user));
                if (!user)
                        return -ENOMEM;
                user->uid = uid;
                list_append(&model->users, &user->link);
        }
        user->charges[quota] += n;
        return 0;
}

int quota_charge_or_refuse(struct model *model, uid_t uid, enum quota quota, uint64_t n,
                           struct model_refusal *refusal)
{
        uint64_t limit;
        int r;

        r = quota_charge(model, uid, quota, n, &limit);
        if (r <= 0)
                return r;
        refusal->limit = quota_name(quota);
        refusal->value = limit;
        return MODEL_E_LIMIT;
}

int quota_set(struct model *model, uid_t uid, enum quota quota, uint64_t *charged, uint64_t n,
              uint64_t *ret_limit)
{
        int r = 0;

        if (n > *charged)
                r = quota_charge(model, uid, quota, n - *charged, ret_limit);
        else
                quota_release(model, uid, quota, *charged - n);
        if (r == 0)
                *charged = n;
        return r;
}

void quota_release(struct model *model, uid_t uid, enum quota quota, uint64_t n)
{
        struct user *user;

        if (n == 0)
                return;

        user = find_user(model, uid);
        assert(user && user->charges[quota] >= n);
        user->charges[quota] -= n;
        drop_user_if_idle(user);
}
