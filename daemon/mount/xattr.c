/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/export.h"
#include "mount/xattr.h"
#include "util/macros.h"

#define PREFIX "user.dmio."

const char xattr_names[] = PREFIX "legs\0" PREFIX "failed\0" PREFIX "state";
const size_t xattr_names_size = sizeof(xattr_names);

static const char *const state_names[] = {
        [LEG_ACTIVE] = "active",
        [LEG_FAILED] = "failed",
        [LEG_SYNCING] = "syncing",
};

static void write_legs(const struct export *export, FILE *stream)
{
        for (unsigned int i = 0; i < export->n_legs; i++) {
                const struct leg *leg = &export->legs[i];

                fprintf(stream, "%s:%" PRIu64 "+%" PRIu64 " %s\n", leg->spec.device,
                        leg->spec.sector, leg->spec.count, state_names[atomic_load(&leg->state)]);
        }
}

static void write_failed(const struct export *export, FILE *stream)
{
        const char *separator = "";

        for (unsigned int i = 0; i < export->n_legs; i++) {
                if (atomic_load(&export->legs[i].state) != LEG_FAILED)
                        continue;
                fprintf(stream, "%s%u", separator, i);
                separator = ",";
        }
}

static void write_state(const struct export *export, FILE *stream)
{
        unsigned int n_active = 0;

        for (unsigned int i = 0; i < export->n_legs; i++)
                n_active += leg_is_active(&export->legs[i]);
        fputs(n_active == export->n_legs ? "ok" : n_active > 0 ? "degraded" : "failed", stream);
}

static const struct {
        const char *name;
        void (*write)(const struct export *export, FILE *stream);
} attributes[] = {
        { PREFIX "legs", write_legs },
        { PREFIX "failed", write_failed },
        { PREFIX "state", write_state },
};

int xattr_get(const struct export *export, const char *name, char **ret)
{
        for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
                char *text = NULL;
                size_t size = 0;
                FILE *stream;
                bool failed;

                if (strcmp(attributes[i].name, name) != 0)
                        continue;
                stream = open_memstream(&text, &size);
                if (!stream)
                        return -ENOMEM;
                attributes[i].write(export, stream);
                failed = ferror(stream);
                if (fclose(stream) != 0 || failed) {
                        free(text);
                        return -ENOMEM;
                }
                *ret = text;
                return 0;
        }
        return -ENODATA;
}
