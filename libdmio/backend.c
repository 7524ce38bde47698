/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "backend.h"
#include "util/macros.h"

/* In the order of preference. */
static const struct backend_ops *const backends[] = {
        &backend_uring,
};

int backend_find(const char *name, const struct backend_ops **ret)
{
        for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
                if (name && strcmp(name, backends[i]->name) != 0)
                        continue;
                if (backends[i]->probe() < 0)
                        continue;
                *ret = backends[i];
                return 0;
        }
        return -EOPNOTSUPP;
}
