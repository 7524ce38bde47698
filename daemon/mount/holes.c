/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <unistd.h>

#include "mount/holes.h"
#include "util/macros.h"

/* The leg that a read would come from, or NULL. */
static const struct leg_spec *reading_leg(const struct export *export)
{
        for (unsigned int i = 0; i < export->n_legs; i++)
                if (leg_is_active(&export->legs[i]))
                        return &export->legs[i].spec;
        return NULL;
}

int seek_in_data(uint64_t size, int whence, uint64_t offset, uint64_t *ret)
{
        if (whence != SEEK_DATA && whence != SEEK_HOLE)
                return -EINVAL;
        if (offset >= size)
                return -ENXIO;
        *ret = whence == SEEK_DATA ? offset : size;
        return 0;
}

int export_seek(struct export *export, int whence, uint64_t offset, uint64_t *ret)
{
        const struct leg_spec *leg = reading_leg(export);
        uint64_t size = export->sectors << DMIO_SECTOR_SHIFT;
        uint64_t first, found;
        int r;

        if (offset >= size || !leg || atomic_load(&export->n_writers) > 0)
                return seek_in_data(size, whence, offset, ret);

        first = leg->sector << DMIO_SECTOR_SHIFT;
        r = dmio_device_seek(leg->bdev, whence, first + offset, &found);
        if (r < 0)
                return r;
        if (whence == SEEK_DATA && found - first >= size)
                return -ENXIO;
        *ret = MIN(found - first, size);
        return 0;
}

sector_t export_allocated(const struct export *export)
{
        const struct leg_spec *leg = reading_leg(export);
        struct dmio_device_info info;

        if (!leg)
                return export->sectors;
        dmio_device_info(leg->bdev, &info);
        return leg->sector == 0 && leg->count == info.capacity ? info.allocated : export->sectors;
}
