/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "config.h"
#include "control/connection.h"
#include "control/dispatch.h"
#include "control/errors.h"
#include "control/server-internal.h"
#include "control/varlink.h"
#include "descriptor-store.h"
#include "log.h"
#include "memory-pressure.h"
#include "model/quota.h"
#include "mount-guard.h"
#include "util/cleanup.h"
#include "util/macros.h"

/* Connections that wait to be accepted; the kernel cuts it down to net.core.somaxconn. */
#define BACKLOG 4096

/* Connections accepted in one go, so that those who are connected get their turn. */
#define ACCEPT_BATCH 64

/* See server_descriptors_for(). */
#define DESCRIPTORS_KEPT 64

#define ACCEPT_RETRY_USEC UINT64_C(500000)

/* Calls that are logged one by one. */
#define LOG_BUSY_MAX 8

DMIO_DEFINE_CLEANUP(struct server, server_free)

/* What its messages end with, as far as it has sent any. */
static char guess_terminator(int fd)
{
        char start[4096];
        ssize_t n = recv(fd, start, sizeof(start), MSG_PEEK | MSG_DONTWAIT);

        for (ssize_t i = 0; i < n; i++)
                if (start[i] == '\0' || start[i] == '\n')
                        return start[i];
        return '\n';
}

uint64_t server_descriptors_for(const struct peer *peer)
{
        struct rlimit limit;
        rlim_t kept = 0;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return INT_MAX;
        if (!peer->privileged)
                kept = MIN((rlim_t)DESCRIPTORS_KEPT, limit.rlim_cur / 8);
        return limit.rlim_cur - kept;
}

/* Tell @fd why not, and close it. */
static void refuse(int fd, const char *name, uint64_t limit)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        json_t *error = error_limit_reached(name, limit);
        char rest[4096];
        size_t length;

        text = varlink_print(error, guess_terminator(fd), &length);
        json_decref(error);
        if (text)
                (void)send(fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)shutdown(fd, SHUT_WR);
        /* What was sent already is taken, or the peer would see a reset in place of the end. */
        for (int i = 0; i < 16; i++)
                if (recv(fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0)
                        break;
        (void)close_fd(fd);
}

static void take_connection(struct server *server, int fd)
{
        struct connection *connection;
        struct peer peer = PEER_NULL;
        uint64_t limit = 0;
        int r;

        r = peer_from_socket(fd, &peer);
        if (r < 0) {
                (void)log_warning_errno(r, "Cannot tell who connects: %m");
                (void)close_fd(fd);
                return;
        }
        limit = server_descriptors_for(&peer);
        if ((uint64_t)fd >= limit) {
                refuse(fd, LIMIT_OPEN_DESCRIPTORS, limit);
                peer_deinit(&peer);
                return;
        }
        r = quota_charge(server->model, peer.uid, QUOTA_CONNECTIONS, 1, &limit);
        if (r != 0) {
                if (r > 0)
                        refuse(fd, quota_name(QUOTA_CONNECTIONS), limit);
                else
                        (void)close_fd(fd);
                peer_deinit(&peer);
                return;
        }
        r = connection_new(server, fd, &peer, server->next_id++, &connection);
        if (r < 0) {
                (void)log_warning_errno(r, "Cannot serve a connection: %m");
                quota_release(server->model, peer.uid, QUOTA_CONNECTIONS, 1);
                peer_deinit(&peer);
                (void)close_fd(fd);
        }
}

static void resume_accepting(struct server *server)
{
        (void)sd_event_source_set_enabled(server->retry_timer, SD_EVENT_OFF);
        if (!server->draining)
                (void)sd_event_source_set_enabled(server->accept_source, SD_EVENT_ON);
}

static int retry_accepting(sd_event_source *source, uint64_t usec, void *userdata)
{
        resume_accepting(userdata);
        return 0;
}

/* There are no descriptors or is no memory: who connects waits until a connection has ended, or
 * until somebody else has given something back. */
static void pause_accepting(struct server *server, int error)
{
        int r;

        if (!server->starved)
                (void)log_warning_errno(error, "Cannot accept connections for now: %m");
        server->starved = true;
        r = sd_event_source_set_time_relative(server->retry_timer, ACCEPT_RETRY_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(server->retry_timer, SD_EVENT_ONESHOT);
        if (r >= 0)
                (void)sd_event_source_set_enabled(server->accept_source, SD_EVENT_OFF);
}

static int accept_event(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata)
{
        struct server *server = userdata;

        for (int i = 0; i < ACCEPT_BATCH; i++) {
                int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (fd >= 0) {
                        take_connection(server, fd);
                        continue;
                }
                if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                        pause_accepting(server, -errno);
                        break;
                }
                /* EINTR, ECONNABORTED and the like speak of one connection. */
                if (errno == EAGAIN) {
                        server->starved = false;
                        break;
                }
        }
        return 0;
}

/* Once, however many connections end afterwards. */
static void tell_drained(struct server *server)
{
        void (*drained)(void *userdata) = server->drained;

        server->drained = NULL;
        drained(server->drained_userdata);
}

static int drained_event(sd_event_source *source, void *userdata)
{
        struct server *server = userdata;

        server->drained_source = sd_event_source_disable_unref(server->drained_source);
        tell_drained(server);
        return 0;
}

static void check_drained(struct server *server)
{
        struct connection *connection;

        if (!server->draining || !server->drained || server->drained_source)
                return;
        list_for_each (connection, &server->connections, link)
                if (connection_is_busy(connection))
                        return;
        if (sd_event_add_defer(server->event, &server->drained_source, drained_event, server) < 0)
                tell_drained(server);
}

static int trim_event(sd_event_source *source, void *userdata)
{
        memory_pressure_trim();
        return 0;
}

void server_trim(struct server *server)
{
        (void)sd_event_source_set_enabled(server->trim_source, SD_EVENT_ONESHOT);
}

void server_connection_idle(struct server *server)
{
        check_drained(server);
}

void server_connection_ended(struct server *server)
{
        resume_accepting(server);
        check_drained(server);
}

void server_drain(struct server *server, void (*drained)(void *userdata), void *userdata)
{
        struct connection *connection, *after;

        server->draining = true;
        server->drained = drained;
        server->drained_userdata = userdata;
        (void)sd_event_source_set_enabled(server->accept_source, SD_EVENT_OFF);
        list_for_each_safe (connection, after, &server->connections, link)
                connection_stop(connection);
        check_drained(server);
}

void server_log_busy(const struct server *server)
{
        const struct connection *connection;
        unsigned int n = 0;

        list_for_each (connection, &server->connections, link) {
                if (!connection_is_busy(connection))
                        continue;
                if (n < LOG_BUSY_MAX)
                        log_error("Not waited for: %s of uid %u",
                                  connection->call.method ? connection->call.method->name
                                                          : "a call",
                                  (unsigned int)connection->peer.uid);
                n++;
        }
        if (n > LOG_BUSY_MAX)
                log_error("Not waited for: %u calls more", n - LOG_BUSY_MAX);
}

/* Is somebody listening at @address? Returns 1, 0, or a negative errno. */
static int socket_is_served(const struct sockaddr_un *address)
{
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
                return 1;
        if (errno == ECONNREFUSED || errno == ENOENT)
                return 0;
        return errno == EAGAIN ? 1 : -errno; /* EAGAIN: its backlog is full */
}

/* The folder of the socket, for everybody to pass, whatever our umask is; the one above must exist.
 */
static int make_folder(const char *path)
{
        const char *slash = strrchr(path, '/');
        DMIO_CLEANUP(freep) char *folder = NULL;

        if (!slash || slash == path)
                return 0;
        folder = strndup(path, (size_t)(slash - path));
        if (!folder)
                return -ENOMEM;
        if (mkdir(folder, 0755) < 0)
                return errno == EEXIST ? 0 : -errno;
        if (chmod(folder, 0755) < 0)
                return -errno;
        return 0;
}

static int server_listen(struct server *server, const char *path)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        DMIO_CLEANUP(close_fdp) int fd = -EBADF;
        struct stat st;
        int r;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path));
        r = make_folder(path);
        if (r < 0)
                return r;

        if (lstat(path, &st) == 0) {
                if (!S_ISSOCK(st.st_mode))
                        return -EEXIST;
                r = socket_is_served(&address);
                if (r != 0)
                        return r < 0 ? r : -EADDRINUSE;
                if (unlink(path) < 0 && errno != ENOENT)
                        return -errno;
        }

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        server->path = strdup(path);
        if (!server->path) {
                (void)unlink(path);
                return -ENOMEM;
        }
        /* Who connects may be anybody; what he may do depends on who he is. */
        if (chmod(path, server->model->config->user ? 0600 : 0666) < 0 ||
            lstat(path, &server->path_stat) < 0 || listen(fd, BACKLOG) < 0)
                return -errno;
        server->fd = DMIO_TAKE_FD(fd);
        return 0;
}

int server_new(struct model *model, sd_event *event, int listen_fd, struct server **ret)
{
        DMIO_CLEANUP(server_freep) struct server *server = NULL;
        const char *path = model->config->control;
        int r;

        server = calloc(1, sizeof(*server));
        if (!server) {
                (void)close_fd(listen_fd);
                return log_error_errno(-ENOMEM, "Cannot serve the control socket: %m");
        }
        server->model = model;
        server->event = sd_event_ref(event);
        server->fd = -EBADF;
        server->next_id = 1;
        list_init(&server->connections);
        list_init(&server->share_users);

        if (listen_fd >= 0) {
                int flags = fcntl(listen_fd, F_GETFL);

                server->fd = listen_fd;
                if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
                        return log_error_errno(-errno, "Cannot use the inherited socket: %m");
        } else {
                r = server_listen(server, path);
                if (r < 0)
                        return log_error_errno(r, "Cannot listen at %s: %m", path);
        }

        r = sd_event_add_io(event, &server->accept_source, server->fd, EPOLLIN, accept_event,
                            server);
        if (r < 0)
                return log_error_errno(r, "Cannot watch the control socket: %m");
        (void)sd_event_source_set_description(server->accept_source, "control-accept");
        /* Made now, since it takes a descriptor and is for when there are none. */
        r = sd_event_add_time_relative(event, &server->retry_timer, CLOCK_MONOTONIC, 0, 0,
                                       retry_accepting, server);
        if (r >= 0)
                r = sd_event_source_set_enabled(server->retry_timer, SD_EVENT_OFF);
        if (r < 0)
                return log_error_errno(r, "Cannot make a timer: %m");

        r = sd_event_add_defer(event, &server->trim_source, trim_event, server);
        if (r >= 0)
                r = sd_event_source_set_enabled(server->trim_source, SD_EVENT_OFF);
        if (r < 0)
                return log_error_errno(r, "Cannot prepare to give memory back: %m");

        *ret = DMIO_TAKE(server);
        return 0;
}

void server_keep(struct server *server, const struct descriptor_store *store)
{
        int r;

        if (!server->path || !descriptor_store_is_there(store))
                return;
        r = descriptor_store_push(store, DESCRIPTOR_STORE_CONTROL, server->fd);
        if (r < 0) {
                log_warning_errno(r, "Cannot have the control socket kept: %m");
                return;
        }
        free(server->path);
        server->path = NULL;
}

struct server *server_free(struct server *server)
{
        struct stat st;

        if (!server)
                return NULL;
        server->draining = true;
        server->drained = NULL;
        while (!list_is_empty(&server->connections))
                connection_end(list_first(&server->connections, struct connection, link));
        share_forget(&server->share_users);
        (void)sd_event_source_disable_unref(server->trim_source);
        (void)sd_event_source_disable_unref(server->drained_source);
        (void)sd_event_source_disable_unref(server->retry_timer);
        (void)sd_event_source_disable_unref(server->accept_source);
        (void)sd_event_unref(server->event);
        (void)close_fd(server->fd);
        /* Unless it has been replaced by somebody else's. */
        if (server->path && lstat(server->path, &st) == 0 &&
            st.st_dev == server->path_stat.st_dev && st.st_ino == server->path_stat.st_ino)
                (void)unlink(server->path);
        free(server->path);
        free(server);
        return NULL;
}
