/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>

#include "model/describe.h"
#include "model/event.h"
#include "model/export.h"
#include "util/macros.h"

enum scope {
        SCOPE_OWNER, /* root, and the owner of the client */
        SCOPE_ROOT,
        SCOPE_ALL,
};

/* The sentences are those of the interface text; a test compares them. */
static const struct {
        const char *name;
        enum scope scope;
        const char *meaning;
} events[_EVENT_MAX] = {
        [EVENT_WATCHING] = { "watching", SCOPE_ALL,
                             "The first reply: whatever happens from now on is told." },
        [EVENT_CLIENT_OPENED] = { "client-opened", SCOPE_OWNER,
                                  "There is a new client, with a reservation of pages." },
        [EVENT_CLIENT_CLOSED] = { "client-closed", SCOPE_OWNER,
                                  "A client is gone; its name is free." },
        [EVENT_PAGES_CHANGED] = { "pages-changed", SCOPE_OWNER,
                                  "A client has got pages or put some." },
        [EVENT_EXPORT_CREATED] = { "export-created", SCOPE_OWNER, "There is a new export." },
        [EVENT_EXPORT_REMOVED] = { "export-removed", SCOPE_OWNER,
                                   "An export is gone, and its devices are closed." },
        [EVENT_LEG_FAILED] = { "leg-failed", SCOPE_OWNER,
                               "A leg has failed and takes part in nothing any more." },
        [EVENT_LEG_ERROR] = { "leg-error", SCOPE_OWNER,
                              "A leg had errors that do not fail it; the last one is named." },
        [EVENT_CONFIGURATION_RELOADED] = { "configuration-reloaded", SCOPE_ROOT,
                                           "The configuration has been read again." },
        [EVENT_STOPPING] = { "stopping", SCOPE_ALL,
                             "The daemon stops; there are no more replies." },
        [EVENT_OVERRUN] = { "overrun", SCOPE_ALL,
                            "So many events are lost, because they were not read in time." },
};

const char *event_name(enum event event)
{
        return events[event].name;
}

const char *event_meaning(enum event event)
{
        return events[event].meaning;
}

static const char *op_name(enum dm_io_op op)
{
        switch (op) {
        case DM_IO_READ:
                return "read";
        case DM_IO_WRITE:
                return "write";
        case DM_IO_FLUSH:
                return "flush";
        case DM_IO_DISCARD:
                return "discard";
        case DM_IO_WRITE_ZEROES:
                return "write_zeroes";
        }
        return "unknown";
}

static bool may_see(const struct event_watcher *watcher, enum event event, uid_t owner)
{
        return watcher->peer->privileged || events[event].scope == SCOPE_ALL ||
               (events[event].scope == SCOPE_OWNER && watcher->peer->uid == owner);
}

/* Where the number of the next event of @watcher comes from. */
static uint64_t watcher_seq(const struct event_watcher *watcher)
{
        return watcher->peer->privileged ? watcher->model->n_events : watcher->seen;
}

static void watcher_lose(struct event_watcher *watcher)
{
        struct event_entry *entry = &watcher->entries[watcher->first];

        json_decref(entry->event);
        watcher->lost++;
        watcher->lost_seq = entry->seq;
        watcher->first = (watcher->first + 1) % watcher->size;
        watcher->n--;
}

/* @event: NULL if there was no memory for it. */
static void watcher_add(struct event_watcher *watcher, json_t *event)
{
        uint64_t seq = watcher_seq(watcher);

        /* What is lost is lost in one piece, so all that came before goes along. */
        while (watcher->n > 0 && (!event || watcher->n == watcher->size))
                watcher_lose(watcher);
        if (event) {
                watcher->entries[(watcher->first + watcher->n) % watcher->size] =
                        (struct event_entry){ .seq = seq, .event = json_incref(event) };
                watcher->n++;
        } else {
                watcher->lost++;
                watcher->lost_seq = seq;
        }
        watcher->wake(watcher);
}

/* Tell everybody who may see it. @details are taken; NULL if they could not be made. */
static void emit(enum event event, struct model *model, uid_t owner, json_t *details)
{
        struct event_watcher *watcher;
        json_t *object;

        model->n_events++;
        object = details ? json_pack("{ss so}", "event", events[event].name, "details", details)
                         : NULL;
        list_for_each (watcher, &model->watchers, link) {
                if (!may_see(watcher, event, owner))
                        continue;
                watcher->seen++;
                watcher_add(watcher, object);
        }
        json_decref(object);
}

/* Nobody watches: it is counted, and that is all. */
static bool is_unseen(struct model *model)
{
        if (!list_is_empty(&model->watchers))
                return false;
        model->n_events++;
        return true;
}

static json_t *integer(uint64_t value)
{
        return json_integer((json_int_t)value);
}

void event_client(enum event event, const struct client *client)
{
        json_t *details;

        if (is_unseen(client->model))
                return;
        if (event == EVENT_CLIENT_OPENED)
                details = json_pack("{ss so so sb}", "client", client->name, "uid",
                                    integer(client->uid), "pages", integer(client->pages), "linger",
                                    (int)client->linger);
        else
                details = json_pack("{ss so}", "client", client->name, "uid", integer(client->uid));
        emit(event, client->model, client->uid, details);
}

void event_pages(const struct client *client, uint64_t before)
{
        if (client->pages == before || is_unseen(client->model))
                return;
        emit(EVENT_PAGES_CHANGED, client->model, client->uid,
             json_pack("{ss so so}", "client", client->name, "pages", integer(client->pages),
                       "before", integer(before)));
}

static json_t *describe_region(const struct leg_spec *spec)
{
        return json_pack("{ss so so}", "device", spec->device, "sector", integer(spec->sector),
                         "count", integer(spec->count));
}

static json_t *describe_regions(const struct export *export)
{
        json_t *regions = json_array();

        for (unsigned int i = 0; i < export->n_legs; i++)
                if (json_array_append_new(regions, describe_region(&export->legs[i].spec)) < 0) {
                        json_decref(regions);
                        return NULL;
                }
        return regions;
}

void event_export(enum event event, const struct export *export)
{
        const char *client = export->owner->name;
        json_t *details;

        if (is_unseen(export->model))
                return;
        if (event == EVENT_EXPORT_CREATED)
                details = json_pack("{ss ss ss so sb so}", "client", client, "export", export->name,
                                    "path", export->path, "sectors", integer(export->sectors),
                                    "read_only", (int)export->read_only, "regions",
                                    describe_regions(export));
        else
                details = json_pack("{ss ss}", "client", client, "export", export->name);
        emit(event, export->model, export->uid, details);
}

void event_leg(enum event event, const struct export *export, const struct event_leg_error *error)
{
        json_t *details;

        if (is_unseen(export->model))
                return;
        details = json_pack("{ss ss si so ss ss}", "client", export->owner->name, "export",
                            export->name, "leg", (int)error->leg, "region",
                            describe_region(&export->legs[error->leg].spec), "errno",
                            errno_name(error->error), "operation", op_name(error->op));
        if (event == EVENT_LEG_ERROR && details &&
            json_object_set_new(details, "errors", integer(error->n)) < 0) {
                json_decref(details);
                details = NULL;
        }
        emit(event, export->model, export->uid, details);
}

void event_daemon(enum event event, struct model *model)
{
        if (!is_unseen(model))
                emit(event, model, (uid_t)-1, json_object());
}

int event_watcher_init(struct event_watcher *watcher, struct model *model, const struct peer *peer,
                       unsigned int size, void (*wake)(struct event_watcher *watcher))
{
        json_t *event;

        *watcher = (struct event_watcher){
                .model = model,
                .peer = peer,
                .wake = wake,
                .size = size,
                .entries = calloc(size, sizeof(*watcher->entries)),
        };
        list_init(&watcher->link);
        event = json_pack("{ss s{}}", "event", events[EVENT_WATCHING].name, "details");
        if (!watcher->entries || !event) {
                json_decref(event);
                event_watcher_deinit(watcher);
                return -ENOMEM;
        }
        list_append(&model->watchers, &watcher->link);
        watcher_add(watcher, event);
        json_decref(event);
        return 0;
}

void event_watcher_deinit(struct event_watcher *watcher)
{
        list_unlink(&watcher->link);
        while (watcher->n > 0)
                watcher_lose(watcher);
        free(watcher->entries);
        watcher->entries = NULL;
}

static json_t *take_overrun(struct event_watcher *watcher)
{
        json_t *reply;

        reply = json_pack("{so ss s{so}}", "seq", integer(watcher->lost_seq), "event",
                          events[EVENT_OVERRUN].name, "details", "lost", integer(watcher->lost));
        if (reply)
                watcher->lost = 0;
        return reply;
}

json_t *event_watcher_take(struct event_watcher *watcher)
{
        struct event_entry *entry = &watcher->entries[watcher->first];
        json_t *reply;

        if (watcher->lost > 0)
                return take_overrun(watcher);
        if (watcher->n == 0)
                return NULL;

        reply = json_pack("{so}", "seq", integer(entry->seq));
        if (!reply || json_object_update(reply, entry->event) < 0) {
                json_decref(reply);
                return NULL;
        }
        json_decref(entry->event);
        watcher->first = (watcher->first + 1) % watcher->size;
        watcher->n--;
        return reply;
}
