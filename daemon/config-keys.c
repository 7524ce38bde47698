/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The one table of keys, and the ways to look something up in it. */

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "config-keys.h"
#include "util/macros.h"

/* One byte of sun_path is for the terminator. */
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

#define FIELD(field) offsetof(struct config, field)

/* clang-format off */
static const struct config_key keys[] = {
        { "daemon", "mount", KEY_PATH, FIELD(mount), "/run/dmio", "$XDG_RUNTIME_DIR/dmio",
          0, PATH_MAX - 1, false, .help = "where the exports appear",
          .more = "It is made if it is not there, and goes with the daemon then." },
        { "daemon", "control", KEY_PATH, FIELD(control), "/run/dmiod/control",
          "$XDG_RUNTIME_DIR/dmiod/control", 0, SOCKET_PATH_MAX, false, .help = "the control socket",
          .more = "It cannot be below the mount. With a socket of the service manager it is that "
                  "one's ListenStream that counts." },
        { "daemon", "state", KEY_PATH, FIELD(state), "/var/lib/dmiod", "$XDG_STATE_HOME/dmiod",
          0, PATH_MAX - 1, false, .help = "the folder of what lasts",
          .more = "It cannot be below the mount." },
        { "daemon", "backend", KEY_BACKEND, FIELD(backend), NULL, NULL,
          0, 0, false, .help = "how I/O is done; by default the best that works",
          .more = "A back-end that is named is used or the daemon does not start. With memory each "
                  "device is a blank RAM disk: for tests." },
        { "daemon", "queues", KEY_UNSIGNED, FIELD(queues), "0", NULL,
          0, 64, false, .help = "threads that serve the mount; 0: by the number of CPUs" },
        { "daemon", "max-pages", KEY_NUMBER, FIELD(max_pages), "0", NULL,
          0, 1u << 30, false, .help = "pages that may be reserved; 0: half the memory",
          .more = "Pages have 4096 bytes. Whoever asks for more is told PoolExhausted." },
        { "daemon", "spin-us", KEY_UNSIGNED, FIELD(spin_usec), "50", NULL,
          0, 10000, false, .help = "microseconds that a thread polls before it sleeps" },
        { "daemon", "restore-timeout", KEY_UNSIGNED, FIELD(restore_timeout), "10", NULL,
          1, 3600, false, .help = "seconds that devices of saved exports have to answer at the start",
          .more = "A leg whose device has not answered by then is one that is not there: it has failed, if "
                  "another leg of its export is there. Nobody waits when all have answered. Disks that "
                  "have to spin up, and servers that have to come back, want to be given that time." },
        { "daemon", "log-level", KEY_LEVEL, FIELD(log_level), "info", NULL,
          0, 0, true, .help = "how much is logged" },
        { "daemon", "drills", KEY_BOOL, FIELD(drills), "no", NULL,
          0, 0, true, .help = "whether faults may be made on purpose",
          .more = "For drills (dmioctl fault), and for tests: not where it matters." },

        { "limits", "clients-per-uid", KEY_NUMBER, FIELD(limit_clients), "64", NULL,
          0, 1u << 20, true, .help = "clients of one user", .limit = "clients" },
        { "limits", "exports-per-uid", KEY_NUMBER, FIELD(limit_exports), "256", NULL,
          0, 1u << 20, true, .help = "exports of one user", .limit = "exports" },
        { "limits", "connections-per-uid", KEY_NUMBER, FIELD(limit_connections), "1024", NULL,
          1, 1u << 20, true, .help = "control connections of one user", .limit = "connections",
          .more = "One more is told so, and closed." },
        { "limits", "pages-per-uid", KEY_NUMBER, FIELD(limit_pages), "65536", NULL,
          0, 1u << 30, true, .help = "pages that one user may reserve", .limit = "pages" },
        { "limits", "jobs-per-uid", KEY_NUMBER, FIELD(limit_jobs), "32", NULL,
          0, 1u << 16, true, .help = "jobs of one user that run at a time", .limit = "jobs" },
        { "limits", "requests-per-uid", KEY_NUMBER, FIELD(limit_requests), "256", NULL,
          0, 1u << 20, true, .help = "submitted requests of one user whose results are not fetched",
          .limit = "requests" },
        { "limits", "monitors-per-uid", KEY_NUMBER, FIELD(limit_monitors), "64", NULL,
          0, 1u << 20, true, .help = "calls of Monitor of one user", .limit = "monitors",
          .more = "Each may have monitor-events waiting." },
        { "limits", "faults-per-uid", KEY_NUMBER, FIELD(limit_faults), "32", NULL,
          0, 1u << 16, true, .help = "faults on purpose of one user", .limit = "faults" },
        { "limits", "buffers-per-uid", KEY_NUMBER, FIELD(limit_buffers), "134217728", NULL,
          1u << 20, UINT64_C(1) << 40, true,
          .help = "bytes of one user's messages and answers that are held", .limit = "buffers" },
        { "limits", "held-descriptors-per-uid", KEY_NUMBER, FIELD(limit_held), "4096", NULL,
          0, 1u << 20, true, .help = "descriptors of one user's messages and calls that are held",
          .limit = "held-descriptors" },
        { "limits", "message-bytes", KEY_NUMBER, FIELD(limit_message), "1048576", NULL,
          4096, 64u << 20, true, .help = "length of a control message", .limit = "message",
          .more = "Root is not exempt from this, nor from the limits that follow. The connection "
                  "is closed." },
        { "limits", "message-depth", KEY_NUMBER, FIELD(limit_nesting), "32", NULL,
          4, 256, true, .help = "nesting of a control message", .limit = "nesting",
          .more = "The connection is closed." },
        { "limits", "message-descriptors", KEY_NUMBER, FIELD(limit_descriptors), "64", NULL,
          0, 253, true, .help = "descriptors sent with a control message", .limit = "descriptors",
          .more = "The connection is closed." },
        { "limits", "monitor-events", KEY_NUMBER, FIELD(limit_events), "256", NULL,
          1, 65536, true, .help = "events that wait for a reader of Monitor",
          .more = "Who reads later than that loses the oldest, and is told how many by an overrun "
                  "event. A change is for calls that begin afterwards." },
};

/* The keys of a [device NAME] section. */
static const struct device_key_text device_keys[_DEVICE_KEY_MAX] = {
        [DEVICE_KEY_PATH] = { "path", "path", "the block device or file",
                "It must be absolute, and must be given. It need not be there yet: it is opened "
                "each time that the device is named, and as long as it is not there that is NoSuchDevice." },
        [DEVICE_KEY_USERS] = { "users", "names or numbers", "who may use it",
                "A user that does not exist is an error; a number need not have a name." },
        [DEVICE_KEY_GROUPS] = { "groups", "names or numbers", "whose members may use it",
                "What counts is the groups of the peer when it connected." },
        [DEVICE_KEY_READ_ONLY] = { "read-only", "yes or no", "nobody may write to it",
                "Nobody by this name, that is: a path, or a descriptor, is another matter." },
};
/* clang-format on */

static_assert(ARRAY_SIZE(keys) <= CONFIG_KEYS_MAX, "each key has a place");

const struct config_key *config_key_at(size_t index)
{
        return index < ARRAY_SIZE(keys) ? &keys[index] : NULL;
}

const struct config_key *config_find_key(const char *section, const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
                        return &keys[i];
        return NULL;
}

size_t config_key_index(const struct config_key *key)
{
        return (size_t)(key - keys);
}

void config_key_describe_type(const struct config_key *key, char *ret, size_t size)
{
        switch (key->type) {
        case KEY_PATH:
                (void)snprintf(ret, size, "path");
                break;
        case KEY_BACKEND:
                (void)snprintf(ret, size, "uring, threads or memory");
                break;
        case KEY_UNSIGNED:
        case KEY_NUMBER:
                (void)snprintf(ret, size, "%" PRIu64 " to %" PRIu64, key->min, key->max);
                break;
        case KEY_LEVEL:
                (void)snprintf(ret, size, "error, warning, notice, info or debug");
                break;
        case KEY_BOOL:
                (void)snprintf(ret, size, "yes or no");
                break;
        }
}

bool config_section_is_known(const char *section)
{
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (strcmp(keys[i].section, section) == 0)
                        return true;
        return false;
}

enum device_key config_find_device_key(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(device_keys); i++)
                if (strcmp(device_keys[i].name, name) == 0)
                        return (enum device_key)i;
        return _DEVICE_KEY_INVALID;
}

const struct device_key_text *config_device_key_text(enum device_key key)
{
        return &device_keys[key];
}
