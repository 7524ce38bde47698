/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "dmioctl/call.h"
#include "util/macros.h"

/* More than any daemon says; only there so that a wrong peer cannot fill the memory. */
#define REPLY_MAX (256u << 20)
#define REPLY_STEP (64u << 10)

struct control {
        int fd;
        char *buffer; /* what has been received and not yet been taken */
        size_t length;
        size_t size;
};

struct control *control_free(struct control *control)
{
        if (!control)
                return NULL;
        close_fd(control->fd);
        free(control->buffer);
        free(control);
        return NULL;
}

/* Also for connect(2), which waits while the daemon has too many to accept. */
static int set_limit(int fd, unsigned int msec)
{
        struct timeval limit = { .tv_sec = msec / 1000, .tv_usec = msec % 1000 * 1000 };

        if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
                return -errno;
        return 0;
}

int control_connect_within(const char *path, unsigned int limit_msec, struct control **ret)
{
        DMIO_CLEANUP(control_freep) struct control *control = NULL;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int r;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);

        control = calloc(1, sizeof(*control));
        if (!control)
                return -ENOMEM;
        control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (control->fd < 0)
                return -errno;
        r = set_limit(control->fd, limit_msec);
        if (r < 0)
                return r;

        do
                r = connect(control->fd, (const struct sockaddr *)&address, sizeof(address));
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return -errno;

        *ret = DMIO_TAKE(control);
        return 0;
}

int control_connect(const char *path, struct control **ret)
{
        return control_connect_within(path, 0, ret);
}

int control_get_fd(const struct control *control)
{
        return control->fd;
}

static int send_bytes(struct control *control, const char *text, size_t length, const int *fds,
                      unsigned int n_fds)
{
        union {
                char bytes[CMSG_SPACE(CONTROL_MAX_DESCRIPTORS * sizeof(int))];
                struct cmsghdr align;
        } ancillary = {};
        struct iovec iov = { .iov_base = (char *)text, .iov_len = length };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (n_fds > CONTROL_MAX_DESCRIPTORS)
                return -E2BIG;
        if (n_fds > 0) {
                struct cmsghdr *header = &ancillary.align;

                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
                message.msg_control = &ancillary;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        }

        while (iov.iov_len > 0) {
                ssize_t n = sendmsg(control->fd, &message, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                iov.iov_base = (char *)iov.iov_base + n;
                iov.iov_len -= (size_t)n;
                message.msg_control = NULL;
                message.msg_controllen = 0;
        }
        return 0;
}

static int control_fill(struct control *control)
{
        ssize_t n;

        if (control->size - control->length < REPLY_STEP) {
                size_t size = MAX(2 * control->size, (size_t)REPLY_STEP);
                char *buffer;

                if (size > REPLY_MAX)
                        return -EBADMSG;
                buffer = realloc(control->buffer, size);
                if (!buffer)
                        return -ENOMEM;
                control->buffer = buffer;
                control->size = size;
        }
        do
                n = recv(control->fd, control->buffer + control->length,
                         control->size - control->length, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if (n == 0)
                return -ECONNRESET;

        control->length += (size_t)n;
        return 0;
}

int control_receive(struct control *control, json_t **ret)
{
        size_t seen = 0;
        json_t *reply;
        char *end;
        int r;

        for (;;) {
                end = control->length > seen
                              ? memchr(control->buffer + seen, 0, control->length - seen)
                              : NULL;
                if (end)
                        break;
                seen = control->length;
                r = control_fill(control);
                if (r < 0)
                        return r;
        }

        reply = json_loadb(control->buffer, (size_t)(end - control->buffer), 0, NULL);
        control->length -= (size_t)(end + 1 - control->buffer);
        memmove(control->buffer, end + 1, control->length);
        if (!json_is_object(reply)) {
                json_decref(reply);
                return -EBADMSG;
        }

        *ret = reply;
        return 0;
}

bool control_has_reply(const struct control *control)
{
        return control->length > 0 && memchr(control->buffer, 0, control->length);
}

int control_send(struct control *control, const char *method, json_t *parameters, bool more,
                 const int *fds, unsigned int n_fds)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        json_t *call;
        int r;

        call = json_pack("{s:s, s:O*, s:o*}", "method", method, "parameters", parameters, "more",
                         more ? json_true() : NULL);
        if (!call)
                return -ENOMEM;
        text = json_dumps(call, JSON_COMPACT);
        json_decref(call);
        if (!text)
                return -ENOMEM;

        r = send_bytes(control, text, strlen(text) + 1, fds, n_fds);
        return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

int control_call(struct control *control, const char *method, json_t *parameters, const int *fds,
                 unsigned int n_fds, json_t **ret)
{
        int r;

        r = control_send(control, method, parameters, false, fds, n_fds);
        return r < 0 ? r : control_receive(control, ret);
}
