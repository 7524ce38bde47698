/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A list, walked from end to end: it is asked when something is made and for region lists, never on
 * the path of an export's data, and it is as long as there are legs.
 */

#include <string.h>

#include "model/client.h"
#include "model/region-table.h"
#include "util/macros.h"

static bool grant_overlaps(const struct grant *grant, const struct dmio_device_id *id,
                           sector_t sector, sector_t count)
{
        return grant->id.device == id->device && grant->id.inode == id->inode &&
               ranges_overlap(grant->sector, grant->count, sector, count);
}

/* Names are unique for as long as anything of a client is left. */
static bool grant_is_of(const struct grant *grant, const struct client *client)
{
        return strcmp(grant->client_name, client->name) == 0;
}

/* What a call touches may become a shared export, which it would have been allowed to touch. */
static bool grant_is_in_the_way(const struct grant *grant, const struct client *client, bool shared)
{
        if (grant->export)
                return !(shared && grant->shared);
        return !shared && !grant_is_of(grant, client);
}

struct grant *region_table_find_conflict(struct model *model, const struct client *client,
                                         const struct dmio_device_id *id, sector_t sector,
                                         sector_t count, bool shared)
{
        struct grant *grant;

        list_for_each (grant, &model->regions, link)
                if (grant_is_in_the_way(grant, client, shared) &&
                    grant_overlaps(grant, id, sector, count))
                        return grant;
        return NULL;
}

struct grant *region_table_find_foreign(struct model *model, const struct client *client,
                                        const struct dmio_device_id *id, sector_t sector,
                                        sector_t count)
{
        struct grant *grant;

        list_for_each (grant, &model->regions, link)
                if (grant->export && !grant->shared && !grant_is_of(grant, client) &&
                    grant_overlaps(grant, id, sector, count))
                        return grant;
        return NULL;
}

void region_table_add(struct model *model, struct grant *grant)
{
        list_append(&model->regions, &grant->link);
}
