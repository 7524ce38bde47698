/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "backend.h"
#include "util/macros.h"

/* In the order of preference. What does not touch the devices is only for who asks for it. */
static const struct {
        const struct backend_ops *ops;
        bool is_real;
} backends[] = {
        { &backend_uring, true },
        { &backend_threads, true },
        { &backend_memory, false },
};

int backend_find(const char *name, const struct backend_ops **ret)
{
        for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
                const struct backend_ops *ops = backends[i].ops;

                if (name ? strcmp(name, ops->name) != 0 : !backends[i].is_real)
                        continue;
                if (ops->probe() < 0)
                        continue;
                *ret = ops;
                return 0;
        }
        return -EOPNOTSUPP;
}
