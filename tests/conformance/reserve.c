/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "reserve.h"

#define CHUNK DMIO_POOL_CHUNK_PAGES

int kit_get(struct kit *kit, unsigned int n)
{
        return kit->classic ? dm_io_get(n) : dm_io_client_get(kit->client, n);
}

int kit_put(struct kit *kit, unsigned int n)
{
        return kit->classic ? dm_io_put(n) : dm_io_client_put(kit->client, n);
}

struct dmio_pool_stats pool_of(struct dmio_engine *engine)
{
        struct dmio_pool_stats stats;

        dmio_pool_stats(engine, &stats);
        return stats;
}

struct dm_io_client_stats stats_of(struct dm_io_client *client)
{
        struct dm_io_client_stats stats;

        dm_io_client_stats(client, &stats);
        return stats;
}

void kit_expect_reserved(struct kit *kit, unsigned int n)
{
        assert_int_equal(kit_put(kit, n + 1), -EINVAL);
        if (kit->classic)
                return;
        assert_int_equal(stats_of(kit->client).reserved, n);
        assert_int_equal(stats_of(kit->client).contexts, 4 * n);
        assert_int_equal(stats_of(kit->client).contexts_idle, 4 * n);
}

void kit_expect_gone(struct kit *kit)
{
        struct completion completion = COMPLETION_INIT;

        if (kit->classic) {
                assert_int_equal(
                        dm_io_async_vm(0, NULL, DM_IO_WRITE, NULL, completion_notify, &completion),
                        -EINVAL);
                assert_int_equal(kit_put(kit, 0), -EINVAL);
        } else {
                kit_expect_reserved(kit, 0);
                assert_int_equal(pool_of(kit->engine).reserved, 0);
                assert_int_equal(pool_of(kit->engine).total, CHUNK);
        }
        assert_int_equal(kit_calls(&completion), 0);
}

void kit_need_starving(struct kit *kit)
{
        if (!starve_works())
                kit_skip(kit, "allocations cannot be made to fail under this sanitizer");
}
