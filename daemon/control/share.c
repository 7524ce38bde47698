/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>

#include "control/share.h"
#include "util/clock.h"

/* sd-event serves what has a lower number first, and by age what has the same. */
#define PRIORITY_LAST (SD_EVENT_PRIORITY_NORMAL + 10)

struct share_user {
        struct list link;
        uid_t uid;
        struct list shares;
        uint64_t used_usec;
        uint64_t begun_usec;     /* his turn; 0 if it is not */
        sd_event_source *window; /* on while there is something to be forgotten at its end */
        bool is_last;
};

static void set_last(struct share_user *user, bool is_last)
{
        struct share *share;

        if (user->is_last == is_last)
                return;
        user->is_last = is_last;
        list_for_each (share, &user->shares, link)
                (void)sd_event_source_set_priority(
                        share->source, is_last ? PRIORITY_LAST : SD_EVENT_PRIORITY_NORMAL);
}

static void user_free(struct share_user *user)
{
        list_unlink(&user->link);
        (void)sd_event_source_disable_unref(user->window);
        free(user);
}

/* Who has left is kept for as long as what he has used: he may come back. */
static void user_free_if_idle(struct share_user *user)
{
        if (list_is_empty(&user->shares) && user->used_usec == 0 && user->begun_usec == 0)
                user_free(user);
}

static int window_over(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct share_user *user = userdata;

        user->used_usec = 0;
        set_last(user, false);
        user_free_if_idle(user);
        return 0;
}

static struct share_user *find_user(struct list *users, uid_t uid)
{
        struct share_user *user;

        list_for_each (user, users, link)
                if (user->uid == uid)
                        return user;
        return NULL;
}

static int make_user(struct list *users, const struct peer *peer, sd_event *event,
                     struct share_user **ret)
{
        struct share_user *user = calloc(1, sizeof(*user));
        int r;

        if (!user)
                return -ENOMEM;
        r = sd_event_add_time_relative(event, &user->window, CLOCK_MONOTONIC, 0, 0, window_over,
                                       user);
        if (r >= 0)
                r = sd_event_source_set_enabled(user->window, SD_EVENT_OFF);
        /* It is what ends a time of being last. */
        if (r >= 0)
                r = sd_event_source_set_priority(user->window, SD_EVENT_PRIORITY_IMPORTANT);
        if (r < 0) {
                (void)sd_event_source_disable_unref(user->window);
                free(user);
                return r;
        }
        user->uid = peer->uid;
        list_init(&user->shares);
        list_append(users, &user->link);
        *ret = user;
        return 0;
}

int share_join(struct share *share, struct list *users, const struct peer *peer,
               sd_event_source *source)
{
        struct share_user *user;
        int r = 0;

        if (peer->privileged)
                return 0;
        user = find_user(users, peer->uid);
        if (!user)
                r = make_user(users, peer, sd_event_source_get_event(source), &user);
        if (r >= 0 && user->is_last)
                r = sd_event_source_set_priority(source, PRIORITY_LAST);
        if (r < 0)
                return r;
        share->user = user;
        share->source = source;
        list_append(&user->shares, &share->link);
        return 0;
}

void share_leave(struct share *share)
{
        struct share_user *user = share->user;

        if (!user)
                return;
        share->user = NULL;
        list_unlink(&share->link);
        user_free_if_idle(user);
}

struct share_user *share_begin(struct share *share)
{
        if (share->user)
                share->user->begun_usec = now_usec();
        return share->user;
}

void share_end(struct share_user *user)
{
        uint64_t used;

        if (!user)
                return;
        used = now_usec() - user->begun_usec;
        user->begun_usec = 0;
        if (used > 0 && user->used_usec == 0 &&
            (sd_event_source_set_time_relative(user->window, SHARE_WINDOW_USEC) < 0 ||
             sd_event_source_set_enabled(user->window, SD_EVENT_ONESHOT) < 0))
                used = 0; /* nothing would end it */
        user->used_usec += used;
        if (user->used_usec > SHARE_USEC)
                set_last(user, true);
        user_free_if_idle(user);
}

void share_forget(struct list *users)
{
        struct share_user *user, *after;

        list_for_each_safe (user, after, users, link)
                user_free(user);
}
