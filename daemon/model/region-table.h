/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who holds which sectors. One grant per leg of each export; a grant lasts until its export is
 * removed and drained. And one per region of each Io call in progress (a claim), so that nobody
 * makes an export under it. Main loop only, except where export.c says otherwise.
 */

#include <dmio/device.h>

#include "model/model.h"

struct grant {
        struct list link; /* model.regions */
        struct dmio_device_id id;
        sector_t sector;
        sector_t count;
        struct export *export;   /* NULL for a claim */
        const char *client_name; /* of the export, also while it drains; or of the call */
        const char *export_name; /* "" for a claim */
        bool shared;
        bool writable;
};

/*
 * May an Io of @client touch these sectors? NULL, or the grant of another client's export that is
 * not shared.
 */
struct grant *region_table_find_foreign(struct model *model, const struct client *client,
                                        const struct dmio_device_id *id, sector_t sector,
                                        sector_t count);

/*
 * The first grant that a new export of @client must not overlap: any, or with @shared those that
 * are not. Its own calls in progress do not count.
 */
struct grant *region_table_find_conflict(struct model *model, const struct client *client,
                                         const struct dmio_device_id *id, sector_t sector,
                                         sector_t count, bool shared);

/* Enter a grant, whose fields are set; under the model's lock. list_unlink() takes it out. */
void region_table_add(struct model *model, struct grant *grant);
