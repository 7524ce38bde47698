/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a uid uses, against what it may use. Privileged peers are counted but not limited.
 */

#include "model/model.h"
#include "model/refusal.h"

/* Fewer bytes than that, of one connection or call, are not charged as QUOTA_BUFFERS: there are so
 * many of them at most, and they come and go with every call. */
#define BUFFERS_FREE ((size_t)16 * 1024)

enum quota {
        QUOTA_CLIENTS,
        QUOTA_EXPORTS,
        QUOTA_CONNECTIONS,
        QUOTA_PAGES,
        QUOTA_JOBS,
        QUOTA_REQUESTS,
        QUOTA_MONITORS,
        QUOTA_FAULTS,
        QUOTA_BUFFERS,     /* bytes of messages, calls and answers */
        QUOTA_DESCRIPTORS, /* of messages and calls */
        _QUOTA_MAX,
};

/* The name in errors, and in the configuration (with "-per-uid"): "clients", "exports" ... */
const char *quota_name(enum quota quota);

/*
 * Charge @n of @quota to @uid. Returns 0; 1 if the limit forbids it, with the limit in *@ret_limit
 * (may be NULL) and nothing charged; -ENOMEM. Main loop only.
 */
int quota_charge(struct model *model, uid_t uid, enum quota quota, uint64_t n, uint64_t *ret_limit);

/* The same, as an outcome of the model: MODEL_OK, MODEL_E_LIMIT or -ENOMEM. */
int quota_charge_or_refuse(struct model *model, uid_t uid, enum quota quota, uint64_t n,
                           struct model_refusal *refusal);

/* Charge more, or give back, so that *@charged becomes @n. As quota_charge(). */
int quota_set(struct model *model, uid_t uid, enum quota quota, uint64_t *charged, uint64_t n,
              uint64_t *ret_limit);

/* Give back what was charged. */
void quota_release(struct model *model, uid_t uid, enum quota quota, uint64_t n);
