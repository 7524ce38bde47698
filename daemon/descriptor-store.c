/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <systemd/sd-daemon.h>

#include "descriptor-store.h"
#include "log.h"
#include "util/cleanup.h"

#define BARRIER_USEC (UINT64_C(5) * 1000 * 1000)

/* What is between the names when they are listed. */
#define SEPARATOR ':'
#define NAME_MAX_LENGTH 255U

static bool name_is_valid(const char *name)
{
        size_t n = strlen(name);

        if (n < 1 || n > NAME_MAX_LENGTH)
                return false;
        for (size_t i = 0; i < n; i++)
                if (name[i] <= ' ' || name[i] >= 127 || name[i] == SEPARATOR)
                        return false;
        return true;
}

static bool name_begins(const char *name, const char *prefix)
{
        return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool name_is_of_store(const char *name)
{
        return strcmp(name, DESCRIPTOR_STORE_STATE) == 0 ||
               strcmp(name, DESCRIPTOR_STORE_FUSE) == 0 ||
               name_begins(name, DESCRIPTOR_STORE_FUSE "-") ||
               name_begins(name, DESCRIPTOR_STORE_FENCE_PREFIX) ||
               name_begins(name, DESCRIPTOR_STORE_DEVICE_PREFIX);
}

static bool supervisor_keeps(const struct descriptor_store *store)
{
        const char *limit = getenv("FDSTORE");

        if (!getenv("NOTIFY_SOCKET"))
                return false;
        if (limit && strtoul(limit, NULL, 10) > 0)
                return true;
        for (size_t i = 0; i < store->n_entries; i++)
                if (name_is_of_store(store->entries[i].name))
                        return true;
        return false;
}

int descriptor_store_open(struct descriptor_store *store)
{
        char **names = NULL;
        int n;

        *store = (struct descriptor_store){ 0 };
        n = sd_listen_fds_with_names(1, &names);
        if (n > 0) {
                store->entries = calloc((size_t)n, sizeof(*store->entries));
                if (!store->entries) {
                        for (int i = 0; i < n; i++)
                                free(names[i]);
                        free(names);
                        return -ENOMEM;
                }
                store->n_entries = (size_t)n;
                for (int i = 0; i < n; i++)
                        store->entries[i] = (struct descriptor_store_entry){
                                .name = names[i],
                                .fd = SD_LISTEN_FDS_START + i,
                        };
        }
        free(names);
        store->there = supervisor_keeps(store);
        return n < 0 ? n : 0;
}

bool descriptor_store_is_there(const struct descriptor_store *store)
{
        return store->there;
}

int descriptor_store_take(struct descriptor_store *store, const char *name)
{
        for (size_t i = 0; i < store->n_entries; i++)
                if (store->entries[i].fd >= 0 && strcmp(store->entries[i].name, name) == 0)
                        return DMIO_TAKE_FD(store->entries[i].fd);
        return -ENOENT;
}

int descriptor_store_take_prefix(struct descriptor_store *store, const char *prefix, char *ret_name,
                                 size_t size)
{
        for (size_t i = 0; i < store->n_entries; i++) {
                struct descriptor_store_entry *entry = &store->entries[i];

                if (entry->fd < 0 || !name_begins(entry->name, prefix))
                        continue;
                (void)snprintf(ret_name, size, "%s", entry->name);
                return DMIO_TAKE_FD(entry->fd);
        }
        return -ENOENT;
}

int descriptor_store_take_listener(struct descriptor_store *store)
{
        struct descriptor_store_entry *listener = NULL;
        bool others = false;

        for (size_t i = 0; i < store->n_entries; i++) {
                struct descriptor_store_entry *entry = &store->entries[i];

                if (entry->fd < 0 || name_is_of_store(entry->name))
                        continue;
                if (sd_is_socket_unix(entry->fd, SOCK_STREAM, 1, NULL, 0) <= 0)
                        others = true;
                else if (listener)
                        return -ENOTUNIQ;
                else
                        listener = entry;
        }
        if (others)
                return -ENOTSOCK;
        return listener ? DMIO_TAKE_FD(listener->fd) : -ENOENT;
}

/* @fd: to go with the message, or none. */
static int send_message(const struct descriptor_store *store, const char *command, const char *name,
                        int fd)
{
        char message[NAME_MAX_LENGTH + 64];
        int r;

        if (!store->there)
                return -EOPNOTSUPP;
        if (!name_is_valid(name))
                return -EINVAL;

        /* Not polled: whether /dev/fuse or a file of somebody's server is dead is ours to find. */
        (void)snprintf(message, sizeof(message), "%s=1\nFDNAME=%s%s", command, name,
                       fd >= 0 ? "\nFDPOLL=0" : "");
        r = sd_pid_notify_with_fds(0, 0, message, &fd, fd >= 0 ? 1 : 0);
        if (r == 0)
                return -EOPNOTSUPP;
        return r < 0 ? r : 0;
}

int descriptor_store_push(const struct descriptor_store *store, const char *name, int fd)
{
        return fd < 0 ? -EBADF : send_message(store, "FDSTORE", name, fd);
}

int descriptor_store_remove(const struct descriptor_store *store, const char *name)
{
        return send_message(store, "FDSTOREREMOVE", name, -EBADF);
}

int descriptor_store_barrier(const struct descriptor_store *store)
{
        int r;

        if (!store->there)
                return -EOPNOTSUPP;
        r = sd_notify_barrier(0, BARRIER_USEC);
        if (r == 0)
                return -EOPNOTSUPP;
        return r < 0 ? r : 0;
}

static bool name_was_taken(const struct descriptor_store *store, const char *name)
{
        for (size_t i = 0; i < store->n_entries; i++)
                if (store->entries[i].fd < 0 && strcmp(store->entries[i].name, name) == 0)
                        return true;
        return false;
}

void descriptor_store_drop(struct descriptor_store *store)
{
        for (size_t i = 0; i < store->n_entries; i++) {
                const struct descriptor_store_entry *entry = &store->entries[i];
                int r = 0;

                if (entry->fd < 0)
                        continue;
                log_debug("Nobody wants the descriptor '%s' that was kept", entry->name);
                if (!name_was_taken(store, entry->name))
                        r = descriptor_store_remove(store, entry->name);
                if (r < 0 && r != -EOPNOTSUPP)
                        log_debug_errno(r, "Cannot have '%s' forgotten: %m", entry->name);
        }
        descriptor_store_close(store);
}

void descriptor_store_close(struct descriptor_store *store)
{
        for (size_t i = 0; i < store->n_entries; i++) {
                (void)close_fd(store->entries[i].fd);
                free(store->entries[i].name);
        }
        free(store->entries);
        store->entries = NULL;
        store->n_entries = 0;
}
