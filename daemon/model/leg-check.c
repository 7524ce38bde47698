/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdint.h>

#include "model/export.h"
#include "model/leg-check.h"
#include "model/region-table.h"
#include "util/macros.h"

/* One region against its device. */
static int check_region(const struct leg_spec *legs, unsigned int i,
                        const struct dmio_device_info *info, unsigned int logical_block,
                        bool read_only, struct model_refusal *refusal)
{
        sector_t block = logical_block / DMIO_SECTOR_SIZE;

        if (legs[i].count == 0)
                return refuse_region(refusal, i, "is empty");
        if (legs[i].count != legs[0].count)
                return refuse_region(refusal, i, "is %ju sectors long, region 0 is %ju",
                                     (uintmax_t)legs[i].count, (uintmax_t)legs[0].count);
        if (!range_fits(legs[i].sector, legs[i].count, info->capacity))
                return refuse_region(refusal, i, "does not fit the device: it has %ju sectors",
                                     (uintmax_t)info->capacity);
        if (block > 1 && (legs[i].sector % block != 0 || legs[i].count % block != 0))
                return refuse_region(refusal, i,
                                     "does not begin and end at a multiple of %ju sectors, which "
                                     "the blocks of the devices are long",
                                     (uintmax_t)block);
        if (info->read_only && !read_only)
                return refuse_region(refusal, i, "is on a device that can only be read");
        return MODEL_OK;
}

/* Two legs of a writable export on the same sectors could not differ, nor fail on their own. */
static int check_own_overlap(const struct leg_spec *legs, unsigned int i,
                             const struct dmio_device_info *infos, struct model_refusal *refusal)
{
        for (unsigned int j = 0; j < i; j++)
                if (legs[j].bdev && infos[i].id.device == infos[j].id.device &&
                    infos[i].id.inode == infos[j].id.inode &&
                    ranges_overlap(legs[i].sector, legs[i].count, legs[j].sector, legs[j].count))
                        return refuse_region(refusal, i, "overlaps region %u", j);
        return MODEL_OK;
}

int legs_check(struct model *model, const struct client *client, const struct leg_spec *legs,
               unsigned int n_legs, bool read_only, bool shared,
               const struct dmio_device_info *infos, unsigned int logical_block,
               struct model_refusal *refusal)
{
        int r;

        for (unsigned int i = 0; i < n_legs; i++) {
                const struct grant *grant;

                if (!legs[i].bdev)
                        continue;
                r = check_region(legs, i, &infos[i], logical_block, read_only, refusal);
                if (r == MODEL_OK && !read_only)
                        r = check_own_overlap(legs, i, infos, refusal);
                if (r != MODEL_OK)
                        return r;

                grant = region_table_find_conflict(model, client, &infos[i].id, legs[i].sector,
                                                   legs[i].count, shared);
                if (grant)
                        return refuse_held_region(refusal, i, grant);
        }
        return MODEL_OK;
}
