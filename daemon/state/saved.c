/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "model/client.h"
#include "model/export.h"
#include "state/saved.h"
#include "util/cleanup.h"
#include "util/macros.h"

#define ID_MAX (UINT32_MAX - INT64_C(1)) /* of a user or group */
#define PAGES_MAX UINT32_MAX
#define ERRNO_MAX 4095
#define NSEC_MAX INT64_C(999999999)

static const char *const how_names[] = {
        [LEG_BY_PATH] = "path",
        [LEG_BY_NAME] = "name",
        [LEG_BY_DESCRIPTOR] = "descriptor",
        NULL,
};

static const char *const state_names[] = {
        [LEG_ACTIVE] = "active",
        [LEG_FAILED] = "failed",
        NULL,
};

static const char *const cache_names[] = {
        [EXPORT_CACHE_PAGE] = "page",
        [EXPORT_CACHE_NONE] = "none",
        [EXPORT_CACHE_MAPPED] = "mapped",
        NULL,
};

#define INT(structure, member, most)                                                               \
        FIELD(structure, member, FIELD_INT, .required = true, .max = (most))
#define ENUM(structure, member, of)                                                                \
        FIELD(structure, member, FIELD_ENUM, .required = true, .names = (of))
#define BOOL(structure, member) FIELD(structure, member, FIELD_BOOL, .required = true)
#define STRING(structure, member) FIELD(structure, member, FIELD_STRING, .required = true)
#define OBJECTS(structure, member, of, type)                                                       \
        FIELD(structure, member, FIELD_OBJECTS, .required = true, .fields = (of),                  \
              .size = sizeof(type))

static const struct field leg_fields[] = {
        STRING(struct saved_leg, device),
        ENUM(struct saved_leg, how, how_names),
        ENUM(struct saved_leg, state, state_names),
        INT(struct saved_leg, sector, FIELD_INT_MAX),
        FIELD(struct saved_leg, count, FIELD_INT, .required = true, .min = 1, .max = FIELD_INT_MAX),
        INT(struct saved_leg, errors, INT64_MAX),
        INT(struct saved_leg, last_error, ERRNO_MAX),
        BOOL(struct saved_leg, block),
        INT(struct saved_leg, major, UINT32_MAX),
        INT(struct saved_leg, minor, UINT32_MAX),
        STRING(struct saved_leg, inode),
        INT(struct saved_leg, capacity, INT64_MAX),
        INT(struct saved_leg, born_sec, INT64_MAX),
        INT(struct saved_leg, born_nsec, NSEC_MAX),
        STRING(struct saved_leg, serial),
        INT(struct saved_leg, kept, INT64_MAX),
        FIELD_END,
};

static const struct field export_fields[] = {
        STRING(struct saved_export, name),
        INT(struct saved_export, node, INT64_MAX),
        INT(struct saved_export, ctime, INT64_MAX),
        BOOL(struct saved_export, read_only),
        BOOL(struct saved_export, shared),
        ENUM(struct saved_export, cache, cache_names),
        OBJECTS(struct saved_export, legs, leg_fields, struct saved_leg),
        FIELD_END,
};

static const struct field client_fields[] = {
        STRING(struct saved_client, name),
        INT(struct saved_client, uid, ID_MAX),
        INT(struct saved_client, gid, ID_MAX),
        INT(struct saved_client, pages, PAGES_MAX),
        INT(struct saved_client, node, INT64_MAX),
        INT(struct saved_client, status_node, INT64_MAX),
        OBJECTS(struct saved_client, exports, export_fields, struct saved_export),
        FIELD_END,
};

static const struct field saved_fields[] = {
        STRING(struct saved, boot),
        FIELD(struct saved, epoch, FIELD_INT, .required = true, .min = 1, .max = SAVED_EPOCH_MAX),
        OBJECTS(struct saved, clients, client_fields, struct saved_client),
        FIELD_END,
};

static json_t *integer(uint64_t value)
{
        return json_integer((json_int_t)value);
}

static json_t *describe_leg(const struct leg *leg)
{
        const struct leg_identity *identity = &leg->spec.identity;
        bool active = leg_is_active(leg) || leg->lasts_active;
        char inode[24];

        (void)snprintf(inode, sizeof(inode), "%ju", (uintmax_t)identity->id.inode);
        return json_pack("{ss ss ss so so so si sb so so ss so so so ss so}", "device",
                         leg->spec.device, "how", how_names[leg->spec.how], "state",
                         state_names[active ? LEG_ACTIVE : LEG_FAILED], "sector",
                         integer(leg->spec.sector), "count", integer(leg->spec.count), "errors",
                         integer(atomic_load(&leg->errors->count)), "last_error",
                         atomic_load(&leg->errors->last), "block", (int)identity->block, "major",
                         integer(major(identity->id.device)), "minor",
                         integer(minor(identity->id.device)), "inode", inode, "capacity",
                         integer(identity->capacity), "born_sec", integer(identity->born_sec),
                         "born_nsec", integer(identity->born_nsec), "serial", identity->serial,
                         "kept", integer(leg->spec.kept));
}

/* What is added is NULL if there was no memory for it, and so becomes the whole. */
static json_t *append(json_t *array, json_t *item)
{
        if (json_array_append_new(array, item) == 0)
                return array;
        json_decref(array);
        return NULL;
}

static json_t *describe_export(struct export *export)
{
        json_t *legs = json_array();

        for (unsigned int i = 0; legs && i < export->n_legs; i++)
                legs = append(legs, describe_leg(&export->legs[i]));
        return json_pack("{ss so so sb sb ss so}", "name", export->name, "node",
                         integer(export->node.id), "ctime", integer((uint64_t) export->ctime_sec),
                         "read_only", (int)export->read_only, "shared", (int)export->shared,
                         "cache", cache_names[export->cache], "legs", legs);
}

static json_t *describe_client(const struct client *client)
{
        json_t *exports = json_array();
        struct export *export;

        list_for_each (export, &client->exports, link)
                if (exports && !export->leaving)
                        exports = append(exports, describe_export(export));
        return json_pack("{ss so so so so so so}", "name", client->name, "uid",
                         integer(client->uid), "gid", integer(client->gid), "pages",
                         integer(client->pages - client->pages_leaving), "node",
                         integer(client->node.id), "status_node", integer(client->status_node.id),
                         "exports", exports);
}

json_t *saved_describe(const struct model *model, const char *boot, uint64_t epoch)
{
        json_t *clients = json_array();
        const struct client *client;

        list_for_each (client, &model->clients, link)
                if (clients && client->linger && !client->leaving && !client->closing)
                        clients = append(clients, describe_client(client));
        return json_pack("{ss so so}", "boot", boot, "epoch", integer(epoch), "clients", clients);
}

static int __attribute__((__format__(__printf__, 2, 3)))
reject(char **ret_message, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(ret_message, format, arguments) < 0)
                *ret_message = NULL;
        va_end(arguments);
        return -EBADMSG;
}

static int check_leg(const struct saved_export *export, size_t i, const char *where,
                     char **ret_message)
{
        const struct saved_leg *legs = export->legs.items;
        const struct saved_leg *leg = &legs[i];

        if (leg->count != legs[0].count)
                return reject(ret_message, "%s.legs[%zu].count is not that of the first leg", where,
                              i);
        if (!range_fits((uint64_t)leg->sector, (uint64_t)leg->count, (uint64_t)leg->capacity))
                return reject(ret_message, "%s.legs[%zu] ends beyond its device", where, i);
        if (leg->inode[0] == '\0' || strlen(leg->inode) > 20 ||
            leg->inode[strspn(leg->inode, "0123456789")])
                return reject(ret_message, "%s.legs[%zu].inode is not a number", where, i);
        if (strlen(leg->serial) >= DEVICE_SERIAL_SIZE)
                return reject(ret_message, "%s.legs[%zu].serial is too long", where, i);
        if (leg->how != LEG_BY_DESCRIPTOR && leg->device[0] == '\0')
                return reject(ret_message, "%s.legs[%zu].device is empty", where, i);
        return 0;
}

static int check_export(const struct saved_client *client, size_t i, const char *parent,
                        char **ret_message)
{
        const struct saved_export *exports = client->exports.items;
        const struct saved_export *export = &exports[i];
        char where[64];
        int r = 0;

        (void)snprintf(where, sizeof(where), "%s.exports[%zu]", parent, i);
        if (!model_name_is_valid(export->name))
                return reject(ret_message, "%s.name is not a name", where);
        for (size_t j = 0; j < i; j++)
                if (strcmp(export->name, exports[j].name) == 0)
                        return reject(ret_message, "%s.name is that of exports[%zu], too", where,
                                      j);
        if (export->legs.n < 1 || export->legs.n > DM_IO_MAX_REGIONS)
                return reject(ret_message, "%s.legs must be 1 to %d", where, DM_IO_MAX_REGIONS);
        for (size_t j = 0; r == 0 && j < export->legs.n; j++)
                r = check_leg(export, j, where, ret_message);
        return r;
}

static int check_client(const struct saved *saved, size_t i, char **ret_message)
{
        const struct saved_client *clients = saved->clients.items;
        const struct saved_client *client = &clients[i];
        char where[32];
        int r = 0;

        (void)snprintf(where, sizeof(where), "clients[%zu]", i);
        if (!model_name_is_valid(client->name))
                return reject(ret_message, "%s.name is not a name", where);
        for (size_t j = 0; j < i; j++)
                if (strcmp(client->name, clients[j].name) == 0)
                        return reject(ret_message, "%s.name is that of clients[%zu], too", where,
                                      j);
        for (size_t j = 0; r == 0 && j < client->exports.n; j++)
                r = check_export(client, j, where, ret_message);
        return r;
}

static int compare_ids(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return x < y ? -1 : x > y;
}

/* Each is of an epoch that there was, and there are no two of it. */
static int check_ids(const struct saved *saved, char **ret_message)
{
        const struct saved_client *clients = saved->clients.items;
        DMIO_CLEANUP(freep) int64_t *ids = NULL;
        size_t n = 0;

        for (size_t i = 0; i < saved->clients.n; i++)
                n += 2 + clients[i].exports.n;
        ids = calloc(n + 1, sizeof(*ids));
        if (!ids)
                return -ENOMEM;

        n = 0;
        for (size_t i = 0; i < saved->clients.n; i++) {
                const struct saved_export *exports = clients[i].exports.items;

                ids[n++] = clients[i].node;
                ids[n++] = clients[i].status_node;
                for (size_t j = 0; j < clients[i].exports.n; j++)
                        ids[n++] = exports[j].node;
        }
        qsort(ids, n, sizeof(*ids), compare_ids);
        for (size_t i = 0; i < n; i++) {
                int64_t epoch = ids[i] >> SAVED_EPOCH_SHIFT;

                if (epoch < 1 || epoch > saved->epoch || (i > 0 && ids[i] == ids[i - 1]))
                        return reject(ret_message, "the node id %" PRId64 " is %s", ids[i],
                                      epoch < 1 || epoch > saved->epoch ? "of no epoch"
                                                                        : "there twice");
        }
        return 0;
}

int saved_read(const json_t *content, struct saved *ret, char **ret_message)
{
        struct saved saved;
        json_t *error;
        int r = 0;

        *ret_message = NULL;
        error = fields_read(saved_fields, content, &saved, sizeof(saved));
        if (error) {
                const json_t *parameters = json_object_get(error, "parameters");
                const char *place = json_string_value(json_object_get(parameters, "parameter"));
                const char *reason = json_string_value(json_object_get(parameters, "reason"));

                r = place && reason ? reject(ret_message, "%s %s", place, reason) : -ENOMEM;
                json_decref(error);
                return r;
        }

        for (size_t i = 0; r == 0 && i < saved.clients.n; i++)
                r = check_client(&saved, i, ret_message);
        if (r == 0)
                r = check_ids(&saved, ret_message);
        if (r < 0) {
                saved_clear(&saved);
                return r;
        }
        *ret = saved;
        return 0;
}

void saved_clear(struct saved *saved)
{
        fields_clear(saved_fields, saved, sizeof(*saved));
}
